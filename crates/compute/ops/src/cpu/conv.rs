//! Direct convolution: forward, and whatever else can be written as a correlation with zero halo.
//!
//! A task packs a tile of the input, all channels and halo included, into a buffer the size of the second-level
//! cache. There a packed row is followed by the next one, so the kernel runs over positions as if they were one
//! long row: lanes are positions, and a register tile holds some output channels by a few vectors of them. The
//! few positions that straddle two rows are computed and thrown away.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::correlate::correlate;
use super::isa::Isa;
use super::pack::{PackedWeights, TileLayout, pack_tile};
use super::{ConvShape, Shared, Size3, Unwritten, assume_written, with_scratch};

/// Bytes a packed tile may take: a good half of a second-level cache of 1 MiB.
const TILE_BYTES: usize = 640 << 10;
/// Tasks per thread wanted, so that the last ones to finish leave little idle.
const TASKS_PER_THREAD: usize = 3;
/// Floats a vector may reach beyond the end of a packed tile.
const SLACK: usize = 192;

/// The correlation
/// `y[n, c, q * spread + phase] = bias[c] + sum over i, j of w[c * phases + phase, i, j] * x[n, i, q * stride + j - padding]`.
///
/// A convolution has the one phase 0 and spread 1; the gradient of a strided one and the transposed convolution
/// write every `spread`-th position, and can do several phases at once when these differ in nothing but weights.
pub(super) struct Correlation {
    pub(super) batch: usize,
    pub(super) in_channels: usize,
    pub(super) input: Size3,
    pub(super) positions: Size3,
    pub(super) taps: Size3,
    pub(super) stride: Size3,
    pub(super) padding: [isize; 3],
    pub(super) out_channels: usize,
    pub(super) output: Size3,
    pub(super) spread: Size3,
    pub(super) phases: Vec<Size3>,
}

/// y = conv(x, w) + bias. Shapes: x `(n, ci, input)`, w `(co, ci, kernel)`, y `(n, co, output)`.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, shape: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &'y mut Unwritten) -> &'y mut [f32] {
    let (ci, taps) = (shape.in_channels, shape.taps());
    let order: Vec<usize> = (0..taps).collect();
    let weights = PackedWeights::new([shape.out_channels, ci, taps], isa.channels(), w, |o, i| ((o * ci + i) * taps, &order));
    let correlation = Correlation {
        batch: shape.batch,
        in_channels: ci,
        input: shape.input,
        positions: shape.output(),
        taps: shape.kernel,
        stride: shape.stride,
        padding: shape.padding.map(|p| p as isize),
        out_channels: shape.out_channels,
        output: shape.output(),
        spread: [1; 3],
        phases: vec![[0; 3]],
    };
    correlation.run(isa, x, &weights, bias, y);
    // SAFETY: the one phase has every position of the output.
    unsafe { assume_written(y) }
}

/// How the positions are cut into tasks: tiles of `rows` positions along depth and height, by groups of blocks of
/// output channels. Every output is computed by one task, always in the same order, so the cut may follow the
/// number of threads without a bit of the result depending on it.
struct Cut {
    rows: [usize; 2],
    tiles: [usize; 2],
    blocks_per_task: usize,
    groups: usize,
}

/// All channels of a tile's input, each followed by the next.
struct Tile<'a> {
    values: &'a [f32],
    channel_len: usize,
    plane_len: usize,
}

#[allow(unsafe_code)]
impl Correlation {
    /// Kernel rows that a tile needs beyond its own, in units of the stride.
    fn halo(&self) -> Size3 {
        std::array::from_fn(|a| (self.taps[a] - 1) / self.stride[a])
    }

    fn layout(&self, rows: [usize; 2]) -> TileLayout {
        let halo = self.halo();
        TileLayout {
            phases: std::array::from_fn(|a| self.stride[a].min(self.taps[a])),
            rows: [rows[0] + halo[0], rows[1] + halo[1], self.positions[2] + halo[2]],
        }
    }

