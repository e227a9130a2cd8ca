//! Softmax losses over channels.
//!
//! Probabilities are never stored: both directions compute them for a few voxels at a time, all channels.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::functions::exp;
use super::isa::{Isa, Simd, per_isa};
use super::{Shared, Unwritten, assume_written, with_scratch};

/// Voxels per task.
const CHUNK: usize = 1 << 14;
/// Voxels whose probabilities are held at a time: with 15 channels 8 KiB.
const BLOCK: usize = 128;

/// Logits `(batch, classes, voxels)` and one label per voxel, each below `classes`; if there are weights, one per voxel.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) labels: &'a [u8],
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) classes: usize,
    pub(crate) voxels: usize,
}

impl Batch<'_> {
    fn entries(&self) -> usize {
        self.labels.len() / self.voxels
    }

    fn chunks(&self) -> usize {
        self.voxels.div_ceil(CHUNK)
    }

    /// How much each voxel of a block counts. To multiply by 1 changes no bit.
    #[inline(always)]
    fn block_weights(&self, entry: usize, start: usize, n: usize) -> [f32; BLOCK] {
        let mut block = [1.0; BLOCK];
        if let Some(weights) = self.weights {
            block[..n].copy_from_slice(&weights[entry * self.voxels + start..][..n]);
        }
        block
    }
}

/// Per batch entry and class, weighted: sum of p t, sum of p (or of its square) and sum of t.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassSums {
    pub(crate) overlap: f64,
    pub(crate) mass: f64,
    pub(crate) count: f64,
}

impl ClassSums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.overlap += other.overlap;
        self.mass += other.mass;
        self.count += other.count;
    }
}

/// The sums that the losses are made of: per batch entry and class, and of the log-probabilities of the labels.
#[allow(unsafe_code)]
pub(crate) fn sums(isa: Isa, batch: Batch<'_>, squared: bool) -> (Vec<ClassSums>, f64) {
    let chunks = batch.chunks();
    let partial: Vec<(Vec<ClassSums>, f64)> = (0..batch.entries() * chunks)
        .into_par_iter()
        .map(|task| {
            let mut classes = vec![ClassSums::default(); batch.classes];
            let (entry, first) = (task / chunks, task % chunks * CHUNK);
            let count = CHUNK.min(batch.voxels - first);
            let log_likelihood = with_scratch(batch.classes * BLOCK, |p| {
                // SAFETY: safe code but for the instruction set.
                unsafe { sum_chunk(isa, batch, entry, first, count, squared, p, &mut classes) }
            });
            (classes, log_likelihood)
        })
        .collect();
    let mut totals = vec![ClassSums::default(); batch.entries() * batch.classes];
    let mut log_likelihood = 0.0;
    for (task, (classes, log)) in partial.iter().enumerate() {
        let entry = task / chunks;
        totals[entry * batch.classes..].iter_mut().zip(classes).for_each(|(total, sums)| total.add(sums));
        log_likelihood += log;
    }
    (totals, log_likelihood)
}

per_isa! {
    unsafe fn sum_chunk<S>(
        batch: Batch<'_>,
        entry: usize,
        first: usize,
        count: usize,
        squared: bool,
        p: &mut [f32],
        classes: &mut [ClassSums],
    ) -> f64 {
        let mut log_likelihood = 0.0f64;
        for start in (first..first + count).step_by(BLOCK) {
            let n = BLOCK.min(first + count - start);
            let labels = &batch.labels[entry * batch.voxels + start..][..n];
            let normaliser = softmax::<S>(batch, entry, start, n, p);
            let weights = batch.block_weights(entry, start, n);
            for class in 0..batch.classes {
                let p = &p[class * BLOCK..][..n];
                let [overlap, mass, count] = class_sums(labels, &weights[..n], p, class as u8, squared);
                classes[class].overlap += f64::from(overlap);
                classes[class].mass += f64::from(mass);
                classes[class].count += f64::from(count);
            }
            for (i, label) in labels.iter().enumerate() {
                let class = entry * batch.classes + usize::from(*label);
                let log_probability = batch.logits[class * batch.voxels + start + i] - normaliser[i];
                log_likelihood += f64::from(weights[i]) * f64::from(log_probability);
            }
        }
        log_likelihood
    }
}

/// Over one block, weighted: sum of p t, of p or its square, and of t.
#[inline(always)]
fn class_sums(labels: &[u8], weights: &[f32], p: &[f32], class: u8, squared: bool) -> [f32; 3] {
    const LANES: usize = 16;
    let (mut overlap, mut mass, mut count) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let ((labels, labels_rest), (p, p_rest)) = (labels.as_chunks::<LANES>(), p.as_chunks::<LANES>());
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    for ((labels, weights), p) in labels.iter().zip(weights).zip(p) {
        for l in 0..LANES {
            let truth = if labels[l] == class { weights[l] } else { 0.0 };
            overlap[l] += p[l] * truth;
            mass[l] += weights[l] * if squared { p[l] * p[l] } else { p[l] };
            count[l] += truth;
        }
    }
    for (l, ((label, weight), p)) in labels_rest.iter().zip(weights_rest).zip(p_rest).enumerate() {
        let truth = if *label == class { *weight } else { 0.0 };
        overlap[l] += p * truth;
        mass[l] += weight * if squared { p * p } else { *p };
        count[l] += truth;
    }
    [overlap, mass, count].map(|lanes| lanes.iter().sum())
}

