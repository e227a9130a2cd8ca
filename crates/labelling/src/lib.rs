//! Scans that models write labels for, and what is known of them already: true labels win (paper 2.3, Fig. 1c).

mod filter;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dataset::{Manifest, Naming};
use labels::{CLASS_KEYS, FULL_TRUST, LabelPattern, ORGAN_CLASSES, Subset, SubsetName, TUMOR};
use serde_json::json;
use stage_kit::{Aside, CaseSpec, Role, StageIo, write_atomic_text};
use volume::nifti::Header;
use volume::{LabelVolume, nifti};

pub use filter::{Bounds, Filter, FilterError, Verdict, table};

/// The roles behind [`scans`].
pub const ROLES: [Role; 3] = [
    Role::optional("dataset", "the root of the dataset; with `partition`").by_case(),
    Role::optional("partition", "the output of partition").by_case(),
    Role::optional("images", "instead of a dataset: a folder of CT scans, CASE_0000.nii.gz, none of them labelled").by_case(),
];

/// A label map, and on the same grid how far each of its labels can be trusted, from 0 to 255.
pub struct Weighed {
    /// The labels.
    pub labels: LabelVolume,
    /// The trust in them.
    pub trust: LabelVolume,
}

/// A scan to label.
pub struct Scan {
    /// The case.
    pub id: String,
    /// The image file.
    pub image: PathBuf,
    /// The label map and what its annotators looked for.
    truth: Option<(PathBuf, Subset)>,
}

/// The scans of a folder behind the role `images`, or those of `subsets` behind the roles `dataset` and `partition`.
///
/// # Errors
/// When the roles do not go together, there are no scans, or a file cannot be read.
pub fn scans(subsets: &[SubsetName], io: &StageIo) -> Result<Vec<Scan>> {
    let scan = |id: &str, image: PathBuf, truth| Scan { id: id.to_owned(), image, truth };
    match (io.input_opt("images")?, io.input_opt("dataset")?, io.input_opt("partition")?) {
        (Some(images), None, None) => Ok(dataset::image_files(images)?.into_iter().map(|file| scan(&file.id, file.path, None)).collect()),
        (None, Some(root), Some(partition)) => {
            let manifest = Manifest::load(partition)?;
            let mut scans = Vec::new();
            for &subset in subsets {
                for case in manifest.select(subset, None)? {
                    let truth = case.label.as_ref().filter(|_| case.subset != Subset::Du);
                    scans.push(scan(&case.id, root.join(&case.image), truth.map(|label| (root.join(label), case.subset))));
                }
            }
            Ok(scans)
        }
        _ => bail!("give either `images`, or `dataset` together with `partition`"),
    }
}

/// What else lies in the folder behind the role `images`.
///
/// # Errors
/// When the folder cannot be listed.
pub fn aside(io: &StageIo) -> Result<Aside> {
    Ok(match io.input_opt("images")? {
        Some(images) => dataset::list(images, Naming::Images)?.aside,
        None => Aside::default(),
    })
}

impl Scan {
    /// The files and facts of the case, and what [`Scan::write`] writes for it.
    #[must_use]
    pub fn spec(&self) -> CaseSpec {
        let spec = CaseSpec::of(&self.id).reads("image", &self.image).writes(self.places());
        match &self.truth {
            Some((label, subset)) => spec.reads("label", label).depends_on(json!({"subset": subset})),
            None => spec,
        }
    }

    /// The same for [`Scan::write_weighed`].
    #[must_use]
    pub fn weighed_spec(&self) -> CaseSpec {
        self.spec().writes([self.places(), self.trust_places()].concat()).keeps([self.verdicts()])
    }

    /// The organ map and the cancer map, in the output folder.
    fn places(&self) -> [String; 2] {
        ["organs", "cancer"].map(|folder| format!("{folder}/{}.nii.gz", self.id))
    }

    /// The trust in both.
    fn trust_places(&self) -> [String; 2] {
        ["organs_trust", "cancer_trust"].map(|folder| format!("{folder}/{}.nii.gz", self.id))
    }

    /// What became of the labels of each class, in the folder `work`.
    fn verdicts(&self) -> String {
        format!("trust/{}.json", self.id)
    }

    /// Writes the organs and the cancer of a model on the grid of the image, with what is truly labelled in their place. The
    /// model is not asked for cancer where its truth is known.
    ///
    /// # Errors
    /// Those of the model; when the label map does not fit the image, or a file cannot be written.
    pub fn write(&self, io: &StageIo, header: &Header, organs: LabelVolume, cancer: impl FnOnce() -> Result<LabelVolume>) -> Result<()> {
        let truth = self.read_truth(header)?;
        let cancer = truth.as_ref().and_then(Truth::cancer).map_or_else(cancer, Ok)?;
        let organs = merged(truth.as_ref(), organs, header)?;
        write_maps(io, header, &self.places(), [&organs, &cancer])
    }

