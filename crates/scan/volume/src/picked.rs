//! A few voxels of a large volume, picked as its slices come.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::nifti::{self, LabelReader, NiftiError, SliceReader};
use crate::resample::{Tap, VoxelMap, lerp, on_grid, tap};
use crate::source::ReadSlices;
use crate::{Grid, LabelVolume, ScalarVolume, Volume};

/// A volume that gives its slices along the last axis, as often as they are asked for.
pub trait Slices<T> {
    /// Its grid.
    fn grid(&self) -> Grid;

    /// Gives every slice to `sink`, from the first to the last: its place, and its values with x fastest.
    ///
    /// # Errors
    /// When it cannot be read.
    fn each_slice(&self, sink: &mut dyn FnMut(usize, &[T])) -> Result<(), NiftiError>;
}

impl<T: Clone> Slices<T> for Volume<T> {
    fn grid(&self) -> Grid {
        Volume::grid(self)
    }

    fn each_slice(&self, sink: &mut dyn FnMut(usize, &[T])) -> Result<(), NiftiError> {
        let [nx, ny, _] = Volume::grid(self).shape;
        self.x_fastest().chunks_exact((nx * ny).max(1)).enumerate().for_each(|(k, slice)| sink(k, slice));
        Ok(())
    }
}

/// A volume in a file, which is read slice by slice: intensities (`f32`) or labels (`u8`).
pub struct SlicedFile<T> {
    path: PathBuf,
    grid: Grid,
    voxels: PhantomData<T>,
}

impl<T> SlicedFile<T> {
    /// Reads the header.
    ///
    /// # Errors
    /// As [`read_header`](nifti::read_header).
    pub fn open(path: &Path) -> Result<Self, NiftiError> {
        Ok(Self { path: path.to_owned(), grid: nifti::read_header(path)?.grid(), voxels: PhantomData })
    }

    fn read<R: ReadSlices<From = PathBuf, Voxel = T, Error = NiftiError>>(
        &self,
        sink: &mut dyn FnMut(usize, &[T]),
    ) -> Result<(), NiftiError> {
        let (mut reader, mut slice, mut k) = (R::open(&self.path)?, Vec::new(), 0);
        while reader.next_slice(&mut slice)? {
            sink(k, &slice);
            k += 1;
        }
        Ok(())
    }
}

impl Slices<f32> for SlicedFile<f32> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn each_slice(&self, sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), NiftiError> {
        self.read::<SliceReader>(sink)
    }
}

impl Slices<u8> for SlicedFile<u8> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn each_slice(&self, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), NiftiError> {
        self.read::<LabelReader>(sink)
    }
}

/// What [`resample_linear`](crate::resample_linear) gives on each target, to the bit, from slices that are read one by one.
/// Takes a hundred bytes for each voxel of the targets.
///
/// # Errors
/// When the volume cannot be read.
pub fn pick_linear(volume: &impl Slices<f32>, targets: &[Grid]) -> Result<Vec<ScalarVolume>, NiftiError> {
    let source = volume.grid();
    let mut picked: Vec<Linear> = targets.iter().map(|target| Linear::between(target, &source)).collect();
    volume.each_slice(&mut |k, slice| picked.iter_mut().for_each(|picked| picked.add(k, slice, source.shape[0])))?;
    Ok(picked.iter().zip(targets).map(|(picked, target)| on_grid(target, picked.values())).collect())
}

/// The same for labels, as [`resample_nearest`](crate::resample_nearest).
///
/// # Errors
/// When the volume cannot be read.
pub fn pick_nearest(volume: &impl Slices<u8>, targets: &[Grid]) -> Result<Vec<LabelVolume>, NiftiError> {
    let source = volume.grid();
    let mut picked: Vec<Nearest> = targets.iter().map(|target| Nearest::between(target, &source)).collect();
    volume.each_slice(&mut |k, slice| picked.iter_mut().for_each(|picked| picked.add(k, slice)))?;
    Ok(picked.into_iter().zip(targets).map(|(picked, target)| on_grid(target, picked.labels)).collect())
}

