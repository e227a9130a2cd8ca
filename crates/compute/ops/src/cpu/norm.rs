//! Normalisation over groups of channels with leaky ReLU, and sums over channels.
//!
//! The channels of a group lie one behind the other, so a group is one run of memory with one mean and one variance.
//! Instance normalisation is the case of one channel per group.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::sums::{BLOCK, LANES, add_up, lane_sum, moments};
use super::{Unwritten, assume_written, filled, written_in_tasks};

/// Mean and reciprocal standard deviation of one group of one batch entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
}

/// The affine part, one value per channel, and the activation behind it; and how many channels are normalised together.
pub(crate) struct Affine<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) slope: f32,
    pub(crate) per_group: usize,
}

/// y = leaky_relu(gamma (x - mean) / sqrt(variance + eps) + beta), channels being volumes of `volume` elements.
/// Also the statistics, one per group and batch entry.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(
    isa: Isa,
    x: &[f32],
    volume: usize,
    affine: &Affine<'_>,
    y: &'y mut Unwritten,
) -> (Vec<Statistics>, &'y mut [f32]) {
    let channels = affine.gamma.len();
    let group = affine.per_group * volume;
    written_in_tasks(y, group, |i, y| {
        let x = &x[i * group..][..y.len()];
        let first = i * affine.per_group % channels;
        // SAFETY: safe code but for the instruction set.
        let (mean, variance) = unsafe { group_moments(isa, x) };
        let scale = 1.0 / (variance as f32 + affine.eps).sqrt();
        let mean = mean as f32;
        for (c, (x, y)) in x.chunks(volume).zip(y.chunks_mut(volume)).enumerate() {
            let (gamma, beta) = (affine.gamma[first + c], affine.beta[first + c]);
            // SAFETY: as above.
            unsafe { scale_shift(isa, x, gamma * scale, beta - mean * gamma * scale, affine.slope, y) };
        }
        // SAFETY: every element of each channel is written, as there is one of x for each.
        (Statistics { mean, scale }, unsafe { assume_written(y) })
    })
}

per_isa! {
    unsafe fn group_moments<S>(x: &[f32]) -> (f64, f64) {
        moments(x)
    }
}

per_isa! {
    unsafe fn scale_shift<S>(x: &[f32], factor: f32, offset: f32, slope: f32, y: &mut Unwritten) {
        for (y, x) in y.iter_mut().zip(x) {
            let value = x * factor + offset;
            y.write(if value > 0.0 { value } else { value * slope });
        }
    }
}

/// The gradients by x, gamma and beta, one behind the other.
///
/// With h the normalised input, d the gradient before the activation and means over a group,
/// `dx = scale * (gamma d - mean(gamma d) - h * mean(gamma d h))`, `dgamma = sum(d h)`, `dbeta = sum(d)`.
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    volume: usize,
    affine: &Affine<'_>,
    statistics: &[Statistics],
    gradients: &'y mut Unwritten,
) -> &'y mut [f32] {
    let channels = affine.gamma.len();
    let group = affine.per_group * volume;
    let (dx, parameters) = gradients.split_at_mut(x.len());
    let (sums, _) = written_in_tasks(dx, group, |i, dx| {
        let (x, dy) = (&x[i * group..][..dx.len()], &dy[i * group..][..dx.len()]);
        let first = i * affine.per_group % channels;
        let planes: Vec<Plane> = (first..first + affine.per_group)
            .map(|c| Plane { statistics: statistics[i], gamma: affine.gamma[c], beta: affine.beta[c], slope: affine.slope })
            .collect();
        backward_group(isa, x, dy, volume, &planes, dx)
    });
    let sums = sums.concat();
    let (dgamma, dbeta) = filled(parameters, 0.0).split_at_mut(channels);
    for channel in 0..channels {
        let of_channel = sums.iter().skip(channel).step_by(channels);
        dgamma[channel] = of_channel.clone().map(|sum| sum.0).sum::<f64>() as f32;
        dbeta[channel] = of_channel.map(|sum| sum.1).sum::<f64>() as f32;
    }
    // SAFETY: the gradients by x and behind them those by gamma and beta are written.
    unsafe { assume_written(gradients) }
}

/// sum(d h) and sum(d) of every channel, and the gradient by x.
#[allow(unsafe_code)]
fn backward_group<'y>(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    volume: usize,
    planes: &[Plane],
    dx: &'y mut Unwritten,
) -> (Vec<(f64, f64)>, &'y mut [f32]) {
    assert!(planes.len() * volume == dx.len() && x.len() == dx.len() && dy.len() == dx.len(), "the channels of a group");
    let channels = || x.chunks(volume).zip(dy.chunks(volume)).zip(planes);
    let sums: Vec<(f64, f64)> = channels()
        // SAFETY: safe code but for the instruction set.
        .map(|((x, dy), plane)| unsafe { backward_sums(isa, x, dy, *plane) })
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| {
        let sum: f64 = sums.iter().zip(planes).map(|(sums, plane)| f64::from(plane.gamma) * of(sums)).sum();
        (sum / x.len() as f64) as f32
    };
    let (mean_dh, mean_d) = (mean(|sums| sums.0), mean(|sums| sums.1));
    for (((x, dy), plane), dx) in channels().zip(dx.chunks_mut(volume)) {
        // SAFETY: as above.
        unsafe { backward_plane(isa, x, dy, *plane, mean_dh, mean_d, dx) };
    }
    // SAFETY: every element of each channel is written, as there is one of x and dy for each.
    (sums, unsafe { assume_written(dx) })
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
    /// sum(d h) and sum(d) of one channel.
    unsafe fn backward_sums<S>(x: &[f32], dy: &[f32], plane: Plane) -> (f64, f64) {
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
            sum_dh += add_up(&dh);
            sum_d += add_up(&d);
        }
        (sum_dh, sum_d)
    }
}

per_isa! {
    unsafe fn backward_plane<S>(x: &[f32], dy: &[f32], plane: Plane, mean_dh: f32, mean_d: f32, dx: &mut Unwritten) {
        let scale = plane.statistics.scale;
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let (normed, gradient) = plane.before_activation(*x, *dy);
            dx.write(scale * (plane.gamma * gradient - mean_d - normed * mean_dh));
        }
    }
}

/// The sum of every channel over batch and volume: the gradient of a bias.
#[allow(unsafe_code)]
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
