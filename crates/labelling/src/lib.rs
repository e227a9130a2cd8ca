//! Scans that models write labels for, and what is known of them already: true labels win (paper 2.3, Fig. 1c).

mod filter;
mod found;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dataset::{Manifest, Naming};
use labels::{CANCER_KEYS, CLASS_KEYS, FULL_TRUST, ORGAN_CLASSES, Subset, SubsetName, TUMOR};
use serde_json::json;
use stage_kit::{Aside, CaseSpec, Role, StageIo, write_atomic_text};
use volume::nifti::{self, Header, LabelReader, write_label_slices};

use filter::Counts;
pub use filter::{Bounds, Filter, FilterError, Verdict, table};
pub use found::{Found, Weighed};

/// The roles behind [`scans`].
pub const ROLES: [Role; 3] = [
    Role::optional("dataset", "the root of the dataset; with `partition`").by_case(),
    Role::optional("partition", "the output of partition").by_case(),
    Role::optional("images", "instead of a dataset: a folder of CT scans, CASE_0000.nii.gz, none of them labelled").by_case(),
];

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
    pub fn write(&self, io: &StageIo, header: &Header, organs: Found, cancer: impl FnOnce() -> Result<Found>) -> Result<()> {
        let truth = self.truth_on(header)?;
        let [organs_path, cancer_path] = self.places().map(|place| io.output.join(place));
        {
            let (slices, mut merge) = (organs.on(&header.grid()), Merge::with(truth)?);
            write_label_slices(&organs_path, header, |z, labels| {
                slices.write(z, labels);
                merge.slice(labels)
            })?;
        }
        drop(organs);
        if let Some(truth) = truth.filter(Truth::knows_cancer) {
            return truth.write_cancer(&cancer_path, header);
        }
        let cancer = cancer()?;
        let slices = cancer.on(&header.grid());
        write_label_slices(&cancer_path, header, |z, labels| {
            slices.write(z, labels);
            Ok(())
        })
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
        let truth = self.truth_on(header)?;
        let [organs_path, cancer_path] = self.places().map(|place| io.output.join(place));
        let [organs_trust, cancer_trust] = self.trust_places().map(|place| io.output.join(place));
        let write =
            |classes: &[&str], map, weighed: &Weighed, truth, paths| write_judged(filter, map, classes, weighed, truth, header, paths);
        let mut verdicts = write(&CLASS_KEYS[..ORGAN_CLASSES], "organs", &organs, truth, [&organs_path, &organs_trust])?;
        drop(organs);
        if let Some(truth) = truth.filter(Truth::knows_cancer) {
            truth.write_cancer(&cancer_path, header)?;
            write_label_slices(&cancer_trust, header, |_, trust| {
                trust.fill(FULL_TRUST);
                anyhow::Ok(())
            })?;
        } else {
            verdicts.extend(write(&CANCER_KEYS, "cancer", &cancer()?, None, [&cancer_path, &cancer_trust])?);
        }
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

    /// The label map of the dataset, if there is one; it must be on the grid of the image.
    fn truth_on(&self, image: &Header) -> Result<Option<Truth<'_>>> {
        let Some((path, subset)) = &self.truth else { return Ok(None) };
        let found = nifti::read_header(path)?.grid();
        ensure!(
            found.approx_eq(&image.grid()),
            "{}: the label map has {:?} voxels and the image {:?}, or their affines differ; correct the header of one of them",
            path.display(),
            found.shape,
            image.grid().shape
        );
        Ok(Some(Truth { path, subset: *subset }))
    }
}

/// The label map of a dataset, on the grid of the image.
#[derive(Clone, Copy)]
struct Truth<'a> {
    path: &'a Path,
    subset: Subset,
}

impl Truth<'_> {
    /// Whether cancer was looked for.
    fn knows_cancer(&self) -> bool {
        SubsetName::Dc.contains(self.subset)
    }

    fn write_cancer(&self, path: &Path, header: &Header) -> Result<()> {
        let (mut truth, mut labels) = (LabelReader::open(self.path)?, Vec::new());
        write_label_slices(path, header, |_, cancer| {
            truth.next_slice(&mut labels)?;
            cancer.iter_mut().zip(&labels).for_each(|(cancer, &label)| *cancer = u8::from(label == TUMOR));
            Ok(())
        })
    }
}

/// Puts true organs into the place of a model's, slice by slice.
struct Merge<'a> {
    truth: Option<(Truth<'a>, LabelReader)>,
    /// The true labels and the model's of the slice that was merged last.
    labels: Vec<u8>,
    found: Vec<u8>,
}

impl<'a> Merge<'a> {
    fn with(truth: Option<Truth<'a>>) -> Result<Self> {
        let truth = truth.map(|truth| anyhow::Ok((truth, LabelReader::open(truth.path)?))).transpose()?;
        Ok(Self { truth, labels: Vec::new(), found: Vec::new() })
    }

    /// Merges the model's labels of the next slice. Afterwards [`Merge::settled`] answers for it.
    fn slice(&mut self, labels: &mut [u8]) -> Result<()> {
        self.found.clear();
        self.found.extend_from_slice(labels);
        let Some((truth, reader)) = &mut self.truth else { return Ok(()) };
        reader.next_slice(&mut self.labels)?;
        labels::merge_annotated_organs(truth.subset.annotated_organs(), &self.labels, &self.found, labels)
            .with_context(|| format!("merging with {}", truth.path.display()))
    }

    /// Whether the truth alone has decided a voxel of the slice that was merged last.
    fn settled(&self, at: usize) -> bool {
        self.truth
            .as_ref()
            .is_some_and(|(truth, _)| labels::truth_decides(truth.subset.annotated_organs(), self.labels[at], self.found[at]))
    }
}

/// Writes labels, merged with the truth, and the trust that `filter` leaves in them, full where the truth has settled a label.
/// Says what became of each class. Asks for the slices twice, because what is left depends on all of them.
fn write_judged(
    filter: &Filter,
    map: &str,
    classes: &[&str],
    weighed: &Weighed,
    truth: Option<Truth<'_>>,
    header: &Header,
    [labels_path, trust_path]: [&Path; 2],
) -> Result<Vec<Verdict>> {
    let grid = header.grid();
    let (mut slice, mut counts) = (weighed.on(&grid), Counts::of(classes.len()));
    let mut merge = Merge::with(truth)?;
    let mut trust = vec![0; grid.shape[0] * grid.shape[1]];
    write_label_slices(labels_path, header, |z, labels| {
        slice(z, labels, &mut trust);
        merge.slice(labels)?;
        let open = merge.found.iter().zip(&trust).enumerate().filter(|(at, _)| !merge.settled(*at));
        open.for_each(|(_, (&label, &trust))| counts.add(label, trust));
        anyhow::Ok(())
    })?;
    let judgement = filter.judge(map, classes, &counts);
    let mut merge = Merge::with(truth)?;
    let mut labels = vec![0; grid.shape[0] * grid.shape[1]];
    write_label_slices(trust_path, header, |z, trust| {
        slice(z, &mut labels, trust);
        merge.slice(&mut labels)?;
        for (at, (trust, label)) in trust.iter_mut().zip(&merge.found).enumerate() {
            *trust = if merge.settled(at) { FULL_TRUST } else { judgement.trust(*label, *trust) };
        }
        anyhow::Ok(())
    })?;
    Ok(judgement.verdicts())
}
