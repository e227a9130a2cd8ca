//! Transposed convolutions whose kernel is as large as their stride.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::levels::Levels;
use super::map::{Blank, Channels, Map};
use super::packed::{Block, Packed};
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Kernels, Lane, Work};
use crate::cpu::lanes::rows::{Run, Sink};
use crate::cpu::{Size3, Unwritten};
use crate::tensor::volumes;

/// The weights of a transposed convolution whose kernel is as large as its stride, 1 or 2 along each axis: every input position makes as
/// many output positions as the kernel has places, each by weights of its own.
pub struct PackedUpsampling<E: Element> {
    channels: Channels,
    kernel: Size3,
    /// One per place in the kernel.
    phases: Vec<Packed<E>>,
    /// In whole vectors.
    bias: Vec<f32>,
}

#[allow(unsafe_code)]
impl<E: Element> PackedUpsampling<E> {
    /// Packs `weight` `(ci, co, kernel..)` with its bias `(co)`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (in_channels, out_channels, kernel) = volumes("frozen upsampling", weight.dims())?;
        if !Self::has(kernel) || bias.dims() != [out_channels] {
            bail!("frozen upsampling: weights (ci, co, 1 or 2..) and a bias (co) expected, found {:?}, {:?}", weight.dims(), bias.dims());
        }
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let taps: usize = kernel.iter().product();
        let (channels, out) = (Channels::whole(in_channels), Channels::whole(out_channels));
        let phase = |tap: usize| {
            Packed::new(out, 1, &[channels.step], |out, _, channel| match channel < in_channels {
                true => values[(channel * out_channels + out) * taps + tap],
                false => 0.0,
            })
        };
        let mut bias = bias.to_vec1::<f32>()?;
        bias.resize(out.step, 0.0);
        Ok(Self { channels, kernel, phases: (0..taps).map(phase).collect(), bias })
    }

    /// Whether there are such kernels.
    #[must_use]
    pub fn has(kernel: Size3) -> bool {
        kernel.iter().all(|side| matches!(side, 1 | 2))
    }

    /// The larger map, brought to `size` by doubling the last plane of an axis that is one longer.
    ///
    /// # Errors
    /// When the map has other channels, or cannot be brought to the size.
    pub fn run(&self, x: &Map<E>, size: Size3) -> Result<Map<E>> {
        let raised = self.raised(x.size());
        if x.channels() != self.channels || (0..3).any(|a| size[a] < raised[a] || size[a] >= raised[a] + self.kernel[a]) {
            bail!(
                "frozen upsampling: packed for {:?}, found {:?} of size {:?} to be brought to {size:?}",
                self.channels,
                x.channels(),
                x.size()
            );
        }
        let mut y = Blank::<E::Raw>::new(self.phases[0].channels, size, x.border());
        let (step, from) = (y.step(), x.size());
        let kernel = self.kernel;
        y.par_rows_mut().enumerate().for_each(|(at, to)| {
            // A row beyond the raised ones is made again from what its neighbour is made from.
            let (d, h) = ((at / size[1]).min(raised[0] - 1), (at % size[1]).min(raised[1] - 1));
            let place = [d / kernel[0], h / kernel[1]];
            let run = Run { from: x.values()[x.row(place)..].as_ptr(), step: x.step(), groups: self.phases[0].groups(0) };
            for side in 0..kernel[2] {
                let packed = &self.phases[(d % kernel[0] * kernel[1] + h % kernel[1]) * kernel[2] + side];
                let (levels, to, step) = (x.levels(), &mut to[side * step..], kernel[2] * step);
                let work = Phase { packed, bias: &self.bias, run, levels, width: from[2], to, step };
                // SAFETY: the run lies within x; a row of y holds the positions of all sides.
                unsafe { E::dispatch(packed.path, work) };
            }
            if size[2] > raised[2] {
                to.copy_within((size[2] - 2) * step..(size[2] - 1) * step, (size[2] - 1) * step);
            }
        });
        // SAFETY: the sides have written all lanes of a row, but for the last position of an odd one, which is a copy.
        E::settle(unsafe { y.assume_written() }, None)
    }

    /// The size that a map of `size` is raised to.
    #[must_use]
    pub fn raised(&self, size: Size3) -> Size3 {
        std::array::from_fn(|a| size[a] * self.kernel[a])
    }
}

/// Every position of a row, or every second one.
struct Phase<'a, E: Element> {
    packed: &'a Packed<E>,
    bias: &'a [f32],
    run: Run<E>,
    levels: Levels,
    width: usize,
    to: &'a mut Unwritten<E::Raw>,
    step: usize,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Phase<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        for block @ Block { first, lanes, .. } in self.packed.blocks() {
            let mut sink = Biased { to: self.to[first..].as_mut_ptr().cast(), step: self.step, bias: &self.bias[first..first + lanes] };
            // SAFETY: the conditions of the caller.
            unsafe { self.packed.row::<L>(block, &[self.run], std::iter::once(self.levels), self.width, &mut sink) };
        }
    }
}

/// Writes a row with the bias added.
struct Biased<'a, E> {
    to: *mut E,
    step: usize,
    bias: &'a [f32],
}

#[allow(unsafe_code)]
impl<L: Lane> Sink<L> for Biased<'_, <L::Element as Kernels>::Raw> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        for (at, sums) in (at..).zip(sums) {
            for v in 0..V {
                let lane = v * L::Sums::LANES;
                // SAFETY: the position is of the row, and the bias of the block.
                unsafe {
                    let bias = L::Sums::load(self.bias[lane..].as_ptr());
                    L::keep(sums[v].add(bias), self.to.add(at * self.step + lane));
                }
            }
        }
    }
}
