//! What losses of independent yes-or-no outputs are made of.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::cpu::binary as kernel;
use crate::cpu::isa::Isa;
use crate::tensor::{floats, kernels_serve};

/// Sums over the voxels of every channel, of `logits` `(b, c, spatial..)` with the probabilities `p = 1 / (1 + exp(-x))`
/// and a `u8` `target` `t` of 0 and 1 of the same shape: `(b, c, 5)` with the sums of `p t`, of `p`, of `t`, of the binary
/// cross-entropy, and of `p²`. Dice scores, cross-entropies and what is made of them follow from these, with their gradients; a
/// channel whose sums a loss multiplies by 0 gets a gradient of exactly 0.
///
/// Sums are taken in double precision, so that they do not depend on the number of threads.
///
/// # Errors
/// When shapes do not fit, or the target is not `u8`.
pub fn binary_sums(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    if logits.rank() < 3 || logits.dims() != target.dims() || target.dtype() != DType::U8 {
        bail!(
            "binary_sums: logits (b, c, spatial..) and a u8 target of the same shape expected, found {:?} and {:?} {:?}",
            logits.dims(),
            target.dims(),
            target.dtype()
        );
    }
    if !kernels_serve(&[logits]) {
        return composed(logits, target);
    }
    logits.contiguous()?.apply_op2(&target.contiguous()?, BinarySums)
}

fn composed(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    let x = logits.flatten_from(2)?;
    let t = target.flatten_from(2)?.to_dtype(x.dtype())?;
    // 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, whose gradient is never infinity times 0.
    let p = (((&x * 0.5)?.tanh()? + 1.0)? * 0.5)?;
    let size = ((x.detach().abs()? * -1.0)?.exp()? + 1.0)?.log()?;
    // max(x, 0) - x t + ln(1 + exp(-|x|)), whose derivative is p - t: the parts that jump at 0 are left to that formula.
    let value = ((x.detach().relu()? - (x.detach() * &t)?)? + size)?;
    let slope = (p.detach() - &t)?;
    let entropy = (value + (&slope * (&x - x.detach())?)?)?;
    let sums = [(&p * &t)?, p.clone(), t, entropy, p.sqr()?].map(|map| map.sum(2));
    Tensor::stack(&sums.into_iter().collect::<Result<Vec<_>>>()?, 2)
}

fn labels<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u8]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::U8(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a contiguous u8 tensor expected, found {layout:?}"),
    }
}

/// The voxels of a channel.
fn voxels(layout: &Layout) -> usize {
    layout.dims()[2..].iter().product()
}

/// `(logits, target)` to the sums.
struct BinarySums;

impl CustomOp2 for BinarySums {
    fn name(&self) -> &'static str {
        "binary-sums"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, t) = (floats(s1, l1)?, labels(s2, l2)?);
        let sums = kernel::sums(Isa::current(), x, t, voxels(l1));
        Ok((CpuStorage::F32(sums), Shape::from((l1.dims()[0], l1.dims()[1], kernel::SUMS))))
    }

    fn bwd(&self, logits: &Tensor, target: &Tensor, _sums: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(logits.apply_op3_no_bwd(target, &grad.contiguous()?, &BinarySumsGradient)?), None))
    }
}

/// `(logits, target, gradient of the sums)` to the gradient of the logits.
struct BinarySumsGradient;

impl CustomOp3 for BinarySumsGradient {
    fn name(&self) -> &'static str {
        "binary-sums-gradient"
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
        let (x, t, grad) = (floats(s1, l1)?, labels(s2, l2)?, floats(s3, l3)?);
        let dx = kernel::gradient(Isa::current(), x, t, grad, voxels(l1));
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::cpu::binary::SUMS;
    use crate::with_isa;

    fn case(width: usize) -> Result<(Var, Tensor, Tensor)> {
        let n = 2 * 3 * 5 * width;
        let x = (0..n).map(|i| 40.0 * (i as f32 * 0.7).sin().powi(3));
        let x = Var::from_tensor(&Tensor::from_iter(x, &Device::Cpu)?.reshape((2, 3, 5, width))?)?;
        let t = Tensor::from_iter((0..n).map(|i| u8::from(i % 3 == 0)), &Device::Cpu)?.reshape((2, 3, 5, width))?;
        let weights = (0..30).map(|i| (i as f32).cos() * f32::from(u8::from(i / SUMS != 2)));
        Ok((x, t, Tensor::from_iter(weights, &Device::Cpu)?.reshape((2, 3, SUMS))?))
    }

    fn apart(a: &Tensor, b: &Tensor) -> Result<f32> {
        let max = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
        Ok(max(&(a - b)?)? / max(b)?)
    }

    fn gradient(sums: &Tensor, weights: &Tensor, x: &Var) -> Result<Tensor> {
        let gradients = (sums * weights)?.sum_all()?.backward()?;
        Ok(gradients.get(x).expect("the sums depend on the logits").clone())
    }

    #[test]
    fn the_kernel_and_the_composition_agree_in_sums_and_gradients() -> Result<()> {
        let (x, t, weights) = case(67)?;
        let sums = composed(&x, &t)?;
        let expected = gradient(&sums, &weights, &x)?;
        for isa in Isa::available() {
            let found = with_isa(isa, || binary_sums(&x, &t))??;
            let found_gradient = with_isa(isa, || gradient(&found, &weights, &x))??;
            assert!(apart(&found, &sums)? < 1e-5, "{isa:?}");
            assert!(apart(&found_gradient, &expected)? < 1e-5, "{isa:?}");
            let masked = found_gradient.narrow(0, 0, 1)?.narrow(1, 2, 1)?.flatten_all()?.to_vec1::<f32>()?;
            assert!(masked.iter().all(|&v| v == 0.0), "{isa:?}: a channel that counts nothing gets exactly nothing");
        }
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_finite_differences() -> Result<()> {
        let (x, t, weights) = case(4)?;
        // Within the range in which the sums bend.
        let x = Var::from_tensor(&(x.as_tensor() * 0.05)?)?;
        let value = |x: &Tensor| -> Result<f64> {
            let sums = binary_sums(x, &t)?.to_dtype(DType::F64)?;
            (sums * weights.to_dtype(DType::F64)?)?.sum_all()?.to_scalar::<f64>()
        };
        let gradient = gradient(&binary_sums(&x, &t)?, &weights, &x)?.flatten_all()?.to_vec1::<f32>()?;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        for at in (0..values.len()).step_by(7) {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[at] += by;
                value(&Tensor::from_vec(values, x.shape(), &Device::Cpu)?)
            };
            let slope = (moved(1e-2)? - moved(-1e-2)?) / 2e-2;
            // Sums are rounded to 32 bits: 1e-6 of some tens over a step of 2e-2.
            assert!((slope - f64::from(gradient[at])).abs() < 1e-3, "{at}: {slope} and {}", gradient[at]);
        }
        Ok(())
    }
}
