//! Maximum pooling with kernel and stride 2.

use super::isa::{Isa, per_isa};
use super::{Size3, Unwritten, filled, filled_in_rows, filled_in_tasks};

/// A volume and the window that pools it: 2 along an axis, or 1 along the depth of an image.
#[derive(Clone, Copy)]
pub(crate) struct Pooling {
    pub(crate) input: Size3,
    pub(crate) window: Size3,
}

impl Pooling {
    /// Sizes are halved downwards: the last plane of an odd size has no window.
    pub(crate) fn output(&self) -> Size3 {
        std::array::from_fn(|a| self.input[a] / self.window[a])
    }

    /// Where the rows under one row of windows start, in the order in which maxima are sought.
    fn rows(&self, d: usize, h: usize) -> impl Iterator<Item = usize> + use<> {
        let Self { input, window } = *self;
        (0..window[0]).flat_map(move |i| (0..window[1]).map(move |j| ((d * window[0] + i) * input[1] + h * window[1] + j) * input[2]))
    }
}

/// The maximum of every window; volumes lie one behind the other.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, pooling: Pooling, x: &[f32], y: &'y mut Unwritten) -> &'y mut [f32] {
    let [depth, height, width] = pooling.output();
    if depth * height * width == 0 {
        return filled(y, 0.0);
    }
    let volume: usize = pooling.input.iter().product();
    filled_in_tasks(y, depth * height * width, |at, y| {
        let x = &x[at * volume..][..volume];
        filled_in_rows(y, width, |row, y| {
            let y = filled(y, f32::NEG_INFINITY);
            for start in pooling.rows(row / height, row % height) {
                // SAFETY: safe code but for the instruction set.
                unsafe { raise(isa, &x[start..start + 2 * width], y) };
            }
            y
        })
    })
}

/// As in PyTorch a later element wins when greater or not a number.
#[inline(always)]
pub(super) fn wins(value: f32, best: f32) -> bool {
    value > best || value.is_nan()
}

per_isa! {
    unsafe fn raise<S>(x: &[f32], best: &mut [f32]) {
        for (best, pair) in best.iter_mut().zip(x.as_chunks::<2>().0) {
            for &value in pair {
                *best = if wins(value, *best) { value } else { *best };
            }
        }
    }
}

/// Sends each window's gradient to its first maximum.
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(isa: Isa, pooling: Pooling, x: &[f32], dy: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let [depth, height, width] = pooling.output();
    let windows = depth * height * width;
    if windows == 0 {
        return filled(dx, 0.0);
    }
    let volume: usize = pooling.input.iter().product();
    filled_in_tasks(dx, volume, |at, dx| {
        let (x, dy, dx) = (&x[at * volume..][..volume], &dy[at * windows..][..windows], filled(dx, 0.0));
        let mut best = vec![0.0; width];
        let mut place = vec![0u32; width];
        for (row, dy) in dy.chunks(width).enumerate() {
            best.fill(f32::NEG_INFINITY);
            place.fill(0);
            let starts = || pooling.rows(row / height, row % height).zip((0..).step_by(2));
            for (start, first) in starts() {
                // SAFETY: safe code but for the instruction set.
                unsafe { locate(isa, &x[start..start + 2 * width], first, &mut best, &mut place) };
            }
            for (start, first) in starts() {
                // SAFETY: as above.
                unsafe { send(isa, dy, &place, first, &mut dx[start..start + 2 * width]) };
            }
        }
        dx
    })
}

per_isa! {
    unsafe fn locate<S>(x: &[f32], first: u32, best: &mut [f32], place: &mut [u32]) {
        for ((best, place), pair) in best.iter_mut().zip(place).zip(x.as_chunks::<2>().0) {
            for k in 0..2 {
                let won = wins(pair[k], *best);
                *best = if won { pair[k] } else { *best };
                *place = if won { first + k as u32 } else { *place };
            }
        }
    }
}

per_isa! {
    unsafe fn send<S>(dy: &[f32], place: &[u32], first: u32, dx: &mut [f32]) {
        for ((pair, dy), place) in dx.as_chunks_mut::<2>().0.iter_mut().zip(dy).zip(place) {
            for k in 0..2 {
                pair[k] = if *place == first + k as u32 { *dy } else { 0.0 };
            }
        }
    }
}
