//! The update of an AdamW step.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Elements per task: four arrays of them stay in a second-level cache, and a large network has some hundred tasks.
const CHUNK: usize = 1 << 16;

/// What all elements of a step have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) rate1: f32,
    pub(crate) rate2: f32,
    pub(crate) keep: f32,
    pub(crate) step: f32,
    pub(crate) scale: f32,
    pub(crate) eps: f32,
}

/// `m += (g - m) rate1`, `v += (g^2 - v) rate2`, `value = value keep - step m / (sqrt(v) scale + eps)`, in one pass.
#[allow(unsafe_code)]
pub(crate) fn update(isa: Isa, step: Step, value: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    value.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments).for_each(|((value, gradient), (m, v))| {
        // SAFETY: safe code but for the instruction set.
        unsafe { update_chunk(isa, step, value, gradient, m, v) };
    });
}

per_isa! {
    unsafe fn update_chunk<S>(step: Step, value: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((value, g), m), v) in value.iter_mut().zip(gradient).zip(m).zip(v) {
            *m += (g - *m) * step.rate1;
            *v += (g * g - *v) * step.rate2;
            *value = *value * step.keep - step.step * *m / (v.sqrt() * step.scale + step.eps);
        }
    }
}
