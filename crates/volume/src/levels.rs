//! The slices of a file across the patient's long axis, one after another, in RAS order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::nifti::{NiftiError, SliceReader};
use crate::placement::Placement;

/// Voxels that are held of a file that is not stored in axial slices, in 4 bytes each.
pub(crate) const MOST_HELD: usize = 1 << 26;

/// Reads the wanted levels of a file, in the order of [`in_order`].
///
/// A file in axial slices is unpacked once. Of one in sagittal or coronal slices, every slice has a part of every level:
/// as many levels as are held at a time are gathered from all of its slices, and it is unpacked again for the next ones.
pub(crate) struct Levels {
    path: PathBuf,
    placement: Arc<Placement>,
    wanted: std::vec::IntoIter<usize>,
    /// The file, when it is read from end to end.
    reader: Option<SliceReader>,
    /// How many of its slices have been read.
    read: usize,
    slice: Vec<f32>,
    gathered: Gathered,
    /// How many levels are gathered at a time.
    at_a_time: usize,
}

/// Some levels, one behind another.
#[derive(Default)]
struct Gathered {
    levels: Vec<usize>,
    values: Vec<f32>,
    /// How many of them have been taken.
    taken: usize,
}

/// Levels without repetition, as they come from a file: upwards, or downwards when it is stored so.
pub(crate) fn in_order(placement: &Placement, levels: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut levels: Vec<usize> = levels.collect();
    levels.sort_unstable();
    levels.dedup();
    if placement.runs_down() {
        levels.reverse();
    }
    levels
}

impl Levels {
    pub(crate) fn open(path: &Path, placement: &Arc<Placement>, wanted: Vec<usize>) -> Result<Self, NiftiError> {
        Ok(Self {
            path: path.to_owned(),
            placement: Arc::clone(placement),
            wanted: wanted.into_iter(),
            reader: placement.is_axial().then(|| SliceReader::open(path)).transpose()?,
            read: 0,
            slice: Vec::new(),
            gathered: Gathered::default(),
            at_a_time: (MOST_HELD / placement.level_voxels().max(1)).max(1),
        })
    }

    /// Puts the next wanted level into `level`, x fastest, and tells which it is; None after the last, when the rest of
    /// the file has been found to be sound.
    pub(crate) fn next(&mut self, level: &mut Vec<f32>) -> Result<Option<usize>, NiftiError> {
        match self.reader.take() {
            Some(mut reader) => {
                let next = self.next_of(&mut reader, level);
                self.reader = Some(reader);
                next
            }
            None => self.next_gathered(level),
        }
    }

    /// The next wanted slice of a file in axial slices.
    fn next_of(&mut self, reader: &mut SliceReader, level: &mut Vec<f32>) -> Result<Option<usize>, NiftiError> {
        let wanted = self.wanted.next();
        while reader.next_slice(&mut self.slice)? {
            self.read += 1;
            let here = self.placement.place(2, self.read - 1);
            if wanted == Some(here) {
                self.placement.turn(&self.slice, level);
                return Ok(wanted);
            }
        }
        Ok(None)
    }

    /// The next of the levels that have been gathered, or of the next ones.
    fn next_gathered(&mut self, level: &mut Vec<f32>) -> Result<Option<usize>, NiftiError> {
        if self.gathered.taken == self.gathered.levels.len() {
            self.gather()?;
        }
        let voxels = self.placement.level_voxels();
        let Some(&found) = self.gathered.levels.get(self.gathered.taken) else { return Ok(None) };
        level.clear();
        level.extend_from_slice(&self.gathered.values[self.gathered.taken * voxels..][..voxels]);
        self.gathered.taken += 1;
        Ok(Some(found))
    }

    fn gather(&mut self) -> Result<(), NiftiError> {
        let voxels = self.placement.level_voxels();
        let levels: Vec<usize> = self.wanted.by_ref().take(self.at_a_time).collect();
        let Gathered { values, .. } = &mut self.gathered;
        values.resize(levels.len() * voxels, 0.0);
        if !levels.is_empty() {
            let mut reader = SliceReader::open(&self.path)?;
            let mut k = 0;
            while reader.next_slice(&mut self.slice)? {
                self.placement.share_out(k, &self.slice, &levels, values);
                k += 1;
            }
        }
        self.gathered.levels = levels;
        self.gathered.taken = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, ShapeBuilder as _};

    use super::*;
    use crate::{ModelGrid, Orientation, ScalarVolume, nifti, reorient};

    const MODEL: ModelGrid = ModelGrid { spacing_mm: [None; 3], window_hu: [-200.0, 300.0] };

    #[test]
    fn levels_are_the_same_however_many_are_gathered_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_0000.nii.gz");
        let ras = crate::Grid {
            shape: [4, 3, 7],
            affine: crate::Affine::from_columns([[1.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], [3.0; 3]),
        };
        for orientation in Orientation::all() {
            let grid = ras.reoriented(orientation);
            let data = Array3::from_shape_fn(grid.shape.f(), |(x, y, z)| (100 * x + 10 * y + z) as f32);
            let scan = ScalarVolume { data, affine: grid.affine };
            nifti::write_scalar_i16(&path, &scan).unwrap();
            let turned = reorient(&scan, Orientation::RAS);
            let placement = Arc::new(Placement::between(&grid, &MODEL.of(&grid).unwrap()).unwrap());
            for at_a_time in [1, 2, 7] {
                let wanted = in_order(&placement, [5, 1, 2, 2, 6].into_iter());
                let mut levels = Levels::open(&path, &placement, wanted.clone()).unwrap();
                levels.at_a_time = at_a_time;
                let (mut found, mut values) = (Vec::new(), Vec::new());
                while let Some(level) = levels.next(&mut values).unwrap() {
                    let expected: Vec<f32> = turned.data.index_axis(ndarray::Axis(2), level).t().iter().copied().collect();
                    assert_eq!(values, expected, "{orientation}, level {level}, {at_a_time} at a time");
                    found.push(level);
                }
                assert_eq!(found, wanted, "{orientation}");
            }
        }
    }
}
