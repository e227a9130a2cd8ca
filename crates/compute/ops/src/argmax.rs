//! From logits to labels.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::argmax::{self as kernel, Logits};
use crate::cpu::isa::Isa;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::tensor::{all_kernels_serve, floats, kernels_serve};

/// The channel of the greatest logit per voxel: `(b, c, spatial..)` to `u8` labels `(b, spatial..)`. The first of
/// several equal channels wins. No gradient.
///
/// # Errors
/// When there is no spatial axis, no channel, or more than 256 of them.
pub fn argmax_channels(logits: &Tensor) -> Result<Tensor> {
    check_channels("argmax_channels", logits)?;
    if !all_kernels_serve(&[logits]) {
        return composed::argmax_channels(logits);
    }
    logits.contiguous()?.apply_op1_no_bwd(&ArgmaxChannels)
}

/// The labels of two heads in one map: `label` where `above` `(b, c, spatial..)` has its greatest logit in any channel
/// but the first, which is background, and the channel of the greatest logit of `below` elsewhere. That is the tumor
/// head laid over the organ head. `u8` labels `(b, spatial..)`, no gradient.
///
/// # Errors
/// As [`argmax_channels`], and when the heads differ in anything but channels.
pub fn argmax_overlay(below: &Tensor, above: &Tensor, label: u8) -> Result<Tensor> {
    check_channels("argmax_overlay", below)?;
    check_channels("argmax_overlay", above)?;
    if below.dim(0)? != above.dim(0)? || below.dims()[2..] != above.dims()[2..] {
        bail!("argmax_overlay: two maps of the same voxels expected, found {:?} and {:?}", below.dims(), above.dims());
    }
    if !kernels_serve(&[below, above]) {
        return composed::argmax_overlay(below, above, label);
    }
    below.contiguous()?.apply_op2_no_bwd(&above.contiguous()?, &ArgmaxOverlay { label })
}

fn check_channels(op: &str, logits: &Tensor) -> Result<()> {
    if logits.rank() < 3 || !(1..=256).contains(&logits.dim(1)?) {
        bail!("{op}: (b, c, spatial..) with 1 to 256 channels expected, found {:?}", logits.dims());
    }
    Ok(())
}

fn labels(below: (&CpuStorage, &Layout), above: Option<(&CpuStorage, &Layout, u8)>) -> Result<(CpuStorage, Shape)> {
    let logits = |s, l: &Layout| floats(s, l).map(|values| (values, l.dims()[1]));
    let (values, classes) = logits(below.0, below.1)?;
    let above = match above {
        None => None,
        Some((s, l, label)) => logits(s, l).map(|(values, classes)| Some((Logits { values, classes }, label)))?,
    };
    let mut dims = below.1.dims().to_vec();
    dims.remove(1);
    let mut labels = vec![0u8; dims.iter().product()];
    if !labels.is_empty() {
        kernel::argmax(Isa::current(), Logits { values, classes }, above, dims[1..].iter().product(), &mut labels);
    }
    Ok((CpuStorage::U8(labels), dims.into()))
}

struct ArgmaxChannels;

impl CustomOp1 for ArgmaxChannels {
    fn name(&self) -> &'static str {
        "argmax-channels"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        labels((s, l), None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (classes, voxels) = (l.dims()[1], l.dims()[2..].iter().product());
        let mut dims = l.dims().to_vec();
        dims.remove(1);
        Ok((cuda::loss::argmax((s, l), classes, voxels)?, dims.into()))
    }
}

struct ArgmaxOverlay {
    label: u8,
}

impl CustomOp2 for ArgmaxOverlay {
    fn name(&self) -> &'static str {
        "argmax-overlay"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        labels((s1, l1), Some((s2, l2, self.label)))
    }
}
