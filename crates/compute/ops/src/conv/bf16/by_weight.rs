//! The gradient by the weights.
//!
//! For every tap it is a product of matrices, `(ci, positions) · (positions, co)`. x, in a border of zeros, is read where a tap moves
//! it to; dy is padded to the same lines, so that all positions of a plane are one run, and those of the border count nothing.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::isa::Isa;
use crate::cpu::lanes::arithmetic::{Kernels as _, Lane, Work, narrow_row};
use crate::cpu::lanes::bf16::{Bf16, Bf16Path, LANES, narrow_pairs};
use crate::cpu::lanes::rows::{Added, Run};
use crate::cpu::lanes::tiles::SIDE;
use crate::cpu::transpose::transpose_row;
use crate::cpu::{ConvShape, SUMMING_TASKS, Size3};

/// Input channels of a task.
const BLOCK_IN: usize = 64;
/// Pairs of positions that are multiplied at once: with as many of dy they fill half a second-level cache.
const PAIRS: usize = 512;
/// What a tile may read beyond the last line; channels, and pairs, are filled up to whole tiles.
const SLACK: usize = 4 * SIDE;

/// dw `(co, ci, kernel)`, all of it, of x `(n, ci, size)` and dy `(n, co, size)`, the size being kept.
#[allow(unsafe_code)]
pub(in super::super) fn backward_filter(isa: Isa, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Plan::new(shape);
    let path = Bf16::path();
    let volume = shape.input.iter().product::<usize>();
    let mut inputs = vec![Bf16::default(); shape.in_channels.next_multiple_of(SIDE) * plan.channel() + SLACK];
    let mut outputs = vec![Bf16::default(); shape.out_channels.next_multiple_of(SIDE) * shape.input[0] * 2 * plan.pairs];
    let mut sums: Vec<Vec<f32>> = (0..plan.tasks()).map(|task| vec![0.0; plan.sums(task)]).collect();
    for (x, dy) in x.chunks_exact(shape.in_channels * volume).zip(dy.chunks_exact(shape.out_channels * volume)) {
        plan.fill_inputs(path, x, &mut inputs);
        plan.fill_outputs(isa, dy, &mut outputs);
        sums.par_iter_mut().enumerate().for_each(|(task, sums)| {
            let work = Task { plan: &plan, task, inputs: &inputs, outputs: &outputs, sums };
            // SAFETY: this machine has the path; inputs and outputs are those of the plan.
            unsafe { Bf16::dispatch(path, work) };
        });
    }
    plan.add_up(&sums, dw);
}

/// How inputs and outputs lie, and how the work is cut: by the shape alone.
struct Plan<'a> {
    shape: &'a ConvShape,
    /// Planes, lines and columns of x with its border, the columns being even.
    padded: Size3,
    /// Of positions in a plane of dy, with as many columns as x.
    pairs: usize,
    /// Runs of pieces of planes.
    runs: usize,
}

