//! Resampling onto another grid, linearly for intensities and to the nearest voxel for labels.
//!
//! A voxel of the target is looked up at its place in the patient. Places outside the source take the value at its
//! border (MONAI's and PyTorch's `border` padding). Where the axes of both grids run parallel, each axis has a table
//! of source indices and weights; otherwise every voxel is mapped by itself.

use std::array::from_fn;
use std::ops::Range;

use rayon::prelude::*;

use crate::{Affine, Box3, Grid, LabelVolume, ScalarVolume, Volume};

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
    let source = volume.x_fastest();
    let planes = LinearPlanes::of(&VoxelMap::between(target, &source_grid), &target.whole(), source_grid.shape, None);
    let level_voxels = source_grid.shape[0] * source_grid.shape[1];
    let level = |z: usize| &source[z * level_voxels..][..level_voxels];
    resampled(source.is_empty(), target, |z, out| planes.write(z, level, out))
}

/// Resamples labels onto `target`, each voxel taking the label of the nearest voxel of the source; halfway between two,
/// the one with the even index (as PyTorch rounds). Takes the memory of the output.
#[must_use]
pub fn resample_nearest(volume: &LabelVolume, target: &Grid) -> LabelVolume {
    let source = volume.x_fastest();
    let slices = NearestSlices::of(&source, &volume.grid(), target);
    resampled(source.is_empty(), target, |z, out| slices.write(z, out))
}

/// A new volume on `target`, its slices along z filled in parallel. A source without voxels has nothing to say, and
/// leaves the default value everywhere.
fn resampled<T: Copy + Default + Send + Sync>(no_source: bool, target: &Grid, fill: impl Fn(usize, &mut [T]) + Sync) -> Volume<T> {
    let mut values = vec![T::default(); target.voxels()];
    let plane = target.shape[0] * target.shape[1];
    if plane > 0 && !no_source {
        values.par_chunks_mut(plane).enumerate().for_each(|(z, out)| fill(z, out));
    }
    on_grid(target, values)
}

/// The volume of values that were made for a grid, x fastest.
pub(crate) fn on_grid<T: Clone>(grid: &Grid, values: Vec<T>) -> Volume<T> {
    match Volume::from_x_fastest(grid, values) {
        Ok(volume) => volume,
        Err(_) => unreachable!("the values were made for this grid"),
    }
}

/// The planes of a region of one grid, interpolated from levels of another one.
pub(crate) struct LinearPlanes {
    map: VoxelMap,
    region: Box3,
    source: [usize; 3],
    /// The axis of the source along which the nearest voxel is taken.
    stepped: Option<usize>,
    /// Where columns and rows lie in a level, when the axes of both grids are parallel and in the same order.
    taps: Option<[Vec<Tap>; 2]>,
}

impl LinearPlanes {
    /// Planes of `region` of the target from a source of the shape `source`, whose nearest voxel is taken along the axis `stepped`.
    pub(crate) fn of(map: &VoxelMap, region: &Box3, source: [usize; 3], stepped: Option<usize>) -> Self {
        let taps = map.lines_in_order().map(|lines| {
            [0, 1].map(|axis| {
                let range = region.start[axis]..region.start[axis] + region.shape[axis];
                lines[axis].taps(range, source[axis]).into_iter().map(|tap| tap.stepped(stepped == Some(axis))).collect()
            })
        });
        Self { map: *map, region: *region, source, stepped, taps }
    }

    /// The two levels of the source between which plane `z` of the target lies, when it lies along them.
    pub(crate) fn tap(&self, z: usize) -> Tap {
        self.map.line_of_z().tap(z, self.source[2]).stepped(self.stepped == Some(2))
    }

