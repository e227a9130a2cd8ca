//! The way of one case from NIfTI to its prepared file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dataset::Case;
use labels::{BACKGROUND, FULL_TRUST, LabelPattern, NUM_ORGANS, TUMOR};
use ndarray::ArrayView3;
use prepared::{CaseArrays, CaseInfo, CropBox, GridRecord, LabelSource, MeanTrust, case_path, write_case};
use serde_json::{Value, json};
use stage_kit::write_atomic;
use volume::{Grid, LabelVolume, Orientation, nifti, reorient, resample_nearest};

use crate::Config;

const HIGHEST_ORGAN: u8 = NUM_ORGANS as u8;

/// A case to prepare, with its files.
pub struct Job {
    pub(crate) case: Case,
    pub(crate) image: PathBuf,
    pub(crate) labels: Labels,
}

/// The label maps of a case.
pub enum Labels {
    /// The dataset's own, if it says anything that its annotators looked for.
    True(Option<PathBuf>),
    /// The output of `pseudo-label`.
    Pseudo {
        /// All 13 organs.
        organs: PathBuf,
        /// Cancer.
        cancer: PathBuf,
        /// How far the labels of both can be trusted, if anybody has weighed them.
        trust: Option<[PathBuf; 2]>,
    },
}

impl Labels {
    pub(crate) fn files(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Self::True(label) => label.iter().map(|label| ("label", label.as_path())).collect(),
            Self::Pseudo { organs, cancer, trust } => {
                let trust = trust.iter().flat_map(|[organs, cancer]| [("organs_trust", organs.as_path()), ("cancer_trust", cancer)]);
                [("organs", organs.as_path()), ("cancer", cancer)].into_iter().chain(trust).collect()
            }
        }
    }
}

impl Job {
    /// The case with its files in the dataset, and in the output of `pseudo-label` if there is one.
    pub(crate) fn new(case: &Case, dataset: &Path, pseudo: Option<&Path>) -> Self {
        let labels = match pseudo {
            Some(pseudo) => {
                let map = |kind: &str| pseudo.join(kind).join(format!("{}.nii.gz", case.id));
                let trust = ["organs_trust", "cancer_trust"].map(map);
                let weighed = trust.iter().any(|path| path.is_file());
                Labels::Pseudo { organs: map("organs"), cancer: map("cancer"), trust: weighed.then_some(trust) }
            }
            None => {
                let annotated = case.pattern.has_tumor() || !case.subset.annotated_organs().is_empty();
                Labels::True(case.label.as_ref().filter(|_| annotated).map(|label| dataset.join(label)))
            }
        };
        Self { image: dataset.join(&case.image), labels, case: case.clone() }
    }

    /// What of the manifest goes into the prepared file.
    pub(crate) fn facts(&self) -> Value {
        json!({"subset": self.case.subset, "pattern": self.case.pattern})
    }

    /// The prepared file, in the output folder.
    pub(crate) fn place(&self) -> String {
        case_path(Path::new(""), &self.case.id).display().to_string()
    }

    /// Reads, prepares and writes the case.
    pub(crate) fn prepare(&self, config: &Config, output: &Path) -> Result<()> {
        let Self { case, image: path, labels } = self;
        let (image, _) = nifti::read_scalar(path)?;
        let original = image.grid();
        let image = config.grid.prepare(image).with_context(|| path.display().to_string())?;
        let grid = image.grid();
        let crop = config.grid.shown(&image, config.crop_foreground).with_context(|| path.display().to_string())?;
        let targets = match labels {
            Labels::Pseudo { organs, cancer, trust } => pseudo_targets(case, [organs, cancer], trust.as_ref(), &original, &grid)?,
            Labels::True(label) => true_targets(case, label.as_deref(), &original, &grid)?,
        };
        let arrays = CaseArrays {
            image: crop.of(&image.data),
            organs: targets.organs.as_ref().map(|map| crop.of(&map.data)),
            cancer: targets.cancer.as_ref().map(|map| crop.of(&map.data)),
            organs_trust: targets.trust.as_ref().map(|[organs, _]| crop.of(&organs.data)),
            cancer_trust: targets.trust.as_ref().map(|[_, cancer]| crop.of(&cancer.data)),
        };
        let info = CaseInfo {
            id: case.id.clone(),
            layout: config.layout,
            subset: case.subset,
            spacing_mm: grid.spacing_mm(),
            grid: record(&grid.cropped(&crop)),
            original_grid: record(&original),
            crop: CropBox { start: crop.start, shape: crop.shape },
            window_hu: config.grid.window_hu,
            annotated_organs: targets.annotated_organs,
            organs_source: targets.organs.as_ref().map(|_| targets.source),
            cancer_source: targets.cancer.as_ref().map(|_| targets.source),
            trust: arrays.organs_trust.as_ref().zip(arrays.cancer_trust.as_ref()).map(|(organs, cancer)| mean_trust(organs, cancer)),
        };
        write_atomic(output, |file| Ok(write_case(file, &arrays, &info)?))
    }
}