#[allow(unsafe_code)]
impl<'a> Plan<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let padded: Size3 = std::array::from_fn(|a| shape.input[a] + 2 * shape.padding[a]);
        let padded = [padded[0], padded[1], padded[2].next_multiple_of(2)];
        let pairs = (shape.input[1] * padded[2] / 2).next_multiple_of(SIDE);
        let mut plan = Self { shape, padded, pairs, runs: 1 };
        plan.runs = SUMMING_TASKS.div_ceil(plan.outs() * plan.ins()).min(plan.pieces());
        plan
    }

    /// Elements of a channel of x.
    fn channel(&self) -> usize {
        self.padded.iter().product()
    }

    /// Pieces of an image.
    fn pieces(&self) -> usize {
        self.shape.input[0] * self.pairs.div_ceil(PAIRS)
    }

    /// Blocks of output channels.
    fn outs(&self) -> usize {
        self.shape.out_channels.div_ceil(LANES)
    }

    /// Blocks of input channels.
    fn ins(&self) -> usize {
        self.shape.in_channels.div_ceil(BLOCK_IN)
    }

    fn tasks(&self) -> usize {
        self.outs() * self.ins() * self.runs
    }

    /// Lanes of the block of output channels that begins with `first`.
    fn lanes(&self, first: usize) -> usize {
        LANES.min(self.shape.out_channels.next_multiple_of(SIDE) - first)
    }

    /// The output channels of a task, filled up to whole tiles, its input channels, and its run.
    fn parts(&self, task: usize) -> (Range<usize>, Range<usize>, usize) {
        let (block, run) = (task / self.runs, task % self.runs);
        let (out, input) = (block / self.ins() * LANES, block % self.ins() * BLOCK_IN);
        (out..out + self.lanes(out), input..(input + BLOCK_IN).min(self.shape.in_channels), run)
    }

    fn sums(&self, task: usize) -> usize {
        let (outs, ins, _) = self.parts(task);
        self.shape.taps() * ins.len() * outs.len()
    }

    /// `[channel][plane][line][column]` of x, inside its border.
    fn fill_inputs(&self, path: Bf16Path, x: &[f32], inputs: &mut [Bf16]) {
        let ([_, height, width], [_, lines, columns]) = (self.shape.input, self.padded);
        let border = self.shape.padding;
        let channels = x.par_chunks_exact(self.shape.input.iter().product());
        channels.zip(inputs.par_chunks_exact_mut(self.channel())).for_each(|(x, inputs)| {
            for (at, x) in x.chunks_exact(width).enumerate() {
                let line = (at / height + border[0]) * lines + at % height + border[1];
                narrow_row(path, x, &mut inputs[line * columns + border[2]..][..width]);
            }
        });
    }

    /// `[block of channels][plane][pair of positions][lane][position of the pair]` of dy.
    fn fill_outputs(&self, isa: Isa, dy: &[f32], outputs: &mut [Bf16]) {
        let ([depth, height, width], columns) = (self.shape.input, self.padded[2]);
        let volume = depth * height * width;
        let blocks = outputs.par_chunks_mut(depth * 2 * self.pairs * LANES).enumerate();
        blocks.for_each(|(block, outputs)| {
            let first = block * LANES;
            let (lanes, present) = (self.lanes(first), LANES.min(self.shape.out_channels - first));
            outputs.par_chunks_exact_mut(2 * self.pairs * lanes).enumerate().for_each(|(d, plane)| {
                let lines = plane.par_chunks_exact_mut(columns * lanes).take(height).enumerate();
                lines.for_each_init(
                    || vec![0.0; columns * lanes],
                    |line, (h, to)| {
                        let from = &dy[first * volume + (d * height + h) * width..];
                        // SAFETY: safe code but for the instruction set.
                        unsafe {
                            transpose_row(isa, from, volume, present, &mut line[..width * lanes], lanes);
                            narrow_pairs(isa, line, lanes, to);
                        }
                    },
                );
            });
        });
    }

    /// The filters, from the sums of all tasks.
    fn add_up(&self, sums: &[Vec<f32>], dw: &mut [f32]) {
        let taps = self.shape.taps();
        dw.par_chunks_exact_mut(self.shape.in_channels * taps).enumerate().for_each(|(out, filters)| {
            for (channel, filter) in filters.chunks_exact_mut(taps).enumerate() {
                let block = out / LANES * self.ins() + channel / BLOCK_IN;
                let (outs, ins, _) = self.parts(block * self.runs);
                for (tap, value) in filter.iter_mut().enumerate() {
                    let at = (tap * ins.len() + channel - ins.start) * outs.len() + out - outs.start;
                    *value = sums[block * self.runs..][..self.runs].iter().map(|sums| sums[at]).sum();
                }
            }
        });
    }
}

/// Some input and output channels, over a run of one image.
struct Task<'a> {
    plan: &'a Plan<'a>,
    task: usize,
    inputs: &'a [Bf16],
    outputs: &'a [Bf16],
    /// `[tap][input channel][lane]`, to be added to.
    sums: &'a mut [f32],
}

#[allow(unsafe_code)]
impl Work<Bf16> for Task<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = Bf16>>(self) {
        let Plan { shape, padded: [_, lines, columns], pairs, runs } = *self.plan;
        let (outs, ins, run) = self.plan.parts(self.task);
        let (pieces, of_plane) = (self.plan.pieces(), pairs.div_ceil(PAIRS));
        let step = self.plan.channel();
        for piece in pieces * run / runs..pieces * (run + 1) / runs {
            let (d, first) = (piece / of_plane, piece % of_plane * PAIRS);
            let groups = PAIRS.min(pairs - first);
            let weights = &self.outputs[2 * ((outs.start * shape.input[0] + d * outs.len()) * pairs + first * outs.len())..];
            for (tap, sums) in self.sums.chunks_exact_mut(ins.len() * outs.len()).enumerate() {
                let [i, j, k] = [tap / 9, tap / 3 % 3, tap % 3];
                let at = ins.start * step + ((d + i) * lines + j) * columns + k + 2 * first;
                let run = Run { from: self.inputs[at..].as_ptr(), step, groups };
                let (to, lanes) = (sums.as_mut_ptr(), outs.len());
                let mut sink = Added { to, lanes, from: to, step: lanes };
                // SAFETY: the run holds its pairs for all channels, filled up to whole tiles; beyond a plane lies the next one, and
                // beyond the last one the slack. The sums hold the lanes of all channels.
                unsafe { L::row(&[run], &weights[..2 * groups * outs.len()], outs.len(), ins.len(), &mut sink) };
            }
        }
    }
}
