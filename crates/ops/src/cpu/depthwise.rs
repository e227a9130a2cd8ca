//! The gradient by the weights of a convolution whose groups have one input channel each.
//!
//! Lanes are positions of a row here: with one input channel and few output channels, lanes of output channels as in
//! `conv_filter` would be empty.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::ConvShape;
use super::isa::{Isa, per_isa};

/// Partial sums of a dot product: several vectors of any instruction set.
const LANES: usize = 32;

/// dw. Shapes: x `(n, groups, input)`, dy `(n, co, output)`, dw `(co, 1, kernel)`, all written.
pub(super) fn backward_filter(isa: Isa, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (input, output) = (shape.input.iter().product::<usize>(), shape.output().iter().product::<usize>());
    let filters = shape.out_channels / shape.groups;
    dw.par_chunks_mut(shape.taps()).enumerate().for_each(|(out, dw)| {
        let mut totals = vec![0.0f64; dw.len()];
        for n in 0..shape.batch {
            let x = &x[(n * shape.groups + out / filters) * input..][..input];
            let dy = &dy[(n * shape.out_channels + out) * output..][..output];
            // SAFETY: safe code but for the instruction set.
            unsafe { add_volume(isa, shape, x, dy, &mut totals) };
        }
        for (value, total) in dw.iter_mut().zip(&totals) {
            *value = *total as f32;
        }
    });
}

per_isa! {
    /// Adds one volume's part to the sums of all taps.
    unsafe fn add_volume<S>(shape: &ConvShape, x: &[f32], dy: &[f32], totals: &mut [f64]) {
        let [_, height, width] = shape.output();
        let mut row_sums = vec![0.0f32; shape.kernel[2]];
        for (row, dy) in dy.chunks_exact(width.max(1)).enumerate() {
            let q = [row / height, row % height];
            for (i, totals) in totals.chunks_exact_mut(shape.kernel[2]).enumerate() {
                let tap = [i / shape.kernel[1], i % shape.kernel[1]];
                let Some(start) = input_row(shape, q, tap) else { continue };
                let x = &x[start..][..shape.input[2]];
                add_row(shape, x, dy, &mut row_sums);
                for (total, sum) in totals.iter_mut().zip(&row_sums) {
                    *total += f64::from(*sum);
                }
            }
        }
    }
}

/// Where the row of the input starts that a tap sees from a row of the output; none if it is padding.
#[inline(always)]
fn input_row(shape: &ConvShape, q: [usize; 2], tap: [usize; 2]) -> Option<usize> {
    let [depth, height, width] = shape.input;
    let d = (q[0] * shape.stride[0] + tap[0]).checked_sub(shape.padding[0]).filter(|&d| d < depth)?;
    let h = (q[1] * shape.stride[1] + tap[1]).checked_sub(shape.padding[1]).filter(|&h| h < height)?;
    Some((d * height + h) * width)
}

/// The inner products of a row of the output gradient with the input as every tap along the width sees it.
#[inline(always)]
fn add_row(shape: &ConvShape, x: &[f32], dy: &[f32], sums: &mut [f32]) {
    let (stride, padding) = (shape.stride[2], shape.padding[2]);
    for (tap, sum) in sums.iter_mut().enumerate() {
        // Positions q with padding <= q * stride + tap < padding + width.
        let first = padding.saturating_sub(tap).div_ceil(stride).min(dy.len());
        let end = (padding + x.len()).saturating_sub(tap).div_ceil(stride).clamp(first, dy.len());
        if first == end {
            *sum = 0.0;
            continue;
        }
        let x = &x[first * stride + tap - padding..];
        let dy = &dy[first..end];
        *sum = if stride == 1 { dot(x, dy) } else { dy.iter().zip(x.iter().step_by(stride)).map(|(dy, x)| dy * x).sum() };
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let a = &a[..b.len()];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            lanes[l] += a[l] * b[l];
        }
    }
    for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[l] += a * b;
    }
    lanes.iter().sum()
}
