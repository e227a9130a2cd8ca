//! The slices of a file across the patient's long axis, one after another, in RAS order.

use std::sync::Arc;

use crate::placement::Placement;
use crate::source::ReadSlices;

/// Voxels that are held of a file that is not stored in axial slices, in 4 bytes each.
pub(crate) const MOST_HELD: usize = 1 << 26;

/// Reads the wanted levels of a file without repetition, as they come from it: upwards, or downwards when it is stored so.
pub(crate) struct Levels<R: ReadSlices> {
    placement: Arc<Placement>,
    wanted: std::vec::IntoIter<usize>,
    slice: Vec<R::Voxel>,
    slices: Slices<R>,
    watch: Option<Watch<R::Voxel>>,
}

/// Sees every slice of the file as it comes, once, and None after the last.
type Watch<T> = Box<dyn FnMut(Option<&[T]>) + Send>;

/// How levels come from a file.
enum Slices<R: ReadSlices> {
    /// A file in axial slices is unpacked once; so many of its slices have been read.
    Axial { reader: Box<R>, read: usize },
    /// Of a file in sagittal or coronal slices, every slice has a part of every level: as many levels as are held at a time
    /// are gathered from all of its slices, and it is unpacked again for the next ones.
    Parts { from: R::From, at_a_time: usize, gathered: Gathered<R::Voxel> },
}

/// Some levels, one behind another.
struct Gathered<T> {
    levels: Vec<usize>,
    values: Vec<T>,
    /// How many of them have been taken.
    taken: usize,
}

fn in_order(placement: &Placement, levels: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut levels: Vec<usize> = levels.collect();
    levels.sort_unstable();
    levels.dedup();
    if placement.runs_down() {
        levels.reverse();
    }
    levels
}

impl<R: ReadSlices> Levels<R> {
    pub(crate) fn open(from: R::From, placement: &Arc<Placement>, wanted: impl Iterator<Item = usize>) -> Result<Self, R::Error> {
        let slices = if placement.is_axial() {
            Slices::Axial { reader: Box::new(R::open(&from)?), read: 0 }
        } else {
            let at_a_time = (MOST_HELD / placement.level_voxels().max(1)).max(1);
            Slices::Parts { from, at_a_time, gathered: Gathered { levels: Vec::new(), values: Vec::new(), taken: 0 } }
        };
        let wanted = in_order(placement, wanted).into_iter();
        Ok(Self { placement: Arc::clone(placement), wanted, slice: Vec::new(), slices, watch: None })
    }

    /// Shows every slice of the file to `watch`, whether it is wanted or not.
    pub(crate) fn shown_to(self, watch: impl FnMut(Option<&[R::Voxel]>) + Send + 'static) -> Self {
        Self { watch: Some(Box::new(watch)), ..self }
    }

    /// Puts the next wanted level into `level`, x fastest, and tells which it is; None after the last, when the rest of
    /// the file has been found to be sound.
    pub(crate) fn next(&mut self, level: &mut Vec<R::Voxel>) -> Result<Option<usize>, R::Error> {
        let Self { placement, wanted, slice, slices, watch } = self;
        match slices {
            Slices::Axial { reader, read } => {
                let wanted = wanted.next();
                while reader.next_slice(slice)? {
                    *read += 1;
                    show(watch, Some(slice));
                    if wanted == Some(placement.place(2, *read - 1)) {
                        placement.turn(slice, level);
                        return Ok(wanted);
                    }
                }
                show(watch, None);
                Ok(None)
            }
            Slices::Parts { from, at_a_time, gathered } => {
                if gathered.taken == gathered.levels.len() {
                    gathered.gather::<R>(from, placement, wanted.by_ref().take(*at_a_time).collect(), slice, watch)?;
                }
                Ok(gathered.take(placement.level_voxels(), level))
            }
        }
    }
}

/// Shows a slice, or that there is none left: then the next time that the file is read is not looked at.
fn show<T>(watch: &mut Option<Watch<T>>, slice: Option<&[T]>) {
    if let Some(look) = watch {
        look(slice);
    }
    if slice.is_none() {
        *watch = None;
    }
}

impl<T: Copy + Default> Gathered<T> {
    /// Gathers `levels` in place of those that are here.
    fn gather<R: ReadSlices<Voxel = T>>(
        &mut self,
        from: &R::From,
        placement: &Placement,
        levels: Vec<usize>,
        slice: &mut Vec<T>,
        watch: &mut Option<Watch<T>>,
    ) -> Result<(), R::Error> {
        self.values.resize(levels.len() * placement.level_voxels(), T::default());
        if !levels.is_empty() {
            let mut reader = R::open(from)?;
            let mut k = 0;
            while reader.next_slice(slice)? {
                placement.share_out(k, slice, &levels, &mut self.values);
                show(watch, Some(slice));
                k += 1;
            }
            show(watch, None);
        }
        (self.levels, self.taken) = (levels, 0);
        Ok(())
    }

    /// The next level, of so many voxels, if one is left.
    fn take(&mut self, voxels: usize, level: &mut Vec<T>) -> Option<usize> {
        let found = *self.levels.get(self.taken)?;
        level.clear();
        level.extend_from_slice(&self.values[self.taken * voxels..][..voxels]);
        self.taken += 1;
        Some(found)
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
                let mut levels = Levels::<nifti::SliceReader>::open(path.clone(), &placement, wanted.iter().copied()).unwrap();
                if let Slices::Parts { at_a_time: held, .. } = &mut levels.slices {
                    *held = at_a_time;
                }
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
