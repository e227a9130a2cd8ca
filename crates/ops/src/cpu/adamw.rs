//! The three updates of an AdamW step.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Elements per task.
const CHUNK: usize = 1 << 16;

/// moment += (target - moment) * rate, where the target is the gradient or its square.
pub(crate) fn blend(isa: Isa, moment: &mut [f32], gradient: &[f32], rate: f32, squared: bool) {
    moment
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        // SAFETY: safe code but for the instruction set.
        .for_each(|(moment, gradient)| unsafe { blend_chunk(isa, moment, gradient, rate, squared) });
}

per_isa! {
    unsafe fn blend_chunk<S>(moment: &mut [f32], gradient: &[f32], rate: f32, squared: bool) {
        for (moment, gradient) in moment.iter_mut().zip(gradient) {
            let target = if squared { gradient * gradient } else { *gradient };
            *moment += (target - *moment) * rate;
        }
    }
}

/// value = value * keep - step * m / (sqrt(v) * scale + eps)
pub(crate) fn descend(isa: Isa, value: &mut [f32], m: &[f32], v: &[f32], keep: f32, step: f32, scale: f32, eps: f32) {
    value.par_chunks_mut(CHUNK).zip(m.par_chunks(CHUNK)).zip(v.par_chunks(CHUNK)).for_each(|((value, m), v)| {
        // SAFETY: safe code but for the instruction set.
        unsafe { descend_chunk(isa, value, m, v, keep, step, scale, eps) };
    });
}

per_isa! {
    unsafe fn descend_chunk<S>(
        value: &mut [f32],
        m: &[f32],
        v: &[f32],
        keep: f32,
        step: f32,
        scale: f32,
        eps: f32,
    ) {
        for ((value, m), v) in value.iter_mut().zip(m).zip(v) {
            *value = *value * keep - step * m / (v.sqrt() * scale + eps);
        }
    }
}
