//! Instance normalisation with leaky ReLU, and sums over channels.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Elements summed in single precision before the sum goes on in double; 16 KiB, so that the second of two passes
/// over them reads the first-level cache.
const BLOCK: usize = 4096;
/// Independent partial sums within a block: several vectors of any instruction set.
const LANES: usize = 64;

/// Mean and reciprocal standard deviation of one channel of one batch entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
}

/// The affine part and the activation behind it.
pub(crate) struct Affine<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) slope: f32,
}

/// y = leaky_relu(gamma (x - mean) / sqrt(variance + eps) + beta), channels being volumes of `volume` elements.
/// Returns the statistics, one per channel and batch entry.
pub(crate) fn forward(isa: Isa, x: &[f32], volume: usize, affine: &Affine<'_>, y: &mut [f32]) -> Vec<Statistics> {
    let channels = affine.gamma.len();
    x.par_chunks(volume)
        .zip(y.par_chunks_mut(volume))
        .enumerate()
        .map(|(i, (x, y))| {
            let (gamma, beta) = (affine.gamma[i % channels], affine.beta[i % channels]);
            // SAFETY: safe code but for the instruction set.
            let (mean, variance) = unsafe { moments(isa, x) };
            let scale = 1.0 / (variance as f32 + affine.eps).sqrt();
            let mean = mean as f32;
            // SAFETY: as above.
            unsafe { scale_shift(isa, x, gamma * scale, beta - mean * gamma * scale, affine.slope, y) };
            Statistics { mean, scale }
        })
        .collect()
}

per_isa! {
    unsafe fn scale_shift<S>(x: &[f32], factor: f32, offset: f32, slope: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            let value = x * factor + offset;
            *y = if value > 0.0 { value } else { value * slope };
        }
    }
}

per_isa! {
    /// Mean and biased variance, by Chan's combination of blocks: one pass over memory and no cancellation.
    unsafe fn moments<S>(x: &[f32]) -> (f64, f64) {
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for block in x.chunks(BLOCK) {
            let n = block.len() as f64;
            let block_mean = lane_sum(block, |v| v) / n;
            let centre = block_mean as f32;
            // The correction undoes the rounding of the centre to single precision.
            let deviation = block_mean - f64::from(centre);
            let block_squares = lane_sum(block, |v| (v - centre) * (v - centre)) - n * deviation * deviation;
            let delta = block_mean - mean;
            squares += block_squares + delta * delta * count * n / (count + n);
            count += n;
            mean += delta * n / count;
        }
        (mean, (squares / count).max(0.0))
    }
}

#[inline(always)]
fn lane_sum(block: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = block.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            lanes[l] += term(chunk[l]);
        }
    }
    let rest: f32 = rest.iter().map(|&v| term(v)).sum();
    lanes.iter().map(|&v| f64::from(v)).sum::<f64>() + f64::from(rest)
}

/// The gradients by x, gamma and beta, into `dx`, `dgamma` and `dbeta`.
///
/// With h the normalised input and d the gradient before the activation,
/// `dx = gamma * scale * (d - mean(d) - h * mean(d h))`, `dgamma = sum(d h)`, `dbeta = sum(d)`.
pub(crate) fn backward(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    volume: usize,
    affine: &Affine<'_>,
    statistics: &[Statistics],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let channels = affine.gamma.len();
    let sums: Vec<(f64, f64)> = x
        .par_chunks(volume)
        .zip(dy.par_chunks(volume))
        .zip(dx.par_chunks_mut(volume))
        .enumerate()
        .map(|(i, ((x, dy), dx))| {
            let plane = Plane {
                statistics: statistics[i],
                gamma: affine.gamma[i % channels],
                beta: affine.beta[i % channels],
                slope: affine.slope,
            };
            // SAFETY: safe code but for the instruction set.
            unsafe { backward_plane(isa, x, dy, plane, dx) }
        })
        .collect();
    for channel in 0..channels {
        let of_channel = sums.iter().skip(channel).step_by(channels);
        dgamma[channel] = of_channel.clone().map(|sum| sum.0).sum::<f64>() as f32;
        dbeta[channel] = of_channel.map(|sum| sum.1).sum::<f64>() as f32;
    }
}

#[derive(Clone, Copy)]
struct Plane {
    statistics: Statistics,
    gamma: f32,
    beta: f32,
    slope: f32,
}

impl Plane {
    /// The normalised input and the gradient before the activation.
    #[inline(always)]
    fn before_activation(&self, x: f32, dy: f32) -> (f32, f32) {
        let normed = (x - self.statistics.mean) * self.statistics.scale;
        // As in PyTorch, the derivative at exactly zero is the slope.
        let active = normed * self.gamma + self.beta > 0.0;
        (normed, if active { dy } else { dy * self.slope })
    }
}

per_isa! {
    /// Returns sum(d h) and sum(d).
    unsafe fn backward_plane<S>(x: &[f32], dy: &[f32], plane: Plane, dx: &mut [f32]) -> (f64, f64) {
        let (mut sum_dh, mut sum_d) = (0.0f64, 0.0f64);
        for (x, dy) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)) {
            let (mut dh, mut d) = ([0.0f32; LANES], [0.0f32; LANES]);
            let ((x, x_rest), (dy, dy_rest)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
            for (x, dy) in x.iter().zip(dy) {
                for l in 0..LANES {
                    let (normed, gradient) = plane.before_activation(x[l], dy[l]);
                    dh[l] += gradient * normed;
                    d[l] += gradient;
                }
            }
            for (l, (x, dy)) in x_rest.iter().zip(dy_rest).enumerate() {
                let (normed, gradient) = plane.before_activation(*x, *dy);
                dh[l] += gradient * normed;
                d[l] += gradient;
            }
            sum_dh += dh.iter().map(|&v| f64::from(v)).sum::<f64>();
            sum_d += d.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        let n = x.len() as f64;
        let (mean_dh, mean_d) = ((sum_dh / n) as f32, (sum_d / n) as f32);
        let factor = plane.gamma * plane.statistics.scale;
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let (normed, gradient) = plane.before_activation(*x, *dy);
            *dx = factor * (gradient - mean_d - normed * mean_dh);
        }
        (sum_dh, sum_d)
    }
}

/// The sum of every channel over batch and volume: the gradient of a bias.
pub(crate) fn channel_sums(isa: Isa, x: &[f32], channels: usize, volume: usize) -> Vec<f32> {
    let planes: Vec<f64> = x
        .par_chunks(volume)
        // SAFETY: safe code but for the instruction set.
        .map(|plane| unsafe { plane_sum(isa, plane) })
        .collect();
    (0..channels).map(|channel| planes.iter().skip(channel).step_by(channels).sum::<f64>() as f32).collect()
}

per_isa! {
    unsafe fn plane_sum<S>(x: &[f32]) -> f64 {
        x.chunks(BLOCK).map(|block| lane_sum(block, |v| v)).sum()
    }
}
