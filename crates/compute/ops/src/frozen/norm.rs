//! Instance norm with LeakyReLU, in place.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::map::Map;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};

/// Sums and sums of squares of every channel over space, taken before rounding.
pub struct Moments {
    sums: Vec<f64>,
    count: usize,
}

impl Moments {
    /// Adds the parts in their order.
    pub(super) fn add_up(parts: &[Vec<f64>], count: usize) -> Self {
        let mut sums = vec![0.0; parts.first().map_or(0, Vec::len)];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        Self { sums, count }
    }

    /// Mean and biased variance of a channel.
    fn of(&self, channel: usize) -> (f64, f64) {
        let count = self.count as f64;
        let mean = self.sums[2 * channel] / count;
        (mean, (self.sums[2 * channel + 1] / count - mean * mean).max(0.0))
    }
}

/// Scale and shift of an instance norm, and the LeakyReLU behind it.
pub struct InstanceNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f64,
    slope: f32,
}

#[allow(unsafe_code)]
impl InstanceNorm {
    /// With `gamma` and `beta` `(c)`, `epsilon` under the root, and the slope for negative values, below 1.
    ///
    /// # Errors
    /// When shapes do not fit, or the slope is not below 1.
    pub fn new(gamma: &Tensor, beta: &Tensor, epsilon: f64, slope: f64) -> Result<Self> {
        if gamma.rank() != 1 || gamma.dims() != beta.dims() || slope >= 1.0 {
            bail!("frozen norm: a scale and a shift per channel, and a slope below 1 expected, found {gamma:?}, {beta:?}, {slope}");
        }
        Ok(Self { gamma: gamma.to_vec1()?, beta: beta.to_vec1()?, epsilon, slope: slope as f32 })
    }

    /// Normalises the map that the moments are of.
    ///
    /// # Errors
    /// When the map has other channels.
    pub fn run<E: Element>(&self, map: &mut Map<E>, moments: &Moments) -> Result<()> {
        let channels = map.channels().count;
        if channels != self.gamma.len() || !map.channels().are_whole() || moments.sums.len() != 2 * map.step() {
            bail!("frozen norm: {} channels expected, found {channels}", self.gamma.len());
        }
        // Channels beyond the last stay zero.
        let (mut scale, mut shift) = (vec![0f32; map.step()], vec![0f32; map.step()]);
        for channel in 0..channels {
            let (mean, variance) = moments.of(channel);
            let factor = f64::from(self.gamma[channel]) / (variance + self.epsilon).sqrt();
            scale[channel] = factor as f32;
            shift[channel] = (f64::from(self.beta[channel]) - mean * factor) as f32;
        }
        let path = E::path();
        let [_, height, width] = map.size();
        let (step, slope) = (map.step(), self.slope);
        map.par_rows_mut().for_each(|row| {
            let work = Affine { values: &mut row[..width * step], scale: &scale, shift: &shift, slope };
            // SAFETY: the slices hold whole positions, and positions whole vectors.
            unsafe { E::dispatch(path, work) };
        });
        debug_assert!(height > 0);
        Ok(())
    }
}

/// A row of positions.
struct Affine<'a, E> {
    values: &'a mut [E],
    scale: &'a [f32],
    shift: &'a [f32],
    slope: f32,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Affine<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let step = self.scale.len();
        for position in self.values.chunks_exact_mut(step) {
            let mut lane = 0;
            while lane < step {
                // SAFETY: a position is a whole number of vectors.
                unsafe {
                    let at = position.as_mut_ptr().add(lane);
                    let (scale, shift) = (L::Sums::load(self.scale[lane..].as_ptr()), L::Sums::load(self.shift[lane..].as_ptr()));
                    let value = L::widen(at).mul_add(scale, shift);
                    L::narrow(value.max(value.mul_add(L::Sums::splat(self.slope), L::Sums::zero())), at);
                }
                lane += L::Sums::LANES;
            }
        }
    }
}
