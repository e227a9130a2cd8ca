//! From candle's storages to the kernels' slices.

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};

use crate::cpu::Size3;

/// Whether the CPU kernels of this crate serve these tensors; otherwise the composed operations do.
pub(crate) fn kernels_serve(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The same for an operation that has kernels for CUDA too.
pub(crate) fn all_kernels_serve(tensors: &[&Tensor]) -> bool {
    kernels_serve(tensors) || tensors.iter().all(|t| t.device().is_cuda() && t.dtype() == DType::F32)
}

/// The same for convolutions, which cuDNN also computes on `bf16`.
pub(crate) fn convolutions_serve(tensors: &[&Tensor]) -> bool {
    all_kernels_serve(tensors) || tensors.iter().all(|t| t.device().is_cuda() && t.dtype() == DType::BF16)
}

/// The elements of a contiguous `f32` tensor.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a contiguous f32 tensor expected, found {layout:?}"),
    }
}

/// The elements of a contiguous `f32` tensor, to be changed in place.
pub(crate) fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("a contiguous f32 tensor expected, found {layout:?}"),
    }
}

/// Batch, channels and size of `(b, c, h, w)` or `(b, c, d, h, w)`; an image has depth 1.
pub(crate) fn volumes(op: &str, dims: &[usize]) -> Result<(usize, usize, Size3)> {
    match *dims {
        [b, c, h, w] => Ok((b, c, [1, h, w])),
        [b, c, d, h, w] => Ok((b, c, [d, h, w])),
        _ => bail!("{op}: (b, c, h, w) or (b, c, d, h, w) expected, found shape {dims:?}"),
    }
}

/// The dimensions of a result like `volumes` takes apart, of the same rank as `like`.
pub(crate) fn dims_like(like: &[usize], batch: usize, channels: usize, size: Size3) -> Vec<usize> {
    let mut dims = vec![batch, channels];
    dims.extend(&size[5 - like.len()..]);
    dims
}

/// One value for every axis, with `for_depth` along the depth that an image does not have.
pub(crate) fn per_axis(rank: usize, value: usize, for_depth: usize) -> Size3 {
    let depth = if rank == 4 { for_depth } else { value };
    [depth, value, value]
}