    /// Writes what the region has of plane `z` of the target, x fastest, from the levels of the source.
    pub(crate) fn write<'a>(&self, z: usize, level: impl Fn(usize) -> &'a [f32] + Sync, out: &mut [f32]) {
        match &self.taps {
            Some(taps) => {
                let tap = self.tap(z);
                blend_planes([level(tap.low), level(tap.high)], self.source[0], taps, tap.weight, out);
            }
            None => self.write_anyhow(z, level, out),
        }
    }

    /// By any map: eight neighbours of each voxel.
    fn write_anyhow<'a>(&self, z: usize, level: impl Fn(usize) -> &'a [f32] + Sync, out: &mut [f32]) {
        let Box3 { start: [first_x, first_y, _], shape: [width, ..] } = self.region;
        out.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(row, out)| {
            for (out, place) in out.iter_mut().zip(self.map.row(first_x, first_y + row, z)) {
                let [x, y, z] = from_fn(|axis| tap(place[axis], self.source[axis]).stepped(self.stepped == Some(axis)));
                let (near, far) = (level(z.low), level(z.high));
                let edge = |level: &[f32], row: usize| {
                    let row = &level[row * self.source[0]..];
                    lerp(row[x.low], row[x.high], x.weight)
                };
                let near = lerp(edge(near, y.low), edge(near, y.high), y.weight);
                let far = lerp(edge(far, y.low), edge(far, y.high), y.weight);
                *out = lerp(near, far, z.weight);
            }
        });
    }
}

/// Labels on another grid, slice by slice, to the bit as [`resample_nearest`] gives them.
pub struct NearestSlices<'a> {
    /// What is known: labels inside `region` of the source, x fastest, and the one label of everything else.
    labels: &'a [u8],
    region: Box3,
    outside: u8,
    source: [usize; 3],
    map: VoxelMap,
    /// What is wanted of the target.
    window: Box3,
}

impl<'a> NearestSlices<'a> {
    /// Of labels of all of `source`, x fastest.
    #[must_use]
    pub fn of(labels: &'a [u8], source: &Grid, target: &Grid) -> Self {
        Self::inside(labels, &source.whole(), 0, source, target)
    }

    /// Of labels inside `region` of `source`, x fastest; everything else there has the label `outside`.
    ///
    /// # Panics
    ///
    /// When these are not the labels of the region.
    #[must_use]
    pub fn inside(labels: &'a [u8], region: &Box3, outside: u8, source: &Grid, target: &Grid) -> Self {
        Self::mapped(labels, region, outside, source.shape, VoxelMap::between(target, source), &target.whole())
    }

    /// The slices of `window` of the target, whose voxels lie in the source as `map` says.
    pub(crate) fn mapped(labels: &'a [u8], region: &Box3, outside: u8, source: [usize; 3], map: VoxelMap, window: &Box3) -> Self {
        assert_eq!(labels.len(), region.shape.iter().product::<usize>(), "the labels of {:?} voxels", region.shape);
        Self { labels, region: *region, outside, source, map, window: *window }
    }

    /// Writes slice `z` of the target, x fastest.
    ///
    /// # Panics
    ///
    /// When `out` is no slice of the target.
    pub fn write(&self, z: usize, out: &mut [u8]) {
        assert_eq!(out.len(), self.window.shape[0] * self.window.shape[1], "a slice of {:?} voxels", self.window.shape);
        if out.is_empty() {
            return;
        }
        match &self.map.lines {
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
        let Box3 { start: [first_x, first_y, _], shape: [width, ..] } = self.window;
        let along_x: Vec<Option<usize>> = (first_x..first_x + width).map(|x| offset(0, x)).collect();
        let at_z = offset(2, z);
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            match at_z.zip(offset(1, first_y + y)) {
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
        let Box3 { start: [first_x, first_y, _], shape: [width, ..] } = self.window;
        out.par_chunks_exact_mut(width).enumerate().for_each(|(y, row)| {
            for (out, place) in row.iter_mut().zip(self.map.row(first_x, first_y + y, z)) {
                *out = self.offset_of(&place).map_or(self.outside, |at| self.labels[at]);
            }
        });
    }

    /// How far into the labels the voxel leads that is nearest to a place in the source.
    fn offset_of(&self, place: &[f64; 3]) -> Option<usize> {
        let [x, y, z] = from_fn(|axis| self.offset(axis, nearest(place[axis], self.source[axis])));
        Some(x? + y? + z?)
    }
}

/// From the voxels of one grid to places among those of another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VoxelMap {
    /// Voxels of the target to voxels of the source. What moves no voxel is 0.
    to_source: Affine,
    /// The same axis by axis, when those of both grids are parallel.
    lines: Option<[Line; 3]>,
}

impl VoxelMap {
    pub(crate) fn between(target: &Grid, source: &Grid) -> Self {
        let to_source = without_strays(target.voxels_in(source), target.shape);
        Self { to_source, lines: axis_lines(&to_source) }
    }

