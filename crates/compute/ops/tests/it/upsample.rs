//! Resampling, and the overlay of two heads.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use ops::{Isa, argmax_channels, argmax_overlay, upsample_linear, upsample_nearest, with_isa};
use proptest::prelude::*;

use crate::support::{check, check_precisions, hold, random, turned, values};

/// torch.nn.functional.interpolate of 0, 1, 4, 9 with align_corners=False, along each axis alone.
#[test]
fn values_between_are_pytorch_s() -> Result<()> {
    let expected: [(usize, &[f64]); 4] = [
        (8, &[0.0, 0.25, 0.75, 1.75, 3.25, 5.25, 7.75, 9.0]),
        (7, &[0.0, 0.357_142_857, 0.928_571_429, 2.5, 4.357_142_857, 7.214_285_714, 9.0]),
        (2, &[0.5, 6.5]),
        (3, &[0.166_666_667, 2.5, 8.166_666_667]),
    ];
    for (to, expected) in expected {
        for axis in 2..5 {
            let (mut dims, mut size) = ([1; 5], [1; 3]);
            (dims[axis], size[axis - 2]) = (4, to);
            let x = Tensor::new(&[0f32, 1.0, 4.0, 9.0], &Device::Cpu)?.reshape(&dims)?;
            for x in [x.to_dtype(DType::F64)?, x] {
                let y = upsample_linear(&x, &size)?;
                ensure!(y.dims()[2..] == size);
                for (found, expected) in values(&y)?.iter().zip(expected) {
                    ensure!((found - expected).abs() < 1e-6, "{to}: {found} instead of {expected}");
                }
            }
        }
    }
    let x = Tensor::new(&[0f32, 1.0, 4.0], &Device::Cpu)?.reshape((1, 1, 1, 3))?;
    ensure!(values(&upsample_nearest(&x, &[1, 7])?)? == [0.0, 0.0, 0.0, 1.0, 1.0, 4.0, 4.0]);
    ensure!(values(&upsample_nearest(&x, &[2, 2])?)? == [0.0, 1.0, 0.0, 1.0]);
    Ok(())
}

#[test]
fn random_sizes_agree_with_the_composed_operations() -> Result<()> {
    let axis = || (1usize..=9, 1usize..=20);
    let axes = prop_oneof![proptest::collection::vec(axis(), 2), proptest::collection::vec(axis(), 3)];
    hold(60, &(1usize..=2, 1usize..=3, axes), |(batch, channels, axes)| {
        let (from, to): (Vec<usize>, Vec<usize>) = axes.into_iter().unzip();
        let x = turned(&random(1, &[vec![batch, channels], from].concat()))?;
        check_precisions("linear", std::slice::from_ref(&x), |t| upsample_linear(&t[0], &to))?;
        check_precisions("nearest", &[x], |t| upsample_nearest(&t[0], &to))
    })
}

#[test]
fn gradients_match_differences_through_views_and_several_consumers() -> Result<()> {
    for (from, to) in [(vec![3usize, 4], vec![6, 8]), (vec![2, 3, 2], vec![4, 6, 4]), (vec![5, 1, 3], vec![3, 4, 7])] {
        let x = random(1, &[vec![2, 3], from].concat());
        check("linear", std::slice::from_ref(&x), |t| upsample_linear(&t[0].transpose(0, 1)?, &to)? * 0.5)?;
        check("nearest", &[x], |t| upsample_nearest(&t[0].transpose(0, 1)?, &to)? * 0.5)?;
    }
    check("several consumers", &[random(1, &[1, 2, 3, 5])], |t| {
        let y = upsample_linear(&t[0], &[6, 10])?;
        let z = upsample_nearest(&t[0], &[6, 10])?;
        (y * z)? + upsample_linear(&upsample_nearest(&t[0], &[2, 2])?, &[6, 10])?
    })
}

#[test]
fn sizes_of_other_axes_are_refused() {
    let x = random(1, &[1, 2, 3, 4]);
    assert!(upsample_linear(&x, &[1, 2, 3]).is_err_and(|e| e.to_string().contains("[1, 2, 3]")));
    assert!(upsample_nearest(&x, &[0, 3]).is_err_and(|e| e.to_string().contains("[0, 3]")));
    assert!(upsample_nearest(&random(1, &[1, 2, 0, 4]), &[2, 3]).is_err());
}

/// As the argmax of each, and then the overlay that the paper describes.
#[test]
fn tumor_covers_organs_where_its_head_says_so() -> Result<()> {
    for (dims, classes) in [(vec![2usize, 7, 19], 14), (vec![1, 3, 40, 150], 5), (vec![3, 1, 1], 1)] {
        let map = |seed, channels| random(seed, &[&dims[..1], &[channels], &dims[1..]].concat());
        let (organs, tumor) = (map(1, classes), map(2, 2));
        let (below, above) = (argmax_channels(&organs)?, argmax_channels(&tumor)?);
        let (below, above) = (below.flatten_all()?.to_vec1::<u8>()?, above.flatten_all()?.to_vec1::<u8>()?);
        let expected: Vec<u8> = below.iter().zip(&above).map(|(organ, tumor)| if *tumor == 1 { 14 } else { *organ }).collect();
        ensure!(argmax_overlay(&organs, &tumor, 14)?.flatten_all()?.to_vec1::<u8>()? == expected, "composed");
        let (organs, tumor) = (turned(&organs.to_dtype(DType::F32)?)?, tumor.to_dtype(DType::F32)?);
        for isa in Isa::available() {
            let found = with_isa(isa, || argmax_overlay(&organs, &tumor, 14))??;
            ensure!(found.dims() == dims, "{:?}", found.dims());
            ensure!(found.flatten_all()?.to_vec1::<u8>()? == expected, "{dims:?} {isa:?}");
        }
    }
    // Equal logits are background: the first of several wins.
    let even = Tensor::zeros((1, 2, 3, 3), DType::F32, &Device::Cpu)?;
    ensure!(argmax_overlay(&even, &even, 14)?.flatten_all()?.to_vec1::<u8>()? == [0; 9]);
    ensure!(argmax_overlay(&even, &even.narrow(2, 0, 2)?, 14).is_err_and(|e| e.to_string().contains("same voxels")));
    Ok(())
}
