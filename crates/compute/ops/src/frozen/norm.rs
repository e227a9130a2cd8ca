//! Instance norm with LeakyReLU.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::levels;
use super::map::Map;
use super::sums::wider;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};

/// Sums and sums of squares of every channel over space, taken before rounding.
pub struct Moments {
    all: Part,
    count: usize,
}

/// What a task contributes to the moments, by lane.
pub(super) struct Part {
    /// Sum and sum of squares in turn.
    pub(super) sums: Vec<f64>,
    /// The greatest value and the greatest one with its sign turned, where maps are levels.
    pub(super) extremes: Vec<[f32; 2]>,
}

impl Part {
    pub(super) fn new(lanes: usize) -> Self {
        Self { sums: vec![0.0; 2 * lanes], extremes: vec![[f32::NEG_INFINITY; 2]; lanes] }
    }
}

impl Moments {
    /// Adds the parts in their order.
    pub(super) fn add_up(parts: &[Part], count: usize) -> Self {
        let mut all = Part::new(parts.first().map_or(0, |part| part.extremes.len()));
        for part in parts {
            all.sums.iter_mut().zip(&part.sums).for_each(|(sum, value)| *sum += value);
            all.extremes.iter_mut().zip(&part.extremes).for_each(|(all, part)| *all = wider(*all, *part));
        }
        Self { all, count }
    }

    /// Mean and biased variance of a channel.
    fn of(&self, channel: usize) -> (f64, f64) {
        let count = self.count as f64;
        let mean = self.all.sums[2 * channel] / count;
        (mean, (self.all.sums[2 * channel + 1] / count - mean * mean).max(0.0))
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
    /// With `gamma` and `beta` `(c)`, `epsilon` under the root, and the slope for negative values, 1 to leave the LeakyReLU out.
    ///
    /// # Errors
    /// When shapes do not fit, or the slope is above 1.
    pub fn new(gamma: &Tensor, beta: &Tensor, epsilon: f64, slope: f64) -> Result<Self> {
        if gamma.rank() != 1 || gamma.dims() != beta.dims() || slope > 1.0 {
            bail!("frozen norm: a scale and a shift per channel, and a slope of at most 1 expected, found {gamma:?}, {beta:?}, {slope}");
        }
        Ok(Self { gamma: gamma.to_vec1()?, beta: beta.to_vec1()?, epsilon, slope: slope as f32 })
    }

    /// Normalises the map that the moments are of.
    ///
    /// # Errors
    /// When the map has other channels.
    pub fn run<E: Element>(&self, map: Map<E::Raw>, moments: &Moments) -> Result<Map<E>> {
        let channels = map.channels().count;
        if channels != self.gamma.len() || !map.channels().are_whole() || moments.all.extremes.len() != map.step() {
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
        let mut line = Line { scale, shift, slope: self.slope, ends: [0.0; 2] };
        if E::LEVELS {
            moments.all.extremes.iter().flatten().try_for_each(|&value| levels::held(value))?;
            line.ends = (0..channels).fold([0.0; 2], |ends, channel| {
                let [high, low] = moments.all.extremes[channel];
                [high, -low]
                    .map(|value| line.number(value, channel))
                    .into_iter()
                    .fold(ends, |[low, high], end| [low.min(end), high.max(end)])
            });
        }
        E::settle(map, Some(&line))
    }
}

/// What becomes of the values of each channel, with a LeakyReLU behind it.
pub struct Line {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) slope: f32,
    /// The smallest and the greatest value behind it, with zero, where maps are levels.
    pub(super) ends: [f32; 2],
}

#[allow(unsafe_code)]
impl Line {
    /// Applies a line, if there is one.
    pub(crate) fn in_place<E: Element>(line: Option<&Self>, mut map: Map<E>) -> Map<E> {
        let Some(line) = line else { return map };
        let path = E::path();
        let row_len = map.size()[2] * map.step();
        map.par_rows_mut().for_each(|row| {
            let work = Affine { values: &mut row[..row_len], line };
            // SAFETY: the slices hold whole positions, and positions whole vectors.
            unsafe { E::dispatch(path, work) };
        });
        map
    }

    /// What becomes of a value of a channel.
    fn number(&self, value: f32, channel: usize) -> f32 {
        let value = value * self.scale[channel] + self.shift[channel];
        value.max(value * self.slope)
    }

    /// A vector of the values of channel `lane` and those behind it.
    ///
    /// # Safety
    /// The instructions of `S` exist, and there are so many channels.
    #[inline(always)]
    pub(super) unsafe fn of<S: Simd>(&self, values: S, lane: usize) -> S {
        // SAFETY: the caller's conditions.
        unsafe {
            let value = values.mul_add(S::load(self.scale[lane..].as_ptr()), S::load(self.shift[lane..].as_ptr()));
            value.max(value.mul_add(S::splat(self.slope), S::zero()))
        }
    }
}

/// A row of positions.
struct Affine<'a, E> {
    values: &'a mut [E],
    line: &'a Line,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Affine<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let step = self.line.scale.len();
        for position in self.values.chunks_exact_mut(step) {
            let mut lane = 0;
            while lane < step {
                // SAFETY: a position is a whole number of vectors.
                unsafe {
                    let at = position.as_mut_ptr().add(lane);
                    L::narrow(self.line.of(L::widen(at), lane), at);
                }
                lane += L::Sums::LANES;
            }
        }
    }
}