/// Fills `p` with the probabilities of `n` voxels, `[class][voxel]` with rows of `BLOCK`, and returns the logarithms
/// of the sums of the exponentials.
#[inline(always)]
fn softmax<S: Simd>(batch: Batch<'_>, entry: usize, start: usize, n: usize, p: &mut [f32]) -> [f32; BLOCK] {
    let row = |class: usize| &batch.logits[(entry * batch.classes + class) * batch.voxels + start..][..n];
    let mut maximum = [f32::NEG_INFINITY; BLOCK];
    for class in 0..batch.classes {
        for (maximum, &z) in maximum.iter_mut().zip(row(class)) {
            *maximum = if z > *maximum { z } else { *maximum };
        }
    }
    let mut sum = [0.0f32; BLOCK];
    for class in 0..batch.classes {
        let p = &mut p[class * BLOCK..][..n];
        for (((p, &z), maximum), sum) in p.iter_mut().zip(row(class)).zip(&maximum).zip(&mut sum) {
            *p = exp::<S>(z - maximum);
            *sum += *p;
        }
    }
    let reciprocal = sum.map(|sum| 1.0 / sum);
    for class in 0..batch.classes {
        for (p, reciprocal) in p[class * BLOCK..][..n].iter_mut().zip(&reciprocal) {
            *p *= reciprocal;
        }
    }
    for (sum, maximum) in sum.iter_mut().zip(&maximum).take(n) {
        *sum = maximum + sum.ln();
    }
    sum
}

/// The loss's derivative by the probability p of a class at a voxel is `truth * t + mass * (2 p or 1)`.
#[derive(Clone, Copy)]
pub(crate) struct ClassSlope {
    pub(crate) truth: f32,
    pub(crate) mass: f32,
}

/// The gradient by the logits: of the loss given by `slopes` per batch entry and class, plus
/// `cross_entropy` times the sum of the negative log-probabilities of the labels.
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(
    isa: Isa,
    batch: Batch<'_>,
    squared: bool,
    slopes: &[ClassSlope],
    cross_entropy: f32,
    gradient: &'y mut Unwritten,
) -> &'y mut [f32] {
    let chunks = batch.chunks();
    assert_eq!(gradient.len(), batch.entries() * batch.classes * batch.voxels, "a gradient for each logit");
    let target = Shared(gradient.as_mut_ptr());
    (0..batch.entries() * chunks).into_par_iter().for_each(|task| {
        let (entry, first) = (task / chunks, task % chunks * CHUNK);
        let count = CHUNK.min(batch.voxels - first);
        let slopes = &slopes[entry * batch.classes..][..batch.classes];
        with_scratch(batch.classes * BLOCK, |p| {
            for start in (first..first + count).step_by(BLOCK) {
                let n = BLOCK.min(first + count - start);
                // SAFETY: a task writes the voxels first..first + count of its batch entry, and no other does.
                unsafe {
                    backward_block(isa, batch, entry, start, n, squared, slopes, cross_entropy, p, target);
                }
            }
        });
    });
    // SAFETY: the tasks have written all classes of all voxels of all batch entries.
    unsafe { assume_written(gradient) }
}

per_isa! {
    /// # Safety
    /// `gradient` has the logits' shape, and nobody else has hold of these voxels.
    unsafe fn backward_block<S>(
        batch: Batch<'_>,
        entry: usize,
        start: usize,
        n: usize,
        squared: bool,
        slopes: &[ClassSlope],
        cross_entropy: f32,
        p: &mut [f32],
        gradient: Shared<MaybeUninit<f32>>,
    ) {
        softmax::<S>(batch, entry, start, n, p);
        let labels = &batch.labels[entry * batch.voxels + start..][..n];
        let weights = batch.block_weights(entry, start, n);
        let by_probability = |class: usize, p: f32, truth: f32| {
            let slope = slopes[class];
            slope.truth * truth + slope.mass * if squared { 2.0 * p } else { 1.0 }
        };
        // dz_k = weight * (p_k (g_k - sum over c of p_c g_c) + (p_k - t_k) * cross_entropy)
        let mut mean = [0.0f32; BLOCK];
        for class in 0..batch.classes {
            let p = &p[class * BLOCK..][..n];
            for i in 0..n {
                let truth = if usize::from(labels[i]) == class { 1.0 } else { 0.0 };
                mean[i] += p[i] * by_probability(class, p[i], truth);
            }
        }
        for class in 0..batch.classes {
            let p = &p[class * BLOCK..][..n];
            let at = (entry * batch.classes + class) * batch.voxels + start;
            // SAFETY: the condition of this function.
            let row = unsafe { std::slice::from_raw_parts_mut(gradient.get().add(at), n) };
            for i in 0..n {
                let truth = if usize::from(labels[i]) == class { 1.0 } else { 0.0 };
                let slope = by_probability(class, p[i], truth);
                row[i].write(weights[i] * (p[i] * (slope - mean[i]) + (p[i] - truth) * cross_entropy));
            }
        }
    }
}
