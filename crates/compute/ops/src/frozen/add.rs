//! The sum of two maps, with LeakyReLU.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::levels::Levels;
use super::map::{Blank, Map};
use super::sums::{LANES, LaneExtremes, wider};
use crate::cpu::Unwritten;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};

#[allow(unsafe_code)]
impl<E: Element> Map<E> {
    /// The sum of two maps of one kind, and LeakyReLU with that slope for negative values, 1 to leave it out.
    ///
    /// # Errors
    /// When they differ in channels or size, a map is an image, whose single channel is no vector, or the slope is above 1.
    pub fn add_leaky_relu(&self, other: &Self, slope: f32) -> Result<Self> {
        let kind = |map: &Self| (map.channels(), map.size(), map.border());
        if kind(self) != kind(other) || !self.channels().are_whole() || slope > 1.0 {
            bail!(
                "frozen sum: two maps of one kind, of channels in whole vectors, and a slope of at most 1 expected, found {:?}, {:?} and {slope}",
                kind(self),
                kind(other)
            );
        }
        let (path, [depth, height, _]) = (E::path(), self.size());
        let sum = |at: usize| {
            let place = [at / height, at % height];
            let row = |map: &'_ Self| map.values()[map.row(place)..].as_ptr();
            Sum { of: [row(self), row(other)], levels: [self.levels(), other.levels()], len: self.size()[2] * self.step(), slope }
        };
        let levels = if E::LEVELS {
            let of_row = |at: usize| {
                let mut extremes = [[0f32; 2]; LANES];
                // SAFETY: both rows hold the same whole positions, and positions whole vectors.
                unsafe { E::dispatch(path, Extremes { sum: sum(at), extremes: &mut extremes }) };
                extremes.into_iter().fold([0.0; 2], wider)
            };
            let [high, low] = (0..depth * height).into_par_iter().map(of_row).reduce(|| [0.0; 2], wider);
            Levels::between(-low, high)
        } else {
            Levels::default()
        };
        let mut y = Blank::<E>::with_levels(self.channels(), self.size(), self.border(), levels);
        y.par_rows_mut().enumerate().for_each(|(at, to)| {
            // SAFETY: all rows hold the same whole positions, and positions whole vectors.
            unsafe { E::dispatch(path, Write { sum: sum(at), levels, to }) };
        });
        // SAFETY: every row is written.
        Ok(unsafe { y.assume_written() })
    }
}

/// The sums of two rows.
struct Sum<E> {
    of: [*const E; 2],
    levels: [Levels; 2],
    len: usize,
    slope: f32,
}

#[allow(unsafe_code)]
impl<E: Element> Sum<E> {
    /// The sums as numbers, a vector after the other.
    ///
    /// # Safety
    /// The instructions of `L` exist, and both rows hold `len` elements in whole vectors.
    #[inline(always)]
    unsafe fn each<L: Lane<Element = E>>(&self, mut take: impl FnMut(usize, L::Sums)) {
        let [a, b] = self.levels;
        // SAFETY: the conditions of this function.
        unsafe {
            // (a - a.zero) · a.step + (b - b.zero) · b.step
            let shift = L::Sums::splat(-(f32::from(a.zero) * a.step + f32::from(b.zero) * b.step));
            let (a, b, slope) = (L::Sums::splat(a.step), L::Sums::splat(b.step), L::Sums::splat(self.slope));
            for at in (0..self.len).step_by(L::Sums::LANES) {
                let own = |row: usize| L::widen(self.of[row].add(at));
                let value = own(0).mul_add(a, own(1).mul_add(b, shift));
                take(at, value.max(value.mul_add(slope, L::Sums::zero())));
            }
        }
    }
}

/// The greatest sum of a row, and the greatest one with its sign turned, by lane.
struct Extremes<'a, E> {
    sum: Sum<E>,
    extremes: &'a mut [[f32; 2]; LANES],
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Extremes<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        // SAFETY: the conditions of this work.
        unsafe {
            let mut extremes = LaneExtremes::<L::Sums>::new();
            self.sum.each::<L>(|_, value| extremes.add(value));
            extremes.add_to(self.extremes);
        }
    }
}

/// A row of sums, to be written.
struct Write<'a, E> {
    sum: Sum<E>,
    levels: Levels,
    to: &'a mut Unwritten<E>,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Write<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let to = self.to.as_mut_ptr().cast::<E>();
        // SAFETY: the conditions of this work; the row to be written is as long as the others.
        unsafe {
            let (steps, zero) = (L::Sums::splat(1.0 / self.levels.step), L::Sums::splat(f32::from(self.levels.zero)));
            self.sum.each::<L>(|at, value| L::narrow(value.mul_add(steps, zero), to.add(at)));
        }
    }
}
