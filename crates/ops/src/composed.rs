//! Every operation written in candle's own differentiable tensor operations.
//!
//! This is what runs on CUDA and for element types other than `f32`. It is slow on the CPU, but it is short and
//! gets its gradients from candle, so the tests also hold the kernels of this crate against it.
//!
//! Operations of candle whose gradients are wrong (`max_pool2d`, `upsample_nearest2d` with several consumers,
//! `softmax_last_dim`) are avoided; the tests check every gradient here by finite differences in `f64`.

use candle_core::{D, DType, Result, Tensor, bail};

use crate::loss::{SMOOTH, Terms};

/// See [`crate::conv`]. A 3-D convolution is the sum, over the taps of its kernel along depth, of 2-D ones.
pub(crate) fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let y = match x.rank() {
        4 => conv2d(x, weight, stride, padding)?,
        5 => conv3d(x, weight, stride, padding)?,
        rank => bail!("conv: input of rank 4 or 5 expected, found rank {rank}"),
    };
    add_channel_bias(&y, bias)
}

/// candle's gradient takes the rows that a stride leaves over at the end of the height for those of the width as well;
/// so a strided convolution is given exactly the padded input that its kernel visits.
fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    if stride == 1 {
        return x.conv2d(weight, padding, 1, 1, 1);
    }
    let mut visited = x.clone();
    for axis in [2, 3] {
        let (size, kernel) = (x.dim(axis)? + 2 * padding, weight.dim(axis)?);
        visited = visited.pad_with_zeros(axis, padding, padding)?.narrow(axis, 0, (size - kernel) / stride * stride + kernel)?;
    }
    visited.contiguous()?.conv2d(weight, 0, stride, 1, 1)
}

fn conv3d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let (b, ci, d, h, w) = x.dims5()?;
    let (_, _, taps, _, _) = weight.dims5()?;
    if d + 2 * padding < taps {
        bail!("conv: depth {d} with padding {padding} is smaller than the kernel's {taps}");
    }
    let depth = (d + 2 * padding - taps) / stride + 1;
    // Depth next to the batch, so that a slice is an image: (b, d, ci, h, w).
    let slices = x.pad_with_zeros(2, padding, padding)?.transpose(1, 2)?.contiguous()?;
    let mut sum: Option<Tensor> = None;
    for tap in 0..taps {
        let taken = if stride == 1 {
            slices.narrow(1, tap, depth)?
        } else {
            let index: Vec<u32> = (0..depth).map(|i| (i * stride + tap) as u32).collect();
            slices.index_select(&Tensor::new(index, x.device())?, 1)?
        };
        let image = taken.reshape((b * depth, ci, h, w))?;
        let plane = weight.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?;
        let y = conv2d(&image, &plane, stride, padding)?;
        sum = Some(match sum {
            None => y,
            Some(sum) => (sum + y)?,
        });
    }
    let Some(sum) = sum else {
        bail!("conv: the kernel has no taps along depth");
    };
    let (_, co, oh, ow) = sum.dims4()?;
    sum.reshape((b, depth, co, oh, ow))?.transpose(1, 2)?.contiguous()
}

/// See [`crate::conv_transpose`].
pub(crate) fn conv_transpose(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Result<Tensor> {
    let kernel = weight.dims().get(2..).unwrap_or(&[]);
    let y = if kernel.iter().all(|&k| k == stride) {
        conv_transpose_disjoint(x, weight, stride)?
    } else if x.rank() == 4 {
        x.contiguous()?.conv_transpose2d(&weight.contiguous()?, 0, 0, stride, 1)?
    } else {
        conv_transpose3d(x, weight, stride)?
    };
    add_channel_bias(&y, bias)
}

/// Kernel equal to stride: every output voxel has one input voxel, so it is a matrix product and a permutation.
fn conv_transpose_disjoint(x: &Tensor, weight: &Tensor, stride: usize) -> Result<Tensor> {
    let (b, ci) = (x.dim(0)?, x.dim(1)?);
    let co = weight.dim(1)?;
    let spatial = &x.dims()[2..];
    let taps = stride.pow(spatial.len() as u32);
    let matrix = weight.reshape((ci, co * taps))?.t()?.contiguous()?;
    let y = matrix.broadcast_matmul(&x.reshape((b, ci, spatial.iter().product::<usize>()))?)?;
    // (b, co, s, s, s, d, h, w) -> (b, co, d, s, h, s, w, s)
    let axes = spatial.len();
    let mut split = vec![b, co];
    split.extend(std::iter::repeat_n(stride, axes));
    split.extend(spatial);
    let mut order = vec![0, 1];
    order.extend((0..axes).flat_map(|axis| [2 + axes + axis, 2 + axis]));
    let mut shape = vec![b, co];
    shape.extend(spatial.iter().map(|n| n * stride));
    y.reshape(split)?.permute(order)?.contiguous()?.reshape(shape)
}

fn conv_transpose3d(x: &Tensor, weight: &Tensor, stride: usize) -> Result<Tensor> {
    let (b, ci, d, h, w) = x.dims5()?;
    let (_, co, taps, _, _) = weight.dims5()?;
    let depth = (d - 1) * stride + taps;
    let images = x.transpose(1, 2)?.contiguous()?.reshape((b * d, ci, h, w))?;
    let mut sum: Option<Tensor> = None;
    for tap in 0..taps {
        let plane = weight.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?;
        let y = images.conv_transpose2d(&plane, 0, 0, stride, 1)?;
        let (_, _, oh, ow) = y.dims4()?;
        // Slice i of the input lands on slice `i * stride + tap` of the output.
        let spread = y
            .reshape((b, d, 1, co, oh, ow))?
            .pad_with_zeros(2, 0, stride - 1)?
            .reshape((b, d * stride, co, oh, ow))?
            .pad_with_zeros(1, tap, taps)?
            .narrow(1, 0, depth)?;
        sum = Some(match sum {
            None => spread,
            Some(sum) => (sum + spread)?,
        });
    }
    match sum {
        Some(sum) => sum.transpose(1, 2)?.contiguous(),
        None => bail!("conv_transpose: the kernel has no taps along depth"),
    }
}

fn add_channel_bias(y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        None => Ok(y.clone()),
        Some(bias) => y.broadcast_add(&per_channel(bias, y.rank())?),
    }
}

/// A vector of one value per channel, shaped (1, c, 1, ..) to go with a tensor of the given rank.
fn per_channel(values: &Tensor, rank: usize) -> Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[1] = values.elem_count();
    values.reshape(shape)
}

/// See [`crate::instance_norm_leaky_relu`].
pub(crate) fn instance_norm_leaky_relu(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64, slope: f64) -> Result<Tensor> {
    let flat = x.flatten_from(2)?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
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
pub(crate) fn segmentation_loss(logits: &Tensor, target: &Tensor, terms: Terms) -> Result<Tensor> {
    let classes = logits.dim(1)?;
    let logits = logits.flatten_from(2)?; // (b, c, n)
    let labels = Tensor::arange(0u32, classes as u32, logits.device())?.reshape((1, classes, 1))?;
    let one_hot = target.flatten_from(1)?.to_dtype(DType::U32)?.unsqueeze(1)?.broadcast_eq(&labels)?.to_dtype(logits.dtype())?;
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
        let mass = sum(if dice.squared { p.sqr()? } else { p })?;
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