    fn cut(&self, blocks: usize) -> Cut {
        let [depth, height, _] = self.positions;
        let wanted = TASKS_PER_THREAD * rayon::current_num_threads();
        let fits = |d: usize, h: usize| 4 * self.in_channels * self.layout([d, h]).channel_len() <= TILE_BYTES;
        let row = self.layout([1, 1]).rows[2];
        let (mut d, mut h) = (depth.min(4), height.min(32));
        loop {
            let tasks = self.batch * depth.div_ceil(d) * height.div_ceil(h);
            if fits(d, h) && tasks >= wanted {
                break;
            }
            // Tiles of some 500 positions still hide the packing; below that only the cache is a reason.
            if h > 8 && h * row > 512 {
                h = h.div_ceil(2);
            } else if d > 1 {
                d -= 1;
            } else if h > 1 && !fits(d, h) {
                h = h.div_ceil(2);
            } else {
                break;
            }
        }
        let tiles = [depth.div_ceil(d), height.div_ceil(h)];
        let rows = [depth.div_ceil(tiles[0]), height.div_ceil(tiles[1])];
        let spatial = self.batch * tiles[0] * tiles[1];
        let groups = wanted.div_ceil(spatial).clamp(1, blocks);
        let blocks_per_task = blocks.div_ceil(groups);
        Cut { rows, tiles, blocks_per_task, groups: blocks.div_ceil(blocks_per_task) }
    }

    /// Where each tap finds its input in a packed channel, relative to the position.
    fn tap_offsets(&self, layout: TileLayout) -> Vec<usize> {
        let [_, phases_h, phases_w] = layout.phases;
        let [_, rows_h, width] = layout.rows;
        let s = self.stride;
        let mut offsets = Vec::new();
        for d in 0..self.taps[0] {
            for h in 0..self.taps[1] {
                for w in 0..self.taps[2] {
                    let phase = ((d % s[0]) * phases_h + h % s[1]) * phases_w + w % s[2];
                    let row = (d / s[0]) * rows_h + h / s[1];
                    offsets.push(phase * layout.phase_len() + row * width + w / s[2]);
                }
            }
        }
        offsets
    }

    /// Writes the positions of all phases into y `(batch, out_channels, output)`.
    pub(super) fn run(&self, isa: Isa, x: &[f32], weights: &PackedWeights, bias: Option<&[f32]>, y: &mut Unwritten) {
        assert_eq!(y.len(), self.batch * self.out_channels * self.output.iter().product::<usize>(), "an element for each output");
        if self.batch * self.positions.iter().product::<usize>() == 0 {
            return;
        }
        let cut = self.cut(weights.blocks.len());
        let layout = self.layout(cut.rows);
        let offsets = self.tap_offsets(layout);
        let y = Shared(y.as_mut_ptr());
        let tasks = self.batch * cut.tiles[0] * cut.tiles[1] * cut.groups;
        (0..tasks).into_par_iter().for_each(|task| {
            self.tile(isa, x, weights, bias, y, &cut, layout, &offsets, task);
        });
    }

    fn tile(
        &self,
        isa: Isa,
        x: &[f32],
        weights: &PackedWeights,
        bias: Option<&[f32]>,
        y: Shared<MaybeUninit<f32>>,
        cut: &Cut,
        layout: TileLayout,
        offsets: &[usize],
        task: usize,
    ) {
        let (tile, group) = (task / cut.groups, task % cut.groups);
        let n = tile / (cut.tiles[0] * cut.tiles[1]);
        let d0 = tile / cut.tiles[1] % cut.tiles[0] * cut.rows[0];
        let h0 = tile % cut.tiles[1] * cut.rows[1];
        let d_count = cut.rows[0].min(self.positions[0].saturating_sub(d0));
        let h_count = cut.rows[1].min(self.positions[1].saturating_sub(h0));
        if d_count * h_count == 0 {
            return;
        }
        let width = layout.rows[2];
        let pitch = (cut.rows[1] * width).next_multiple_of(16);
        let flat = (h_count - 1) * width + self.positions[2];
        let image = &x[n * self.in_channels * self.input.iter().product::<usize>()..];
        let in_place = self.in_place(image, [d0, h0], d_count, flat);
        let packed_len = if in_place.is_some() { 0 } else { self.in_channels * layout.channel_len() + SLACK };
        with_scratch(packed_len + 8 * pitch, |scratch| {
            let (packed, rows) = scratch.split_at_mut(packed_len);
            let tile = in_place.unwrap_or_else(|| {
                // SAFETY: the image has in_channels volumes; `packed` has room for all channels of the layout.
                unsafe {
                    pack_tile(
                        image.as_ptr(),
                        self.in_channels,
                        self.input,
                        self.stride,
                        self.padding,
                        [d0, h0],
                        layout,
                        packed.as_mut_ptr(),
                    );
                }
                Tile { values: packed, channel_len: layout.channel_len(), plane_len: layout.rows[1] * width }
            });
            let blocks = weights.blocks.iter().zip(&weights.starts);
            for (&(first, present, lanes), &start) in blocks.skip(group * cut.blocks_per_task).take(cut.blocks_per_task) {
                for d in 0..d_count {
                    let source = &tile.values[d * tile.plane_len..];
                    let block = &weights.values[start..];
                    // SAFETY: a vector reads at most 16 lanes beyond the channels, which is within SLACK of a packed tile and
                    // within the input of one in place; weights of the block are in_channels * taps * lanes; rows are `lanes` <= 8 times `pitch`.
                    unsafe {
                        correlate(
                            isa,
                            source.as_ptr(),
                            tile.channel_len,
                            self.in_channels,
                            offsets,
                            block.as_ptr(),
                            lanes,
                            flat,
                            rows.as_mut_ptr(),
                            pitch,
                        );
                    }
                    for h in 0..h_count {
                        let at = |lane: usize| &rows[lane * pitch + h * width..][..self.positions[2]];
                        self.write_rows(y, bias, n, first, present, [d0 + d, h0 + h], at);
                    }
                }
            }
        });
    }

