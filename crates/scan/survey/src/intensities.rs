//! The intensities of what is labelled, and the window that shows them.

use std::collections::BTreeMap;
use std::path::Path;

use dataset::CaseFiles;
use rayon::prelude::*;
use volume::nifti::{LabelReader, NiftiError, SliceReader};

use crate::plan::quantile;

/// So many labelled cases of each dataset are read.
const CASES: usize = 3;

/// The shares of a label's voxels in a case that its bounds leave out below and above, as nnU-Net does.
const TAILS: [f64; 2] = [0.005, 0.995];

/// So many of the labels may have a bound beyond that of the window. Gas in a stomach, or a nodule of the lung among organs of the
/// abdomen, would otherwise make the window so wide that soft tissue has little contrast in it.
const BEYOND: f64 = 0.25;

/// Bounds are rounded to so many HU, away from the middle.
const STEP_HU: f64 = 25.0;

/// The window of the paper, for data without any label that can be read.
const PAPERS: [f64; 2] = [-200.0, 300.0];

/// Of each label of each case that was read the intensities in HU between which its voxels lie, but for the tails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labelled(Vec<[f64; 2]>);

const LOWEST: f32 = -1024.0;
const BINS: usize = 4096;

impl Labelled {
    /// Adds some labelled cases of a dataset, spread over all of it. What cannot be read is left out: `partition` names it.
    pub(crate) fn add(&mut self, root: &Path, cases: &[CaseFiles]) {
        let labelled: Vec<(&Path, &Path)> = cases.iter().filter_map(|case| Some((case.image.as_path(), case.label.as_deref()?))).collect();
        let stride = labelled.len().div_ceil(CASES).max(1);
        let some: Vec<_> = labelled.into_iter().step_by(stride).collect();
        let found: Vec<_> = some.par_iter().filter_map(|(image, label)| of(&root.join(image), &root.join(label)).ok()).collect();
        self.0.extend(found.into_iter().flatten());
    }

    /// The window that shows most labels, in HU.
    pub(crate) fn window_hu(&self) -> [f64; 2] {
        if self.0.is_empty() {
            return PAPERS;
        }
        let bound = |which: usize, share: f64| quantile(self.0.iter().map(|bounds| bounds[which]).collect(), share);
        let [low, high] = [bound(0, BEYOND), bound(1, 1.0 - BEYOND)];
        [(low / STEP_HU).floor() * STEP_HU, (high / STEP_HU).floor() * STEP_HU + STEP_HU]
    }
}

/// The bounds of each label of a case.
fn of(image: &Path, label: &Path) -> Result<Vec<[f64; 2]>, NiftiError> {
    let (mut images, mut labels) = (SliceReader::open(image)?, LabelReader::open(label)?);
    let (mut found, mut slice, mut map) = (BTreeMap::new(), Vec::new(), Vec::new());
    while images.next_slice(&mut slice)? && labels.next_slice(&mut map)? {
        for (hu, label) in slice.iter().zip(&map).filter(|(_, label)| **label > 0) {
            let bins: &mut Vec<u64> = found.entry(*label).or_insert_with(|| vec![0; BINS]);
            bins[((hu - LOWEST).max(0.0) as usize).min(BINS - 1)] += 1;
        }
    }
    Ok(found.values().filter_map(|bins| bounds(bins)).collect())
}

/// The intensities between which all voxels but the tails lie, from the number of voxels at each whole HU from [`LOWEST`].
fn bounds(found: &[u64]) -> Option<[f64; 2]> {
    let all = found.iter().sum::<u64>() as f64;
    let bin = |share: f64| {
        let mut sum = 0.0;
        found.iter().position(|&n| {
            sum += n as f64;
            sum > share * all
        })
    };
    let [Some(low), Some(high)] = TAILS.map(bin) else { return None };
    Some([low, high].map(|bin| f64::from(LOWEST) + bin as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_seen_without_its_tails() {
        let mut found = vec![0; BINS];
        assert_eq!(bounds(&found), None);
        let bin = |hu: f32| (hu - LOWEST) as usize;
        found[bin(-1000.0)] = 1;
        found[bin(2000.0)] = 1;
        (-60..=130).for_each(|hu| found[bin(hu as f32)] = 10);
        assert_eq!(bounds(&found), Some([-60.0, 130.0]), "all but the two strays");
    }

    #[test]
    fn the_window_shows_most_labels_and_is_the_papers_without_any() {
        assert_eq!(Labelled::default().window_hu(), PAPERS);
        assert_eq!(Labelled(vec![[-60.0, 130.0]]).window_hu(), [-75.0, 150.0]);
        let abdomen = [[-60.0, 130.0], [-40.0, 170.0], [-30.0, 210.0], [-50.0, 120.0]];
        let lung = [-570.0, 80.0];
        assert_eq!(Labelled([&abdomen[..], &[lung]].concat()).window_hu(), [-75.0, 175.0]);
        assert_eq!(Labelled([&abdomen[..], &[lung; 2]].concat()).window_hu()[0], -575.0, "two of six are more than a quarter");
    }
}
