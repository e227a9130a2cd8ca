//! Convolution, instance normalisation and activation as one operation.
//!
//! Between two operations, candle sets the gradient to zero and adds to it, in memory of its own. Within one, the gradient that the
//! norm hands to the convolution is written once.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use super::op::{ChannelSums, Conv, apply, wanted};
use super::{ConvOptions, check_bias, conv_with, rounded_on_gpu, serve};
use crate::norm::{NormActivation, instance_norm_leaky_relu};
use crate::pool::concat_channels;
use crate::tensor::all_kernels_serve;

/// An affine instance normalisation and its leaky ReLU, see [`instance_norm_leaky_relu`].
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The factors `(c)`.
    pub gamma: &'a Tensor,
    /// The shifts `(c)`.
    pub beta: &'a Tensor,
    /// The term under the root.
    pub eps: f64,
    /// What negative values are multiplied by.
    pub slope: f64,
}

/// [`instance_norm_leaky_relu`] of what [`conv_with`] gives of `sources`, whose channels are joined, with its gradients by all tensors:
/// the same numbers in less time and memory.
///
/// If a single source takes a gradient, that of the others is not computed.
///
/// # Errors
/// As both of them, and when the sources cannot be joined.
pub fn conv_norm_leaky_relu(
    sources: &[&Tensor],
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: ConvOptions,
    norm: Norm<'_>,
) -> Result<Tensor> {
    let joined = match sources {
        [x] => (*x).clone(),
        _ => concat_channels(sources)?,
    };
    let conv = options.conv(joined.rank());
    let shape = conv.shape(joined.dims(), weight.dims())?;
    let channels = shape.out_channels;
    check_bias("conv", bias, channels)?;
    let fits = norm.gamma.dims() == [channels] && norm.beta.dims() == [channels];
    let serves = serve(&joined, weight, bias) && all_kernels_serve(&[&joined, norm.gamma, norm.beta]);
    if !fits || !serves || rounded_on_gpu(&joined, &shape, options.factors) {
        let y = conv_with(&joined, weight, bias, options)?;
        return instance_norm_leaky_relu(&y, norm.gamma, norm.beta, norm.eps, norm.slope);
    }
    let weight = weight.contiguous()?;
    let x = joined.detach().contiguous()?;
    let z = apply(conv, &x, &weight.detach(), bias.map(Tensor::detach).as_ref())?;
    let parameters: Vec<&Tensor> = bias.into_iter().chain([norm.gamma, norm.beta]).collect();
    let parameters = Tensor::cat(&parameters, 0)?;
    // In groups, a filter sees some channels of all sources.
    let alone = if options.groups == 1 { tracked(sources) } else { None };
    let (of, first) = alone.unwrap_or((joined, 0));
    of.contiguous()?.apply_op3(
        &weight,
        &parameters,
        ConvNorm { conv, norm: NormActivation::new(1, norm.eps, norm.slope), x, first, z, channels },
    )
}

/// The one of several sources that takes a gradient, if no other does, and its first channel among those of all.
fn tracked(sources: &[&Tensor]) -> Option<(Tensor, usize)> {
    let mut tracked = sources.iter().enumerate().filter(|(_, source)| source.track_op());
    let (place, source) = tracked.next().filter(|_| tracked.next().is_none())?;
    Some(((*source).clone(), sources[..place].iter().map(|source| source.dims()[1]).sum()))
}

/// `(source, w, bias and gamma and beta)` to y; the bias may be absent.
struct ConvNorm {
    conv: Conv,
    norm: NormActivation,
    /// What is convolved: the source, or it and others joined.
    x: Tensor,
    /// The source's first channel in it.
    first: usize,
    /// What the convolution came to.
    z: Tensor,
    channels: usize,
}

impl ConvNorm {
    /// Where gamma and beta lie in the parameters.
    fn affine(&self, parameters: &Layout) -> Result<[Layout; 2]> {
        let beta = parameters.dims()[0] - self.channels;
        Ok([parameters.narrow(0, beta - self.channels, self.channels)?, parameters.narrow(0, beta, self.channels)?])
    }
}

impl CustomOp3 for ConvNorm {
    fn name(&self) -> &'static str {
        "conv-norm-leaky-relu"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        parameters: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (z, z_layout) = self.z.storage_and_layout();
        let [gamma, beta] = self.affine(layout)?;
        match &*z {
            Storage::Cpu(z) => self.norm.cpu_fwd(z, z_layout, parameters, &gamma, parameters, &beta),
            _ => bail!("{}: the convolution was computed elsewhere", self.name()),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        parameters: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (z, z_layout) = self.z.storage_and_layout();
        let [gamma, beta] = self.affine(layout)?;
        match &*z {
            Storage::Cuda(z) => self.norm.cuda_fwd(z, z_layout, parameters, &gamma, parameters, &beta),
            _ => bail!("{}: the convolution was computed elsewhere", self.name()),
        }
    }

    fn bwd(
        &self,
        source: &Tensor,
        w: &Tensor,
        parameters: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of_norm = 2 * self.channels;
        let bias = parameters.elem_count() - of_norm;
        let all = self.norm.gradients(&self.z, &parameters.detach().narrow(0, bias, of_norm)?, dy)?;
        let voxels = self.z.elem_count();
        let dz = all.narrow(0, 0, voxels)?.reshape(self.z.shape())?;
        let dx = wanted(source, || {
            let (w, channels) = (w.detach(), source.dims()[1]);
            // Of a convolution whose filters see the source alone.
            let w = if channels == self.x.dims()[1] { w } else { w.narrow(1, self.first, channels)?.contiguous()? };
            self.conv.by_input(source.dims(), &w, &dz)
        })?;
        let dw = wanted(w, || self.conv.by_weight(&self.x, w.dims(), &dz))?;
        let by_parameters = wanted(parameters, || {
            let of_norm = all.narrow(0, voxels, of_norm)?;
            if bias == 0 { Ok(of_norm) } else { Tensor::cat(&[&dz.apply_op1_no_bwd(&ChannelSums)?, &of_norm], 0) }
        })?;
        Ok((dx, dw, by_parameters))
    }
}
