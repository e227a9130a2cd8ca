//! The gradient of a convolution by its weights.
//!
//! Lanes are output channels: the output gradient is transposed to `[position][channel]`, and every input value
//! is broadcast against it. A register tile holds a few kernel rows, each up to three taps wide.
//!
//! The work is cut by the shape alone: into groups of input and of output channels, whose results are separate, and into
//! runs of tiles, whose partial sums are added in order at the end. Of many channels both sides are cut, because every group
//! of inputs transposes the gradients of its outputs anew.

use rayon::prelude::*;

use super::accumulate::{Rows, Walk, accumulate};
use super::isa::Isa;
use super::pack::{TileLayout, pack_tile};
use super::transpose::{SIDE, transpose_row};
use super::{ConvShape, SUMMING_TASKS, Size3, with_scratch};

/// Bytes of both packed tiles together.
const TILE_BYTES: usize = 900 << 10;
/// Bytes of weights from which on tasks are found by splitting channels rather than positions.
const PARTIAL_BYTES: usize = 128 << 10;
/// Output channels of a group are a multiple of this, unless there are fewer: two vectors.
const LANES: usize = 32;
/// Taps along width that a register tile takes at once.
const SEGMENT: usize = 3;

struct Plan {
    shape: ConvShape,
    output: Size3,
    /// Output channels of a group, in whole vectors.
    lanes: usize,
    lane_groups: usize,
    tile: [usize; 2],
    tiles: [usize; 2],
    channels_per_group: usize,
    groups: usize,
    runs: usize,
}

impl Plan {
    fn new(shape: &ConvShape, vector: usize) -> Self {
        let output = shape.output();
        let all_lanes = shape.out_channels.next_multiple_of(vector.max(SIDE));
        let weight_bytes = 4 * all_lanes * shape.in_channels * shape.taps();
        let wanted_groups = weight_bytes.div_ceil(PARTIAL_BYTES).clamp(1, SUMMING_TASKS);
        let lanes = all_lanes.div_ceil(wanted_groups.isqrt()).next_multiple_of(LANES).min(all_lanes);
        let lane_groups = all_lanes.div_ceil(lanes);
        let wanted_groups = wanted_groups.div_ceil(lane_groups).min(shape.in_channels.div_ceil(8)).max(1);
        let channels_per_group = shape.in_channels.div_ceil(wanted_groups).max(1);
        let mut plan = Self {
            shape: *shape,
            output,
            lanes,
            lane_groups,
            tile: [output[0].min(4), output[1].min(32)],
            tiles: [1; 2],
            channels_per_group,
            groups: shape.in_channels.div_ceil(channels_per_group),
            runs: 1,
        };
        let wanted_runs = SUMMING_TASKS.div_ceil((plan.groups * plan.lane_groups).max(1));
        plan.choose_tile(wanted_runs);
        plan.runs = wanted_runs.min(plan.tile_count());
        plan
    }

    fn tile_count(&self) -> usize {
        self.shape.batch * self.tiles[0] * self.tiles[1]
    }

    fn choose_tile(&mut self, wanted_runs: usize) {
        let [depth, height, width] = self.output;
        let [d, h] = &mut self.tile;
        let shape = &self.shape;
        let bytes = |d: usize, h: usize| {
            let packed = self.channels_per_group * packed_rows(shape, [d, h]).iter().product::<usize>();
            4 * (packed + d * h * width * self.lanes)
        };
        while bytes(*d, *h) > TILE_BYTES || shape.batch * depth.div_ceil(*d) * height.div_ceil(*h) < wanted_runs {
            if *h > 8 && *h * width > 512 {
                *h = h.div_ceil(2);
            } else if *d > 1 {
                *d -= 1;
            } else if *h > 1 && bytes(*d, *h) > TILE_BYTES {
                *h = h.div_ceil(2);
            } else {
                break;
            }
        }
        self.tiles = [depth.div_ceil(*d), height.div_ceil(*h)];
    }

    /// Floats of the sums of one group: `[channel][kernel d, h, w][lane]`.
    fn sums_len(&self) -> usize {
        self.channels_per_group * self.shape.taps() * self.lanes
    }
}

/// Rows of the packed input below a tile of the output, and their length.
fn packed_rows(shape: &ConvShape, tile: [usize; 2]) -> Size3 {
    let width = shape.output()[2];
    let extent = |count: usize, a: usize| (count - 1) * shape.stride[a] + shape.kernel[a];
    [extent(tile[0], 0), extent(tile[1], 1), extent(width, 2)]
}

/// dw. Shapes: x `(n, ci, input)`, dy `(n, co, output)`, dw `(co, ci, kernel)`, all written.
pub(crate) fn backward_filter(isa: Isa, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if shape.batch * shape.output().iter().product::<usize>() == 0 {
        dw.fill(0.0);
        return;
    }
    let plan = Plan::new(shape, isa.lanes());
    let partial: Vec<Vec<f32>> = (0..plan.lane_groups * plan.groups * plan.runs)
        .into_par_iter()
        .map(|task| {
            let (group, run) = (task / plan.runs, task % plan.runs);
            plan.partial_sums(isa, [group / plan.groups, group % plan.groups], run, x, dy)
        })
        .collect();
    let groups: Vec<Vec<f32>> = partial.chunks(plan.runs).collect::<Vec<_>>().into_par_iter().map(add_up).collect();
    let filter = shape.in_channels * shape.taps();
    dw.par_chunks_mut(filter * SIDE).enumerate().for_each(|(block, filters)| {
        let (lane_group, lane) = (block * SIDE / plan.lanes, block * SIDE % plan.lanes);
        let rows = groups[lane_group * plan.groups..].iter().flat_map(|sums| sums.chunks_exact(plan.lanes));
        for (at, row) in rows.take(filter).enumerate() {
            for (to, value) in filters[at..].iter_mut().step_by(filter).zip(&row[lane..]) {
                *to = *value;
            }
        }
    });
}

