//! The way of one case from NIfTI to its prepared file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dataset::Case;
use labels::{BACKGROUND, LabelPattern, NUM_ORGANS, TUMOR};
use prepared::{CaseArrays, CaseInfo, CropBox, GridRecord, LabelSource, write_case};
use stage_kit::write_atomic;
use volume::{Grid, LabelVolume, Orientation, nifti, reorient, resample_nearest};

use crate::Config;

const HIGHEST_ORGAN: u8 = NUM_ORGANS as u8;

/// Where the files of cases are.
pub(crate) struct Sources<'a> {
    /// The root that the manifest's paths are relative to.
    pub(crate) dataset: &'a Path,
    /// The output of `pseudo-label`.
    pub(crate) pseudo: Option<&'a Path>,
}

/// The label maps of a case on the model grid, and what they know of.
struct Targets {
    organs: Option<LabelVolume>,
    cancer: Option<LabelVolume>,
    annotated_organs: LabelPattern,
    source: LabelSource,
}

/// Reads, prepares and writes one case.
pub(crate) fn prepare(config: &Config, sources: &Sources<'_>, case: &Case, output: &Path) -> Result<()> {
    let path = sources.dataset.join(&case.image);
    let (image, _) = nifti::read_scalar(&path)?;
    let original = image.grid();
    let image = config.grid.prepare(image).with_context(|| path.display().to_string())?;
    let grid = image.grid();
    let crop = config.grid.shown(&image, config.crop_foreground).with_context(|| path.display().to_string())?;
    let targets = match sources.pseudo {
        Some(pseudo) => pseudo_targets(pseudo, case, &original, &grid)?,
        None => true_targets(sources.dataset, case, &original, &grid)?,
    };
    let arrays = CaseArrays {
        image: crop.of(&image.data),
        organs: targets.organs.as_ref().map(|map| crop.of(&map.data)),
        cancer: targets.cancer.as_ref().map(|map| crop.of(&map.data)),
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
    };
    write_atomic(output, |file| Ok(write_case(file, &arrays, &info)?))
}

fn record(grid: &Grid) -> GridRecord {
    GridRecord { shape: grid.shape, affine: grid.affine.0 }
}

/// The teachers' maps; both must be there. They know of all organs.
fn pseudo_targets(pseudo: &Path, case: &Case, original: &Grid, grid: &Grid) -> Result<Targets> {
    let read = |kind: &str, highest| {
        let path = pseudo.join(kind).join(format!("{}.nii.gz", case.id));
        ensure!(path.is_file(), "{} is missing; run `pseudo-label` for the subset {}", path.display(), case.subset);
        on_model_grid(&path, original, grid, highest)
    };
    Ok(Targets {
        organs: Some(read("organs", HIGHEST_ORGAN)?),
        cancer: Some(read("cancer", 1)?),
        annotated_organs: LabelPattern::ORGANS,
        source: LabelSource::Pseudo,
    })
}

/// The dataset's own map, taken apart into what its annotators looked for.
fn true_targets(dataset: &Path, case: &Case, original: &Grid, grid: &Grid) -> Result<Targets> {
    let annotated_organs = case.subset.annotated_organs();
    let has_cancer = case.pattern.has_tumor();
    let labels = match &case.label {
        Some(label) if has_cancer || !annotated_organs.is_empty() => Some(on_model_grid(&dataset.join(label), original, grid, TUMOR)?),
        _ => None,
    };
    let part = |labels: &LabelVolume, keep: fn(u8) -> u8| LabelVolume { data: labels.data.mapv(keep), affine: labels.affine };
    let cancer = labels.as_ref().filter(|_| has_cancer).map(|labels| part(labels, |label| u8::from(label == TUMOR)));
    // Under a tumor the organ is not annotated; the dataset gives a voxel one label.
    let organs = labels.filter(|_| !annotated_organs.is_empty()).map(|mut labels| {
        labels.data.mapv_inplace(|label| if label == TUMOR { BACKGROUND } else { label });
        labels
    });
    Ok(Targets { organs, cancer, annotated_organs, source: LabelSource::True })
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
