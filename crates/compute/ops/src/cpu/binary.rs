//! Sums over channels of independent yes-or-no outputs, and their gradients.

use rayon::prelude::*;

use super::functions::{exp, ln_1p};
use super::isa::{Isa, Simd, per_isa};

/// How many sums there are of a row.
pub(crate) const SUMS: usize = 5;
/// Voxels that are summed in single precision before they are added in double precision.
const BLOCK: usize = 256;
const LANES: usize = 16;

/// Rows of `voxels` logits and labels of 0 and 1 to the sums of `p t`, of `p`, of `t`, of the cross-entropy, and of `p²`.
#[allow(unsafe_code)]
pub(crate) fn sums(isa: Isa, x: &[f32], t: &[u8], voxels: usize) -> Vec<f32> {
    let voxels = voxels.max(1);
    let mut sums = vec![0.0; x.len() / voxels * SUMS];
    let rows = x.par_chunks(voxels).zip(t.par_chunks(voxels));
    sums.par_chunks_mut(SUMS).zip(rows).for_each(|(sums, (x, t))| {
        let mut of_row = [0.0_f64; SUMS];
        for (x, t) in x.chunks(BLOCK).zip(t.chunks(BLOCK)) {
            // SAFETY: safe code but for the instruction set.
            let of_block = unsafe { block_sums(isa, x, t) };
            of_row.iter_mut().zip(of_block).for_each(|(sum, value)| *sum += f64::from(value));
        }
        sums.iter_mut().zip(of_row).for_each(|(sum, value)| *sum = value as f32);
    });
    sums
}

per_isa! {
    unsafe fn block_sums<S>(x: &[f32], t: &[u8]) -> [f32; SUMS] {
        let mut lanes = [[0.0_f32; LANES]; SUMS];
        let ((x, x_rest), (t, t_rest)) = (x.as_chunks::<LANES>(), t.as_chunks::<LANES>());
        for (x, t) in x.iter().zip(t) {
            for l in 0..LANES {
                let of_voxel = voxel_sums::<S>(x[l], f32::from(t[l]));
                for k in 0..SUMS {
                    lanes[k][l] += of_voxel[k];
                }
            }
        }
        let mut sums = lanes.map(|lanes| lanes.iter().sum::<f32>());
        for (&x, &t) in x_rest.iter().zip(t_rest) {
            sums.iter_mut().zip(voxel_sums::<S>(x, f32::from(t))).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

#[inline(always)]
fn voxel_sums<S: Simd>(x: f32, t: f32) -> [f32; SUMS] {
    let (p, small) = sigmoid::<S>(x);
    let positive = if x > 0.0 { x } else { 0.0 };
    [p * t, p, t, positive - x * t + ln_1p::<S>(small), p * p]
}

/// 1 / (1 + exp(-x)), and exp(-|x|).
#[inline(always)]
fn sigmoid<S: Simd>(x: f32) -> (f32, f32) {
    let small = exp::<S>(-x.abs());
    let p = 1.0 / (1.0 + small);
    (if x >= 0.0 { p } else { small * p }, small)
}

/// The gradients of the logits from those of the sums of each row.
#[allow(unsafe_code)]
pub(crate) fn gradient(isa: Isa, x: &[f32], t: &[u8], of_sums: &[f32], voxels: usize) -> Vec<f32> {
    let voxels = voxels.max(1);
    let mut dx = vec![0.0; x.len()];
    let rows = x.par_chunks(voxels).zip(t.par_chunks(voxels)).zip(of_sums.par_chunks(SUMS));
    dx.par_chunks_mut(voxels).zip(rows).for_each(|(dx, ((x, t), of_sums))| {
        // A masked row stays at 0.
        if of_sums.iter().any(|&g| g != 0.0) {
            // SAFETY: safe code but for the instruction set.
            unsafe { row_gradient(isa, x, t, of_sums, dx) }
        }
    });
    dx
}

per_isa! {
    unsafe fn row_gradient<S>(x: &[f32], t: &[u8], of_sums: &[f32], dx: &mut [f32]) {
        let [overlap, mass, _, entropy, square] = *of_sums else { return };
        for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(t) {
            let (p, _) = sigmoid::<S>(x);
            let t = f32::from(t);
            *dx = (overlap * t + mass + 2.0 * p * square) * p * (1.0 - p) + entropy * (p - t);
        }
    }
}
