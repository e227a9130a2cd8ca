//! What transformers are made of beside matrix products and attention: layer normalisation, softmax over the last axis,
//! GELU; and the standardisation of weights, which is a layer normalisation too.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::{gelu as gelu_kernel, rows, written};
use crate::tensor::{floats, kernels_serve};

/// Layer normalisation, affine: every row of `x` `(.., n)` is brought to mean 0 and (biased) variance 1, multiplied by
/// `gamma` `(n)` and shifted by `beta` `(n)`.
///
/// # Errors
/// When shapes do not fit each other, or rows are empty.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let row = x.dims().last().copied().unwrap_or(0);
    if row == 0 || gamma.dims() != [row] || beta.dims() != [row] {
        bail!(
            "layer_norm: input {:?} needs a last axis that is not empty, and gamma and beta of its length; found {:?} and {:?}",
            x.dims(),
            gamma.dims(),
            beta.dims()
        );
    }
    if !kernels_serve(&[x, gamma, beta]) {
        return composed::layer_norm(x, gamma, beta, eps);
    }
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, LayerNorm { eps: eps as f32 })
}

/// Weight standardisation: the weights of every filter of `weight` `(co, ..)` brought to mean 0 and (biased) variance 1.
///
/// # Errors
/// When there are no weights.
pub fn standardize_weights(weight: &Tensor, eps: f64) -> Result<Tensor> {
    if weight.rank() < 2 || weight.elem_count() == 0 {
        bail!("standardize_weights: filters (co, ..) expected, found {:?}", weight.dims());
    }
    let filters = weight.flatten_from(1)?;
    let constant = |value: f64| Tensor::full(value, filters.dim(1)?, weight.device())?.to_dtype(weight.dtype());
    layer_norm(&filters, &constant(1.0)?, &constant(0.0)?, eps)?.reshape(weight.shape())
}

/// Softmax over the last axis, with its gradient.
///
/// # Errors
/// When there is no last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        bail!("softmax: a tensor with a last axis expected, found a scalar");
    }
    if !kernels_serve(&[x]) || x.elem_count() == 0 {
        return composed::softmax(x);
    }
    x.contiguous()?.apply_op1(Softmax)
}

/// The Gaussian error linear unit `x * P(X <= x)` of a standard normal X, exact rather than by a hyperbolic tangent.
///
/// # Errors
/// When memory is short.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !kernels_serve(&[x]) {
        return composed::gelu(x);
    }
    x.contiguous()?.apply_op1(Gelu)
}

fn row_of(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

/// `(x, gamma, beta)` to y.
struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let x = floats(s1, l1)?;
        let (gamma, beta) = (floats(s2, l2)?, floats(s3, l3)?);
        let y = written(x.len(), |y| rows::layer_norm(Isa::current(), x, gamma, beta, self.eps, y));
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let all = x.apply_op3_no_bwd(gamma, &dy.contiguous()?, &LayerNormGradient { eps: self.eps })?;
        let part = |of: &Tensor, start: usize| -> Result<Option<Tensor>> {
            if !of.track_op() {
                return Ok(None);
            }
            Ok(Some(all.narrow(0, start, of.elem_count())?.reshape(of.shape())?))
        };
        let (elements, row) = (x.elem_count(), gamma.elem_count());
        Ok((part(x, 0)?, part(gamma, elements)?, part(beta, elements + row)?))
    }
}

/// `(x, gamma, dy)` to one vector of dx, dgamma and dbeta, which one pass computes together.
struct LayerNormGradient {
    eps: f32,
}

impl CustomOp3 for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer-norm-gradient"
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
        let (x, gamma, dy) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let len = x.len() + 2 * gamma.len();
        let all = written(len, |all| rows::layer_norm_backward(Isa::current(), x, gamma, dy, self.eps, all));
        Ok((CpuStorage::F32(all), len.into()))
    }
}

/// x to y.
struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let y = written(x.len(), |y| rows::softmax(Isa::current(), x, row_of(l), y));
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        y.apply_op2_no_bwd(&dy.contiguous()?, &SoftmaxGradient).map(Some)
    }
}

/// `(y, dy)` to dx.
struct SoftmaxGradient;

impl CustomOp2 for SoftmaxGradient {
    fn name(&self) -> &'static str {
        "softmax-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, dy) = (floats(s1, l1)?, floats(s2, l2)?);
        let dx = written(y.len(), |dx| rows::softmax_backward(Isa::current(), y, dy, row_of(l1), dx));
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}

/// x to y.
struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let y = written(x.len(), |y| gelu_kernel::forward(Isa::current(), x, y));
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&dy.contiguous()?, &GeluGradient).map(Some)
    }
}

/// `(x, dy)` to dx.
struct GeluGradient;

impl CustomOp2 for GeluGradient {
    fn name(&self) -> &'static str {
        "gelu-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, dy) = (floats(s1, l1)?, floats(s2, l2)?);
        let dx = written(x.len(), |dx| gelu_kernel::backward(Isa::current(), x, dy, dx));
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}
