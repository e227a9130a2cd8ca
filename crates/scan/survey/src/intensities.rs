//! The intensities of what is labelled, and the window that shows them.

use std::path::Path;

use dataset::CaseFiles;
use rayon::prelude::*;
use volume::nifti::{LabelReader, NiftiError, SliceReader};

/// So many labelled cases of each dataset are read.
const CASES: usize = 3;

/// The shares of labelled voxels that the window leaves out below and above, as nnU-Net does.
const TAILS: [f64; 2] = [0.005, 0.995];

/// Bounds are rounded to so many HU, away from the middle.
const STEP_HU: f64 = 25.0;

/// The window of the paper, for data without any label that can be read.
const PAPERS: [f64; 2] = [-200.0, 300.0];

/// How many labelled voxels have each intensity in whole HU, from [`LOWEST`].
#[derive(Clone, Debug)]
pub(crate) struct Labelled(Vec<u64>);

const LOWEST: f32 = -1024.0;
const BINS: usize = 4096;

impl Default for Labelled {
    fn default() -> Self {
        Self(vec![0; BINS])
    }
}

impl Labelled {
    /// Adds some labelled cases of a dataset, spread over all of it. What cannot be read is left out: `partition` names it.
    pub(crate) fn add(&mut self, root: &Path, cases: &[CaseFiles]) {
        let labelled: Vec<(&Path, &Path)> = cases.iter().filter_map(|case| Some((case.image.as_path(), case.label.as_deref()?))).collect();
        let stride = labelled.len().div_ceil(CASES).max(1);
        let some: Vec<_> = labelled.into_iter().step_by(stride).collect();
        let found: Vec<Self> = some.par_iter().filter_map(|(image, label)| Self::of(&root.join(image), &root.join(label)).ok()).collect();
        // Large organs and large scans do not drown the others: each case counts alike.
        for Self(bins) in found {
            let all = bins.iter().sum::<u64>().max(1);
            self.0.iter_mut().zip(bins).for_each(|(sum, n)| *sum += n * 1_000_000 / all);
        }
    }

    fn of(image: &Path, label: &Path) -> Result<Self, NiftiError> {
        let (mut images, mut labels) = (SliceReader::open(image)?, LabelReader::open(label)?);
        let (mut found, mut slice, mut map) = (Self::default(), Vec::new(), Vec::new());
        while images.next_slice(&mut slice)? && labels.next_slice(&mut map)? {
            for (hu, _) in slice.iter().zip(&map).filter(|(_, label)| **label > 0) {
                found.0[((hu - LOWEST).max(0.0) as usize).min(BINS - 1)] += 1;
            }
        }
        Ok(found)
    }

    /// The window that shows all but the tails, in HU.
    pub(crate) fn window_hu(&self) -> [f64; 2] {
        let all = self.0.iter().sum::<u64>() as f64;
        let bounds = TAILS.map(|share| {
            let mut sum = 0.0;
            let bin = self.0.iter().position(|&n| {
                sum += n as f64;
                sum > share * all
            });
            bin.map(|bin| f64::from(LOWEST) + bin as f64)
        });
        let [Some(low), Some(high)] = bounds else { return PAPERS };
        [(low / STEP_HU).floor() * STEP_HU, (high / STEP_HU).floor() * STEP_HU + STEP_HU]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_leaves_the_tails_out_and_is_the_papers_without_labels() {
        assert_eq!(Labelled::default().window_hu(), PAPERS);
        let mut found = Labelled::default();
        let bin = |hu: f32| (hu - LOWEST) as usize;
        found.0[bin(-1000.0)] = 1;
        found.0[bin(2000.0)] = 1;
        (-60..=130).for_each(|hu| found.0[bin(hu as f32)] = 10);
        assert_eq!(found.window_hu(), [-75.0, 150.0]);
    }
}
