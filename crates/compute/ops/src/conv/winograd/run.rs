//! The convolution, and its gradient by the input.
//!
//! A task takes some rows of tiles through some planes. It turns the lines that a row of tiles needs into `[position][channel]`,
//! which stay in the cache while they are transformed, and turns the results of a block of channels back.

use rayon::prelude::*;

use super::filters::{self, Filters, Weights, block};
use super::lines::{Input, Place, Planes, Target};
use super::{IN, OUT, PLACES, SameSize};
use crate::cpu::isa::{Isa, Simd};
use crate::cpu::lanes::arithmetic::{Kernels as _, Lane, Work};
use crate::cpu::lanes::rows::{BEYOND, Places, bias_of_lanes, multiply_places};
use crate::cpu::lanes::transforms::{Four, Scheme, both_sides};
use crate::cpu::transpose::transpose_row_back;
use crate::cpu::{Shared, Unwritten, assume_written};

/// Bytes of transformed input that a task holds: a good third of a second-level cache.
const TILES_BYTES: usize = 384 << 10;
/// Tiles of a task at least: so many use weights that come from further away than the second-level cache.
const TILES: usize = 24;
/// Planes of a task at most.
const PLANES: usize = 16;

#[allow(unsafe_code)]
impl SameSize {
    /// y `(batch, out_channels, size)` of x `(batch, in_channels, size)`.
    pub(super) fn run<'y>(&self, isa: Isa, x: &[f32], filters: Filters<'_>, bias: Option<&[f32]>, y: &'y mut Unwritten) -> &'y mut [f32] {
        assert_eq!(y.len(), self.batch * self.out_channels * self.size.iter().product::<usize>(), "an element for each output");
        let bias = bias_of_lanes(bias, self.out_channels);
        let x = self.planes(x, self.in_channels);
        let cut = self.cut(isa, x.step());
        let weights = Weights::new(self, isa, filters, cut.layers * cut.stretches == 1);
        let target = Shared(y.as_mut_ptr().cast());
        let buffers = || Buffers {
            lines: Vec::new(),
            weights: Default::default(),
            inputs: vec![vec![0.0; (PLACES * cut.rows * self.columns() + BEYOND) * x.step()]; self.depth],
            products: vec![0.0; PLACES * cut.rows * self.columns() * block(isa)],
            results: vec![0.0; OUT * self.size[2] * block(isa)],
        };
        (0..cut.layers * cut.stretches * cut.groups).into_par_iter().for_each_init(buffers, |buffers, task| {
            let (layer, stretch) = (task / cut.groups / cut.stretches, task / cut.groups % cut.stretches);
            let rows = stretch * cut.rows..((stretch + 1) * cut.rows).min(self.tile_rows());
            let planes = layer * cut.planes..((layer + 1) * cut.planes).min(self.size[0]);
            let first = task % cut.groups * cut.blocks * block(isa);
            let channels = first..(first + cut.blocks * block(isa)).min(self.out_channels);
            let work = Tiles { conv: self, isa, x, weights: &weights, bias: &bias, y: target, rows, planes, channels, buffers };
            // SAFETY: tasks write rows, planes and channels of their own; the slices are those of `self`.
            unsafe { f32::dispatch(isa, work) };
        });
        // SAFETY: the tasks have written all rows, planes and channels.
        unsafe { assume_written(y) }
    }

    fn cut(&self, isa: Isa, step: usize) -> Cut {
        let bytes = PLACES * self.columns() * step * size_of::<f32>() * self.depth;
        let rows = (TILES_BYTES / bytes).max(TILES.div_ceil(self.columns())).clamp(1, self.tile_rows());
        let stretches = self.tile_rows().div_ceil(rows);
        let threads = rayon::current_num_threads();
        let planes = (self.size[0] * stretches / (4 * threads)).clamp(2, PLANES);
        let layers = self.size[0].div_ceil(planes);
        let all = self.out_channels.div_ceil(block(isa));
        let blocks = all.div_ceil((2 * threads).div_ceil(layers * stretches).min(all));
        Cut { rows, stretches, planes, layers, blocks, groups: all.div_ceil(blocks) }
    }
}

/// How the work is cut into tasks. No sum goes across them, so that the cut may depend on the number of threads.
struct Cut {
    rows: usize,
    stretches: usize,
    planes: usize,
    layers: usize,
    blocks: usize,
    groups: usize,
}

/// What a thread needs for its tasks.
struct Buffers {
    /// Of one row of tiles, see [`Planes::transform`].
    lines: Vec<f32>,
    /// See [`Weights::block`].
    weights: filters::Buffers,
    /// `[place][tile][channel]` of as many planes as the kernel has, in turn.
    inputs: Vec<Vec<f32>>,
    /// `[place][tile][lane]`
    products: Vec<f32>,
    /// `[line][position][lane]` of one row of tiles, without what its last tile has too much.
    results: Vec<f32>,
}

