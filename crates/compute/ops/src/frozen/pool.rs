//! Maxima and means of windows that lie side by side.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::map::{Blank, Map};
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};
use crate::cpu::{Size3, Unwritten};

impl<E: Element> Map<E> {
    /// The maxima of windows of 2 along every axis that the image has; the last plane of an odd size is dropped.
    ///
    /// # Errors
    /// When an axis is shorter than 2, or the map is an image, whose single channel is no vector.
    pub fn max_pool2(&self) -> Result<Self> {
        self.pool::<Maximum>(self.border().map(|border| if border > 0 { 2 } else { 1 }))
    }

    /// The means of windows of that size; planes that fill no window are dropped.
    ///
    /// # Errors
    /// When an axis is shorter than the window, or the map is an image, whose single channel is no vector.
    pub fn average(&self, window: Size3) -> Result<Self> {
        self.pool::<Mean>(window)
    }

    #[allow(unsafe_code)]
    fn pool<P: Pool>(&self, window: Size3) -> Result<Self> {
        let size = std::array::from_fn(|a| self.size()[a].checked_div(window[a]).unwrap_or(0));
        if size.contains(&0) || !self.channels().are_whole() {
            bail!(
                "frozen pool: channels in whole vectors and every axis at least {window:?} long expected, found {:?} of {:?}",
                self.channels(),
                self.size()
            );
        }
        let mut y = Blank::<E>::with_levels(self.channels(), size, self.border(), self.levels());
        let (path, step) = (E::path(), y.step());
        y.par_rows_mut().enumerate().for_each(|(at, to)| {
            let (d, h) = (at / size[1] * window[0], at % size[1] * window[1]);
            let rows = (0..window[0]).flat_map(|i| (0..window[1]).map(move |j| [d + i, h + j]));
            let rows: Vec<&[E]> = rows.map(|place| &self.values()[self.row(place)..][..window[2] * size[2] * step]).collect();
            let to = &mut to[..size[2] * step];
            // SAFETY: the rows hold the positions of all windows, which are whole vectors.
            unsafe { E::dispatch(path, Row::<E, P> { rows: &rows, side: window[2], step, to, kind: std::marker::PhantomData }) };
        });
        // SAFETY: every lane of every row is written.
        Ok(unsafe { y.assume_written() })
    }
}

/// What becomes of the values of a window. Levels keep their meaning: both are levels again.
trait Pool {
    /// # Safety
    /// The instructions of `S` exist.
    #[allow(unsafe_code)]
    unsafe fn join<S: Simd>(all: S, next: S) -> S;

    /// # Safety
    /// As above.
    #[allow(unsafe_code)]
    unsafe fn finish<S: Simd>(all: S, values: usize) -> S;
}

struct Maximum;

#[allow(unsafe_code)]
impl Pool for Maximum {
    #[inline(always)]
    unsafe fn join<S: Simd>(all: S, next: S) -> S {
        // SAFETY: the caller's condition.
        unsafe { all.max(next) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(all: S, _: usize) -> S {
        all
    }
}

struct Mean;

#[allow(unsafe_code)]
impl Pool for Mean {
    #[inline(always)]
    unsafe fn join<S: Simd>(all: S, next: S) -> S {
        // SAFETY: the caller's condition.
        unsafe { all.add(next) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(all: S, values: usize) -> S {
        // SAFETY: the caller's condition.
        unsafe { all.mul_add(S::splat(1.0 / values as f32), S::zero()) }
    }
}

/// A row of windows over some rows.
struct Row<'a, E, P> {
    rows: &'a [&'a [E]],
    /// Positions of a window along a row.
    side: usize,
    step: usize,
    to: &'a mut Unwritten<E>,
    kind: std::marker::PhantomData<P>,
}

#[allow(unsafe_code)]
impl<E: Element, P: Pool> Work<E> for Row<'_, E, P> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let Self { rows, side, step, .. } = self;
        for (w, to) in self.to.chunks_exact_mut(step).enumerate() {
            for lane in (0..step).step_by(L::Sums::LANES) {
                // SAFETY: the positions of the window are within the rows, and hold whole vectors.
                unsafe {
                    let value = |row: &[E], k: usize| L::widen(row.as_ptr().add((w * side + k) * step + lane));
                    let mut all = value(rows[0], 0);
                    for (at, row) in rows.iter().enumerate() {
                        for k in usize::from(at == 0)..side {
                            all = P::join(all, value(row, k));
                        }
                    }
                    L::narrow(P::finish(all, rows.len() * side), to.as_mut_ptr().cast::<E>().add(lane));
                }
            }
        }
    }
}
