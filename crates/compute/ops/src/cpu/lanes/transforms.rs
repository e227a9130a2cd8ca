//! Winograd's transformations between tiles of results, of products and of weights.

use crate::cpu::isa::Simd;

/// The transformations of one size of tile.
pub(crate) trait Scheme<const OUT: usize, const IN: usize>: Send + Sync {
    const INPUT: [[f32; IN]; IN];
    const WEIGHT: [[f64; 3]; IN];
    const OUTPUT: [[f32; IN]; OUT];
}

/// Tiles of 2 × 2 results.
pub(crate) struct Two;

impl Scheme<2, 4> for Two {
    const INPUT: [[f32; 4]; 4] = [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]];
    const WEIGHT: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    const OUTPUT: [[f32; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]];
}

/// Tiles of 4 × 4 results, from the points 0, ±3/4, ±3/2 and infinity. The usual ±1 and ±2 save nothing where multiplying and adding is
/// one instruction, and lose two bits: the powers of 2 grow to 8, those of 3/2 to 27/8.
pub(crate) struct Four;

impl Scheme<4, 6> for Four {
    const INPUT: [[f32; 6]; 6] = [
        [81.0 / 64.0, 0.0, -45.0 / 16.0, 0.0, 1.0, 0.0],
        [0.0, -27.0 / 16.0, -9.0 / 4.0, 3.0 / 4.0, 1.0, 0.0],
        [0.0, 27.0 / 16.0, -9.0 / 4.0, -3.0 / 4.0, 1.0, 0.0],
        [0.0, -27.0 / 32.0, -9.0 / 16.0, 3.0 / 2.0, 1.0, 0.0],
        [0.0, 27.0 / 32.0, -9.0 / 16.0, -3.0 / 2.0, 1.0, 0.0],
        [0.0, 81.0 / 64.0, 0.0, -45.0 / 16.0, 0.0, 1.0],
    ];
    const WEIGHT: [[f64; 3]; 6] = [
        [64.0 / 81.0, 0.0, 0.0],
        [-128.0 / 243.0, -96.0 / 243.0, -72.0 / 243.0],
        [-128.0 / 243.0, 96.0 / 243.0, -72.0 / 243.0],
        [32.0 / 243.0, 48.0 / 243.0, 72.0 / 243.0],
        [32.0 / 243.0, -48.0 / 243.0, 72.0 / 243.0],
        [0.0, 0.0, 1.0],
    ];
    const OUTPUT: [[f32; 6]; 4] = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 3.0 / 4.0, -3.0 / 4.0, 3.0 / 2.0, -3.0 / 2.0, 0.0],
        [0.0, 9.0 / 16.0, 9.0 / 16.0, 9.0 / 4.0, 9.0 / 4.0, 0.0],
        [0.0, 27.0 / 64.0, -27.0 / 64.0, 27.0 / 8.0, -27.0 / 8.0, 1.0],
    ];
}

/// `matrix · x · matrixᵀ`. The matrix is known when this is compiled, so that its zeros and ones cost nothing.
///
/// Loops rather than `array::from_fn`: closures that are not inlined lose the instruction set.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn both_sides<V: Simd, const M: usize, const N: usize>(matrix: &[[f32; N]; M], x: &[[V; N]; N]) -> [[V; M]; M] {
    // SAFETY: the caller runs where the instructions exist.
    unsafe {
        let mut left = [[V::zero(); N]; M];
        for i in 0..M {
            for j in 0..N {
                let mut sum = None;
                for k in 0..N {
                    sum = add_times(sum, matrix[i][k], x[k][j]);
                }
                left[i][j] = sum.unwrap_or(V::zero());
            }
        }
        let mut both = [[V::zero(); M]; M];
        for i in 0..M {
            for j in 0..M {
                let mut sum = None;
                for k in 0..N {
                    sum = add_times(sum, matrix[j][k], left[i][k]);
                }
                both[i][j] = sum.unwrap_or(V::zero());
            }
        }
        both
    }
}

/// `sum + factor · x`; no sum is a sum of nothing.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add_times<V: Simd>(sum: Option<V>, factor: f32, x: V) -> Option<V> {
    // SAFETY: the caller runs where the instructions exist.
    unsafe {
        match sum {
            _ if factor == 0.0 => sum,
            None if factor == 1.0 => Some(x),
            None => Some(x.mul_add(V::splat(factor), V::zero())),
            Some(sum) if factor == 1.0 => Some(sum.add(x)),
            Some(sum) => Some(x.mul_add(V::splat(factor), sum)),
        }
    }
}