/// The label maps of a case on the model grid, and what they know of.
struct Targets {
    organs: Option<LabelVolume>,
    cancer: Option<LabelVolume>,
    /// The trust in both maps.
    trust: Option<[LabelVolume; 2]>,
    annotated_organs: LabelPattern,
    source: LabelSource,
}

#[expect(clippy::cast_precision_loss, reason = "voxels of a scan")]
fn mean_trust(organs: &ArrayView3<'_, u8>, cancer: &ArrayView3<'_, u8>) -> MeanTrust {
    let mean =
        |map: &ArrayView3<'_, u8>| map.fold(0, |sum, &trust| sum + u64::from(trust)) as f64 / (f64::from(FULL_TRUST) * map.len() as f64);
    MeanTrust { organs: mean(organs), cancer: mean(cancer) }
}

fn record(grid: &Grid) -> GridRecord {
    GridRecord { shape: grid.shape, affine: grid.affine.0 }
}

/// The teachers' maps of organs and cancer; both must be there. They know of all organs.
fn pseudo_targets(case: &Case, maps: [&PathBuf; 2], trust: Option<&[PathBuf; 2]>, original: &Grid, grid: &Grid) -> Result<Targets> {
    let read = |path: &Path, highest| {
        ensure!(path.is_file(), "{} is missing; run `pseudo-label` for the subset {}", path.display(), case.subset);
        on_model_grid(path, original, grid, highest)
    };
    let [organs, cancer] = maps;
    Ok(Targets {
        organs: Some(read(organs, HIGHEST_ORGAN)?),
        cancer: Some(read(cancer, 1)?),
        trust: trust.map(|[organs, cancer]| anyhow::Ok([read(organs, FULL_TRUST)?, read(cancer, FULL_TRUST)?])).transpose()?,
        annotated_organs: LabelPattern::ORGANS,
        source: LabelSource::Pseudo,
    })
}

/// The dataset's own map, taken apart into what its annotators looked for.
fn true_targets(case: &Case, label: Option<&Path>, original: &Grid, grid: &Grid) -> Result<Targets> {
    let annotated_organs = case.subset.annotated_organs();
    let has_cancer = case.pattern.has_tumor();
    let labels = label.map(|label| on_model_grid(label, original, grid, TUMOR)).transpose()?;
    let part = |labels: &LabelVolume, keep: fn(u8) -> u8| LabelVolume { data: labels.data.mapv(keep), affine: labels.affine };
    let cancer = labels.as_ref().filter(|_| has_cancer).map(|labels| part(labels, |label| u8::from(label == TUMOR)));
    // Under a tumor the organ is not annotated; the dataset gives a voxel one label.
    let organs = labels.filter(|_| !annotated_organs.is_empty()).map(|mut labels| {
        labels.data.mapv_inplace(|label| if label == TUMOR { BACKGROUND } else { label });
        labels
    });
    Ok(Targets { organs, cancer, trust: None, annotated_organs, source: LabelSource::True })
}

/// Reads a label map of the image's grid and takes it the image's way onto the model grid.
fn on_model_grid(path: &Path, original: &Grid, grid: &Grid, highest: u8) -> Result<LabelVolume> {
    let (mut labels, _) = nifti::read_labels(path)?;
    let found = labels.grid();
    ensure!(
        found.shape == original.shape,
        "{}: shape {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
        path.display(),
        found.shape,
        original.shape
    );
    ensure!(
        found.approx_eq(original),
        "{}: affine {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
        path.display(),
        found.affine.0,
        original.affine.0
    );
    let value = labels.data.fold(0, |highest, &label| label.max(highest));
    ensure!(value <= highest, "{}: value {value}, expected at most {highest}; correct the label map", path.display());
    // The rounding of a header must not move a voxel: from here on the label map lies exactly on the image.
    labels.affine = original.affine;
    let reoriented = reorient(&labels, Orientation::RAS);
    drop(labels);
    Ok(resample_nearest(&reoriented, grid))
}