/// Adds the runs' partial sums in the order of the runs.
fn add_up(runs: &[Vec<f32>]) -> Vec<f32> {
    let mut total = runs[0].clone();
    for run in &runs[1..] {
        for (total, value) in total.iter_mut().zip(run) {
            *total += value;
        }
    }
    total
}

#[allow(unsafe_code)]
impl Plan {
    /// Kernel rows of a group of `channels`, cut into segments of at most three taps.
    fn rows(&self, channels: usize, packed: Size3) -> Vec<Rows> {
        let [kd, kh, kw] = self.shape.kernel;
        let mut segments = Vec::new();
        let mut first = 0;
        while first < kw {
            // 4 = 2 + 2 rather than 3 + 1: narrow tiles load more per multiplication.
            let width = if kw - first == 4 { 2 } else { (kw - first).min(SEGMENT) };
            let mut starts = Vec::with_capacity(channels * kd * kh);
            for channel in 0..channels {
                for d in 0..kd {
                    for h in 0..kh {
                        let from = ((channel * packed[0] + d) * packed[1] + h) * packed[2] + first;
                        let to = (((channel * kd + d) * kh + h) * kw + first) * self.lanes;
                        starts.push((from, to));
                    }
                }
            }
            segments.push(Rows { width, starts });
            first += width;
        }
        segments
    }

    fn partial_sums(&self, isa: Isa, [lane_group, group]: [usize; 2], run: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let shape = &self.shape;
        let first = group * self.channels_per_group;
        let channels = self.channels_per_group.min(shape.in_channels - first);
        // A kernel of one voxel finds its input in place, as a tile would have it.
        let in_place = shape.taps() == 1 && shape.stride == [1; 3] && shape.padding == [0; 3];
        let packed = if in_place { shape.input } else { packed_rows(shape, self.tile) };
        let rows = self.rows(channels, packed);
        let packed_len = if in_place { 0 } else { (channels * packed.iter().product::<usize>()).next_multiple_of(16) };
        let volume: usize = shape.input.iter().product();
        let mut sums = vec![0.0; self.sums_len()];
        let tiles = self.tile_count();
        let scratch_len = packed_len + self.tile[0] * self.tile[1] * self.output[2] * self.lanes;
        with_scratch(scratch_len, |scratch| {
            let (x_packed, dy_tile) = scratch.split_at_mut(packed_len);
            for tile in tiles * run / self.runs..tiles * (run + 1) / self.runs {
                let n = tile / (self.tiles[0] * self.tiles[1]);
                let d0 = tile / self.tiles[1] % self.tiles[0] * self.tile[0];
                let h0 = tile % self.tiles[1] * self.tile[1];
                let count = [self.tile[0].min(self.output[0] - d0), self.tile[1].min(self.output[1] - h0)];
                let image = &x[(n * shape.in_channels + first) * volume..];
                let x_tile = if in_place {
                    &image[(d0 * packed[1] + h0) * packed[2]..]
                } else {
                    let origin = [d0 * shape.stride[0], h0 * shape.stride[1]];
                    let layout = TileLayout { phases: [1; 3], rows: packed };
                    let padding = shape.padding.map(|p| p as isize);
                    // SAFETY: the image has `channels` volumes, and x_packed has room for them packed.
                    unsafe { pack_tile(image.as_ptr(), channels, shape.input, [1; 3], padding, origin, layout, x_packed.as_mut_ptr()) };
                    &*x_packed
                };
                let (first_lane, lanes) = (lane_group * self.lanes, shape.out_channels.min((lane_group + 1) * self.lanes));
                let dy = &dy[(n * shape.out_channels + first_lane) * self.output.iter().product::<usize>()..];
                self.transpose_gradient(isa, dy, lanes - first_lane, [d0, h0], count, dy_tile);
                let walk = Walk {
                    x_step: [packed[1] * packed[2] * shape.stride[0], packed[2] * shape.stride[1], shape.stride[2]],
                    count: [count[0], count[1], self.output[2]],
                    lanes: self.lanes,
                };
                for rows in &rows {
                    // SAFETY: the row starts point into x_tile and sums, which hold all positions walked; dy_tile holds
                    // `count` rows of all positions and lanes.
                    unsafe { accumulate(isa, &walk, rows, x_tile, dy_tile, &mut sums) };
                }
            }
        });
        sums
    }

    /// The output gradient of one tile as `[d][h][w][lane]`, absent channels zero.
    fn transpose_gradient(&self, isa: Isa, dy: &[f32], channels: usize, origin: [usize; 2], count: [usize; 2], to: &mut [f32]) {
        let [_, height, width] = self.output;
        let volume: usize = self.output.iter().product();
        for d in 0..count[0] {
            for h in 0..count[1] {
                let row = ((origin[0] + d) * height + origin[1] + h) * width;
                let to = &mut to[(d * count[1] + h) * width * self.lanes..][..width * self.lanes];
                // SAFETY: the function has no conditions of its own.
                unsafe {
                    transpose_row(isa, &dy[row..], volume, channels, to, self.lanes);
                }
            }
        }
    }
}
