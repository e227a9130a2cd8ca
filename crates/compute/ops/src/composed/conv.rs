//! Convolution and transposed convolution.

use candle_core::{Result, Tensor, bail};

use super::per_channel;
use crate::cpu::{ConvShape, Size3};

/// See [`crate::conv_with`]. A 3-D convolution is the sum, over the taps of its kernel along depth, of 2-D ones.
pub(crate) fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, shape: &ConvShape) -> Result<Tensor> {
    let y = per_group(x, weight, shape.groups, |x, weight| correlate(x, weight, shape.stride, shape.padding))?;
    add_channel_bias(&y, bias)
}

/// See [`crate::conv_transpose_with`]; `shape` is that of the convolution from the result to `x`.
pub(crate) fn conv_transpose(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, shape: &ConvShape) -> Result<Tensor> {
    let disjoint = shape.kernel == shape.stride && shape.padding == [0; 3] && shape.input == times(shape.output(), shape.stride);
    let y = if disjoint {
        // The weights of a transposed convolution have the input channels, which are grouped, first.
        let parts = group_parts(x, 1, weight, 0, shape.groups)?;
        let results: Result<Vec<Tensor>> = parts.iter().map(|(x, w)| conv_transpose_disjoint(x, w)).collect();
        Tensor::cat(&results?, 1)?
    } else {
        conv_transpose_spread(x, weight, shape)?
    };
    add_channel_bias(&y, bias)
}

fn times(a: Size3, b: Size3) -> Size3 {
    std::array::from_fn(|i| a[i] * b[i])
}

fn group_parts(x: &Tensor, x_axis: usize, weight: &Tensor, w_axis: usize, groups: usize) -> Result<Vec<(Tensor, Tensor)>> {
    Ok(x.chunk(groups, x_axis)?.into_iter().zip(weight.chunk(groups, w_axis)?).collect())
}

/// Joins what `op` makes of each group of input channels and its filters.
fn per_group(x: &Tensor, weight: &Tensor, groups: usize, op: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if groups == 1 {
        return op(x, weight);
    }
    let parts = group_parts(x, 1, weight, 0, groups)?;
    Tensor::cat(&parts.iter().map(|(x, w)| op(&x.contiguous()?, &w.contiguous()?)).collect::<Result<Vec<_>>>()?, 1)
}

fn correlate(x: &Tensor, weight: &Tensor, stride: Size3, padding: Size3) -> Result<Tensor> {
    match x.rank() {
        4 => conv2d(x, weight, [stride[1], stride[2]], [padding[1], padding[2]]),
        5 => conv3d(x, weight, stride, padding),
        rank => bail!("conv: input of rank 4 or 5 expected, found rank {rank}"),
    }
}

/// candle's gradient takes the rows that a stride leaves over at the end of the height for those of the width as well;
/// so a strided convolution is given exactly the padded input that its kernel visits. A stride of two values, which
/// candle's does not know, takes from the results of stride 1.
fn conv2d(x: &Tensor, weight: &Tensor, stride: [usize; 2], padding: [usize; 2]) -> Result<Tensor> {
    if stride == [1, 1] && padding[0] == padding[1] {
        return x.conv2d(weight, padding[0], 1, 1, 1);
    }
    let mut visited = x.clone();
    for (a, axis) in [2, 3].into_iter().enumerate() {
        let (size, kernel) = (x.dim(axis)? + 2 * padding[a], weight.dim(axis)?);
        let reach = (size - kernel) / stride[a] * stride[a] + kernel;
        visited = visited.pad_with_zeros(axis, padding[a], padding[a])?.narrow(axis, 0, reach)?;
    }
    let visited = visited.contiguous()?;
    if stride[0] == stride[1] {
        return visited.conv2d(weight, 0, stride[0], 1, 1);
    }
    let dense = visited.conv2d(weight, 0, 1, 1, 1)?;
    every(&every(&dense, 2, stride[0])?, 3, stride[1])
}

/// Every `stride`-th plane along an axis, from the first on.
pub(super) fn every(x: &Tensor, axis: usize, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let index: Vec<u32> = (0..x.dim(axis)? as u32).step_by(stride).collect();
    x.contiguous()?.index_select(&Tensor::new(index, x.device())?, axis)
}

