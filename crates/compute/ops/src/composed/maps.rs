//! Resampling, pooling and overlay of feature maps.

use candle_core::{DType, Result, Tensor};

use super::conv::every;
use crate::cpu::Size3;
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

/// See [`crate::max_pool`]. What every tap of the windows sees, side by side; `argmax` returns the first of several maxima.
pub(crate) fn max_pool(x: &Tensor, kernel: Size3, stride: Size3, padding: Size3) -> Result<Tensor> {
    let first_axis = 5 - x.rank();
    let mut seen = vec![x.clone()];
    for a in first_axis..3 {
        let axis = 2 + a - first_axis;
        let windows = (x.dim(axis)? + 2 * padding[a] - kernel[a]) / stride[a] + 1;
        let mut taken = Vec::new();
        for map in &seen {
            let mut dims = map.dims().to_vec();
            dims[axis] = padding[a] + stride[a];
            let outside = Tensor::full(f64::NEG_INFINITY, dims, x.device())?.to_dtype(x.dtype())?;
            let before = outside.narrow(axis, 0, padding[a])?;
            let padded = Tensor::cat(&[&before, map, &outside], axis)?;
            for tap in 0..kernel[a] {
                let reach = (windows - 1) * stride[a] + 1;
                taken.push(every(&padded.narrow(axis, tap, reach)?, axis, stride[a])?);
            }
        }
        seen = taken;
    }
    let taps = Tensor::stack(&seen, x.rank())?.contiguous()?;
    let first_maximum = taps.argmax_keepdim(x.rank())?;
    taps.gather(&first_maximum, x.rank())?.squeeze(x.rank())
}
