//! Changes of all intensities of an image at once.

use rand_distr::{Distribution as _, StandardNormal};
use random::Streams;
use rayon::prelude::*;

use super::draw::Noise;
use super::power::power;
use super::wide::wide;

/// Voxels that share one noise stream, and one part of a sum: a constant, so that neither depends on the number of threads.
pub(super) const CHUNK: usize = 1 << 16;

/// Adds noise, then multiplies, then shifts: the order in which the paper names them.
pub(super) fn noise_gain_shift(image: &mut [f32], noise: Option<Noise>, gain: f32, shift: f32) {
    match noise {
        Some(Noise { std, seed }) => {
            let streams = Streams::new(seed);
            image.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
                let mut stream = streams.stream("noise", &[chunk as u64]);
                for value in values {
                    let normal: f32 = StandardNormal.sample(&mut stream);
                    *value = (*value + std * normal) * gain + shift;
                }
            });
        }
        None if gain != 1.0 || shift != 0.0 => each(image, |value| value * gain + shift),
        None => {}
    }
}

/// A brightness and a contrast in one pass: intensities become `gain v + shift`, and then their distance from their mean is multiplied
/// by `contrast`, within the range that they have.
pub(super) fn brighten(image: &mut [f32], gain: f32, shift: f32, contrast: Option<f32>) {
    let Some(contrast) = contrast else {
        if gain != 1.0 || shift != 0.0 {
            each(image, |value| value * gain + shift);
        }
        return;
    };
    let Summary { least, greatest, mean, .. } = Summary::of(image, |value| value * gain + shift);
    each(image, |value| (((value * gain + shift) - mean) * contrast + mean).max(least).min(greatest));
}

/// Raises intensities, from 0 to 1 over their range, to a power, and gives them back the range, the mean and the deviation that they
/// had; of the negative image if `inverted`.
pub(super) fn gamma(image: &mut [f32], exponent: f32, inverted: bool) {
    const LEAST: f32 = 1e-7;
    let sign = if inverted { -1.0 } else { 1.0 };
    let before = Summary::of(image, |value| sign * value);
    let range = before.greatest - before.least;
    let slope = 1.0 / range.max(LEAST);
    let raised = image.par_chunks_mut(CHUNK).map(|values| raise(values, sign * slope, -before.least * slope, exponent)).collect();
    let after = Summary::of_sums(raised, image.len(), 0.0);
    // In parts of the range, which the ratio of the deviations takes along.
    let gain = before.deviation / (after.deviation * range).max(LEAST) * range;
    each(image, |value| sign * ((value - after.mean) * gain + before.mean));
}

wide! {
    /// Makes `(gain v + shift)^exponent` of intensities, of which `gain v + shift` goes from 0 to 1, and sums up what they became.
    fn raise(values: &mut [f32], gain: f32, shift: f32, exponent: f32) -> Sums {
        values.iter_mut().for_each(|value| *value = power((*value * gain + shift).clamp(0.0, 1.0), exponent));
        Sums::of(values, |value| value)
    }
}

fn each(image: &mut [f32], change: impl Fn(f32) -> f32 + Sync) {
    image.par_chunks_mut(CHUNK).for_each(|values| values.iter_mut().for_each(|value| *value = change(*value)));
}

/// What an image is like.
#[derive(Clone, Copy, Debug)]
struct Summary {
    least: f32,
    greatest: f32,
    mean: f32,
    deviation: f32,
}

/// Numbers that are summed side by side.
const LANES: usize = 16;

impl Summary {
    fn of(image: &[f32], shown: impl Fn(f32) -> f32 + Sync) -> Self {
        // Sums are those of distances from one of the values, which are no greater than the range.
        let about = image.first().map_or(0.0, |&value| shown(value));
        let chunks = image.par_chunks(CHUNK).map(|values| Sums::of(values, |value| shown(value) - about)).collect();
        Self::of_sums(chunks, image.len(), about)
    }

    /// The summary of numbers of which `about` was taken.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "intensities are single precision")]
    fn of_sums(sums: Vec<Sums>, voxels: usize, about: f32) -> Self {
        let all = sums.into_iter().fold(Sums::NONE, Sums::and);
        let voxels = voxels as f64;
        let mean = all.sum / voxels;
        let variance = (all.squares / voxels - mean * mean).max(0.0) * voxels / (voxels - 1.0).max(1.0);
        Self {
            least: all.least + about,
            greatest: all.greatest + about,
            mean: (mean + f64::from(about)) as f32,
            deviation: variance.sqrt() as f32,
        }
    }
}

#[derive(Clone, Copy)]
struct Sums {
    least: f32,
    greatest: f32,
    sum: f64,
    squares: f64,
}

impl Sums {
    const NONE: Self = Self { least: f32::INFINITY, greatest: f32::NEG_INFINITY, sum: 0.0, squares: 0.0 };

    fn and(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            greatest: self.greatest.max(other.greatest),
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }

    #[inline(always)]
    fn of(values: &[f32], shown: impl Fn(f32) -> f32) -> Self {
        // Few enough are added in single precision that no digit is lost that counts.
        values.chunks(64 * LANES).map(|values| Self::of_few(values, &shown)).fold(Self::NONE, Self::and)
    }

    #[inline(always)]
    fn of_few(values: &[f32], shown: impl Fn(f32) -> f32) -> Self {
        let (mut least, mut greatest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (mut sum, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut add = |lane: usize, value: f32| {
            least[lane] = if value < least[lane] { value } else { least[lane] };
            greatest[lane] = if value > greatest[lane] { value } else { greatest[lane] };
            sum[lane] += value;
            squares[lane] += value * value;
        };
        for values in whole {
            (0..LANES).for_each(|lane| add(lane, shown(values[lane])));
        }
        rest.iter().enumerate().for_each(|(lane, value)| add(lane, shown(*value)));
        let wide = |lanes: [f32; LANES]| lanes.map(f64::from).iter().sum();
        Self {
            least: least.into_iter().fold(f32::INFINITY, f32::min),
            greatest: greatest.into_iter().fold(f32::NEG_INFINITY, f32::max),
            sum: wide(sum),
            squares: wide(squares),
        }
    }
}
