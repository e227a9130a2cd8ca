//! Rows by tiles of 16 positions by 16 channels, in the way of AMX.
//!
//! A tile of activations is 16 positions with 32 elements each, read where they lie; a tile of weights is 16 groups of two
//! for 16 channels. Two tiles of positions by two of channels are computed at once, so that every tile that is read is used
//! twice.

use super::arithmetic::{Lane, Number};
use super::bf16::Bf16;
use super::rows::{Run, Sink};
use crate::cpu::isa::Simd;

/// Positions, and channels, of a tile.
pub(crate) const SIDE: usize = 16;

/// What multiplies tiles.
#[allow(unsafe_code)]
pub(crate) trait TileUnit {
    /// Writes the sums of `P * 16` positions from `at` on for `V * 16` channels to `to`, `[position][channel]`.
    ///
    /// # Safety
    /// Runs have multiples of 16 groups and hold them for all these positions, `weights` those of the block; `to` has room;
    /// the instructions exist and are configured.
    unsafe fn product<const P: usize, const V: usize>(runs: &[Run<Bf16>], weights: *const Bf16, at: usize, to: *mut f32);
}

/// See [`Lane::row`].
///
/// # Safety
/// As there.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn by_tiles<L: Lane<Element = Bf16>, U: TileUnit>(
    runs: &[Run<Bf16>],
    weights: &[Bf16],
    lanes: usize,
    width: usize,
    sink: &mut impl Sink<L>,
) {
    let mut sums = [0f32; 4 * SIDE * SIDE];
    let (weights, to) = (weights.as_ptr(), sums.as_mut_ptr());
    for at in (0..width).step_by(2 * SIDE) {
        let left = width - at;
        // SAFETY: the same conditions; a tile reaches at most 31 positions beyond the row.
        unsafe {
            match (left > SIDE, lanes > SIDE) {
                (true, true) => U::product::<2, 2>(runs, weights, at, to),
                (true, false) => U::product::<2, 1>(runs, weights, at, to),
                (false, true) => U::product::<1, 2>(runs, weights, at, to),
                (false, false) => U::product::<1, 1>(runs, weights, at, to),
            }
            for position in 0..left.min(2 * SIDE) {
                let sums = to.add(position * lanes);
                if lanes > SIDE {
                    sink.take(at + position, &mut [[L::Sums::load(sums), L::Sums::load(sums.add(SIDE))]]);
                } else {
                    sink.take(at + position, &mut [[L::Sums::load(sums)]]);
                }
            }
        }
    }
}

/// Tiles in plain arithmetic.
pub(crate) struct Software;

#[allow(unsafe_code)]
impl TileUnit for Software {
    unsafe fn product<const P: usize, const V: usize>(runs: &[Run<Bf16>], weights: *const Bf16, at: usize, to: *mut f32) {
        for position in 0..P * SIDE {
            for channel in 0..V * SIDE {
                let (mut sum, mut group) = (0f32, 0);
                for run in runs {
                    for i in 0..run.groups {
                        // SAFETY: the runs hold all positions, and the weights all groups and channels.
                        let (values, weights) = unsafe {
                            let values = run.from.add((at + position) * run.step + 2 * i);
                            (values, weights.add(2 * (group * V * SIDE + channel)))
                        };
                        for half in 0..2 {
                            // SAFETY: as above.
                            sum += unsafe { (*values.add(half)).widen() * (*weights.add(half)).widen() };
                        }
                        group += 1;
                    }
                }
                // SAFETY: there is room for all positions and channels.
                unsafe { *to.add(position * V * SIDE + channel) = sum };
            }
        }
    }
}
