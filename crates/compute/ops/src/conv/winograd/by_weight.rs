//! The gradient by the weights.
//!
//! The tiles of x are transformed as for the convolution, and those of the gradient of y the other way round. For each place, a
//! product of matrices sums over all tiles: `(co, tiles) · (tiles, ci)`. The work is cut by the shape alone, into blocks of channels,
//! whose sums stay in a second-level cache, and into runs of tiles, whose sums are added in order at the end.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::lines::{Gradient, Input, Place, Planes, Target, Tile, grow, transposed};
use super::{IN, OUT, PLACES, SameSize, WEIGHT};
use crate::cpu::isa::{Isa, Simd};
use crate::cpu::lanes::arithmetic::{Kernels as _, Lane, Work};
use crate::cpu::lanes::transforms::both_sides;
use crate::cpu::multiply::{Product, multiply};
use crate::cpu::transpose::transpose_row_back;
use crate::cpu::{SUMMING_TASKS, Shared};

/// Output channels of a block for kernels of one plane and of three, and input channels.
const BLOCK_OUT: [usize; 2] = [64, 32];
const BLOCK_IN: usize = 32;
/// Bytes of transformed tiles that a task holds.
const TILES_BYTES: usize = 384 << 10;
/// Planes of a run at least: between two runs, tiles of x are transformed twice.
const PLANES: usize = 8;

/// The transposed of [`WEIGHT`].
const FILTER: [[f32; IN]; 3] = transposed(&WEIGHT);

impl SameSize {
    /// dw `(co, ci, kernel)`, all of it, of x `(n, ci, size)` and dy `(n, co, size)`.
    pub(in super::super) fn backward_filter(&self, isa: Isa, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let plan = Plan::new(self, isa, x, dy);
        let blocks = plan.outs() * plan.ins();
        let dw = Shared(dw.as_mut_ptr());
        if plan.runs.len() == 1 {
            (0..blocks).into_par_iter().for_each_init(Default::default, |(buffers, sums), block| {
                plan.sums(block, &plan.runs[0], sums, buffers);
                plan.write(block, 0..plan.block_out, std::slice::from_ref(sums), dw);
            });
            return;
        }
        let runs = plan.runs.len();
        let tasks = (0..blocks * runs).into_par_iter();
        let sums: Vec<Vec<f32>> = tasks
            .map_init(Buffers::default, |buffers, task| {
                let mut sums = Vec::new();
                plan.sums(task / runs, &plan.runs[task % runs], &mut sums, buffers);
                sums
            })
            .collect();
        (0..blocks * plan.block_out).into_par_iter().for_each(|task| {
            let (block, row) = (task / plan.block_out, task % plan.block_out);
            plan.write(block, row..row + 1, &sums[block * runs..(block + 1) * runs], dw);
        });
    }
}

/// How the work is cut.
struct Plan<'a> {
    conv: &'a SameSize,
    isa: Isa,
    x: Planes<'a>,
    dy: Planes<'a>,
    block_out: usize,
    runs: Vec<Stretch>,
}

/// Rows of tiles, and planes of the output: what a run goes through.
struct Stretch {
    rows: Range<usize>,
    planes: Range<usize>,
}

/// What a thread needs for its tasks.
#[derive(Default)]
struct Buffers {
    lines: Vec<f32>,
    /// `[place][tile][channel]` of x in as many planes as the kernel has, in turn.
    x: [Vec<f32>; 3],
    /// `[place][tile][channel]` of dy in one plane.
    dy: Vec<f32>,
}

#[allow(unsafe_code)]
impl<'a> Plan<'a> {
    fn new(conv: &'a SameSize, isa: Isa, x: &'a [f32], dy: &'a [f32]) -> Self {
        let (x, dy) = (conv.planes(x, conv.in_channels), conv.planes(dy, conv.out_channels));
        let block_out = BLOCK_OUT[usize::from(conv.depth > 1)];
        let mut plan = Self { conv, isa, x, dy, block_out, runs: Vec::new() };
        let wanted = SUMMING_TASKS.div_ceil(plan.outs() * plan.ins());
        let cut = |all: usize, parts: usize| (0..parts).map(move |part| all * part / parts..all * (part + 1) / parts);
        let by_rows = wanted.min(conv.tile_rows());
        let by_planes = wanted.div_ceil(by_rows).min(conv.size[0] / PLANES).max(1);
        for planes in cut(conv.size[0], by_planes) {
            plan.runs.extend(cut(conv.tile_rows(), by_rows).map(|rows| Stretch { rows, planes: planes.clone() }));
        }
        plan
    }

    /// Blocks of output channels.
    fn outs(&self) -> usize {
        self.conv.out_channels.div_ceil(self.block_out)
    }

    /// Blocks of input channels.
    fn ins(&self) -> usize {
        self.conv.in_channels.div_ceil(BLOCK_IN)
    }

    /// The input and the output channels of a block.
    fn parts(&self, block: usize) -> (Planes<'a>, Planes<'a>) {
        let (out, input) = (block / self.ins(), block % self.ins());
        (self.x.part(input * BLOCK_IN, BLOCK_IN), self.dy.part(out * self.block_out, self.block_out))
    }