    /// The tile where it lies in the image, if a packed one would be the same: for kernels of one voxel. None where a
    /// vector would reach beyond the end of the input.
    fn in_place<'a>(&self, image: &'a [f32], [d0, h0]: [usize; 2], d_count: usize, flat: usize) -> Option<Tile<'a>> {
        let pointwise = self.taps == [1; 3] && self.stride == [1; 3] && self.padding == [0; 3] && self.positions == self.input;
        let plane_len = self.input[1] * self.input[2];
        let channel_len = self.input[0] * plane_len;
        let first = d0 * plane_len + h0 * self.input[2];
        let end = (self.in_channels - 1) * channel_len + first + (d_count - 1) * plane_len + flat.next_multiple_of(16);
        (pointwise && end <= image.len()).then(|| Tile { values: &image[first..], channel_len, plane_len })
    }

    /// Writes the rows of a block's channels at one position along depth and height.
    fn write_rows<'a>(
        &self,
        y: Shared<MaybeUninit<f32>>,
        bias: Option<&[f32]>,
        n: usize,
        first: usize,
        present: usize,
        at: [usize; 2],
        row: impl Fn(usize) -> &'a [f32],
    ) {
        let phases = self.phases.len();
        let [size_d, size_h, size_w] = self.output;
        // Phases in pairs are the even and odd positions of one output row.
        let paired = phases > 1 && self.spread[2] == 2;
        for lane in (0..present).step_by(if paired { 2 } else { 1 }) {
            let (channel, phase) = ((first + lane) / phases, self.phases[(first + lane) % phases]);
            let b = bias.map_or(0.0, |b| b[channel]);
            let d = at[0] * self.spread[0] + phase[0];
            let h = at[1] * self.spread[1] + phase[1];
            let offset = (((n * self.out_channels + channel) * size_d + d) * size_h + h) * size_w;
            // SAFETY: (n, channel, d, h) is a row of y. A row whose phases are paired or whose spread is 1 is this
            // task's alone; otherwise tasks write different positions of it, and none reads.
            unsafe {
                let target = y.get().add(offset);
                if paired {
                    let target = std::slice::from_raw_parts_mut(target, size_w);
                    let pairs = target.as_chunks_mut::<2>().0.iter_mut();
                    for ((pair, even), odd) in pairs.zip(row(lane)).zip(row(lane + 1)) {
                        *pair = [even + b, odd + b].map(MaybeUninit::new);
                    }
                } else if self.spread[2] == 1 {
                    let target = std::slice::from_raw_parts_mut(target, size_w);
                    for (target, value) in target.iter_mut().zip(row(lane)) {
                        target.write(value + b);
                    }
                } else {
                    for (w, value) in row(lane).iter().enumerate() {
                        (*target.add(w * self.spread[2] + phase[2])).write(value + b);
                    }
                }
            }
        }
    }
}
