//! Resampling onto another grid, linearly for intensities and to the nearest voxel for labels.
//!
//! A voxel of the target is looked up at its place in the patient. Places outside the source take the value at its
//! border (MONAI's and PyTorch's `border` padding). Where the axes of both grids run parallel, each axis has a table
//! of source indices and weights; otherwise every voxel is mapped by itself.

use std::array::from_fn;
use std::ops::Range;

use rayon::prelude::*;

use crate::{Affine, Box3, Grid, LabelVolume, ScalarVolume};

/// How far (in voxels, over the whole grid) the map may leave the axes and still count as parallel to them. Oblique
/// affines that were rounded to 32 bits do so by less than a ten thousandth.
const PARALLEL_TOLERANCE: f64 = 1e-4;

/// Places this close to a voxel centre (in voxels) are on it, so that a grid resampled onto itself is itself to the bit.
const CENTRE_TOLERANCE: f64 = 1e-6;

/// Resamples intensities onto `target` by trilinear interpolation between voxel centres, with the border value outside.
/// Takes the memory of the output, one row per thread and a table per axis.
#[must_use]
pub fn resample_linear(volume: &ScalarVolume, target: &Grid) -> ScalarVolume {
    let source_grid = volume.grid();
    let to_source = target.voxels_in(&source_grid);
    let source = volume.x_fastest();
    let source = Source { values: &source, shape: source_grid.shape };
    let lines = axis_lines(&to_source, target.shape).filter(|lines| (0..3).all(|axis| lines[axis].from == axis));
    let fill = |z: usize, out: &mut [f32]| match &lines {
        Some(lines) => {
            let taps = [0, 1].map(|axis| lines[axis].taps(0..target.shape[axis], source.shape[axis]));
            let (z, plane) = (lines[2].tap(z, source.shape[2]), source.shape[0] * source.shape[1]);
            let planes = [z.low, z.high].map(|z| &source.values[z * plane..][..plane]);
            blend_planes(planes, source.shape[0], &taps, z.weight, out);
        }
        None => linear_slice(&source, &to_source, z, target.shape, out),
    };
    let mut values = vec![0.0; target.voxels()];
    let plane = target.shape[0] * target.shape[1];
    if plane > 0 && !source.values.is_empty() {
        values.par_chunks_mut(plane).enumerate().for_each(|(z, out)| fill(z, out));
    }
    match ScalarVolume::from_x_fastest(target, values) {
        Ok(volume) => volume,
        Err(_) => unreachable!("the values were made for this grid"),
    }
}

/// Resamples labels onto `target`, each voxel taking the label of the nearest voxel of the source; halfway between two,
/// the one with the even index (as PyTorch rounds). Takes the memory of the output.
#[must_use]
pub fn resample_nearest(volume: &LabelVolume, target: &Grid) -> LabelVolume {
    let source = volume.x_fastest();
    let slices = NearestSlices::of(&source, &volume.grid(), target);
    let mut values = vec![0; target.voxels()];
    let plane = target.shape[0] * target.shape[1];
    if plane > 0 && !source.is_empty() {
        values.par_chunks_mut(plane).enumerate().for_each(|(z, out)| slices.write(z, out));
    }
    match LabelVolume::from_x_fastest(target, values) {
        Ok(volume) => volume,
        Err(_) => unreachable!("the values were made for this grid"),
    }
}

/// Labels on another grid, slice by slice, to the bit as [`resample_nearest`] gives them.
pub struct NearestSlices<'a> {
    /// What is known: labels inside `region` of the source, x fastest, and the one label of everything else.
    labels: &'a [u8],
    region: Box3,
    outside: u8,
    source: [usize; 3],
    to_source: Affine,
    lines: Option<[Line; 3]>,
    target: [usize; 3],
}

impl<'a> NearestSlices<'a> {
    /// Of labels of all of `source`, x fastest.
    #[must_use]
    pub fn of(labels: &'a [u8], source: &Grid, target: &Grid) -> Self {
        Self::inside(labels, &Box3 { start: [0; 3], shape: source.shape }, 0, source, target)
    }

