//! Resampling of feature maps to another size.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::upsample::{self, Resampling, Rule};
use crate::cpu::{Size3, written};
use crate::tensor::{dims_like, floats, kernels_serve, volumes};

/// `x` `(b, c, h, w)` or `(b, c, d, h, w)` at another spatial size, every voxel with the value of the voxel of `x` in
/// which its first corner lies: PyTorch's `interpolate(mode="nearest")`, in exact arithmetic.
///
/// # Errors
/// When `size` does not have one entry per spatial axis, or a size is zero.
pub fn upsample_nearest(x: &Tensor, size: &[usize]) -> Result<Tensor> {
    resample("upsample_nearest", Rule::Nearest, x, size)
}

/// `x` at another spatial size, bilinear or trilinear between the voxels' middles: PyTorch's
/// `interpolate(mode="bilinear" or "trilinear", align_corners=False)`. Smaller sizes are not smoothed for.
///
/// # Errors
/// As [`upsample_nearest`].
pub fn upsample_linear(x: &Tensor, size: &[usize]) -> Result<Tensor> {
    resample("upsample_linear", Rule::Linear, x, size)
}

fn resample(op: &str, rule: Rule, x: &Tensor, size: &[usize]) -> Result<Tensor> {
    let (_, _, from) = volumes(op, x.dims())?;
    if size.len() + 2 != x.rank() || size.contains(&0) || from.contains(&0) {
        bail!("{op}: sizes above 0 for every spatial axis of input {:?} expected, found {size:?}", x.dims());
    }
    if x.dims()[2..] == *size {
        return Ok(x.clone());
    }
    if !kernels_serve(&[x]) {
        return composed::resample(x, size, rule);
    }
    let mut to = [1; 3];
    to[3 - size.len()..].copy_from_slice(size);
    x.contiguous()?.apply_op1(Resample { rule, to })
}

/// x to y.
#[derive(Clone, Copy)]
struct Resample {
    rule: Rule,
    to: Size3,
}

impl CustomOp1 for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, from) = volumes(self.name(), l.dims())?;
        let dims = dims_like(l.dims(), batch, channels, self.to);
        let (resampling, x) = (Resampling::new(self.rule, from, self.to), floats(s, l)?);
        let y = written(dims.iter().product(), |y| upsample::forward(Isa::current(), &resampling, x, y));
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, from) = volumes(self.name(), x.dims())?;
        dy.contiguous()?.apply_op1_no_bwd(&ResampleGradient { resample: *self, from }).map(Some)
    }
}

/// dy to dx.
struct ResampleGradient {
    resample: Resample,
    from: Size3,
}

impl CustomOp1 for ResampleGradient {
    fn name(&self) -> &'static str {
        "resample-gradient"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, to) = volumes(self.name(), l.dims())?;
        let dims = dims_like(l.dims(), batch, channels, self.from);
        let (resampling, dy) = (Resampling::new(self.resample.rule, self.from, to), floats(s, l)?);
        let dx = written(dims.iter().product(), |dx| upsample::backward(Isa::current(), &resampling, dy, dx));
        Ok((CpuStorage::F32(dx), dims.into()))
    }
}
