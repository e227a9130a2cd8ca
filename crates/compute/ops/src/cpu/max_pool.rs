//! Maximum pooling with any kernel, stride and padding; `pool` has the common case of 2.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::pool::wins;
use super::{Size3, Unwritten, assume_written, filled, filled_in_tasks};

/// A volume and the windows laid over it. The padding is never a maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) input: Size3,
    pub(crate) kernel: Size3,
    pub(crate) stride: Size3,
    pub(crate) padding: Size3,
}

impl Windows {
    /// The kernel must fit into the padded input.
    pub(crate) fn output(&self) -> Size3 {
        std::array::from_fn(|a| (self.input[a] + 2 * self.padding[a] - self.kernel[a]) / self.stride[a] + 1)
    }

    /// Where the rows under a row of windows start, in the order in which maxima are sought.
    fn rows(self, row: usize) -> impl Iterator<Item = usize> {
        let height = self.output()[1];
        let along = move |axis: usize, at: usize| {
            let first = at * self.stride[axis];
            (first..first + self.kernel[axis])
                .filter_map(move |padded| padded.checked_sub(self.padding[axis]).filter(|&at| at < self.input[axis]))
        };
        along(0, row / height).flat_map(move |d| along(1, row % height).map(move |h| (d * self.input[1] + h) * self.input[2]))
    }

    /// The places along the width that tap `tap` of the windows sees: the first window that is inside, how many are, and
    /// where in the row the first of them looks.
    fn columns(&self, tap: usize) -> (usize, usize, usize) {
        let (stride, padding) = (self.stride[2], self.padding[2]);
        let width = self.output()[2];
        let first = padding.saturating_sub(tap).div_ceil(stride).min(width);
        let end = (padding + self.input[2]).saturating_sub(tap).div_ceil(stride).clamp(first, width);
        (first, end - first, (first * stride + tap).saturating_sub(padding))
    }
}

/// The maximum of every window; volumes lie one behind the other. Returns where in its volume each maximum stands, the
/// first of several.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, windows: Windows, x: &[f32], y: &'y mut Unwritten) -> (Vec<u32>, &'y mut [f32]) {
    let [depth, height, width] = windows.output();
    let mut places = vec![0; y.len()];
    let volume: usize = windows.input.iter().product();
    let volumes = places.par_chunks_mut(depth * height * width).zip(y.par_chunks_mut(depth * height * width));
    volumes.enumerate().for_each(|(at, (places, y))| {
        let x = &x[at * volume..][..volume];
        for (row, (y, places)) in y.chunks_mut(width).zip(places.chunks_mut(width)).enumerate() {
            seek(isa, windows, row, x, filled(y, f32::NEG_INFINITY), places);
        }
    });
    // SAFETY: there are as many places as elements of y, and each row of both has been filled.
    (places, unsafe { assume_written(y) })
}

/// Sends each window's gradient to the place of its maximum.
pub(crate) fn backward<'y>(windows: Windows, places: &[u32], dy: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let outputs: usize = windows.output().iter().product();
    filled_in_tasks(dx, windows.input.iter().product(), |at, dx| {
        let dx = filled(dx, 0.0);
        for (place, dy) in places[at * outputs..][..outputs].iter().zip(&dy[at * outputs..]) {
            dx[*place as usize] += dy;
        }
        dx
    })
}

/// The maxima of a row of windows, which begin as negative infinities, and where in the volume they stand.
#[allow(unsafe_code)]
fn seek(isa: Isa, windows: Windows, row: usize, x: &[f32], best: &mut [f32], places: &mut [u32]) {
    let taps = || (0..windows.kernel[2]).map(|tap| windows.columns(tap)).filter(|(_, count, _)| *count > 0);
    // A window of nothing but negative infinities has its first element for a maximum.
    for start in windows.rows(row).take(1) {
        for (first, count, from) in taps().collect::<Vec<_>>().into_iter().rev() {
            for (place, at) in places[first..first + count].iter_mut().zip((start + from..).step_by(windows.stride[2])) {
                *place = at as u32;
            }
        }
    }
    for start in windows.rows(row) {
        for (first, count, from) in taps() {
            let (best, places) = (&mut best[first..first + count], &mut places[first..first + count]);
            // SAFETY: safe code but for the instruction set.
            unsafe { raise(isa, &x[start + from..], windows.stride[2], (start + from) as u32, best, places) };
        }
    }
}

per_isa! {
    unsafe fn raise<S>(x: &[f32], stride: usize, start: u32, best: &mut [f32], places: &mut [u32]) {
        for (i, ((best, place), &value)) in best.iter_mut().zip(places).zip(x.iter().step_by(stride)).enumerate() {
            let won = wins(value, *best);
            *best = if won { value } else { *best };
            *place = if won { start + (i * stride) as u32 } else { *place };
        }
    }
}