fn conv3d(x: &Tensor, weight: &Tensor, stride: Size3, padding: Size3) -> Result<Tensor> {
    let (b, ci, d, h, w) = x.dims5()?;
    let (_, _, taps, _, _) = weight.dims5()?;
    let depth = (d + 2 * padding[0] - taps) / stride[0] + 1;
    // Depth next to the batch, so that a slice is an image: (b, d, ci, h, w).
    let slices = x.pad_with_zeros(2, padding[0], padding[0])?.transpose(1, 2)?.contiguous()?;
    let mut sum: Option<Tensor> = None;
    for tap in 0..taps {
        let taken = if stride[0] == 1 {
            slices.narrow(1, tap, depth)?
        } else {
            let index: Vec<u32> = (0..depth).map(|i| (i * stride[0] + tap) as u32).collect();
            slices.index_select(&Tensor::new(index, x.device())?, 1)?
        };
        let image = taken.reshape((b * depth, ci, h, w))?;
        let plane = weight.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?;
        let y = conv2d(&image, &plane, [stride[1], stride[2]], [padding[1], padding[2]])?;
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

/// Kernel equal to stride: every output voxel has one input voxel, so it is a matrix product and a permutation.
fn conv_transpose_disjoint(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (b, ci) = (x.dim(0)?, x.dim(1)?);
    let co = weight.dim(1)?;
    let (spatial, kernel) = (&x.dims()[2..], &weight.dims()[2..]);
    let matrix = weight.reshape((ci, co * kernel.iter().product::<usize>()))?.t()?.contiguous()?;
    let y = matrix.broadcast_matmul(&x.reshape((b, ci, spatial.iter().product::<usize>()))?)?;
    // (b, co, s, s, s, d, h, w) -> (b, co, d, s, h, s, w, s)
    let axes = spatial.len();
    let split = [&[b, co], kernel, spatial].concat();
    let mut order = vec![0, 1];
    order.extend((0..axes).flat_map(|axis| [2 + axes + axis, 2 + axis]));
    let mut shape = vec![b, co];
    shape.extend(spatial.iter().zip(kernel).map(|(n, k)| n * k));
    y.reshape(split)?.permute(order)?.contiguous()?.reshape(shape)
}

/// Any transposed convolution is a convolution, with the kernel mirrored, of the input spread out by the stride.
fn conv_transpose_spread(x: &Tensor, weight: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let axes = x.rank() - 2;
    let mut spread = x.clone();
    let mut mirrored = weight.contiguous()?;
    for axis in 2..x.rank() {
        let a = axis + 1 - axes;
        let (taps, padding) = (shape.kernel[a], shape.padding[a]);
        let backwards: Vec<u32> = (0..taps as u32).rev().collect();
        mirrored = mirrored.index_select(&Tensor::new(backwards, x.device())?, axis)?;
        // A full correlation has a margin of taps - 1 on both sides, of which the padding is cut off; at the end, the
        // result is as long as asked for.
        spread = interleave_zeros(&spread, axis, shape.stride[a])?.pad_with_zeros(axis, taps - 1, taps - 1 + shape.stride[a])?;
        spread = spread.narrow(axis, padding, shape.input[a] + taps - 1)?;
    }
    let results: Result<Vec<Tensor>> = group_parts(&spread, 1, &mirrored, 0, shape.groups)?
        .iter()
        .map(|(x, w)| correlate(&x.contiguous()?, &w.transpose(0, 1)?.contiguous()?, [1; 3], [0; 3]))
        .collect();
    Tensor::cat(&results?, 1)
}

/// `stride - 1` planes of zeros between any two planes along an axis.
fn interleave_zeros(x: &Tensor, axis: usize, stride: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims[axis] *= stride;
    let spread = x.contiguous()?.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, stride - 1)?;
    let last = dims[axis] - (stride - 1);
    spread.reshape(dims)?.narrow(axis, 0, last)
}

fn add_channel_bias(y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        None => Ok(y.clone()),
        Some(bias) => y.broadcast_add(&per_channel(bias, y.rank())?),
    }
}
