//! Where the classes of two maps are.

use labels::{NUM_CLASSES, TUMOR};

use crate::MetricsError;
use crate::mask::{Mask, Region};

/// What takes the slices of two maps: a place along z, the labels of the prediction and those of the ground truth.
pub type SliceSink<'a> = dyn FnMut(usize, &[u8], &[u8]) + 'a;

/// A prediction and the ground truth on one grid, which are read slice by slice and more than once.
pub trait SlicePairs {
    /// Why slices cannot be had.
    type Error: From<MetricsError>;

    /// Voxels along x, y, z.
    fn shape(&self) -> [usize; 3];

    /// Gives every slice across z to `sink`, from the first to the last, labels with x fastest.
    ///
    /// # Errors
    /// When they cannot be had.
    fn each(&self, sink: &mut SliceSink<'_>) -> Result<(), Self::Error>;
}

/// The classes of two maps.
pub(crate) struct Extents {
    /// Voxels of every value.
    pub(crate) prediction_voxels: [u64; 256],
    pub(crate) truth_voxels: [u64; 256],
    /// The box of each class in either map.
    pub(crate) either: [Region; NUM_CLASSES],
    /// First and one past the last axial slice of each class in the ground truth.
    pub(crate) truth_slices: [[usize; 2]; NUM_CLASSES],
}

impl Extents {
    pub(crate) fn of<S: SlicePairs>(maps: &S) -> Result<Self, S::Error> {
        let mut extents = Self {
            prediction_voxels: [0; 256],
            truth_voxels: [0; 256],
            either: [Region::EMPTY; NUM_CLASSES],
            truth_slices: [[usize::MAX, 0]; NUM_CLASSES],
        };
        let width = maps.shape()[0].max(1);
        maps.each(&mut |z, prediction, truth| {
            let rows = prediction.chunks_exact(width).zip(truth.chunks_exact(width));
            rows.enumerate().for_each(|(y, (prediction, truth))| extents.add_row(prediction, truth, y, z));
        })?;
        Ok(extents)
    }

    fn add_row(&mut self, prediction: &[u8], truth: &[u8], y: usize, z: usize) {
        let mut x = 0;
        for run in prediction.chunk_by(|a, b| a == b) {
            self.prediction_voxels[usize::from(run[0])] += run.len() as u64;
            self.include(run[0], [x, y, z], run.len());
            x += run.len();
        }
        x = 0;
        for run in truth.chunk_by(|a, b| a == b) {
            self.truth_voxels[usize::from(run[0])] += run.len() as u64;
            self.include(run[0], [x, y, z], run.len());
            if let Some([first, end]) = self.truth_slices.get_mut(usize::from(run[0])) {
                (*first, *end) = ((*first).min(z), (*end).max(z + 1));
            }
            x += run.len();
        }
    }

    fn include(&mut self, label: u8, [x, y, z]: [usize; 3], voxels: usize) {
        if let (1.., Some(region)) = (label, self.either.get_mut(usize::from(label))) {
            region.include([x, y, z]);
            region.include([x + voxels - 1, y, z]);
        }
    }

    /// The classes that both maps have, in groups whose masks take at most so many bytes, or of one class.
    pub(crate) fn groups(&self, most_bytes: usize) -> Vec<Vec<u8>> {
        let in_both = |label: &u8| [self.prediction_voxels, self.truth_voxels].iter().all(|voxels| voxels[usize::from(*label)] > 0);
        let (mut groups, mut held) = (Vec::<Vec<u8>>::new(), 0);
        for label in (1..=TUMOR).filter(in_both) {
            let bytes = 2 * Mask::bytes(self.either[usize::from(label)].shape());
            match groups.last_mut().filter(|_| held + bytes <= most_bytes) {
                Some(group) => group.push(label),
                None => {
                    groups.push(vec![label]);
                    held = 0;
                }
            }
            held += bytes;
        }
        groups
    }
}
