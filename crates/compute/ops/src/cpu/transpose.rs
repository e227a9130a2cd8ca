//! Rows of positions, with the channels outermost, turned into rows of channels, and back.

use super::isa::per_isa;

/// Side of the squares that are transposed at once.
pub(crate) const SIDE: usize = 8;

per_isa! {
    /// `to[position * lanes + channel] = from[channel * volume + position]`, absent channels zero.
    ///
    /// # Safety
    /// None beyond the instruction set: the sizes are checked.
    pub(crate) unsafe fn transpose_row<S>(from: &[f32], volume: usize, channels: usize, to: &mut [f32], lanes: usize) {
        let width = to.len() / lanes;
        assert!(lanes.is_multiple_of(SIDE) && channels <= lanes && channels > 0 && (channels - 1) * volume + width <= from.len());
        for first in (0..lanes).step_by(SIDE) {
            let present = channels.saturating_sub(first).min(SIDE);
            for at in squares(width) {
                let mut square = [[0.0; SIDE]; SIDE];
                // SAFETY: a square lies within the row, and the channels read are present.
                unsafe {
                    let source = from.as_ptr().wrapping_add(first * volume + at);
                    let target = to.as_mut_ptr().add(at * lanes + first);
                    if present == SIDE {
                        for channel in 0..SIDE {
                            S::prefetch(source.wrapping_add((SIDE + channel) * volume));
                        }
                        S::transpose(source, volume, target, lanes);
                    } else {
                        for channel in 0..present {
                            square[channel].as_mut_ptr().copy_from_nonoverlapping(source.add(channel * volume), SIDE);
                        }
                        S::transpose(square.as_ptr().cast(), SIDE, target, lanes);
                    }
                }
            }
        }
        for position in 0..if width < SIDE { width } else { 0 } {
            for channel in 0..lanes {
                to[position * lanes + channel] = if channel < channels { from[channel * volume + position] } else { 0.0 };
            }
        }
    }
}

per_isa! {
    /// `to[channel * volume + position] = from[position * lanes + channel]` of the channels that there are.
    ///
    /// # Safety
    /// `to` has room for a row in each of `channels` volumes.
    pub(crate) unsafe fn transpose_row_back<S>(from: &[f32], lanes: usize, to: *mut f32, volume: usize, channels: usize) {
        let width = from.len() / lanes;
        assert!(lanes.is_multiple_of(SIDE) && channels <= lanes);
        for first in (0..channels).step_by(SIDE) {
            let present = SIDE.min(channels - first);
            for at in squares(width) {
                let mut square = [[0.0; SIDE]; SIDE];
                // SAFETY: a square lies within the row, and the channels written are present.
                unsafe {
                    let (source, target) = (from.as_ptr().add(at * lanes + first), to.add(first * volume + at));
                    if present == SIDE {
                        S::transpose(source, lanes, target, volume);
                    } else {
                        S::transpose(source, lanes, square.as_mut_ptr().cast(), SIDE);
                        for channel in 0..present {
                            target.add(channel * volume).copy_from_nonoverlapping(square[channel].as_ptr(), SIDE);
                        }
                    }
                }
            }
        }
        for position in 0..if width < SIDE { width } else { 0 } {
            for channel in 0..channels {
                // SAFETY: a position within the row of a channel that is there.
                unsafe { *to.add(channel * volume + position) = from[position * lanes + channel] };
            }
        }
    }
}

/// Where squares begin that cover a row: the last one overlaps the one before. A row shorter than a square has none.
#[inline(always)]
fn squares(width: usize) -> impl Iterator<Item = usize> {
    let last = width.checked_sub(SIDE);
    (0..if last.is_some() { width } else { 0 }).step_by(SIDE).map(move |at| at.min(last.unwrap_or(0)))
}
