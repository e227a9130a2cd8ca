//! Instance and group normalisation with their activation.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::norm::{self as kernel, Affine, Statistics};
use crate::cpu::{written, written_with};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::tensor::{all_kernels_serve, floats, volumes};

/// Instance normalisation, affine, followed by leaky ReLU: every channel of every batch entry of `x`
/// `(b, c, h, w)` or `(b, c, d, h, w)` is brought to mean 0 and (biased) variance 1 over its voxels, then multiplied
/// by `gamma` `(c)`, shifted by `beta` `(c)`, and negative values by `slope`. A slope of 1 leaves the activation out,
/// one of 0 makes it a ReLU.
///
/// A channel of a single voxel normalises to 0, so the result is `leaky_relu(beta)`: that is what PyTorch's formula
/// gives, though its layer refuses such input in training mode.
///
/// # Errors
/// When shapes do not fit each other.
pub fn instance_norm_leaky_relu(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64, slope: f64) -> Result<Tensor> {
    let groups = volumes("instance_norm_leaky_relu", x.dims())?.1;
    norm_leaky_relu("instance_norm_leaky_relu", x, groups, gamma, beta, eps, slope)
}

/// Like [`instance_norm_leaky_relu`], with mean and variance taken over the channels of a group together: the channels
/// fall into `groups` runs of equal length.
///
/// # Errors
/// When shapes do not fit each other, or the groups do not divide the channels.
pub fn group_norm_leaky_relu(x: &Tensor, groups: usize, gamma: &Tensor, beta: &Tensor, eps: f64, slope: f64) -> Result<Tensor> {
    norm_leaky_relu("group_norm_leaky_relu", x, groups, gamma, beta, eps, slope)
}

fn norm_leaky_relu(op: &str, x: &Tensor, groups: usize, gamma: &Tensor, beta: &Tensor, eps: f64, slope: f64) -> Result<Tensor> {
    let (_, channels, size) = volumes(op, x.dims())?;
    if gamma.dims() != [channels] || beta.dims() != [channels] || size.contains(&0) || channels == 0 {
        bail!(
            "{op}: input {:?} needs channels and voxels, and gamma and beta of shape [{channels}]; found {:?} and {:?}",
            x.dims(),
            gamma.dims(),
            beta.dims()
        );
    }
    if groups == 0 || !channels.is_multiple_of(groups) {
        bail!("{op}: {groups} groups do not divide the {channels} channels of input {:?}", x.dims());
    }
    if !all_kernels_serve(&[x, gamma, beta]) {
        return composed::norm_leaky_relu(x, groups, gamma, beta, eps, slope);
    }
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, NormActivation::new(channels / groups, eps, slope))
}

/// `(x, gamma, beta)` to y, keeping the statistics for the gradient.
pub(crate) struct NormActivation {
    eps: f32,
    slope: f32,
    per_group: usize,
    statistics: OnceLock<Arc<Kept>>,
}

/// The statistics, where they were computed.
enum Kept {
    Cpu(Vec<Statistics>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::norm::Statistics),
}

impl Kept {
    fn on_cpu(&self) -> Result<&[Statistics]> {
        match self {
            Self::Cpu(statistics) => Ok(statistics),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => bail!("norm-leaky-relu: gradient asked for on the CPU after a forward pass on a GPU"),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Result<&cuda::norm::Statistics> {
        match self {
            Self::Cuda(statistics) => Ok(statistics),
            Self::Cpu(_) => bail!("norm-leaky-relu: gradient asked for on a GPU after a forward pass on the CPU"),
        }
    }
}

impl NormActivation {
    pub(crate) fn new(per_group: usize, eps: f64, slope: f64) -> Self {
        Self { eps: eps as f32, slope: slope as f32, per_group, statistics: OnceLock::new() }
    }

    /// The gradients by x, gamma and beta, one behind the other, after the forward pass. `affine` holds gamma and behind it beta.
    pub(crate) fn gradients(&self, x: &Tensor, affine: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let Some(statistics) = self.statistics.get() else {
            bail!("norm-leaky-relu: gradient asked for before the forward pass");
        };
        let op = NormActivationGradient { eps: self.eps, slope: self.slope, per_group: self.per_group, statistics: statistics.clone() };
        x.apply_op3_no_bwd(&dy.contiguous()?, affine, &op)
    }
}

impl CustomOp3 for NormActivation {
    fn name(&self) -> &'static str {
        "norm-leaky-relu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, size) = volumes(CustomOp3::name(self), l1.dims())?;
        let x = floats(s1, l1)?;
        let affine = Affine { gamma: floats(s2, l2)?, beta: floats(s3, l3)?, eps: self.eps, slope: self.slope, per_group: self.per_group };
        let (statistics, y) = written_with(x.len(), |y| kernel::forward(Isa::current(), x, size.iter().product(), &affine, y));
        self.statistics.get_or_init(|| Arc::new(Kept::Cpu(statistics)));
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (_, _, size) = volumes(CustomOp3::name(self), l1.dims())?;
        let (y, statistics) =
            cuda::norm::forward((s1, l1), (s2, l2), (s3, l3), size.iter().product(), self.per_group, self.eps, self.slope)?;
        self.statistics.get_or_init(|| Arc::new(Kept::Cuda(statistics)));
        Ok((y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let all = self.gradients(x, &Tensor::cat(&[gamma.detach(), beta.detach()], 0)?, dy)?;
        let (voxels, channels) = (x.elem_count(), gamma.elem_count());
        let part = |of: &Tensor, start: usize| -> Result<Option<Tensor>> {
            if !of.track_op() {
                return Ok(None);
            }
            Ok(Some(all.narrow(0, start, of.elem_count())?.reshape(of.shape())?))
        };
        Ok((part(x, 0)?, part(gamma, voxels)?, part(beta, voxels + channels)?))
    }
}

/// `(x, dy, gamma and beta)` to one vector of dx, dgamma and dbeta, which one pass computes together.
struct NormActivationGradient {
    eps: f32,
    slope: f32,
    per_group: usize,
    statistics: Arc<Kept>,
}

impl CustomOp3 for NormActivationGradient {
    fn name(&self) -> &'static str {
        "norm-leaky-relu-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, size) = volumes(self.name(), l1.dims())?;
        let statistics = self.statistics.on_cpu()?;
        let (x, dy) = (floats(s1, l1)?, floats(s2, l2)?);
        let (gamma, beta) = floats(s3, l3)?.split_at(channels);
        let affine = Affine { gamma, beta, eps: self.eps, slope: self.slope, per_group: self.per_group };
        let (len, volume) = (x.len() + 2 * channels, size.iter().product());
        let all = written(len, |all| kernel::backward(Isa::current(), x, dy, volume, &affine, statistics, all));
        Ok((CpuStorage::F32(all), len.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (_, _, size) = volumes(self.name(), l1.dims())?;
        let statistics = self.statistics.on_gpu()?;
        let all = cuda::norm::backward((s1, l1), (s2, l2), (s3, l3), statistics, size.iter().product(), self.per_group, self.slope)?;
        Ok((all, (l1.shape().elem_count() + l3.shape().elem_count()).into()))
    }
}
