//! Sums over runs of memory, accurate and in a fixed order, to be inlined into kernels.

/// Elements summed in single precision before the sum goes on in double; 16 KiB, so that the second of two passes
/// over them reads the first-level cache.
pub(super) const BLOCK: usize = 4096;
/// Independent partial sums within a block: several vectors of any instruction set.
pub(super) const LANES: usize = 64;

/// Mean and biased variance, by Chan's combination of blocks: one pass over memory and no cancellation.
#[inline(always)]
pub(super) fn moments(x: &[f32]) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for block in x.chunks(BLOCK) {
        let n = block.len() as f64;
        let block_mean = lane_sum(block, |v| v) / n;
        let centre = block_mean as f32;
        // The correction undoes the rounding of the centre to single precision.
        let deviation = block_mean - f64::from(centre);
        let block_squares = lane_sum(block, |v| (v - centre) * (v - centre)) - n * deviation * deviation;
        let delta = block_mean - mean;
        squares += block_squares + delta * delta * count * n / (count + n);
        count += n;
        mean += delta * n / count;
    }
    (mean, (squares / count).max(0.0))
}

/// The sum of `term` over one block.
#[inline(always)]
pub(super) fn lane_sum(block: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = block.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            lanes[l] += term(chunk[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += term(v);
    }
    add_up(&lanes)
}

/// Like [`lane_sum`], of terms that are written as they are computed.
#[inline(always)]
pub(super) fn lane_sum_of(block: &mut [f32], term: impl Fn(&mut f32) -> f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = block.as_chunks_mut::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            lanes[l] += term(&mut chunk[l]);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += term(v);
    }
    add_up(&lanes)
}

/// Like [`lane_sum`], of the terms of two runs of equal length.
#[inline(always)]
pub(super) fn lane_sum2(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            lanes[l] += term(a[l], b[l]);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += term(a, b);
    }
    add_up(&lanes)
}

/// The greatest element, negative infinity of none; not-a-number is passed over.
#[inline(always)]
pub(super) fn maximum(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            lanes[l] = greater(lanes[l], chunk[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = greater(*lane, v);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = greater(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of all lanes, in four chains that a vector holds.
#[inline(always)]
pub(super) fn add_up(lanes: &[f32; LANES]) -> f64 {
    let mut chains = [0.0f64; 4];
    for four in lanes.as_chunks::<4>().0 {
        for (chain, &v) in chains.iter_mut().zip(four) {
            *chain += f64::from(v);
        }
    }
    chains.iter().sum()
}
