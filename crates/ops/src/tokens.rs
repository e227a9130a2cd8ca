//! What transformers are made of beside matrix products and attention: layer normalisation, softmax over the last axis,
//! GELU; and the standardisation of weights, which is a layer normalisation too.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::{gelu as gelu_kernel, rows, unwritten};
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
        let mut y = unwritten(x.len());
        rows::layer_norm(Isa::current(), x, floats(s2, l2)?, floats(s3, l3)?, self.eps, &mut y);
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
        let (x, gamma) = (floats(s1, l1)?, floats(s2, l2)?);
        let mut all = unwritten(x.len() + 2 * gamma.len());
        let (dx, parameters) = all.split_at_mut(x.len());
        let (dgamma, dbeta) = parameters.split_at_mut(gamma.len());
        rows::layer_norm_backward(Isa::current(), x, gamma, floats(s3, l3)?, self.eps, dx, dgamma, dbeta);
        let len = all.len();
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
        let mut y = unwritten(x.len());
        rows::softmax(Isa::current(), x, row_of(l), &mut y);
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
        let y = floats(s1, l1)?;
        let mut dx = unwritten(y.len());
        rows::softmax_backward(Isa::current(), y, floats(s2, l2)?, row_of(l1), &mut dx);
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
        let mut y = unwritten(x.len());
        gelu_kernel::forward(Isa::current(), x, &mut y);
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
        let x = floats(s1, l1)?;
        let mut dx = unwritten(x.len());
        gelu_kernel::backward(Isa::current(), x, floats(s2, l2)?, &mut dx);
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}
