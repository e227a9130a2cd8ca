//! The innermost loops of the gradient by the weights: some kernel rows by a few vectors of output channels.

use super::Size3;
use super::isa::{Simd, per_isa};

/// Marks a row that only fills up the last register tile.
const UNUSED: usize = usize::MAX;

/// Kernel rows of equal width, at most three taps: where each starts in the packed input and in the sums.
pub(super) struct Rows {
    pub(super) width: usize,
    pub(super) starts: Vec<(usize, usize)>,
}

/// How a tile is walked: steps of the packed input along d, h, w per output position, how many positions, and output
/// channels per position, rounded up to whole vectors.
pub(super) struct Walk {
    pub(super) x_step: Size3,
    pub(super) count: Size3,
    pub(super) lanes: usize,
}

per_isa! {
    /// Adds one tile's contribution to the sums of all rows.
    ///
    /// # Safety
    /// For every row and every position of the walk, `x` must hold the row's taps; `dy` must hold all lanes of all
    /// positions; `sums` must hold all lanes of the row's taps.
    pub(super) unsafe fn accumulate<S>(walk: &Walk, rows: &Rows, x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let vectors = walk.lanes / S::LANES;
        let mut done = 0;
        while done < vectors {
            let now = (vectors - done).min(3);
            let now = if vectors - done == 4 { 2 } else { now };
            macro_rules! tiles {
                ($($width:literal, $now:literal: $many:literal or $few:literal);*) => {
                    match (rows.width, now, S::CHANNELS) {
                        $(($width, $now, 8) => {
                            groups::<S, $many, { usize::div_ceil($many, 2) }, $width, $now>(walk, rows, x, dy, sums, done);
                        }
                        ($width, $now, _) => {
                            groups::<S, $few, { usize::div_ceil($few, 2) }, $width, $now>(walk, rows, x, dy, sums, done);
                        })*
                        other => unreachable!("no register tile of {other:?}"),
                    }
                };
            }
            // Rows that fit with their operands into 32 registers, or into 16.
            // SAFETY: the conditions of this function.
            unsafe {
                tiles!(
                    1, 1: 16 or 10; 1, 2: 12 or 6; 1, 3: 8 or 4;
                    2, 1: 12 or 6; 2, 2: 6 or 3; 2, 3: 4 or 2;
                    3, 1: 8 or 4; 3, 2: 4 or 2; 3, 3: 3 or 1
                );
            }
            done += now;
        }
    }
}

/// # Safety
/// As of `accumulate`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn groups<S: Simd, const ROWS: usize, const HALF: usize, const WIDTH: usize, const VECTORS: usize>(
    walk: &Walk,
    rows: &Rows,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
    first_vector: usize,
) {
    let offset = first_vector * S::LANES;
    for group in rows.starts.chunks(ROWS) {
        // SAFETY: the starts lie in the tile and in the sums; the vectors in the lanes.
        unsafe {
            let (x, dy, sums) = (x.as_ptr(), dy.as_ptr().add(offset), sums.as_mut_ptr().add(offset));
            if group.len() <= HALF {
                register_tile::<S, HALF, WIDTH, VECTORS>(walk, filled_up(group), x, dy, sums);
            } else {
                register_tile::<S, ROWS, WIDTH, VECTORS>(walk, filled_up(group), x, dy, sums);
            }
        }
    }
}

/// A short last group repeats its first row and drops the result.
#[inline(always)]
fn filled_up<const ROWS: usize>(group: &[(usize, usize)]) -> [(usize, usize); ROWS] {
    std::array::from_fn(|r| *group.get(r).unwrap_or(&(group[0].0, UNUSED)))
}

/// # Safety
/// As of `accumulate`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn register_tile<S: Simd, const ROWS: usize, const WIDTH: usize, const VECTORS: usize>(
    walk: &Walk,
    starts: [(usize, usize); ROWS],
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
) {
    let [depth, height, width] = walk.count;
    // SAFETY: positions stay within the packed tiles, see `accumulate`.
    unsafe {
        let mut acc = [[[S::zero(); VECTORS]; WIDTH]; ROWS];
        let mut row_at = [x; ROWS];
        for r in 0..ROWS {
            row_at[r] = x.add(starts[r].0);
        }
        for d in 0..depth {
            for h in 0..height {
                let mut gradient = dy.add((d * height + h) * width * walk.lanes);
                let mut at = d * walk.x_step[0] + h * walk.x_step[1];
                for _ in 0..width {
                    let mut g = [S::zero(); VECTORS];
                    for v in 0..VECTORS {
                        g[v] = S::load(gradient.add(v * S::LANES));
                    }
                    for r in 0..ROWS {
                        for k in 0..WIDTH {
                            let value = S::splat(*row_at[r].add(at + k));
                            for v in 0..VECTORS {
                                acc[r][k][v] = value.mul_add(g[v], acc[r][k][v]);
                            }
                        }
                    }
                    gradient = gradient.add(walk.lanes);
                    at += walk.x_step[2];
                }
            }
        }
        for r in 0..ROWS {
            if starts[r].1 == UNUSED {
                continue;
            }
            for k in 0..WIDTH {
                for v in 0..VECTORS {
                    let to = sums.add(starts[r].1 + k * walk.lanes + v * S::LANES);
                    S::load(to).add(acc[r][k][v]).store(to);
                }
            }
        }
    }
}