/// Rows of tiles, in some planes, for some output channels.
struct Tiles<'a> {
    conv: &'a SameSize,
    isa: Isa,
    x: Planes<'a>,
    weights: &'a Weights<'a>,
    /// Of all lanes.
    bias: &'a [f32],
    y: Shared,
    rows: std::ops::Range<usize>,
    planes: std::ops::Range<usize>,
    channels: std::ops::Range<usize>,
    buffers: &'a mut Buffers,
}

#[allow(unsafe_code)]
impl Work<f32> for Tiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = f32>>(mut self) {
        let depth = self.conv.depth;
        for ahead in self.planes.start..self.planes.end + depth - 1 {
            // SAFETY: the conditions that `SameSize::run` vouches for; the instructions of L exist.
            unsafe {
                self.transform_input::<L>(ahead);
                if ahead + 1 >= self.planes.start + depth {
                    self.multiply::<L>(ahead + 1 - depth);
                }
            }
        }
    }
}

#[allow(unsafe_code)]
impl Tiles<'_> {
    fn tiles(&self) -> usize {
        self.rows.len() * self.conv.columns()
    }

    /// Transforms the tiles of the plane that is `ahead` in the input with its border.
    #[inline(always)]
    unsafe fn transform_input<L: Lane<Element = f32>>(&mut self, ahead: usize) {
        let (row_len, apart) = (self.conv.columns() * self.x.step(), self.tiles() * self.x.step());
        for (at, row) in self.rows.clone().enumerate() {
            let to = self.buffers.inputs[ahead % self.conv.depth][at * row_len..].as_mut_ptr();
            let place = self.conv.place(ahead, row);
            // SAFETY: the inputs hold all places of all tiles; the instructions exist.
            unsafe { self.x.transform::<L::Sums, Input, IN>(self.isa, place, &mut self.buffers.lines, Target { to, apart }) };
        }
    }

    /// All products of output plane `d`, whose input planes are there.
    #[inline(always)]
    unsafe fn multiply<L: Lane<Element = f32>>(&mut self, d: usize) {
        let in_channels = self.conv.in_channels;
        let tiles = self.tiles();
        for first in self.channels.clone().step_by(block(self.isa)) {
            let lanes = self.weights.lanes(first);
            let Buffers { weights, inputs, products, .. } = &mut *self.buffers;
            let weights = self.weights.block(first, weights);
            let input = Places { planes: inputs, first: d, tiles, step: self.x.step(), groups: in_channels };
            // SAFETY: the inputs hold all places of all tiles and some more; the instructions exist.
            unsafe { multiply_places::<L>(&input, PLACES, weights, lanes, products) };
            for (at, row) in self.rows.clone().enumerate() {
                // SAFETY: the products of the block are complete.
                unsafe { self.transform_output::<L>(at, first, lanes) };
                self.write_lines(row, d, first, lanes);
            }
        }
    }

    /// Turns the products of the row of tiles that is `at` into results of the channels from `first` on.
    #[inline(always)]
    unsafe fn transform_output<L: Lane<Element = f32>>(&mut self, at: usize, first: usize, lanes: usize) {
        let (columns, width) = (self.conv.columns(), self.conv.size[2]);
        let plane = self.tiles() * lanes;
        for column in 0..columns {
            let present = OUT.min(width - column * OUT);
            for lane in (0..lanes).step_by(L::Sums::LANES) {
                // SAFETY: products hold `lanes` lanes of all tiles, results those of a row of tiles.
                unsafe {
                    let mut products = [[L::Sums::zero(); IN]; IN];
                    let from = self.buffers.products[(at * columns + column) * lanes + lane..].as_ptr();
                    for i in 0..IN {
                        for j in 0..IN {
                            products[i][j] = L::Sums::load(from.add((i * IN + j) * plane));
                        }
                    }
                    let bias = L::Sums::load(self.bias[first + lane..].as_ptr());
                    let results = both_sides(&<Four as Scheme<OUT, IN>>::OUTPUT, &products);
                    let to = self.buffers.results[column * OUT * lanes + lane..].as_mut_ptr();
                    for i in 0..OUT {
                        for j in 0..present {
                            results[i][j].add(bias).store(to.add((i * width + j) * lanes));
                        }
                    }
                }
            }
        }
    }

    /// Writes the results of a row of tiles, for the channels of a block.
    fn write_lines(&self, row: usize, d: usize, first: usize, lanes: usize) {
        let SameSize { out_channels, size: [depth, height, width], .. } = *self.conv;
        let Place { image, top, .. } = self.conv.place(d, row);
        let present = lanes.min(out_channels - first);
        let results = &self.buffers.results[..OUT.min(height - top) * width * lanes];
        let at = (((image * out_channels + first) * depth + d) * height + top) * width;
        // SAFETY: the lines of y are this task's alone, in each of the channels.
        unsafe { transpose_row_back(self.isa, results, lanes, self.y.get().add(at), depth * height * width, present) };
    }
}
