//! The Gaussian error linear unit.

use super::functions::{erf, exp};
use super::isa::{Isa, Simd, per_isa};
use super::{Unwritten, assume_written, filled_in_tasks};

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// y = x * cdf(x), with the distribution function of the standard normal distribution.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, x: &[f32], y: &'y mut Unwritten) -> &'y mut [f32] {
    filled_in_tasks(y, CHUNK, |at, y| {
        let x = &x[at * CHUNK..][..y.len()];
        // SAFETY: safe code but for the instruction set; it writes an element for each of x, which has as many.
        unsafe {
            forward_chunk(isa, x, y);
            assume_written(y)
        }
    })
}

per_isa! {
    unsafe fn forward_chunk<S>(x: &[f32], y: &mut Unwritten) {
        for (y, &x) in y.iter_mut().zip(x) {
            y.write(x * distribution::<S>(x));
        }
    }
}

#[inline(always)]
fn distribution<S: Simd>(x: f32) -> f32 {
    0.5 + 0.5 * erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// dx = dy (cdf(x) + x pdf(x))
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(isa: Isa, x: &[f32], dy: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    filled_in_tasks(dx, CHUNK, |at, dx| {
        let (x, dy) = (&x[at * CHUNK..][..dx.len()], &dy[at * CHUNK..][..dx.len()]);
        // SAFETY: safe code but for the instruction set; it writes an element for each of x and dy, which have as many.
        unsafe {
            backward_chunk(isa, x, dy, dx);
            assume_written(dx)
        }
    })
}

per_isa! {
    unsafe fn backward_chunk<S>(x: &[f32], dy: &[f32], dx: &mut Unwritten) {
        // 1 / sqrt(2 pi)
        const PEAK: f32 = 0.398_942_3;
        for ((dx, &x), dy) in dx.iter_mut().zip(x).zip(dy) {
            dx.write(dy * (distribution::<S>(x) + x * PEAK * exp::<S>(-0.5 * x * x)));
        }
    }
}