    /// Of labels inside `region` of `source`, x fastest; everything else there has the label `outside`.
    ///
    /// # Panics
    ///
    /// When these are not the labels of the region.
    #[must_use]
    pub fn inside(labels: &'a [u8], region: &Box3, outside: u8, source: &Grid, target: &Grid) -> Self {
        assert_eq!(labels.len(), region.shape.iter().product::<usize>(), "the labels of {:?} voxels", region.shape);
        let to_source = target.voxels_in(source);
        let lines = axis_lines(&to_source, target.shape);
        Self { labels, region: *region, outside, source: source.shape, to_source, lines, target: target.shape }
    }

    /// Writes slice `z` of the target, x fastest.
    ///
    /// # Panics
    ///
    /// When `out` is no slice of the target.
    pub fn write(&self, z: usize, out: &mut [u8]) {
        assert_eq!(out.len(), self.target[0] * self.target[1], "a slice of {:?} voxels", self.target);
        if out.is_empty() {
            return;
        }
        match &self.lines {
            Some(lines) => self.along_axes(lines, z, out),
            None => self.anywhere(z, out),
        }
    }

    /// How far into the labels index `index` of an axis of the source leads, if it is inside the region.
    fn offset(&self, axis: usize, index: usize) -> Option<usize> {
        let step = self.region.shape[..axis].iter().product::<usize>();
        index.checked_sub(self.region.start[axis]).filter(|i| *i < self.region.shape[axis]).map(|i| i * step)
    }

    /// When the axes are parallel: the offsets of the three axes add up.
    fn along_axes(&self, lines: &[Line; 3], z: usize, out: &mut [u8]) {
        let offset = |axis: usize, index: usize| {
            let line = &lines[axis];
            self.offset(line.from, line.nearest(index, self.source[line.from]))
        };
        let along_x: Vec<Option<usize>> = (0..self.target[0]).map(|x| offset(0, x)).collect();
        let at_z = offset(2, z);
        for (y, row) in out.chunks_exact_mut(self.target[0]).enumerate() {
            match at_z.zip(offset(1, y)) {
                None => row.fill(self.outside),
                Some((z, y)) => {
                    let labels = &self.labels[z + y..];
                    row.iter_mut().zip(&along_x).for_each(|(out, x)| *out = x.map_or(self.outside, |x| labels[x]));
                }
            }
        }
    }

    /// By any map.
    fn anywhere(&self, z: usize, out: &mut [u8]) {
        for (y, row) in out.chunks_exact_mut(self.target[0]).enumerate() {
            for (out, place) in row.iter_mut().zip(places_of_row(&self.to_source, y, z)) {
                let [x, y, z] = from_fn(|axis| self.offset(axis, nearest(place[axis], self.source[axis])));
                *out = x.zip(y).zip(z).map_or(self.outside, |((x, y), z)| self.labels[x + y + z]);
            }
        }
    }
}

/// Values with x fastest.
struct Source<'a> {
    values: &'a [f32],
    shape: [usize; 3],
}

/// Along one axis of the target, the place in the source is `scale * index + shift` on source axis `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) from: usize,
    pub(crate) scale: f64,
    shift: f64,
}

/// Two neighbouring source indices and the weight of the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) weight: f32,
}

impl Line {
    pub(crate) fn tap(&self, index: usize, source_len: usize) -> Tap {
        tap(self.scale * index as f64 + self.shift, source_len)
    }

    pub(crate) fn taps(&self, range: Range<usize>, source_len: usize) -> Vec<Tap> {
        range.map(|index| self.tap(index, source_len)).collect()
    }

    /// The nearest source index on an axis of `source_len` voxels.
    pub(crate) fn nearest(&self, index: usize, source_len: usize) -> usize {
        nearest(self.scale * index as f64 + self.shift, source_len)
    }
}

/// The neighbours of a place on an axis of `len` voxels, held within the axis.
#[inline]
fn tap(place: f64, len: usize) -> Tap {
    let place = place.clamp(0.0, (len - 1) as f64);
    // Sides fit 31 bits, and this conversion is the quick one.
    let mut low = place as i32 as usize;
    let mut weight = place - low as f64;
    if weight > 1.0 - CENTRE_TOLERANCE {
        low += 1;
        weight = 0.0;
    } else if weight < CENTRE_TOLERANCE {
        weight = 0.0;
    }
    Tap { low, high: (low + 1).min(len - 1), weight: weight as f32 }
}