/// The voxels of a grid, x fastest.
fn voxels(grid: &Grid) -> impl Iterator<Item = [usize; 3]> + use<> {
    let [nx, ny, nz] = grid.shape;
    (0..nz).flat_map(move |z| (0..ny).flat_map(move |y| (0..nx).map(move |x| [x, y, z])))
}

/// Voxels of a target with the eight neighbours of each in the source.
struct Linear {
    taps: Vec<[Tap; 3]>,
    corners: Vec<[f32; 8]>,
    /// For each slice of the source the voxels with their lower and with their upper neighbours in it.
    in_slice: Vec<[Vec<usize>; 2]>,
    /// Whether the axes of both grids are parallel and in the same order, where the values are blended along y first.
    along_axes: bool,
}

impl Linear {
    fn between(target: &Grid, source: &Grid) -> Self {
        let map = VoxelMap::between(target, source);
        let lines = map.lines_in_order();
        let taps_of = |voxel: [usize; 3]| -> [Tap; 3] {
            match lines {
                Some(lines) => std::array::from_fn(|axis| lines[axis].tap(voxel[axis], source.shape[axis])),
                None => {
                    let place = map.place(voxel);
                    std::array::from_fn(|axis| tap(place[axis], source.shape[axis]))
                }
            }
        };
        let taps: Vec<[Tap; 3]> = voxels(target).map(taps_of).collect();
        let mut in_slice = vec![[Vec::new(), Vec::new()]; source.shape[2]];
        for (voxel, [.., z]) in taps.iter().enumerate() {
            in_slice[z.low][0].push(voxel);
            in_slice[z.high][1].push(voxel);
        }
        Self { corners: vec![[0.0; 8]; taps.len()], taps, in_slice, along_axes: lines.is_some() }
    }

    fn add(&mut self, k: usize, slice: &[f32], width: usize) {
        for (side, voxels) in self.in_slice[k].iter().enumerate() {
            for &voxel in voxels {
                let [x, y, _] = self.taps[voxel];
                let rows = [y.low, y.high].map(|y| [slice[y * width + x.low], slice[y * width + x.high]]);
                self.corners[voxel][4 * side..][..4].copy_from_slice(rows.as_flattened());
            }
        }
    }

    fn values(&self) -> Vec<f32> {
        let value = |([x, y, z], corners): (&[Tap; 3], &[f32; 8])| {
            let [a, b, c, d, e, f, g, h] = *corners;
            if self.along_axes {
                let column =
                    |near: [f32; 2], far: [f32; 2]| lerp(lerp(near[0], near[1], y.weight), lerp(far[0], far[1], y.weight), z.weight);
                lerp(column([a, c], [e, g]), column([b, d], [f, h]), x.weight)
            } else {
                let plane =
                    |low: [f32; 2], high: [f32; 2]| lerp(lerp(low[0], low[1], x.weight), lerp(high[0], high[1], x.weight), y.weight);
                lerp(plane([a, b], [c, d]), plane([e, f], [g, h]), z.weight)
            }
        };
        self.taps.iter().zip(&self.corners).map(value).collect()
    }
}

/// Voxels of a target with the nearest of the source.
struct Nearest {
    /// For each slice of the source the voxels whose labels are in it, and where.
    in_slice: Vec<Vec<(usize, usize)>>,
    labels: Vec<u8>,
}

impl Nearest {
    fn between(target: &Grid, source: &Grid) -> Self {
        let map = VoxelMap::between(target, source);
        let mut in_slice = vec![Vec::new(); source.shape[2]];
        for (voxel, at) in voxels(target).enumerate() {
            let mut found = [0; 3];
            match map.lines() {
                Some(lines) => lines.iter().zip(at).for_each(|(line, at)| found[line.from] = line.nearest(at, source.shape[line.from])),
                None => found = map.nearest(at, source.shape),
            }
            let [x, y, z] = found;
            in_slice[z].push((voxel, y * source.shape[0] + x));
        }
        Self { in_slice, labels: vec![0; target.voxels()] }
    }

    fn add(&mut self, k: usize, slice: &[u8]) {
        self.in_slice[k].iter().for_each(|&(voxel, at)| self.labels[voxel] = slice[at]);
    }
}
