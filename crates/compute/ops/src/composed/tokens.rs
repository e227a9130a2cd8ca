//! Operations of transformers.

use candle_core::{D, Result, Tensor};

/// See [`crate::layer_norm`].
pub(crate) fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(gamma)?.broadcast_add(beta)
}

/// See [`crate::softmax`].
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    // The maximum only keeps the exponentials in range; it does not change the value, so it takes no gradient.
    let exponentials = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

/// See [`crate::gelu`]. candle's gradient of its own has a constant of six digits.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    (x * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?)? * 0.5
}

/// See [`crate::attention`].
pub(crate) fn attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let d = width / (3 * heads);
    let parts = qkv.reshape((b, n, 3, heads, d))?.permute((2, 0, 3, 1, 4))?; // (3, b, heads, n, d)
    let part = |i: usize| parts.get(i)?.contiguous();
    let scaled = (part(0)? / (d as f64).sqrt())?;
    let mut scores = scaled.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?; // (b, heads, n, n)
    if let Some(bias) = bias {
        scores = scores.broadcast_add(bias)?;
    }
    if let Some(mask) = mask {
        let windows = mask.dim(0)?;
        let mask = mask.detach().reshape((1, windows, 1, n, n))?;
        scores = scores.reshape((b / windows, windows, heads, n, n))?.broadcast_add(&mask)?.reshape((b, heads, n, n))?;
    }
    softmax(&scores)?.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?.reshape((b, n, heads * d))
}
