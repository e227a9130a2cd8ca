//! Copies of tiles in the order in which the convolution kernels walk them.

use rayon::prelude::*;

use super::{Shared, Size3};

/// Output channels cut into the blocks of a register tile: (first channel, channels present, block width).
/// Absent channels of the last block have zero weights.
pub(super) fn channel_blocks(channels: usize, widest: usize) -> Vec<(usize, usize, usize)> {
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < channels {
        let rest = channels - first;
        let width = match rest {
            1 => 1,
            2..=4 => 4,
            _ => widest,
        };
        blocks.push((first, rest.min(width), width));
        first += width;
    }
    blocks
}

/// Weights in the order of use: per block of output channels `[input channel][tap][channel of the block]`.
pub(super) struct PackedWeights {
    pub(super) blocks: Vec<(usize, usize, usize)>,
    /// Where each block starts in `values`.
    pub(super) starts: Vec<usize>,
    pub(super) values: Vec<f32>,
}

#[allow(unsafe_code)]
impl PackedWeights {
    /// `filter(output channel, input channel)` says where in `weights` a filter starts, and where in it its `taps` are.
    pub(super) fn new<'a>(
        [out_channels, in_channels, taps]: [usize; 3],
        widest: usize,
        weights: &[f32],
        filter: impl Fn(usize, usize) -> (usize, &'a [usize]) + Sync,
    ) -> Self {
        Self::filled([out_channels, in_channels * taps], widest, |(first, present, width), block| {
            // Filters of one input channel together: either they are neighbours, or each continues what was read before.
            for (channel, block) in block.chunks_exact_mut(taps * width).enumerate() {
                for lane in 0..present {
                    let (start, order) = filter(first + lane, channel);
                    let filter = &weights[start..];
                    for (to, &tap) in block[lane..].iter_mut().step_by(width).zip(order) {
                        *to = filter[tap];
                    }
                }
                for absent in present..width {
                    block[absent..].iter_mut().step_by(width).for_each(|to| *to = 0.0);
                }
            }
        })
    }

    /// Weights of one tap, `[input channel][output channel]`.
    pub(super) fn of_rows(out_channels: usize, widest: usize, weights: &[f32]) -> Self {
        Self::filled([out_channels, weights.len() / out_channels], widest, |(first, present, width), block| {
            for (to, row) in block.chunks_exact_mut(width).zip(weights.chunks_exact(out_channels)) {
                to[..present].copy_from_slice(&row[first..][..present]);
                to[present..].fill(0.0);
            }
        })
    }

    /// Blocks of `rows` rows, each written by `fill`, all of it.
    fn filled([out_channels, rows]: [usize; 2], widest: usize, fill: impl Fn((usize, usize, usize), &mut [f32]) + Sync) -> Self {
        let blocks = channel_blocks(out_channels, widest);
        let mut starts = Vec::with_capacity(blocks.len());
        let mut len = 0;
        for &(_, _, width) in &blocks {
            starts.push(len);
            len += rows * width;
        }
        let mut values = vec![0.0; len];
        let target = Shared(values.as_mut_ptr());
        blocks.par_iter().zip(&starts).for_each(|(&block, &start)| {
            // SAFETY: the blocks' ranges of `values` are disjoint and each task stays in its own.
            fill(block, unsafe { std::slice::from_raw_parts_mut(target.get().add(start), rows * block.2) });
        });
        Self { blocks, starts, values }
    }
}

/// How a tile of the input is laid out once packed: `[channel][phase d, h, w][row d][row h][w]`, where the phases
/// are the residues modulo the stride, so that neighbours in a packed row are neighbours in the output.
#[derive(Clone, Copy)]
pub(super) struct TileLayout {
    pub(super) phases: Size3,
    /// Rows per phase along depth and height, and the length of a row.
    pub(super) rows: Size3,
}

impl TileLayout {
    pub(super) fn phase_len(&self) -> usize {
        self.rows.iter().product()
    }

    pub(super) fn channel_len(&self) -> usize {
        self.phases.iter().product::<usize>() * self.phase_len()
    }
}

/// Packs all channels of one tile. Position `e` of a row of phase `f` is input position `(e + origin) * stride + f
/// - padding`; what lies outside of the input is zero.
///
/// # Safety
/// `x` has `channels` volumes of `input` floats, `to` has room for `channels * layout.channel_len()`.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn pack_tile(
    x: *const f32,
    channels: usize,
    input: Size3,
    stride: Size3,
    padding: [isize; 3],
    origin: [usize; 2],
    layout: TileLayout,
    to: *mut f32,
) {
    let plane = input[1] * input[2];
    let inside = |at: isize, axis: usize| at >= 0 && at < input[axis] as isize;
    let [phases_d, phases_h, phases_w] = layout.phases;
    let [rows_d, rows_h, width] = layout.rows;
    let mut row = to;
    for channel in 0..channels {
        for phase in 0..phases_d * phases_h * phases_w {
            let [pd, ph, pw] = [phase / (phases_h * phases_w), phase / phases_w % phases_h, phase % phases_w];
            for d in 0..rows_d {
                let at_d = ((origin[0] + d) * stride[0] + pd) as isize - padding[0];
                for h in 0..rows_h {
                    let at_h = ((origin[1] + h) * stride[1] + ph) as isize - padding[1];
                    // SAFETY: rows inside the input are read within their bounds by `copy_row`; `row` advances by
                    // `width` exactly channels * phases * rows times, which is the room there is.
                    unsafe {
                        if inside(at_d, 0) && inside(at_h, 1) {
                            let offset = channel * input[0] * plane + at_d as usize * plane + at_h as usize * input[2];
                            let first = pw as isize - padding[2];
                            copy_row(row, width, x.add(offset), input[2], stride[2], first);
                        } else {
                            row.write_bytes(0, width);
                        }
                        row = row.add(width);
                    }
                }
            }
        }
    }
}

/// `to[e] = from[first + e * stride]` for `e < len`, zero where that is outside of `0..width`.
///
/// # Safety
/// `from` has `width` floats and `to` has room for `len`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn copy_row(to: *mut f32, len: usize, from: *const f32, width: usize, stride: usize, first: isize) {
    // SAFETY: `before..end` are exactly the elements whose source index is in 0..width.
    unsafe {
        let before = ((-first).max(0) as usize).div_ceil(stride).min(len);
        let end = ((width as isize - first).max(0) as usize).div_ceil(stride).min(len).max(before);
        to.write_bytes(0, before);
        let source = from.wrapping_offset(first + (before * stride) as isize);
        let count = end - before;
        match stride {
            1 => to.add(before).copy_from_nonoverlapping(source, count),
            // A stride known to the compiler becomes vector shuffles.
            2 => {
                for e in 0..count {
                    *to.add(before + e) = *source.add(2 * e);
                }
            }
            _ => {
                for e in 0..count {
                    *to.add(before + e) = *source.add(stride * e);
                }
            }
        }
        to.add(end).write_bytes(0, len - end);
    }
}
