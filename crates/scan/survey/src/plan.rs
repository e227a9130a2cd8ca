//! Spacing, window, patch and crop from the scans and the memory at hand, as nnU-Net plans them.

use std::path::Path;

use anyhow::Result;
use dataset::{DatasetConfig, Source};
use labels::Classes;
use rayon::prelude::*;
use volume::nifti;

use crate::intensities::Labelled;

/// The scans of all datasets, by their headers.
#[derive(Clone, Debug, Default)]
pub struct Scans {
    /// Voxels along x, y, z and their size in mm, of each scan that can be read.
    grids: Vec<([usize; 3], [f64; 3])>,
    /// For each dataset its labelled and unlabelled cases, and those whose image cannot be read.
    pub(crate) counts: Vec<[usize; 3]>,
    /// For each dataset its labelled cases whose image can be read.
    pub(crate) usable: Vec<usize>,
    /// The intensities of what is labelled.
    labelled: Labelled,
}

impl Scans {
    /// Adds the cases of a dataset; reads the headers of their images, and all of some labelled ones.
    ///
    /// # Errors
    /// When the declaration does not fit the folder.
    pub fn add(&mut self, name: &str, config: &DatasetConfig, root: &Path, classes: &Classes) -> Result<()> {
        let (cases, _) = Source::open(name, config, root, classes)?.cases()?;
        let grids: Vec<_> = cases.par_iter().map(|case| nifti::read_header(root.join(&case.image)).ok()).collect();
        let labelled = cases.iter().filter(|case| case.label.is_some()).count();
        self.counts.push([labelled, cases.len() - labelled, grids.iter().filter(|grid| grid.is_none()).count()]);
        self.usable.push(cases.iter().zip(&grids).filter(|(case, grid)| case.label.is_some() && grid.is_some()).count());
        self.labelled.add(root, &cases);
        let ras = "RAS".parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        self.grids.extend(grids.into_iter().flatten().map(|header| {
            let grid = header.grid().reoriented(ras);
            (grid.shape, grid.spacing_mm())
        }));
        Ok(())
    }
}

/// What the networks are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Voxel size of the 3-D model in mm.
    pub spacing_mm: [f64; 3],
    /// The window in HU, around what is labelled.
    pub window_hu: [f64; 2],
    /// Voxels of its patches.
    pub patch: [usize; 3],
    /// Pixel size of the student's slices in mm.
    pub pixel_mm: f64,
    /// Pixels of its crops.
    pub crop: [usize; 2],
    /// Passes of the 3-D model over the labelled cases.
    pub epochs: usize,
    /// Patches that it is validated on after each.
    pub validation_patches: usize,
}

/// Of the smallest voxels, so many are taken where one axis is far coarser than the others (nnU-Net).
const TENTH: f64 = 0.1;
const COARSE: f64 = 3.0;

/// Sides are halved four times.
const RASTER: usize = 16;

/// Bytes for a voxel of a patch in training: some 20 maps of 16 to 32 channels in single precision, and their gradients.
const BYTES_A_VOXEL: u64 = 3 << 10;

/// More than the paper's 128³ is not asked for, whatever the memory.
const MOST_VOXELS: u64 = 1 << 21;

/// The paper's crop is the largest.
const LARGEST_CROP: usize = 224;

/// Patches that make a step of the 3-D model. They come from as many cases, so that a step learns from several datasets.
pub(crate) const BATCH: usize = 2;

/// Few cases are passed over more often, until there are so many steps.
const LEAST_EPOCHS: usize = 200;
const LEAST_STEPS: usize = 4000;

/// Patches of validation after an epoch: half as many as steps, which take about a tenth of their time.
const MOST_VALIDATED: usize = 64;
const LEAST_VALIDATED: usize = 4;

impl Plan {
    /// The plan for scans and so much memory; `spacing_mm` for voxels of another size than the scans'.
    #[must_use]
    pub fn of(scans: &Scans, spacing_mm: Option<f64>, memory_bytes: u64) -> Self {
        let spacing_mm = spacing_mm.map_or_else(|| native(scans), |mm| [mm; 3]);
        let side = |axis: usize| {
            let voxels = scans.grids.iter().map(|(shape, spacing)| shape[axis] as f64 * spacing[axis] / spacing_mm[axis]).collect();
            quantile(voxels, 0.5)
        };
        let whole = [0, 1, 2].map(side);
        let voxels = (memory_bytes / 2 / BYTES_A_VOXEL).clamp((2 * RASTER as u64).pow(3), MOST_VOXELS) as f64;
        let pixel_mm = (spacing_mm[0].min(spacing_mm[1]) * 100.0).round() / 100.0;
        let crop = [0, 1].map(|axis| to_raster(whole[axis] * spacing_mm[axis] / pixel_mm).clamp(2 * RASTER, LARGEST_CROP));
        let steps = scans.counts.iter().map(|[labelled, ..]| labelled).sum::<usize>().div_ceil(BATCH).max(1);
        Self {
            spacing_mm,
            window_hu: scans.labelled.window_hu(),
            patch: patch(whole, voxels),
            pixel_mm,
            crop,
            epochs: LEAST_STEPS.div_ceil(steps).max(LEAST_EPOCHS),
            validation_patches: (steps / 2).clamp(LEAST_VALIDATED, MOST_VALIDATED),
        }
    }
}

