//! Every operation written in candle's own differentiable tensor operations.
//!
//! This is what runs for element types other than `f32`, and on CUDA for what has no kernel there. It is slow, but it is
//! short and gets its gradients from candle, so the tests also hold the kernels of this crate against it.
//!
//! Operations of candle whose gradients are wrong (`max_pool2d`, `upsample_nearest2d` with several consumers,
//! `softmax_last_dim`) are avoided; the tests check every gradient here by finite differences in `f64`.

use candle_core::{D, DType, Result, Tensor};

use crate::loss::{SMOOTH, Target, Terms};

mod conv;
mod maps;
mod tokens;

pub(crate) use conv::{conv, conv_transpose};
pub(crate) use maps::{argmax_overlay, max_pool, resample};
pub(crate) use tokens::{attention, gelu, layer_norm, softmax};

/// A vector of one value per channel, shaped (1, c, 1, ..) to go with a tensor of the given rank.
fn per_channel(values: &Tensor, rank: usize) -> Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[1] = values.elem_count();
    values.reshape(shape)
}

/// See [`crate::group_norm_leaky_relu`].
pub(crate) fn norm_leaky_relu(x: &Tensor, groups: usize, gamma: &Tensor, beta: &Tensor, eps: f64, slope: f64) -> Result<Tensor> {
    let (b, c) = (x.dim(0)?, x.dim(1)?);
    let flat = x.reshape((b, groups, ()))?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape((b, c, ()))?;
    let y = normed.broadcast_mul(&per_channel(gamma, 3)?)?.broadcast_add(&per_channel(beta, 3)?)?.reshape(x.shape())?;
    // As in PyTorch, the derivative at exactly zero is the slope.
    y.gt(0f64)?.where_cond(&y, &(&y * slope)?)
}

/// See [`crate::max_pool2`]. The first of several maxima takes the gradient, because `argmax` returns the first.
pub(crate) fn max_pool2(x: &Tensor) -> Result<Tensor> {
    let axes = x.rank() - 2;
    let mut even = x.clone();
    let mut split = x.dims()[..2].to_vec();
    for axis in 2..x.rank() {
        let half = x.dim(axis)? / 2;
        even = even.narrow(axis, 0, 2 * half)?;
        split.extend([half, 2]);
    }
    // (b, c, d, 2, h, 2, w, 2) -> (b, c, d, h, w, 8)
    let mut order = vec![0, 1];
    order.extend((0..axes).map(|axis| 2 + 2 * axis));
    order.extend((0..axes).map(|axis| 3 + 2 * axis));
    let mut shape = x.dims()[..2].to_vec();
    shape.extend(x.dims()[2..].iter().map(|n| n / 2));
    let windows = even.contiguous()?.reshape(split)?.permute(order)?.contiguous()?.reshape((shape.iter().product::<usize>(), 1 << axes))?;
    let first_maximum = windows.argmax_keepdim(1)?;
    windows.gather(&first_maximum, 1)?.reshape(shape)
}

/// See [`crate::pad_replicate_end`].
pub(crate) fn pad_replicate_end(x: &Tensor, axes: &[bool]) -> Result<Tensor> {
    let mut y = x.clone();
    for (axis, _) in axes.iter().enumerate().filter(|(_, pad)| **pad) {
        let last = y.narrow(2 + axis, y.dim(2 + axis)? - 1, 1)?;
        y = Tensor::cat(&[&y, &last], 2 + axis)?;
    }
    Ok(y)
}

/// See [`crate::DiceCe`]. The sum of the terms asked for.
pub(crate) fn segmentation_loss(logits: &Tensor, target: Target<'_>, terms: Terms) -> Result<Tensor> {
    let classes = logits.dim(1)?;
    let logits = logits.flatten_from(2)?; // (b, c, n)
    let of_voxels = |values: &Tensor| values.flatten_from(1)?.unsqueeze(1)?.to_dtype(logits.dtype()); // (b, 1, n)
    let weights = target.weights.map(of_voxels).transpose()?;
    let weighted = |values: Tensor| weights.as_ref().map_or(Ok(values.clone()), |weights| values.broadcast_mul(weights));
    let labels = Tensor::arange(0u32, classes as u32, logits.device())?.reshape((1, classes, 1))?;
    let one_hot = target.labels.flatten_from(1)?.to_dtype(DType::U32)?.unsqueeze(1)?.broadcast_eq(&labels)?.to_dtype(logits.dtype())?;
    let one_hot = weighted(one_hot)?;
    // The maximum only keeps the exponentials in range; it does not change the value, so it takes no gradient.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    let log_probability = shifted.broadcast_sub(&log_sum)?;
    let mut loss = Tensor::zeros((), logits.dtype(), logits.device())?;
    if terms.cross_entropy {
        let voxels = logits.dim(0)? * logits.dim(2)?;
        let picked = (&log_probability * &one_hot)?.sum_all()?;
        loss = (loss - (picked / voxels as f64)?)?;
    }
    if let Some(dice) = terms.dice {
        let p = log_probability.exp()?;
        let sum = |values: Tensor| if dice.batch { values.sum((0, 2)) } else { values.sum(D::Minus1) };
        let overlap = sum((&p * &one_hot)?)?;
        let mass = sum(weighted(if dice.squared { p.sqr()? } else { p })?)?;
        let denominator = ((mass + sum(one_hot)?)? + SMOOTH)?;
        let score = ((overlap * 2.0)? + SMOOTH)?.div(&denominator)?;
        loss = (loss + score.affine(-1.0, 1.0)?.mean_all()?)?;
    }
    Ok(loss)
}

/// See [`crate::argmax_channels`].
pub(crate) fn argmax_channels(logits: &Tensor) -> Result<Tensor> {
    logits.argmax(1)?.to_dtype(DType::U8)
}
