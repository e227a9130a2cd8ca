//! Max pooling by 2.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::map::{Blank, Map};
use crate::cpu::Unwritten;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};

#[allow(unsafe_code)]
impl<E: Element> Map<E> {
    /// The maxima of windows of 2 along every axis that the image has; the last plane of an odd size is dropped.
    ///
    /// # Errors
    /// When an axis is shorter than 2, or the map is an image, whose single channel is no vector.
    pub fn max_pool2(&self) -> Result<Self> {
        let window = self.border().map(|border| if border > 0 { 2 } else { 1 });
        let size = std::array::from_fn(|a| self.size()[a] / window[a]);
        if size.contains(&0) || !self.channels().are_whole() {
            bail!(
                "frozen max_pool2: channels in whole vectors and every axis at least 2 long expected, found {:?} of {:?}",
                self.channels(),
                self.size()
            );
        }
        let mut y = Blank::<E>::with_levels(self.channels(), size, self.border(), self.levels());
        let path = E::path();
        let len = size[2] * y.step();
        y.par_rows_mut().enumerate().for_each(|(at, row)| {
            let (d, h) = (at / size[1], at % size[1]);
            let rows = (0..window[0]).flat_map(|i| (0..2).map(move |j| [d * window[0] + i, 2 * h + j]));
            let rows: Vec<&[E]> = rows.map(|place| &self.values()[self.row(place)..][..2 * len]).collect();
            // SAFETY: rows of twice the positions, which are whole vectors.
            unsafe { E::dispatch(path, Maxima { rows: &rows, step: self.step(), to: &mut row[..len] }) };
        });
        // SAFETY: the maxima of every lane of every row are written.
        Ok(unsafe { y.assume_written() })
    }
}

/// A row of maxima over some rows.
struct Maxima<'a, E> {
    rows: &'a [&'a [E]],
    step: usize,
    to: &'a mut Unwritten<E>,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Maxima<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        for (w, to) in self.to.chunks_exact_mut(self.step).enumerate() {
            let mut lane = 0;
            while lane < self.step {
                // SAFETY: the positions 2w and 2w + 1 are within the rows, and hold whole vectors.
                unsafe {
                    let at = 2 * w * self.step + lane;
                    let mut best = L::widen(self.rows[0].as_ptr().add(at));
                    for row in self.rows {
                        best = best.max(L::widen(row.as_ptr().add(at))).max(L::widen(row.as_ptr().add(at + self.step)));
                    }
                    L::narrow(best, to.as_mut_ptr().cast::<E>().add(lane));
                }
                lane += L::Sums::LANES;
            }
        }
    }
}
