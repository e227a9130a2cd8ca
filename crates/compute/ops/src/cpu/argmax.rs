//! The most likely channel, of one map of logits or of two.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Voxels per task.
const CHUNK: usize = 1 << 14;
/// Voxels decided at a time: their greatest logits stay in registers or the first-level cache.
const BLOCK: usize = 128;

/// Logits `(batch, classes, voxels)`.
#[derive(Clone, Copy)]
pub(crate) struct Logits<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) classes: usize,
}

/// The channel of the greatest logit, the first one of several, per batch entry and voxel; where `above` is given and
/// its first channel is not the greatest, the label instead.
#[allow(unsafe_code)]
pub(crate) fn argmax(isa: Isa, below: Logits<'_>, above: Option<(Logits<'_>, u8)>, voxels: usize, labels: &mut [u8]) {
    labels.par_chunks_mut(voxels).enumerate().for_each(|(entry, labels)| {
        let of_entry = |logits: Logits<'_>| entry * logits.classes * voxels;
        labels.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, labels)| {
            let first = chunk * CHUNK;
            // SAFETY: safe code but for the instruction set.
            unsafe { decide(isa, below, of_entry(below), voxels, first, labels) };
            if let Some((above, label)) = above {
                // SAFETY: as above.
                unsafe { cover(isa, above, of_entry(above), voxels, first, label, labels) };
            }
        });
    });
}

per_isa! {
    unsafe fn decide<S>(logits: Logits<'_>, start: usize, voxels: usize, first: usize, labels: &mut [u8]) {
        for (block, labels) in labels.chunks_mut(BLOCK).enumerate() {
            greatest(logits, start + first + block * BLOCK, voxels, labels);
        }
    }
}

per_isa! {
    unsafe fn cover<S>(logits: Logits<'_>, start: usize, voxels: usize, first: usize, cover: u8, labels: &mut [u8]) {
        for (block, labels) in labels.chunks_mut(BLOCK).enumerate() {
            let mut above = [0; BLOCK];
            greatest(logits, start + first + block * BLOCK, voxels, &mut above[..labels.len()]);
            for (label, above) in labels.iter_mut().zip(above) {
                *label = if above == 0 { *label } else { cover };
            }
        }
    }
}

/// The greatest channel of the voxels from `at` on, counted in the first channel.
#[inline(always)]
fn greatest(logits: Logits<'_>, at: usize, voxels: usize, labels: &mut [u8]) {
    let mut best = [f32::NEG_INFINITY; BLOCK];
    labels.fill(0);
    for class in 0..logits.classes {
        let row = &logits.values[at + class * voxels..][..labels.len()];
        for ((label, best), &z) in labels.iter_mut().zip(&mut best).zip(row) {
            let wins = z > *best;
            *best = if wins { z } else { *best };
            *label = if wins { class as u8 } else { *label };
        }
    }
}
