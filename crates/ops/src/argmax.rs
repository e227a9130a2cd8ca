//! From logits to labels.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::loss;
use crate::tensor::{floats, kernels_serve};

/// The channel of the greatest logit per voxel: `(b, c, spatial..)` to `u8` labels `(b, spatial..)`. The first of
/// several equal channels wins. No gradient.
///
/// # Errors
/// When there is no spatial axis, no channel, or more than 256 of them.
pub fn argmax_channels(logits: &Tensor) -> Result<Tensor> {
    if logits.rank() < 3 || !(1..=256).contains(&logits.dim(1)?) {
        bail!("argmax_channels: (b, c, spatial..) with 1 to 256 channels expected, found {:?}", logits.dims());
    }
    if !kernels_serve(&[logits]) {
        return composed::argmax_channels(logits);
    }
    logits.contiguous()?.apply_op1_no_bwd(&ArgmaxChannels)
}

struct ArgmaxChannels;

impl CustomOp1 for ArgmaxChannels {
    fn name(&self) -> &'static str {
        "argmax-channels"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (classes, voxels) = (l.dims()[1], l.dims()[2..].iter().product());
        let mut dims = l.dims().to_vec();
        dims.remove(1);
        let mut labels = vec![0u8; dims.iter().product()];
        if !labels.is_empty() {
            loss::argmax(Isa::current(), floats(s, l)?, classes, voxels, &mut labels);
        }
        Ok((CpuStorage::U8(labels), dims.into()))
    }
}
