//! Operations on rows, the last axis of a tensor: layer normalisation and softmax.

use super::functions::exp;
use super::isa::{Isa, per_isa};
use super::sums::{lane_sum, lane_sum2, maximum, moments};
use super::{Unwritten, assume_written, filled, filled_in_tasks, written_in_tasks};

/// Floats per task, in whole rows.
const TASK: usize = 1 << 15;

fn task_len(row: usize) -> usize {
    (TASK / row).max(1) * row
}

/// y = gamma (x - mean) / sqrt(variance + eps) + beta, rows being as long as gamma.
#[allow(unsafe_code)]
pub(crate) fn layer_norm<'y>(isa: Isa, x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &'y mut Unwritten) -> &'y mut [f32] {
    assert!(y.len().is_multiple_of(gamma.len()) && beta.len() == gamma.len(), "whole rows, and a factor and a shift for each column");
    let len = task_len(gamma.len());
    filled_in_tasks(y, len, |at, y| {
        let x = &x[at * len..][..y.len()];
        // SAFETY: safe code but for the instruction set; rows are whole, and every element of each is written.
        unsafe {
            layer_norm_rows(isa, x, gamma, beta, eps, y);
            assume_written(y)
        }
    })
}

per_isa! {
    unsafe fn layer_norm_rows<S>(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut Unwritten) {
        for (x, y) in x.chunks_exact(gamma.len()).zip(y.chunks_exact_mut(gamma.len())) {
            let (mean, scale) = statistics(x, eps);
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                y.write((x - mean) * scale * gamma + beta);
            }
        }
    }
}

#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let (mean, variance) = moments(row);
    (mean as f32, 1.0 / (variance as f32 + eps).sqrt())
}

/// The gradients by x, gamma and beta, one behind the other. With h the normalised row and g = gamma dy,
/// `dx = scale (g - mean(g) - h mean(g h))`; the statistics are computed again, which costs less than keeping them.
#[allow(unsafe_code)]
pub(crate) fn layer_norm_backward<'y>(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    dy: &[f32],
    eps: f32,
    gradients: &'y mut Unwritten,
) -> &'y mut [f32] {
    let row = gamma.len();
    let len = task_len(row);
    assert!(x.len().is_multiple_of(row), "whole rows");
    let (dx, parameters) = gradients.split_at_mut(x.len());
    let (partial, _) = written_in_tasks(dx, len, |at, dx| {
        let (x, dy) = (&x[at * len..][..dx.len()], &dy[at * len..][..dx.len()]);
        let mut sums = vec![0.0; 2 * row];
        // SAFETY: safe code but for the instruction set; rows are whole, and every element of each is written.
        unsafe {
            layer_norm_rows_backward(isa, x, gamma, dy, eps, dx, &mut sums);
            (sums, assume_written(dx))
        }
    });
    let total = |at: usize| partial.iter().map(|sums| f64::from(sums[at])).sum::<f64>() as f32;
    filled(parameters, 0.0).iter_mut().enumerate().for_each(|(at, sum)| *sum = total(at));
    // SAFETY: the gradients by x and behind them those by gamma and beta are written.
    unsafe { assume_written(gradients) }
}

per_isa! {
    unsafe fn layer_norm_rows_backward<S>(
        x: &[f32],
        gamma: &[f32],
        dy: &[f32],
        eps: f32,
        dx: &mut Unwritten,
        sums: &mut [f32],
    ) {
        let row = gamma.len();
        let (dgamma, dbeta) = sums.split_at_mut(row);
        let mut weighted = vec![0.0; row];
        for ((x, dy), dx) in x.chunks_exact(row).zip(dy.chunks_exact(row)).zip(dx.chunks_exact_mut(row)) {
            let (mean, scale) = statistics(x, eps);
            // The normalised row stands in dx until it is needed no more.
            for (h, x) in dx.iter_mut().zip(x) {
                h.write((x - mean) * scale);
            }
            // SAFETY: a row of dx is as long as one of x.
            let dx = unsafe { assume_written(dx) };
            for (((dgamma, dbeta), h), dy) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(dx.iter()).zip(dy) {
                *dgamma += dy * h;
                *dbeta += dy;
            }
            for ((g, gamma), dy) in weighted.iter_mut().zip(gamma).zip(dy) {
                *g = gamma * dy;
            }
            let mean_g = (lane_sum(&weighted, |g| g) / row as f64) as f32;
            let mean_gh = (lane_sum2(&weighted, dx, |g, h| g * h) / row as f64) as f32;
            for (dx, g) in dx.iter_mut().zip(&weighted) {
                *dx = scale * (g - mean_g - *dx * mean_gh);
            }
        }
    }
}

/// The softmax of every row of `row` elements.
#[allow(unsafe_code)]
pub(crate) fn softmax<'y>(isa: Isa, x: &[f32], row: usize, y: &'y mut Unwritten) -> &'y mut [f32] {
    assert!(y.len().is_multiple_of(row), "whole rows");
    let len = task_len(row);
    filled_in_tasks(y, len, |at, y| {
        let x = &x[at * len..][..y.len()];
        // SAFETY: safe code but for the instruction set; rows are whole, and every element of each is written.
        unsafe {
            softmax_rows(isa, x, row, y);
            assume_written(y)
        }
    })
}

per_isa! {
    unsafe fn softmax_rows<S>(x: &[f32], row: usize, y: &mut Unwritten) {
        for (x, y) in x.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
            let greatest = maximum(x);
            for (y, x) in y.iter_mut().zip(x) {
                y.write(exp::<S>(x - greatest));
            }
            // SAFETY: a row of y is as long as one of x.
            let y = unsafe { assume_written(y) };
            let reciprocal = (1.0 / lane_sum(y, |y| y)) as f32;
            for y in y.iter_mut() {
                *y *= reciprocal;
            }
        }
    }
}

/// dx = y (dy - sum(y dy)), from the softmax y.
#[allow(unsafe_code)]
pub(crate) fn softmax_backward<'y>(isa: Isa, y: &[f32], dy: &[f32], row: usize, dx: &'y mut Unwritten) -> &'y mut [f32] {
    assert!(dx.len().is_multiple_of(row), "whole rows");
    let len = task_len(row);
    filled_in_tasks(dx, len, |at, dx| {
        let (y, dy) = (&y[at * len..][..dx.len()], &dy[at * len..][..dx.len()]);
        // SAFETY: safe code but for the instruction set; rows are whole, and every element of each is written.
        unsafe {
            softmax_rows_backward(isa, y, dy, row, dx);
            assume_written(dx)
        }
    })
}

per_isa! {
    unsafe fn softmax_rows_backward<S>(y: &[f32], dy: &[f32], row: usize, dx: &mut Unwritten) {
        for ((y, dy), dx) in y.chunks_exact(row).zip(dy.chunks_exact(row)).zip(dx.chunks_exact_mut(row)) {
            let mean = lane_sum2(y, dy, |y, dy| y * dy) as f32;
            for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                dx.write(y * (dy - mean));
            }
        }
    }
}
