//! Instance normalisation with leaky ReLU.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use ops::{Isa, group_norm_leaky_relu, instance_norm_leaky_relu, with_isa};
use proptest::prelude::*;

use crate::support::{check, check_precisions, deviation, hold, random, turned, values};

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

#[test]
fn groups_of_channels_share_their_statistics() -> Result<()> {
    for (dims, groups) in [(&[2usize, 6, 5, 7][..], 2), (&[1, 4, 3, 4, 5], 1), (&[2, 3, 2, 3], 3), (&[1, 3, 1, 1], 1)] {
        let c = dims[1];
        let inputs = [random(1, dims), (random(2, &[c]) + 1.5)?, random(3, &[c])];
        check(&format!("{dims:?} {groups}"), &inputs, |t| group_norm_leaky_relu(&t[0], groups, &t[1], &t[2], 1e-5, 0.1))?;
    }
    // A group is one channel of as many voxels.
    let x = random(1, &[2, 6, 4, 5]);
    let (one, zero) = (|n| Tensor::ones(n, DType::F64, x.device()), |n| Tensor::zeros(n, DType::F64, x.device()));
    let grouped = group_norm_leaky_relu(&x, 2, &one(6)?, &zero(6)?, 1e-5, 0.0)?;
    let joined = instance_norm_leaky_relu(&x.reshape((2, 2, 12, 5))?, &one(2)?, &zero(2)?, 1e-5, 0.0)?;
    ensure!(deviation(&grouped, &joined.reshape((2, 6, 4, 5))?)? < 1e-12);
    let refused = group_norm_leaky_relu(&x, 4, &one(6)?, &zero(6)?, 1e-5, 0.0);
    ensure!(refused.is_err_and(|e| e.to_string().contains("4 groups")));
    Ok(())
}

#[test]
fn random_shapes_agree_with_the_composed_operations() -> Result<()> {
    let size = prop_oneof![proptest::collection::vec(1usize..=20, 2), proptest::collection::vec(1usize..=9, 3)];
    hold(60, &(1usize..=3, 1usize..=4, 1usize..=4, size, 0.0..1.0f64), |(batch, groups, per_group, size, slope)| {
        // Of two voxels or less, normalised values are signs: their gradients are nothing but rounding.
        if per_group * size.iter().product::<usize>() < 3 {
            return Ok(());
        }
        let c = groups * per_group;
        let x = turned(&random(1, &[vec![batch, c], size].concat()))?;
        let inputs = [x, (random(2, &[c]) + 1.5)?, (random(3, &[c]) + 0.01)?];
        check_precisions("group", &inputs, |t| group_norm_leaky_relu(&t[0], groups, &t[1], &t[2], 1e-3, slope))
    })
}