    /// Along which axis of the target alone the places change on axis `axis` of the source, if along one alone.
    pub(crate) fn only_axis(&self, axis: usize) -> Option<usize> {
        let row = &self.to_source.0[axis];
        let mut axes = (0..3).filter(|&from| row[from] != 0.0);
        axes.next().filter(|_| axes.next().is_none())
    }

    /// The line along axis z of both grids.
    pub(crate) fn line_of_z(&self) -> Line {
        self.line(2, 2)
    }

    /// The line along `axis` of the target on axis `from` of the source, which must change along no other one.
    pub(crate) fn line(&self, axis: usize, from: usize) -> Line {
        Line { from, scale: self.to_source.0[from][axis], shift: self.to_source.0[from][3] }
    }

    /// The same axis by axis, when the axes of both grids are parallel.
    pub(crate) fn lines(&self) -> Option<&[Line; 3]> {
        self.lines.as_ref()
    }

    /// The same, when they are in the same order too.
    pub(crate) fn lines_in_order(&self) -> Option<&[Line; 3]> {
        self.lines().filter(|lines| (0..3).all(|axis| lines[axis].from == axis))
    }

    /// Where a voxel lies in the source, and where those that follow it along x do, each counted from the first of their row
    /// so that rounding does not add up.
    pub(crate) fn row(&self, x: usize, y: usize, z: usize) -> impl Iterator<Item = [f64; 3]> + use<> {
        let [first, step] = self.along_x(y, z);
        (x as u32..).map(move |x| from_fn(|axis| first[axis] + f64::from(x) * step[axis]))
    }

    /// Where a voxel lies in the source, as [`VoxelMap::row`] says.
    pub(crate) fn place(&self, [x, y, z]: [usize; 3]) -> [f64; 3] {
        let [first, step] = self.along_x(y, z);
        from_fn(|axis| first[axis] + x as f64 * step[axis])
    }

    /// Where the first voxel of a row lies in the source, and the step from one to the next.
    fn along_x(&self, y: usize, z: usize) -> [[f64; 3]; 2] {
        [self.to_source.apply(&[0.0, y as f64, z as f64]), self.to_source.column(0)]
    }

    /// The voxel of a source of the shape `source` that is nearest to a voxel.
    pub(crate) fn nearest(&self, voxel: [usize; 3], source: [usize; 3]) -> [usize; 3] {
        let place = self.place(voxel);
        from_fn(|axis| nearest(place[axis], source[axis]))
    }
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

impl Tap {
    /// The nearer of the two alone, if there is to be a step between them.
    fn stepped(self, is_stepped: bool) -> Self {
        let nearest = if self.weight < 0.5 { self.low } else { self.high };
        if is_stepped { Self { low: nearest, high: nearest, weight: 0.0 } } else { self }
    }
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
pub(crate) fn tap(place: f64, len: usize) -> Tap {
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

/// The map without what moves no voxel of the target away from an axis of the source.
fn without_strays(mut to_source: Affine, shape: [usize; 3]) -> Affine {
    for (axis, side) in shape.into_iter().enumerate() {
        let column = to_source.column(axis);
        let along = longest(&column);
        for row in (0..3).filter(|&row| row != along && column[row].abs() * (side.max(1) as f64) < PARALLEL_TOLERANCE) {
            to_source.0[row][axis] = 0.0;
        }
    }
    to_source
}

/// The lines of a map whose axes run parallel to those of the source, in any order and direction.
fn axis_lines(to_source: &Affine) -> Option<[Line; 3]> {
    let mut lines = [Line { from: 0, scale: 0.0, shift: 0.0 }; 3];
    let mut taken = [false; 3];
    for (axis, line) in lines.iter_mut().enumerate() {
        let column = to_source.column(axis);
        let from = longest(&column);
        let strays = (0..3).any(|row| row != from && column[row] != 0.0);
        if strays || std::mem::replace(&mut taken[from], true) {
            return None;
        }
        *line = Line { from, scale: column[from], shift: to_source.0[from][3] };
    }
    Some(lines)
}

/// The axis along which a step is longest.
fn longest(step: &[f64; 3]) -> usize {
    (0..3).max_by(|&a, &b| step[a].abs().total_cmp(&step[b].abs())).unwrap_or(0)
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

/// From `a` (weight 0) to `b` (weight 1). Two equal values give just that value.
#[inline]
pub(crate) fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    a + weight * (b - a)
}