    /// The sums of a block over a run: `[plane of the kernel][place][co][ci]`, the input channels in whole vectors.
    fn sums(&self, block: usize, run: &Stretch, sums: &mut Vec<f32>, buffers: &mut Buffers) {
        let (x, dy) = self.parts(block);
        let depth = self.conv.depth;
        let columns = self.conv.columns();
        let bytes = PLACES * columns * (depth * x.step() + dy.step()) * size_of::<f32>();
        let rows_at_once = (TILES_BYTES / bytes).clamp(1, run.rows.len());
        grow(sums, depth * PLACES * dy.channels() * x.step());
        let mut begun = false;
        for first in run.rows.clone().step_by(rows_at_once) {
            let rows = first..(first + rows_at_once).min(run.rows.end);
            for ahead in run.planes.start..run.planes.end + depth - 1 {
                self.transform::<Input, IN>(
                    x,
                    |row| self.conv.place(ahead, row),
                    rows.clone(),
                    &mut buffers.lines,
                    &mut buffers.x[ahead % depth],
                );
                if ahead + 1 < run.planes.start + depth {
                    continue;
                }
                let d = ahead + 1 - depth;
                self.transform::<Gradient, OUT>(
                    dy,
                    |row| self.conv.place(d + depth / 2, row),
                    rows.clone(),
                    &mut buffers.lines,
                    &mut buffers.dy,
                );
                let product = Product {
                    rows: dy.channels(),
                    columns: x.step(),
                    inner: rows.len() * columns,
                    a_row: 1,
                    a_inner: dy.step(),
                    b_row: x.step(),
                    c_row: x.step(),
                };
                for (at, sums) in sums.chunks_exact_mut(dy.channels() * x.step()).take(depth * PLACES).enumerate() {
                    let (x_tiles, place) = (&buffers.x[(d + at / PLACES) % depth], at % PLACES * product.inner);
                    // SAFETY: safe code but for the instruction set.
                    unsafe { multiply(self.isa, product, &buffers.dy[place * dy.step()..], &x_tiles[place * x.step()..], sums, begun) };
                }
                begun = true;
            }
        }
    }

    /// Writes the filters of some output channels of a block, from the sums of all runs.
    fn write(&self, block: usize, rows: Range<usize>, runs: &[Vec<f32>], dw: Shared) {
        let (x, dy) = self.parts(block);
        let filter = self.conv.in_channels * self.conv.taps();
        let first = block / self.ins() * self.block_out * filter + block % self.ins() * BLOCK_IN * self.conv.taps();
        for row in rows.start..rows.end.min(dy.channels()) {
            // SAFETY: the filters of a block lie in dw, and nobody else writes them.
            let to = unsafe { dw.get().add(first + row * filter) };
            // SAFETY: there is room for the filters of the row.
            unsafe { f32::dispatch(self.isa, FiltersOf { plan: self, x, outs: dy.channels(), row, runs, to }) };
        }
    }

    /// Transforms rows of tiles, each at its place.
    fn transform<T: Tile<N>, const N: usize>(
        &self,
        planes: Planes<'_>,
        place: impl Fn(usize) -> Place,
        rows: Range<usize>,
        lines: &mut Vec<f32>,
        to: &mut Vec<f32>,
    ) {
        let row_len = self.conv.columns() * planes.step();
        let apart = rows.len() * row_len;
        grow(to, PLACES * apart);
        for (at, row) in rows.enumerate() {
            let target = Target { to: to[at * row_len..].as_mut_ptr(), apart };
            let row = Row::<T, N> { planes, isa: self.isa, place: place(row), lines, target, of: PhantomData };
            // SAFETY: the target holds all places of the row.
            unsafe { f32::dispatch(self.isa, row) };
        }
    }
}

/// A row of tiles to be transformed.
struct Row<'a, T, const N: usize> {
    planes: Planes<'a>,
    isa: Isa,
    place: Place,
    lines: &'a mut Vec<f32>,
    target: Target,
    of: PhantomData<T>,
}

#[allow(unsafe_code)]
impl<T: Tile<N>, const N: usize> Work<f32> for Row<'_, T, N> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = f32>>(self) {
        // SAFETY: the conditions of this function.
        unsafe { self.planes.transform::<L::Sums, T, N>(self.isa, self.place, self.lines, self.target) };
    }
}

/// The filters of one output channel and a block of input channels.
struct FiltersOf<'a> {
    plan: &'a Plan<'a>,
    x: Planes<'a>,
    /// Output channels of the block, and which of them it is.
    outs: usize,
    row: usize,
    runs: &'a [Vec<f32>],
    to: *mut f32,
}

#[allow(unsafe_code)]
impl Work<f32> for FiltersOf<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = f32>>(self) {
        let (depth, step) = (self.plan.conv.depth, self.x.step());
        let mut filters = [0.0f32; 27 * BLOCK_IN];
        for (plane, lane) in (0..depth).flat_map(|plane| (0..step).step_by(L::Sums::LANES).map(move |lane| (plane, lane))) {
            // SAFETY: the sums hold whole vectors of input channels in every place.
            unsafe {
                let mut products = [[L::Sums::zero(); IN]; IN];
                for at in 0..PLACES {
                    for run in self.runs {
                        let sum = L::Sums::load(run[((plane * PLACES + at) * self.outs + self.row) * step + lane..].as_ptr());
                        products[at / IN][at % IN] = products[at / IN][at % IN].add(sum);
                    }
                }
                let filter = both_sides(&FILTER, &products);
                for tap in 0..9 {
                    filter[tap / 3][tap % 3].store(filters[(plane * 9 + tap) * step + lane..].as_mut_ptr());
                }
            }
        }
        // SAFETY: there is room for the taps of all channels of the block.
        unsafe { transpose_row_back(self.plan.isa, &filters[..depth * 9 * step], step, self.to, depth * 9, self.x.channels()) };
    }
}