/// The index nearest to a place on an axis of `len` voxels, the even one of two that are equally near.
#[inline]
fn nearest(place: f64, len: usize) -> usize {
    // 1.5 * 2^52 leaves no bits for a fraction, so that adding it rounds as the processor does, to even, without a call.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    let place = place.clamp(0.0, (len - 1) as f64);
    ((place + ROUNDING) - ROUNDING) as i32 as usize
}

/// The lines of a map whose axes run parallel to those of the source, in any order and direction.
pub(crate) fn axis_lines(to_source: &Affine, shape: [usize; 3]) -> Option<[Line; 3]> {
    let mut lines = [Line { from: 0, scale: 0.0, shift: 0.0 }; 3];
    let mut taken = [false; 3];
    for axis in 0..3 {
        let column = to_source.column(axis);
        let extent = shape[axis].max(1) as f64;
        let from = (0..3).max_by(|&a, &b| column[a].abs().total_cmp(&column[b].abs()))?;
        let strays: f64 = (0..3).filter(|&row| row != from).map(|row| column[row].abs() * extent).sum();
        let is_parallel = strays < PARALLEL_TOLERANCE;
        if !is_parallel || std::mem::replace(&mut taken[from], true) {
            return None;
        }
        lines[axis] = Line { from, scale: column[from], shift: to_source.0[from][3] };
    }
    Some(lines)
}

/// One slice between two planes of the source, whose rows have `nx` values, when no axes are exchanged: four source rows
/// are blended into one, and that is read along x.
pub(crate) fn blend_planes([near, far]: [&[f32]; 2], nx: usize, [xs, ys]: &[Vec<Tap>; 2], weight: f32, out: &mut [f32]) {
    let mut blended = vec![0.0f32; nx];
    for (y, out_row) in ys.iter().zip(out.chunks_exact_mut(xs.len())) {
        let rows = [y.low * nx..(y.low + 1) * nx, y.high * nx..(y.high + 1) * nx];
        let [[a, b], [c, d]] = [near, far].map(|plane| rows.clone().map(|row| &plane[row]));
        for x in 0..nx {
            blended[x] = lerp(lerp(a[x], b[x], y.weight), lerp(c[x], d[x], y.weight), weight);
        }
        for (value, x) in out_row.iter_mut().zip(xs) {
            *value = lerp(blended[x.low], blended[x.high], x.weight);
        }
    }
}

/// One slice by any map: eight neighbours of each voxel.
fn linear_slice(source: &Source<'_>, to_source: &Affine, z: usize, shape: [usize; 3], out: &mut [f32]) {
    let (step_y, step_z) = (source.shape[0], source.shape[0] * source.shape[1]);
    for (y, row) in out.chunks_exact_mut(shape[0]).enumerate() {
        for (out, place) in row.iter_mut().zip(places_of_row(to_source, y, z)) {
            let [x, y, z] = from_fn(|axis| tap(place[axis], source.shape[axis]));
            let edge = |offset: usize| lerp(source.values[offset + x.low], source.values[offset + x.high], x.weight);
            let (y_low, y_high) = (y.low * step_y, y.high * step_y);
            let (z_low, z_high) = (z.low * step_z, z.high * step_z);
            let near = lerp(edge(y_low + z_low), edge(y_high + z_low), y.weight);
            let far = lerp(edge(y_low + z_high), edge(y_high + z_high), y.weight);
            *out = lerp(near, far, z.weight);
        }
    }
}

/// Where the voxels of row (y, z) lie in the source, each counted from the first so that rounding does not add up.
fn places_of_row(to_source: &Affine, y: usize, z: usize) -> impl Iterator<Item = [f64; 3]> + use<> {
    let first = to_source.apply(&[0.0, y as f64, z as f64]);
    let step = to_source.column(0);
    (0u32..).map(move |x| from_fn(|axis| first[axis] + f64::from(x) * step[axis]))
}

/// From `a` (weight 0) to `b` (weight 1). Two equal values give just that value.
#[inline]
fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    a + weight * (b - a)
}
