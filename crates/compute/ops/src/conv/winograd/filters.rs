//! Filters and their transformation.

use std::mem::MaybeUninit;

use super::lines::grow;
use super::{IN, PLACES, SameSize, TOGETHER, WEIGHT};
use crate::cpu::isa::{Isa, Simd};
use crate::cpu::lanes::arithmetic::{Kernels as _, Lane, Work};
use crate::cpu::lanes::transforms::both_sides;
use crate::cpu::transpose::transpose_row;
use crate::cpu::{Unwritten, assume_written, filled_in_tasks, written};

/// Filters `(3, 3)` or `(3, 3, 3)`: from one output channel to the next, from one input channel to the next, and whether each is
/// read backwards.
#[derive(Clone, Copy)]
pub(super) struct Filters<'a> {
    pub(super) values: &'a [f32],
    pub(super) out_step: usize,
    pub(super) in_step: usize,
    pub(super) mirrored: bool,
}

/// Output channels that are computed together.
pub(super) fn block(isa: Isa) -> usize {
    f32::block(isa)
}

/// Transformed filters, block by block of output channels: `[place][plane of the kernel][input channel][lane]`, lanes without a
/// channel being zero.
pub(super) struct Weights<'a> {
    conv: &'a SameSize,
    isa: Isa,
    filters: Filters<'a>,
    /// All of them, or none if they are to be transformed block by block.
    all: Vec<f32>,
}

/// What a thread needs to transform the weights of a block.
#[derive(Default)]
pub(super) struct Buffers {
    taps: Vec<f32>,
    own: Vec<MaybeUninit<f32>>,
}

#[allow(unsafe_code)]
impl<'a> Weights<'a> {
    /// Those that are used more than once are transformed at once; others stay in the cache when each task transforms its own.
    pub(super) fn new(conv: &'a SameSize, isa: Isa, filters: Filters<'a>, used_once: bool) -> Self {
        let mut weights = Self { conv, isa, filters, all: Vec::new() };
        if !used_once {
            let last = (conv.out_channels - 1) / block(isa) * block(isa);
            weights.all = written((last + weights.lanes(last)) * weights.per_lane(), |all| {
                filled_in_tasks(all, block(isa) * weights.per_lane(), |at, to| weights.transform(at * block(isa), &mut Vec::new(), to))
            });
        }
        weights
    }

    /// The weights of the block that begins with channel `first`.
    pub(super) fn block<'b>(&'b self, first: usize, buffers: &'b mut Buffers) -> &'b [f32] {
        let len = self.lanes(first) * self.per_lane();
        if !self.all.is_empty() {
            return &self.all[first * self.per_lane()..][..len];
        }
        let Buffers { taps, own } = buffers;
        own.resize(own.len().max(len), MaybeUninit::uninit());
        self.transform(first, taps, &mut own[..len])
    }

    /// Lanes of the block that begins with channel `first`.
    pub(super) fn lanes(&self, first: usize) -> usize {
        block(self.isa).min(self.conv.out_channels.next_multiple_of(TOGETHER) - first)
    }

    fn per_lane(&self) -> usize {
        PLACES * self.conv.depth * self.conv.in_channels
    }

    /// The weights of the block that begins with channel `first`, all of `to`.
    fn transform<'y>(&self, first: usize, taps: &mut Vec<f32>, to: &'y mut Unwritten) -> &'y mut [f32] {
        let lanes = self.lanes(first);
        assert_eq!(to.len(), lanes * self.per_lane(), "a weight for each place, plane, channel and lane");
        grow(taps, self.conv.taps() * lanes);
        for channel in 0..self.conv.in_channels {
            // SAFETY: safe code but for the instruction set.
            unsafe { f32::dispatch(self.isa, WeightsOf { of: self, first, lanes, channel, taps, to }) };
        }
        // SAFETY: every channel has written its weights of all places, planes and lanes.
        unsafe { assume_written(to) }
    }
}

/// The transformed filters of one input channel and a block of output channels.
struct WeightsOf<'a> {
    of: &'a Weights<'a>,
    first: usize,
    lanes: usize,
    channel: usize,
    /// `[tap][lane]`
    taps: &'a mut [f32],
    to: &'a mut Unwritten,
}

#[allow(unsafe_code)]
impl Work<f32> for WeightsOf<'_> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = f32>>(self) {
        let Weights { conv, isa, filters, .. } = *self.of;
        let (depth, count, lanes) = (conv.depth, conv.taps(), self.lanes);
        let from = &filters.values[self.first * filters.out_step + self.channel * filters.in_step..];
        let present = lanes.min(conv.out_channels - self.first);
        // SAFETY: the instructions exist, and the places are those of the block.
        unsafe {
            transpose_row(isa, from, filters.out_step, present, &mut self.taps[..count * lanes], lanes);
            for plane in 0..depth {
                for lane in (0..lanes).step_by(L::Sums::LANES) {
                    let mut filter = [[L::Sums::zero(); 3]; 3];
                    for tap in 0..9 {
                        let at = if filters.mirrored { count - 1 - plane * 9 - tap } else { plane * 9 + tap };
                        filter[tap / 3][tap % 3] = L::Sums::load(self.taps[at * lanes + lane..].as_ptr());
                    }
                    let transformed = both_sides(&WEIGHT, &filter);
                    for place in 0..PLACES {
                        let at = ((place * depth + plane) * conv.in_channels + self.channel) * lanes + lane;
                        transformed[place / IN][place % IN].store(self.to[at..][..L::Sums::LANES].as_mut_ptr().cast());
                    }
                }
            }
        }
    }
}
