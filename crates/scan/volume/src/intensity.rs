//! Intensities: the window, and where the body is.

use ndarray::{Axis, Zip};
use rayon::prelude::*;

use crate::{Box3, ScalarVolume};

/// Clips to `window_hu` (low, high) and maps it to `[0, 1]`. A window without width maps everything to 0.
pub fn window(volume: &mut ScalarVolume, window_hu: [f32; 2]) {
    Zip::from(&mut volume.data).par_for_each(|v| *v = windowed(*v, window_hu));
}

/// One value as [`window`] maps it.
#[inline]
pub(crate) fn windowed(value: f32, [low, high]: [f32; 2]) -> f32 {
    let width = high - low;
    if width > 0.0 { (value.clamp(low, high) - low) / width } else { 0.0 }
}

/// The smallest box that holds every voxel whose value is greater than `above`; none when there is no such voxel.
#[must_use]
pub fn foreground_box(volume: &ScalarVolume, above: f32) -> Option<Box3> {
    let (nx, ny, nz) = volume.data.dim();
    // Per slice in parallel: the bounds in x and y, inclusive.
    let slices: Vec<Option<([usize; 2], [usize; 2])>> = (0..nz)
        .into_par_iter()
        .map(|z| {
            let slice = volume.data.index_axis(Axis(2), z);
            let (mut xs, mut ys) = ([nx, 0], [ny, 0]);
            for y in 0..ny {
                let row = slice.index_axis(Axis(1), y);
                let Some(first) = row.iter().position(|&v| v > above) else { continue };
                let last = row.iter().rposition(|&v| v > above).unwrap_or(first);
                xs = [xs[0].min(first), xs[1].max(last)];
                ys = [ys[0].min(y), y];
            }
            (ys[0] < ny).then_some((xs, ys))
        })
        .collect();
    let first = slices.iter().position(Option::is_some)?;
    let last = slices.iter().rposition(Option::is_some)?;
    let (mut xs, mut ys) = ([nx, 0], [ny, 0]);
    for (x, y) in slices.into_iter().flatten() {
        xs = [xs[0].min(x[0]), xs[1].max(x[1])];
        ys = [ys[0].min(y[0]), ys[1].max(y[1])];
    }
    Some(Box3 { start: [xs[0], ys[0], first], shape: [xs[1] - xs[0] + 1, ys[1] - ys[0] + 1, last - first + 1] })
}
