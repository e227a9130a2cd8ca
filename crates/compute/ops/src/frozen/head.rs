//! The heads of networks.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::levels::Levels;
use super::map::{Channels, Map};
use super::packed::{Block, Packed};
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};
use crate::cpu::lanes::rows::{Run, Sink};
use crate::cpu::{Shared, assume_written, written};
use crate::tensor::volumes;

/// A 1×1 convolution to logits.
pub struct PackedHead<E: Element> {
    channels: Channels,
    classes: usize,
    /// One per lane.
    bias: Vec<f32>,
    packed: Packed<E>,
}

#[allow(unsafe_code)]
impl<E: Element> PackedHead<E> {
    /// Packs `weight` `(classes, c, 1..)` with its bias.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (classes, channels, kernel) = volumes("frozen head", weight.dims())?;
        if kernel != [1; 3] || bias.dims() != [classes] {
            bail!("frozen head: weights (classes, c, 1..) and a bias per class expected, found {:?}, {:?}", weight.dims(), bias.dims());
        }
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let layout = Channels::whole(channels);
        let packed = Packed::new(Channels::whole(classes), 1, &[layout.step], |class, _, channel| {
            if channel < channels { values[class * channels + channel] } else { 0.0 }
        });
        let mut bias = bias.to_vec1::<f32>()?;
        bias.resize(packed.channels.step, 0.0);
        Ok(Self { channels: layout, classes, bias, packed })
    }

    /// Logits `(1, classes, size..)`.
    ///
    /// # Errors
    /// When the map has other channels.
    pub fn run(&self, x: &Map<E>) -> Result<Tensor> {
        if x.channels() != self.channels {
            bail!("frozen head: packed for {:?}, found {:?}", self.channels, x.channels());
        }
        let [depth, height, width] = x.size();
        let plane = depth * height * width;
        let logits = written(self.classes * plane, |logits| {
            let out = Shared(logits.as_mut_ptr().cast::<f32>());
            (0..depth * height).into_par_iter().for_each_init(
                || vec![0f32; self.packed.channels.step * width],
                |row, at| {
                    let from = x.values()[x.row([at / height, at % height])..].as_ptr();
                    let run = Run { from, step: x.step(), groups: self.packed.groups(0) };
                    // SAFETY: the run lies within the map, whose channels are those of the weights; the row holds all lanes.
                    unsafe { E::dispatch(self.packed.path, LogitRow { head: self, run, levels: x.levels(), width, row }) };
                    for (class, logits) in row.chunks_exact(width).take(self.classes).enumerate() {
                        // SAFETY: tasks write rows of their own, which lie in the logits.
                        unsafe { out.get().add(class * plane + at * width).copy_from_nonoverlapping(logits.as_ptr(), width) };
                    }
                },
            );
            // SAFETY: the tasks have written all rows of all classes.
            unsafe { assume_written(logits) }
        });
        Tensor::from_vec(logits, x.dims(self.classes), &Device::Cpu)
    }
}

/// One row of logits, class by class: planes far apart would cost more to write to, position by position.
struct LogitRow<'a, E: Element> {
    head: &'a PackedHead<E>,
    run: Run<E>,
    levels: Levels,
    width: usize,
    row: &'a mut [f32],
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for LogitRow<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        for block @ Block { first, lanes, .. } in self.head.packed.blocks() {
            let bias = &self.head.bias[first..first + lanes];
            let mut sink = Transpose { bias, row: &mut self.row[first * self.width..(first + lanes) * self.width], width: self.width };
            // SAFETY: the conditions of the caller.
            unsafe { self.head.packed.row::<L>(block, &[self.run], std::iter::once(self.levels), self.width, &mut sink) };
        }
    }
}

struct Transpose<'a> {
    bias: &'a [f32],
    row: &'a mut [f32],
    width: usize,
}

#[allow(unsafe_code)]
impl<L: Lane> Sink<L> for Transpose<'_> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        let mut lanes = [0f32; 32];
        for (at, sums) in (at..).zip(sums) {
            for v in 0..V {
                // SAFETY: two vectors have at most 32 lanes, and there is a bias for each.
                unsafe {
                    let bias = L::Sums::load(self.bias[v * L::Sums::LANES..].as_ptr());
                    sums[v].add(bias).store(lanes.as_mut_ptr().add(v * L::Sums::LANES));
                }
            }
            for (row, &value) in self.row.chunks_exact_mut(self.width).zip(&lanes) {
                row[at] = value;
            }
        }
    }
}
