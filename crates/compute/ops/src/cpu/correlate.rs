//! The innermost loops of convolution: some output channels by a few vectors of positions, held in registers.

use super::isa::{Simd, per_isa};

per_isa! {
    /// One block of output channels at `flat` consecutive packed positions, rounded up to whole vectors.
    ///
    /// # Safety
    /// `source` must be readable, for every channel and tap, up to a vector beyond `flat`; `weights` must hold
    /// `channels * offsets.len() * lanes` floats; `rows` must have room for `lanes` rows `pitch` apart.
    pub(super) unsafe fn correlate<S>(
        source: *const f32,
        channel_len: usize,
        channels: usize,
        offsets: &[usize],
        weights: *const f32,
        lanes: usize,
        flat: usize,
        rows: *mut f32,
        pitch: usize,
    ) {
        let vectors = flat.div_ceil(S::LANES);
        // 24 accumulators fit beside their operands into 32 registers, 12 into 16.
        let widest = if lanes == 8 || S::CHANNELS == 4 { 3 } else { 6 };
        let mut done = 0;
        while done < vectors {
            let now = tile_width(vectors - done, widest);
            // SAFETY: the conditions of this function, moved on by whole vectors.
            unsafe {
                let (from, to) = (source.add(done * S::LANES), rows.add(done * S::LANES));
                macro_rules! tiles {
                    ($($lanes:literal x $now:literal),*) => {
                        match (lanes, now) {
                            $(($lanes, $now) => register_tile::<S, $lanes, $now>(
                                from, channel_len, channels, offsets, weights, to, pitch,
                            ),)*
                            other => unreachable!("no register tile of {other:?}"),
                        }
                    };
                }
                tiles!(8 x 3, 8 x 2, 8 x 1, 4 x 6, 4 x 4, 4 x 3, 4 x 2, 4 x 1, 1 x 6, 1 x 4, 1 x 3, 1 x 2, 1 x 1);
            }
            done += now;
        }
    }
}

/// Vectors to do at once when `rest` are left, avoiding a last tile of one where two halves would do.
#[inline(always)]
fn tile_width(rest: usize, widest: usize) -> usize {
    match (widest, rest) {
        (3, 4) => 2,
        (3, 3..) => 3,
        (_, 5) => 3,
        (_, 7 | 8) => 4,
        (_, 6..) => 6,
        (_, rest) => rest,
    }
}

/// # Safety
/// As of `correlate`, for `VECTORS` vectors.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn register_tile<S: Simd, const LANES: usize, const VECTORS: usize>(
    mut source: *const f32,
    channel_len: usize,
    channels: usize,
    offsets: &[usize],
    mut weights: *const f32,
    rows: *mut f32,
    pitch: usize,
) {
    // SAFETY: pointers advance as `correlate` lays down.
    unsafe {
        let mut sums = [[S::zero(); VECTORS]; LANES];
        for _ in 0..channels {
            if offsets.len() == 1 {
                // One tap uses every input once, and memory is what it waits for: some tiles ahead, in every channel.
                for v in 0..VECTORS {
                    S::prefetch(source.wrapping_add((4 * VECTORS + v) * S::LANES));
                }
            }
            for &offset in offsets {
                let at = source.add(offset);
                let mut x = [S::zero(); VECTORS];
                for v in 0..VECTORS {
                    x[v] = S::load(at.add(v * S::LANES));
                }
                for lane in 0..LANES {
                    let w = S::splat(*weights.add(lane));
                    for v in 0..VECTORS {
                        sums[lane][v] = w.mul_add(x[v], sums[lane][v]);
                    }
                }
                weights = weights.add(LANES);
            }
            source = source.add(channel_len);
        }
        for lane in 0..LANES {
            for v in 0..VECTORS {
                sums[lane][v].store(rows.add(lane * pitch + v * S::LANES));
            }
        }
    }
}
