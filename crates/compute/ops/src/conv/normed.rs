//! Convolution, instance normalisation and activation as one operation, once or several times in a row.
//!
//! Between two operations, candle sets the gradient to zero and adds to it, in memory of its own. Within one, the gradient that a layer
//! hands to the one before is written once. A map between two layers is not kept, but normalised again from what the convolution came
//! to, when the gradient by the weights behind it needs it.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use super::op::{ChannelSums, Conv, apply};
use super::{ConvOptions, check_bias, conv_with, rounded_on_gpu, serve};
use crate::norm::{NormActivation, instance_norm_leaky_relu};
use crate::pool::concat_channels;
use crate::tensor::{all_kernels_serve, dims_like};

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

/// A convolution and its norm.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    /// The filters.
    pub weight: &'a Tensor,
    /// What is added to the channels.
    pub bias: Option<&'a Tensor>,
    /// How the convolution walks.
    pub options: ConvOptions,
    /// The norm and the activation behind it.
    pub norm: Norm<'a>,
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
    conv_norms_leaky_relu(sources, &[Normed { weight, bias, options, norm }])
}

/// [`conv_norm_leaky_relu`] several times, each of what the one before gave: the same numbers in less memory still.
///
/// # Errors
/// As [`conv_norm_leaky_relu`].
pub fn conv_norms_leaky_relu(sources: &[&Tensor], layers: &[Normed<'_>]) -> Result<Tensor> {
    let joined = match sources {
        [x] => (*x).clone(),
        _ => concat_channels(sources)?,
    };
    if !are_served(&joined, layers)? {
        return layers.iter().try_fold(joined, |x, Normed { weight, bias, options, norm }| {
            let y = conv_with(&x, weight, *bias, *options)?;
            instance_norm_leaky_relu(&y, norm.gamma, norm.beta, norm.eps, norm.slope)
        });
    }
    let x = joined.detach().contiguous()?;
    let mut steps: Vec<Step> = Vec::new();
    let mut moves = joined.track_op();
    for layer in layers {
        let step = match steps.last() {
            None => Step::new(layer, &x, moves)?,
            Some(before) => Step::new(layer, &before.activations()?, moves)?,
        };
        moves |= step.learns || layer.vectors().any(Tensor::track_op);
        steps.push(step);
    }
    let vectors: Vec<&Tensor> = layers.iter().flat_map(Normed::vectors).collect();
    let weights = match layers {
        [layer] => layer.weight.contiguous()?,
        _ => Tensor::cat(&layers.iter().map(|layer| layer.weight.flatten_all()).collect::<Result<Vec<_>>>()?, 0)?,
    };
    let (source, first) = tracked(sources).unwrap_or((joined, 0));
    source.contiguous()?.apply_op3(&weights, &Tensor::cat(&vectors, 0)?, ConvNorms { x, first, steps })
}

/// Whether the layers can be one operation. An error if a convolution does not fit; a norm that does not is left to be refused elsewhere.
fn are_served(x: &Tensor, layers: &[Normed<'_>]) -> Result<bool> {
    let (mut dims, mut served) = (x.dims().to_vec(), !layers.is_empty());
    for Normed { weight, bias, options, norm } in layers {
        let shape = options.conv(dims.len()).shape(&dims, weight.dims())?;
        check_bias("conv", *bias, shape.out_channels)?;
        let fits = [norm.gamma, norm.beta].iter().all(|vector| vector.dims() == [shape.out_channels]);
        let kernels = serve(x, weight, *bias) && all_kernels_serve(&[x, norm.gamma, norm.beta]);
        served &= fits && kernels && !rounded_on_gpu(x, &shape, options.factors);
        dims = dims_like(&dims, shape.batch, shape.out_channels, shape.output());
    }
    Ok(served)
}

/// The one of several sources that takes a gradient, if no other does, and its first channel among those of all.
fn tracked(sources: &[&Tensor]) -> Option<(Tensor, usize)> {
    let mut tracked = sources.iter().enumerate().filter(|(_, source)| source.track_op());
    let (place, source) = tracked.next().filter(|_| tracked.next().is_none())?;
    Some(((*source).clone(), sources[..place].iter().map(|source| source.dims()[1]).sum()))
}

impl Normed<'_> {
    /// The bias, if there is one, gamma and beta.
    fn vectors(&self) -> impl Iterator<Item = &Tensor> {
        self.bias.into_iter().chain([self.norm.gamma, self.norm.beta])
    }
}

/// A layer that has been computed but for the last norm.
struct Step {
    conv: Conv,
    weight: Tensor,
    /// What the convolution came to.
    z: Tensor,
    norm: NormActivation,
    /// Gamma and behind it beta.
    affine: Tensor,
    channels: usize,
    biased: bool,
    /// Whether its weights take a gradient.
    learns: bool,
    /// Whether its input takes one.
    moves: bool,
}

/// Gradients of a layer.
struct Gradients {
    weight: Tensor,
    vectors: Vec<Tensor>,
    input: Option<Tensor>,
}

impl Step {
    fn new(layer: &Normed<'_>, x: &Tensor, moves: bool) -> Result<Self> {
        let Normed { weight, bias, options, norm } = *layer;
        let (conv, learns) = (options.conv(x.rank()), weight.track_op());
        let weight = weight.detach().contiguous()?;
        let z = apply(conv, x, &weight, bias.map(Tensor::detach).as_ref())?;
        let affine = Tensor::cat(&[norm.gamma.detach(), norm.beta.detach()], 0)?;
        let channels = norm.gamma.elem_count();
        let norm = NormActivation::new(1, norm.eps, norm.slope);
        Ok(Self { conv, weight, z, norm, affine, channels, biased: bias.is_some(), learns, moves })
    }

    /// What it gives.
    fn activations(&self) -> Result<Tensor> {
        let part = |first: usize| self.affine.narrow(0, first, self.channels);
        self.z.apply_op3_no_bwd(&part(0)?, &part(self.channels)?, &self.norm)
    }

    /// The gradients by the weights, if `x` is there to compute them of, by the vectors and by channels of the input, if it moves.
    fn gradients(&self, x: Option<Tensor>, dy: Tensor, vectors: bool, of_input: [usize; 2], input: &[usize]) -> Result<Gradients> {
        let all = self.norm.gradients(&self.z, &self.affine, &dy)?;
        drop(dy);
        let voxels = self.z.elem_count();
        let dz = all.narrow(0, 0, voxels)?.reshape(self.z.shape())?;
        let by_vectors = match vectors {
            // A copy: a view would keep all of it.
            true => {
                let of_norm = all.narrow(0, voxels, 2 * self.channels)?.force_contiguous()?;
                let bias = self.biased.then(|| dz.apply_op1_no_bwd(&ChannelSums)).transpose()?;
                bias.into_iter().chain([of_norm]).collect()
            }
            false => Vec::new(),
        };
        let weight = match x {
            Some(x) => self.conv.by_weight(&x, self.weight.dims(), &dz)?,
            None => self.weight.zeros_like()?,
        };
        let [first, count] = of_input;
        // Of a convolution whose filters see these channels alone.
        let input = self.moves.then(|| self.conv.by_input(input, &self.weight.narrow(1, first, count)?.contiguous()?, &dz)).transpose()?;
        Ok(Gradients { weight, vectors: by_vectors, input })
    }
}

/// `(source, weights of all layers, their biases, gammas and betas)` to y.
struct ConvNorms {
    /// What is convolved first: the source, or it and others joined.
    x: Tensor,
    /// The source's first channel in it.
    first: usize,
    steps: Vec<Step>,
}

impl ConvNorms {
    fn last(&self) -> Result<&Step> {
        self.steps.last().ok_or_else(|| candle_core::Error::Msg("conv-norm-leaky-relu: no layers".into()))
    }

    /// Where the last gamma and beta lie in the vectors.
    fn affine(&self, vectors: &Layout) -> Result<[Layout; 2]> {
        let channels = self.last()?.channels;
        let beta = vectors.dims()[0] - channels;
        Ok([vectors.narrow(0, beta - channels, channels)?, vectors.narrow(0, beta, channels)?])
    }

    /// The gradients by the weights and the vectors, each in one piece, and by the source.
    fn gradients(&self, source: &[usize], vectors: bool, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let (mut by_weights, mut by_vectors) = (Vec::new(), Vec::new());
        let mut dy = Some(dy.clone());
        for (k, step) in self.steps.iter().enumerate().rev() {
            // Nothing moves before a layer that hands no gradient on.
            let Some(here) = dy.take() else {
                by_weights.push(step.weight.flatten_all()?.zeros_like()?);
                if vectors {
                    by_vectors.push(Tensor::zeros((2 + usize::from(step.biased)) * step.channels, step.z.dtype(), step.z.device())?);
                }
                continue;
            };
            let x = match (step.learns, k) {
                (false, _) => None,
                (true, 0) => Some(self.x.clone()),
                (true, _) => Some(self.steps[k - 1].activations()?),
            };
            let (of_input, input) = match k {
                0 => ([self.first, source[1]], source),
                _ => ([0, self.steps[k - 1].channels], self.steps[k - 1].z.dims()),
            };
            let found = step.gradients(x, here, vectors, of_input, input)?;
            by_weights.push(found.weight.flatten_all()?);
            by_vectors.extend(found.vectors.into_iter().rev());
            dy = found.input;
        }
        let join = |parts: Vec<Tensor>| match parts.is_empty() {
            true => Ok(None),
            false => Tensor::cat(&parts.into_iter().rev().collect::<Vec<_>>(), 0).map(Some),
        };
        Ok([dy, join(by_weights)?, join(by_vectors)?])
    }
}

impl CustomOp3 for ConvNorms {
    fn name(&self) -> &'static str {
        "conv-norm-leaky-relu"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        vectors: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let last = self.last()?;
        let (z, z_layout) = last.z.storage_and_layout();
        let [gamma, beta] = self.affine(layout)?;
        match &*z {
            Storage::Cpu(z) => last.norm.cpu_fwd(z, z_layout, vectors, &gamma, vectors, &beta),
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
        vectors: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let last = self.last()?;
        let (z, z_layout) = last.z.storage_and_layout();
        let [gamma, beta] = self.affine(layout)?;
        match &*z {
            Storage::Cuda(z) => last.norm.cuda_fwd(z, z_layout, vectors, &gamma, vectors, &beta),
            _ => bail!("{}: the convolution was computed elsewhere", self.name()),
        }
    }

    fn bwd(
        &self,
        source: &Tensor,
        weights: &Tensor,
        vectors: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [by_source, by_weights, by_vectors] = self.gradients(source.dims(), vectors.track_op(), dy)?;
        let by_weights = by_weights.filter(|_| weights.track_op()).map(|all| all.reshape(weights.shape())).transpose()?;
        Ok((by_source, by_weights, by_vectors))
    }
}
