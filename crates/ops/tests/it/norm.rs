//! Instance normalisation with leaky ReLU.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use ops::{Isa, instance_norm_leaky_relu, with_isa};

use crate::support::{check, deviation, random, values};

#[test]
fn gradients_match_differences_through_views_and_several_consumers() -> Result<()> {
    for dims in [&[2usize, 3, 5, 7][..], &[1, 17, 3, 4, 5], &[2, 1, 65, 67], &[1, 2, 3, 1, 2]] {
        let c = dims[1];
        let inputs = [random(1, dims), (random(2, &[c]) + 1.5)?, random(3, &[c])];
        check(&format!("{dims:?}"), &inputs, |t| instance_norm_leaky_relu(&t[0], &t[1], &t[2], 1e-5, 0.1))?;
    }
    let inputs = [random(1, &[2, 6, 5, 3]), random(2, &[3]), random(3, &[3])];
    check("strided, reused", &inputs, |t| {
        let x = t[0].transpose(1, 3)?;
        let y = instance_norm_leaky_relu(&x, &t[1], &t[2], 1e-3, 0.01)?;
        let z = instance_norm_leaky_relu(&y, &t[2], &t[1], 1e-5, 1.0)?;
        (y.transpose(2, 3)? + z.transpose(2, 3)?)? + x.transpose(2, 3)?
    })
}

#[test]
fn a_single_voxel_normalises_to_zero() -> Result<()> {
    let x = random(1, &[2, 3, 1, 1, 1]).to_dtype(DType::F32)?;
    let beta = Tensor::new(&[0.5f32, -2.0, 0.0], x.device())?;
    let y = instance_norm_leaky_relu(&x, &Tensor::ones(3, DType::F32, x.device())?, &beta, 1e-5, 0.1)?;
    let expected = [0.5, -0.2, 0.0, 0.5, -0.2, 0.0];
    for (found, expected) in values(&y)?.iter().zip(expected) {
        ensure!((found - expected).abs() < 1e-7, "{found} found, {expected} expected");
    }
    Ok(())
}

/// CT in Hounsfield units stands a thousand standard deviations away from zero in places: a variance formed as a
/// difference of squares would be lost in rounding.
#[test]
fn a_large_mean_does_not_spoil_the_variance() -> Result<()> {
    let x = (random(1, &[1, 2, 40, 50]) + 1000.0)?.to_dtype(DType::F32)?;
    let (one, zero) = (Tensor::ones(2, DType::F32, x.device())?, Tensor::zeros(2, DType::F32, x.device())?);
    let expected = instance_norm_leaky_relu(&x.to_dtype(DType::F64)?, &one.to_dtype(DType::F64)?, &zero.to_dtype(DType::F64)?, 1e-5, 0.1)?;
    for isa in Isa::available() {
        let y = with_isa(isa, || instance_norm_leaky_relu(&x, &one, &zero, 1e-5, 0.1))??;
        let off = deviation(&y, &expected)?;
        ensure!(off < 2e-4, "{isa:?}: off by {off:.1e}");
    }
    Ok(())
}

#[test]
fn parameters_of_the_wrong_length_are_refused() {
    let result = instance_norm_leaky_relu(&random(1, &[1, 3, 4, 4]), &random(2, &[2]), &random(3, &[3]), 1e-5, 0.1);
    assert!(result.is_err_and(|e| e.to_string().contains("shape [3]")));
}
