//! Activations as levels: whole numbers of 8 bits, and what they stand for in a map.
//!
//! A map has the 256 levels that reach from its smallest value to its greatest one, so that nothing is cut off and nothing is
//! to be found out beforehand; zero is one of them, for the border. Networks whose layers normalise each image keep these
//! ranges close, whatever the scan.

use candle_core::{Result, bail};
use half::f16;
use rayon::prelude::*;

use super::map::{Blank, Map};
use super::norm::Line;
use super::sums::{LANES, LaneExtremes, wider};
use crate::cpu::Unwritten;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Kernels, Lane, Work};
use crate::cpu::lanes::int8::Int8;

/// What the elements of a map stand for: `(element - zero) · step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    pub(crate) step: f32,
    pub(crate) zero: u8,
}

/// Of elements that stand for themselves.
impl Default for Levels {
    fn default() -> Self {
        Self { step: 1.0, zero: 0 }
    }
}

#[allow(unsafe_code)]
impl Levels {
    /// Levels from `low` to `high`, and zero among them.
    pub(super) fn between(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = (high - low) / 255.0;
        match step > 0.0 && step.is_finite() {
            true => Self { step, zero: (-low / step).round() as u8 },
            false => Self::default(),
        }
    }

    /// The number that a level stands for.
    pub(super) fn number(self, level: f32) -> f32 {
        (level - f32::from(self.zero)) * self.step
    }

    /// The level of a number, not rounded.
    pub(super) fn level(self, number: f32) -> f32 {
        number / self.step + f32::from(self.zero)
    }

    /// A map in levels that hold all of its values, as the line makes them if there is one.
    ///
    /// # Errors
    /// When a value is beyond what sums wait in.
    pub(crate) fn settle(raw: &Map<f16>, line: Option<&Line>) -> Result<Map<Int8>> {
        let [low, high] = line.map_or_else(|| ends(raw), |line| line.ends);
        held(high).and(held(-low))?;
        let levels = Self::between(low, high);
        let mut y = Blank::<Int8>::with_levels(raw.channels(), raw.size(), raw.border(), levels);
        let path = Int8::path();
        y.par_rows_mut().enumerate().for_each(|(at, to)| {
            // SAFETY: both rows hold the same whole positions, and positions whole vectors.
            unsafe { Int8::dispatch(path, Round { from: row(raw, at), to, step: raw.step(), line, levels }) };
        });
        // SAFETY: every row is written.
        Ok(unsafe { y.assume_written() })
    }
}

/// Refuses a sum that numbers of 16 bits do not hold: the network's values are not those of normalised layers.
pub(super) fn held(value: f32) -> Result<()> {
    let most = f32::from(f16::MAX);
    if value > most {
        bail!("frozen map: sums of a layer reach {value:e}, and in 8 bits {most} at most are kept; compute in f32");
    }
    Ok(())
}

/// The row at some place among all rows.
fn row(raw: &Map<f16>, at: usize) -> &[f16] {
    let [_, height, width] = raw.size();
    &raw.values()[raw.row([at / height, at % height])..][..width * raw.step()]
}

/// The smallest and the greatest value of a map, with zero.
#[allow(unsafe_code)]
fn ends(raw: &Map<f16>) -> [f32; 2] {
    let (path, [depth, height, _]) = (Int8::path(), raw.size());
    let of_row = |at: usize| {
        let mut extremes = [[0f32; 2]; LANES];
        // SAFETY: the row holds whole vectors.
        unsafe { Int8::dispatch(path, Extremes { values: row(raw, at), extremes: &mut extremes }) };
        extremes.into_iter().fold([0.0; 2], wider)
    };
    let [high, low] = (0..depth * height).into_par_iter().map(of_row).reduce(|| [0.0; 2], wider);
    [-low, high]
}

/// The greatest value of a row, and the greatest one with its sign turned, by lane.
struct Extremes<'a> {
    values: &'a [f16],
    extremes: &'a mut [[f32; 2]; LANES],
}

#[allow(unsafe_code)]
impl Work<Int8> for Extremes<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = Int8>>(self) {
        // SAFETY: the row is a whole number of vectors.
        unsafe {
            let mut extremes = LaneExtremes::<L::Sums>::new();
            for vector in self.values.chunks_exact(L::Sums::LANES) {
                extremes.add(L::recall(vector.as_ptr()));
            }
            extremes.add_to(self.extremes);
        }
    }
}

/// A row of sums, to be written as levels.
struct Round<'a> {
    from: &'a [f16],
    to: &'a mut Unwritten<Int8>,
    step: usize,
    line: Option<&'a Line>,
    levels: Levels,
}

#[allow(unsafe_code)]
impl Work<Int8> for Round<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = Int8>>(self) {
        // SAFETY: a position is a whole number of vectors in both rows.
        unsafe {
            let (steps, zero) = (L::Sums::splat(1.0 / self.levels.step), L::Sums::splat(f32::from(self.levels.zero)));
            for (from, to) in self.from.chunks_exact(self.step).zip(self.to.chunks_exact_mut(self.step)) {
                for lane in (0..self.step).step_by(L::Sums::LANES) {
                    let value = L::recall(from.as_ptr().add(lane));
                    let value = self.line.map_or(value, |line| line.of(value, lane));
                    L::narrow(value.mul_add(steps, zero), to.as_mut_ptr().add(lane).cast());
                }
            }
        }
    }
}
