//! Pooling, replication of borders and joining of channels.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::pad::{self, Padding};
use crate::cpu::pool::{self, Pooling};
use crate::cpu::{Size3, written};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::tensor::{all_kernels_serve, dims_like, floats, per_axis, volumes};

/// Maximum pooling of `x` `(b, c, h, w)` or `(b, c, d, h, w)` with kernel and stride 2: sizes are halved, and the
/// last plane of an odd size is dropped. The gradient goes to the first maximum of each window.
///
/// # Errors
/// When `x` has another rank, or an axis shorter than 2.
pub fn max_pool2(x: &Tensor) -> Result<Tensor> {
    pooling(x.dims())?;
    if !all_kernels_serve(&[x]) {
        return composed::max_pool2(x);
    }
    x.contiguous()?.apply_op1(MaxPool2)
}

/// Doubles the last plane of `x` `(b, c, h, w)` or `(b, c, d, h, w)` along the spatial axes marked in `axes`: how an
/// upsampled volume is brought to the odd size of its skip connection.
///
/// # Errors
/// When `axes` does not have one entry per spatial axis, or `x` is empty.
pub fn pad_replicate_end(x: &Tensor, axes: &[bool]) -> Result<Tensor> {
    let (_, _, size) = volumes("pad_replicate_end", x.dims())?;
    if axes.len() + 2 != x.rank() || size.contains(&0) {
        bail!("pad_replicate_end: {axes:?} must have one entry per spatial axis of {:?}, none of them empty", x.dims());
    }
    if !axes.contains(&true) {
        return Ok(x.clone());
    }
    if !all_kernels_serve(&[x]) {
        return composed::pad_replicate_end(x, axes);
    }
    let mut grow = [0; 3];
    for (grow, &pad) in grow[3 - axes.len()..].iter_mut().zip(axes) {
        *grow = usize::from(pad);
    }
    x.contiguous()?.apply_op1(PadReplicateEnd { grow })
}

/// Joins tensors along the channels: `(b, c1, ..)`, `(b, c2, ..)`, .. to `(b, c1 + c2 + .., ..)`.
///
/// # Errors
/// When the tensors differ in anything but channels.
pub fn concat_channels(tensors: &[&Tensor]) -> Result<Tensor> {
    Tensor::cat(tensors, 1)
}

fn pooling(dims: &[usize]) -> Result<Pooling> {
    let (_, _, input) = volumes("max_pool2", dims)?;
    let pooling = Pooling { input, window: per_axis(dims.len(), 2, 1) };
    if pooling.output().contains(&0) {
        bail!("max_pool2: every spatial axis of {dims:?} must be at least 2 long");
    }
    Ok(pooling)
}

/// x to y.
struct MaxPool2;

impl CustomOp1 for MaxPool2 {
    fn name(&self) -> &'static str {
        "max-pool2"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let pooling = pooling(l.dims())?;
        let (batch, channels, _) = volumes(self.name(), l.dims())?;
        let dims = dims_like(l.dims(), batch, channels, pooling.output());
        let x = floats(s, l)?;
        let y = written(dims.iter().product(), |y| pool::forward(Isa::current(), pooling, x, y));
        Ok((CpuStorage::F32(y), dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let pooling = pooling(l.dims())?;
        let (batch, channels, _) = volumes(self.name(), l.dims())?;
        let dims = dims_like(l.dims(), batch, channels, pooling.output());
        Ok((cuda::pool::max_pool2((s, l), pooling)?, dims.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&dy.contiguous()?, &MaxPool2Gradient).map(Some)
    }
}

/// `(x, dy)` to dx. The maxima are sought again, which costs less than keeping their places.
struct MaxPool2Gradient;

impl CustomOp2 for MaxPool2Gradient {
    fn name(&self) -> &'static str {
        "max-pool2-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (pooling, x, dy) = (pooling(l1.dims())?, floats(s1, l1)?, floats(s2, l2)?);
        let dx = written(x.len(), |dx| pool::backward(Isa::current(), pooling, x, dy, dx));
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((cuda::pool::max_pool2_gradient((s1, l1), (s2, l2), pooling(l1.dims())?)?, l1.shape().clone()))
    }
}

/// x to y.
#[derive(Clone, Copy)]
struct PadReplicateEnd {
    grow: Size3,
}

impl CustomOp1 for PadReplicateEnd {
    fn name(&self) -> &'static str {
        "pad-replicate-end"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, input) = volumes(self.name(), l.dims())?;
        let padding = Padding { input, grow: self.grow };
        let dims = dims_like(l.dims(), batch, channels, padding.output());
        let x = floats(s, l)?;
        let y = written(dims.iter().product(), |y| pad::forward(padding, x, y));
        Ok((CpuStorage::F32(y), dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (batch, channels, input) = volumes(self.name(), l.dims())?;
        let padding = Padding { input, grow: self.grow };
        let dims = dims_like(l.dims(), batch, channels, padding.output());
        Ok((cuda::pool::pad_replicate_end((s, l), padding)?, dims.into()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        dy.contiguous()?.apply_op1_no_bwd(&PadReplicateEndGradient(*self)).map(Some)
    }
}

/// dy to dx.
struct PadReplicateEndGradient(PadReplicateEnd);

impl CustomOp1 for PadReplicateEndGradient {
    fn name(&self) -> &'static str {
        "pad-replicate-end-gradient"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, output) = volumes(self.name(), l.dims())?;
        let input = std::array::from_fn(|a| output[a] - self.0.grow[a]);
        let dims = dims_like(l.dims(), batch, channels, input);
        let (padding, dy) = (Padding { input, grow: self.0.grow }, floats(s, l)?);
        let dx = written(dims.iter().product(), |dx| pad::backward(padding, dy, dx));
        Ok((CpuStorage::F32(dx), dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (batch, channels, output) = volumes(self.name(), l.dims())?;
        let input = std::array::from_fn(|a| output[a] - self.0.grow[a]);
        let dims = dims_like(l.dims(), batch, channels, input);
        Ok((cuda::pool::pad_replicate_end_gradient((s, l), Padding { input, grow: self.0.grow })?, dims.into()))
    }
}
