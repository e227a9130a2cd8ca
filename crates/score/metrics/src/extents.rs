//! Where the values of two maps are.

use labels::LabelPattern;

use crate::mask::{Mask, Region};
use crate::{MetricsError, Scored};

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

/// Where the values of both maps are.
pub(crate) struct Extents {
    pub(crate) prediction: Extent,
    pub(crate) truth: Extent,
}

/// How many voxels of a map each value has, and the box that holds them.
pub(crate) struct Extent {
    pub(crate) voxels: [u64; 256],
    boxes: [Region; 256],
}

impl Extent {
    const EMPTY: Self = Self { voxels: [0; 256], boxes: [Region::EMPTY; 256] };

    fn add_row(&mut self, row: &[u8], y: usize, z: usize) {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let value = usize::from(run[0]);
            self.voxels[value] += run.len() as u64;
            self.boxes[value].include([x, y, z]);
            self.boxes[value].include([x + run.len() - 1, y, z]);
            x += run.len();
        }
    }

    /// Whether any of some values is there.
    pub(crate) fn shows(&self, values: LabelPattern) -> bool {
        values.iter().any(|value| self.voxels[usize::from(value)] > 0)
    }

    /// The box that holds some values.
    pub(crate) fn region(&self, values: LabelPattern) -> Region {
        values.iter().fold(Region::EMPTY, |region, value| region.with(&self.boxes[usize::from(value)]))
    }
}

impl Extents {
    pub(crate) fn of<S: SlicePairs>(maps: &S) -> Result<Self, S::Error> {
        let mut extents = Self { prediction: Extent::EMPTY, truth: Extent::EMPTY };
        let width = maps.shape()[0].max(1);
        maps.each(&mut |z, prediction, truth| {
            for (extent, map) in [(&mut extents.prediction, prediction), (&mut extents.truth, truth)] {
                map.chunks_exact(width).enumerate().for_each(|(y, row)| extent.add_row(row, y, z));
            }
        })?;
        Ok(extents)
    }

    /// The box that holds a class in either map.
    pub(crate) fn either(&self, class: &Scored) -> Region {
        self.prediction.region(class.prediction).with(&self.truth.region(class.truth))
    }

    /// The places of the classes that both maps have, in groups whose masks take at most so many bytes, or of one class.
    pub(crate) fn groups(&self, classes: &[Scored], most_bytes: usize) -> Vec<Vec<usize>> {
        let in_both = |(_, class): &(usize, &Scored)| self.prediction.shows(class.prediction) && self.truth.shows(class.truth);
        let (mut groups, mut held) = (Vec::<Vec<usize>>::new(), 0);
        for (at, class) in classes.iter().enumerate().filter(in_both) {
            let bytes = 2 * Mask::bytes(self.either(class).shape());
            match groups.last_mut().filter(|_| held + bytes <= most_bytes) {
                Some(group) => group.push(at),
                None => {
                    groups.push(vec![at]);
                    held = 0;
                }
            }
            held += bytes;
        }
        groups
    }
}
