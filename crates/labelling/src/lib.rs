//! Scans that models write labels for, and what is known of them already: true labels win (paper 2.3, Fig. 1c).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dataset::Manifest;
use labels::{Subset, SubsetName, TUMOR};
use serde_json::json;
use stage_kit::{CaseSpec, Role, StageIo};
use volume::nifti::Header;
use volume::{Grid, LabelVolume, nifti};

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

impl Scan {
    /// The files and facts of the case, and what is written for it.
    #[must_use]
    pub fn spec(&self) -> CaseSpec {
        let spec = CaseSpec::of(&self.id).reads("image", &self.image).writes(self.places());
        match &self.truth {
            Some((label, subset)) => spec.reads("label", label).depends_on(json!({"subset": subset})),
            None => spec,
        }
    }

    /// The organ map and the cancer map, in the output folder.
    fn places(&self) -> [String; 2] {
        ["organs", "cancer"].map(|folder| format!("{folder}/{}.nii.gz", self.id))
    }

    /// Writes the organs and the cancer of a model on the grid of the image, with what is truly labelled in their place. The
    /// model is not asked for cancer where its truth is known.
    ///
    /// # Errors
    /// Those of the model; when the label map does not fit the image, or a file cannot be written.
    pub fn write(&self, io: &StageIo, header: &Header, organs: LabelVolume, cancer: impl FnOnce() -> Result<LabelVolume>) -> Result<()> {
        let mut organs = organs;
        let truth = self.truth.as_ref().map(|(path, subset)| read_truth(path, header).map(|truth| (truth, *subset))).transpose()?;
        let cancer = match &truth {
            Some((truth, subset)) if SubsetName::Dc.contains(*subset) => {
                LabelVolume { data: truth.data.mapv(|label| u8::from(label == TUMOR)), affine: truth.affine }
            }
            _ => cancer()?,
        };
        if let Some((truth, subset)) = &truth {
            organs = merged(truth, *subset, &organs, &header.grid())
                .with_context(|| format!("merging with {:?}", self.truth.as_ref().map(|(path, _)| path)))?;
        }
        for (place, labels) in self.places().iter().zip([&organs, &cancer]) {
            nifti::write_labels(io.output.join(place), labels, header)?;
        }
        Ok(())
    }
}

fn merged(truth: &LabelVolume, subset: Subset, organs: &LabelVolume, grid: &Grid) -> Result<LabelVolume> {
    let mut merged = vec![0; organs.data.len()];
    labels::merge_annotated_organs(subset.annotated_organs(), &truth.x_fastest(), &organs.x_fastest(), &mut merged)?;
    Ok(LabelVolume::from_x_fastest(grid, merged)?)
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
