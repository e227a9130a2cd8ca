//! Resampling, pooling and overlay of feature maps.

use candle_core::{DType, Result, Tensor};

use crate::cpu::upsample::Rule;

/// See [`crate::upsample_linear`]: axis by axis, a product with the matrix of the weights.
pub(crate) fn resample(x: &Tensor, size: &[usize], rule: Rule) -> Result<Tensor> {
    let mut y = x.clone();
    for (axis, &to) in (2..).zip(size) {
        let from = x.dim(axis)?;
        let mut weights = vec![0.0; from * to];
        for at in 0..to {
            match rule {
                Rule::Nearest => weights[at * from / to * to + at] = 1.0,
                Rule::Linear => {
                    let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
                    let low = place.floor();
                    weights[low as usize * to + at] += 1.0 - (place - low);
                    weights[(low as usize + 1).min(from - 1) * to + at] += place - low;
                }
            }
        }
        let weights = Tensor::from_vec(weights, (from, to), x.device())?.to_dtype(x.dtype())?;
        let last = x.rank() - 1;
        y = y.transpose(axis, last)?.contiguous()?.broadcast_matmul(&weights)?.transpose(axis, last)?;
    }
    y.contiguous()
}

/// See [`crate::argmax_overlay`].
pub(crate) fn argmax_overlay(below: &Tensor, above: &Tensor, label: u8) -> Result<Tensor> {
    let labels = below.argmax(1)?.to_dtype(DType::U8)?;
    let covered = above.argmax(1)?.ne(0u32)?;
    covered.where_cond(&(labels.zeros_like()? + f64::from(label))?, &labels)
}