    /// The same, and beside each map the trust in its labels: full in true ones, and in those of the model what `filter` leaves.
    ///
    /// # Errors
    /// As [`Scan::write`].
    pub fn write_weighed(
        &self,
        io: &StageIo,
        header: &Header,
        filter: &Filter,
        organs: Weighed,
        cancer: impl FnOnce() -> Result<Weighed>,
    ) -> Result<()> {
        let truth = self.read_truth(header)?;
        let (organs, mut verdicts) = judged("organs", &CLASS_KEYS[..ORGAN_CLASSES], filter, organs, truth.as_ref())?;
        let cancer = match truth.as_ref().and_then(Truth::cancer) {
            Some(labels) => Weighed { trust: LabelVolume::filled(&header.grid(), FULL_TRUST), labels },
            None => {
                let (cancer, more) = judged("cancer", &["background", CLASS_KEYS[usize::from(TUMOR)]], filter, cancer()?, None)?;
                verdicts.extend(more);
                cancer
            }
        };
        let labels = merged(truth.as_ref(), organs.labels, header)?;
        write_maps(io, header, &self.places(), [&labels, &cancer.labels])?;
        write_maps(io, header, &self.trust_places(), [&organs.trust, &cancer.trust])?;
        write_atomic_text(&io.work.join(self.verdicts()), &serde_json::to_string(&verdicts)?)
    }

    /// What [`Scan::write_weighed`] has found of the labels of each class.
    ///
    /// # Errors
    /// When it has not been done.
    pub fn read_verdicts(&self, io: &StageIo) -> Result<Vec<Verdict>> {
        let path = io.work.join(self.verdicts());
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{}: delete it and run again", path.display()))
    }

    fn read_truth(&self, header: &Header) -> Result<Option<Truth>> {
        let Some((path, subset)) = &self.truth else { return Ok(None) };
        Ok(Some(Truth { path: path.clone(), labels: read_truth(path, header)?, subset: *subset }))
    }
}

/// A map with the trust that `filter` leaves, full where `truth` has settled a label, and what became of each class.
fn judged(map: &str, classes: &[&str], filter: &Filter, weighed: Weighed, truth: Option<&Truth>) -> Result<(Weighed, Vec<Verdict>)> {
    let grid = weighed.labels.grid();
    let mut trust = weighed.trust.x_fastest().into_owned();
    let truth = truth.map(|truth| (truth.subset.annotated_organs(), truth.labels.x_fastest()));
    let verdicts = {
        let found = weighed.labels.x_fastest();
        let settled = |at: usize| {
            let decides = |(annotated, truth): &(LabelPattern, Cow<'_, [u8]>)| labels::truth_decides(*annotated, truth[at], found[at]);
            truth.as_ref().is_some_and(decides)
        };
        filter.apply(map, classes, &found, &mut trust, settled)
    };
    Ok((Weighed { labels: weighed.labels, trust: LabelVolume::from_x_fastest(&grid, trust)? }, verdicts))
}

fn write_maps(io: &StageIo, header: &Header, places: &[String; 2], maps: [&LabelVolume; 2]) -> Result<()> {
    for (place, map) in places.iter().zip(maps) {
        nifti::write_labels(io.output.join(place), map, header)?;
    }
    Ok(())
}

/// The label map of a dataset, on the grid of the image.
struct Truth {
    path: PathBuf,
    labels: LabelVolume,
    subset: Subset,
}

impl Truth {
    /// Cancer, where it was looked for.
    fn cancer(&self) -> Option<LabelVolume> {
        let cancer = || LabelVolume { data: self.labels.data.mapv(|label| u8::from(label == TUMOR)), affine: self.labels.affine };
        SubsetName::Dc.contains(self.subset).then(cancer)
    }

    fn merged(&self, organs: &LabelVolume, header: &Header) -> Result<LabelVolume> {
        let mut merged = vec![0; organs.data.len()];
        labels::merge_annotated_organs(self.subset.annotated_organs(), &self.labels.x_fastest(), &organs.x_fastest(), &mut merged)?;
        Ok(LabelVolume::from_x_fastest(&header.grid(), merged)?)
    }
}

/// A model's organs, and true ones in their place.
fn merged(truth: Option<&Truth>, organs: LabelVolume, header: &Header) -> Result<LabelVolume> {
    match truth {
        Some(truth) => truth.merged(&organs, header).with_context(|| format!("merging with {}", truth.path.display())),
        None => Ok(organs),
    }
}

fn read_truth(path: &Path, image: &Header) -> Result<LabelVolume> {
    let (truth, header) = nifti::read_labels(path)?;
    ensure!(
        header.grid().approx_eq(&image.grid()),
        "{}: the label map has {:?} voxels and the image {:?}, or their affines differ; correct the header of one of them",
        path.display(),
        header.grid().shape,
        image.grid().shape
    );
    Ok(truth)
}
