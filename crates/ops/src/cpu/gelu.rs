//! The Gaussian error linear unit.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::functions::{erf, exp};
use super::isa::{Isa, Simd, per_isa};

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// y = x * cdf(x), with the distribution function of the standard normal distribution.
pub(crate) fn forward(isa: Isa, x: &[f32], y: &mut [f32]) {
    // SAFETY: safe code but for the instruction set.
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| unsafe { forward_chunk(isa, x, y) });
}

per_isa! {
    unsafe fn forward_chunk<S>(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * distribution::<S>(x);
        }
    }
}

#[inline(always)]
fn distribution<S: Simd>(x: f32) -> f32 {
    0.5 + 0.5 * erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// dx = dy (cdf(x) + x pdf(x))
pub(crate) fn backward(isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK)).for_each(|((dx, x), dy)| {
        // SAFETY: safe code but for the instruction set.
        unsafe { backward_chunk(isa, x, dy, dx) };
    });
}

per_isa! {
    unsafe fn backward_chunk<S>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        // 1 / sqrt(2 pi)
        const PEAK: f32 = 0.398_942_3;
        for ((dx, &x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * (distribution::<S>(x) + x * PEAK * exp::<S>(-0.5 * x * x));
        }
    }
}
