//! The gradient by the weights of a convolution whose groups have one input channel each.
//!
//! Lanes are positions of a row here: with one input channel and few output channels, lanes of output channels as in
//! `conv_filter` would be empty. Rows are packed with their padding, and rows of the output gradient filled up with
//! zeros to whole vectors, so that the loops have no borders.

use rayon::prelude::*;

use super::isa::{Isa, Simd, per_isa};
use super::pack::{TileLayout, pack_tile};
use super::{ConvShape, Size3, with_scratch};

/// Lanes that rows are filled up to: a vector of any instruction set.
const VECTOR: usize = 16;
/// Taps along the width that are held in registers at a time.
const SEGMENT: usize = 8;

/// dw. Shapes: x `(n, groups, input)`, dy `(n, co, output)`, dw `(co, 1, kernel)`, all written.
#[allow(unsafe_code)]
pub(super) fn backward_filter(isa: Isa, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (input, output) = (shape.input.iter().product::<usize>(), shape.output().iter().product::<usize>());
    let filters = shape.out_channels / shape.groups;
    let packed = Packed::new(shape);
    dw.par_chunks_mut(shape.taps()).enumerate().for_each(|(out, dw)| {
        let mut totals = vec![0.0f64; dw.len()];
        with_scratch(packed.x_len() + packed.dy_len(), |scratch| {
            let (x_packed, dy_packed) = scratch.split_at_mut(packed.x_len());
            for n in 0..shape.batch {
                let x = &x[(n * shape.groups + out / filters) * input..][..input];
                let dy = &dy[(n * shape.out_channels + out) * output..][..output];
                packed.pack(shape, x, dy, x_packed, dy_packed);
                // SAFETY: safe code but for the instruction set: the packed rows are as long as `packed` says.
                unsafe { add_volume(isa, packed, shape, x_packed, dy_packed, &mut totals) };
            }
        });
        for (value, total) in dw.iter_mut().zip(&totals) {
            *value = *total as f32;
        }
    });
}

/// How one volume is packed: x as `[phase along the width][d][h][w]` with its padding, where a phase has every
/// stride-th voxel, and dy as `[d][h][w]`.
#[derive(Clone, Copy)]
struct Packed {
    phases: usize,
    x_rows: Size3,
    dy_rows: Size3,
}

#[allow(unsafe_code)]
impl Packed {
    fn new(shape: &ConvShape) -> Self {
        let output = shape.output();
        let extent = |a: usize| (output[a].max(1) - 1) * shape.stride[a] + shape.kernel[a];
        let width = output[2].next_multiple_of(VECTOR);
        let halo = (shape.kernel[2] - 1) / shape.stride[2];
        Self {
            phases: shape.stride[2].min(shape.kernel[2]),
            x_rows: [extent(0), extent(1), width + halo],
            dy_rows: [output[0], output[1], width],
        }
    }

    /// With room for taps beyond the kernel, which are computed and thrown away.
    fn x_len(&self) -> usize {
        self.phases * self.x_rows.iter().product::<usize>() + SEGMENT
    }

    fn dy_len(&self) -> usize {
        self.dy_rows.iter().product()
    }

    fn pack(&self, shape: &ConvShape, x: &[f32], dy: &[f32], x_packed: &mut [f32], dy_packed: &mut [f32]) {
        let layout = TileLayout { phases: [1, 1, self.phases], rows: self.x_rows };
        let stride = [1, 1, shape.stride[2]];
        // What is beyond the rows meets nothing but zeros of dy or taps that are thrown away, but must be numbers.
        x_packed[self.x_len() - SEGMENT..].fill(0.0);
        // SAFETY: x is one volume, and x_packed has room for it packed.
        unsafe {
            pack_tile(x.as_ptr(), 1, shape.input, stride, shape.padding.map(|p| p as isize), [0; 2], layout, x_packed.as_mut_ptr());
        }
        let width = shape.output()[2];
        for (to, from) in dy_packed.chunks_exact_mut(self.dy_rows[2]).zip(dy.chunks_exact(width.max(1))) {
            to[..width].copy_from_slice(from);
            to[width..].fill(0.0);
        }
    }
}

per_isa! {
    /// Adds one volume's part to the sums of all taps; depth planes are summed in single precision.
    unsafe fn add_volume<S>(packed: Packed, shape: &ConvShape, x: &[f32], dy: &[f32], totals: &mut [f64]) {
        let [depth, height, width] = packed.dy_rows;
        let [_, x_height, x_width] = packed.x_rows;
        let [_, kernel_h, kernel_w] = shape.kernel;
        let stride = shape.stride;
        for (row, totals) in totals.chunks_exact_mut(kernel_w).enumerate() {
            let [i, j] = [row / kernel_h, row % kernel_h];
            for d in 0..depth {
                let dy = &dy[d * height * width..][..height * width];
                let first_row = (d * stride[0] + i) * x_height + j;
                for phase in 0..packed.phases {
                    let x = &x[(phase * packed.x_rows[0] * x_height + first_row) * x_width..];
                    let taps = (kernel_w - phase).div_ceil(stride[2]);
                    for first in (0..taps).step_by(SEGMENT) {
                        let x = &x[first..];
                        // The last row, vector and tap that are read.
                        assert!((height.max(1) - 1) * stride[1] * x_width + width + SEGMENT - 1 <= x.len());
                        let mut sums = [0.0; SEGMENT];
                        // SAFETY: asserted.
                        unsafe { segment_sums::<S>(x.as_ptr(), stride[1] * x_width, dy, width, &mut sums) };
                        for (k, sum) in sums.iter().enumerate().take(taps - first) {
                            totals[phase + (first + k) * stride[2]] += f64::from(*sum);
                        }
                    }
                }
            }
        }
    }
}

/// The inner products of dy with x as `SEGMENT` neighbouring taps see it.
///
/// # Safety
/// `x` has rows `x_step` apart for every row of dy, readable for `SEGMENT - 1` floats beyond dy's `width`, which is a
/// multiple of a vector.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn segment_sums<S: Simd>(x: *const f32, x_step: usize, dy: &[f32], width: usize, sums: &mut [f32; SEGMENT]) {
    // SAFETY: the conditions of this function.
    unsafe {
        let mut acc = [S::zero(); SEGMENT];
        for (h, dy) in dy.chunks_exact(width).enumerate() {
            let row = x.add(h * x_step);
            for w in (0..width).step_by(S::LANES) {
                let gradient = S::load(dy.as_ptr().add(w));
                for k in 0..SEGMENT {
                    acc[k] = S::load(row.add(w + k)).mul_add(gradient, acc[k]);
                }
            }
        }
        for k in 0..SEGMENT {
            let mut lanes = [0.0f32; VECTOR];
            acc[k].store(lanes.as_mut_ptr());
            sums[k] = lanes.iter().sum();
        }
    }
}