/// The median of the scans' voxel sizes; on an axis that is far coarser than the others that of the finer scans.
fn native(scans: &Scans) -> [f64; 3] {
    let share = |axis: usize, share: f64| quantile(scans.grids.iter().map(|(_, spacing)| spacing[axis]).collect(), share);
    let median = [0, 1, 2].map(|axis| share(axis, 0.5));
    let finest = median.into_iter().fold(f64::INFINITY, f64::min);
    [0, 1, 2].map(|axis| {
        let mm = if median[axis] > COARSE * finest { share(axis, TENTH) } else { median[axis] };
        (mm * 100.0).round() / 100.0
    })
}

/// The sides of the typical scan, made smaller where they are longest until they have so few voxels.
fn patch(whole: [f64; 3], voxels: f64) -> [usize; 3] {
    let mut patch = whole.map(|side| to_raster(side).max(2 * RASTER));
    while patch.iter().product::<usize>() as f64 > voxels {
        let Some(longest) = (0..3).filter(|&axis| patch[axis] > 2 * RASTER).max_by_key(|&axis| patch[axis]) else { break };
        patch[longest] -= RASTER;
    }
    patch
}

fn to_raster(side: f64) -> usize {
    (side / RASTER as f64).round() as usize * RASTER
}

/// 1 for no values.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scans(grids: &[([usize; 3], [f64; 3])]) -> Scans {
        Scans { grids: grids.to_vec(), ..Scans::default() }
    }

    #[test]
    fn the_spacing_is_the_median_and_of_far_coarser_axes_the_tenth() {
        let alike = scans(&[([400, 400, 200], [0.8, 0.8, 1.0]), ([300, 300, 100], [1.0, 1.0, 2.0]), ([500, 500, 100], [0.7, 0.7, 1.5])]);
        assert_eq!(Plan::of(&alike, None, 1 << 40).spacing_mm, [0.8, 0.8, 1.5]);
        let coarse = scans(&[([400, 400, 50], [0.8, 0.8, 5.0]), ([300, 300, 200], [0.8, 0.8, 1.0]), ([500, 500, 50], [0.8, 0.8, 5.0])]);
        assert_eq!(Plan::of(&coarse, None, 1 << 40).spacing_mm, [0.8, 0.8, 1.0]);
    }

    #[test]
    fn a_spacing_that_is_asked_for_makes_patch_and_crop_smaller() {
        let scans = scans(&[([400, 300, 80], [0.9, 0.9, 5.0])]);
        let plan = Plan::of(&scans, Some(3.0), 1 << 40);
        assert_eq!((plan.spacing_mm, plan.pixel_mm), ([3.0; 3], 3.0));
        assert_eq!((plan.patch, plan.crop), ([128, 96, 128], [128, 96]), "all of 360 x 270 x 400 mm, to 48 mm");
    }

    #[test]
    fn few_cases_are_passed_over_more_often_and_validated_on_less() {
        let of = |counts: &[[usize; 3]]| {
            let plan = Plan::of(&Scans { counts: counts.to_vec(), ..Scans::default() }, None, 1 << 40);
            (plan.epochs, plan.validation_patches)
        };
        assert_eq!(of(&[[2, 0, 0], [17, 0, 0], [5, 100, 1]]), (334, 6), "12 steps of two cases, 4,008 in all");
        assert_eq!(of(&[[400, 0, 0]]), (200, 64));
        assert_eq!(of(&[[1, 0, 0]]), (4000, 4));
    }

    #[test]
    fn patches_fit_the_memory_and_the_scans() {
        let scans = scans(&[([400, 300, 200], [1.0; 3])]);
        let of = |memory: u64| Plan::of(&scans, None, memory).patch;
        assert_eq!(of(1 << 40), [128, 128, 128], "the paper's, whatever the memory");
        for memory in [1 << 20, 1 << 28, 1 << 30, 1 << 33] {
            let patch = of(memory);
            assert!(patch.iter().all(|side| side % RASTER == 0 && *side >= 2 * RASTER), "{patch:?}");
            assert!(patch == [32; 3] || patch.iter().product::<usize>() as u64 * BYTES_A_VOXEL <= memory / 2, "{patch:?}");
        }
        let small = super::tests::scans(&[([60, 50, 20], [1.0; 3])]);
        assert_eq!(Plan::of(&small, None, 1 << 40).patch, [64, 48, 32]);
        assert_eq!(Plan::of(&small, None, 1 << 40).crop, [64, 48]);
    }
}
