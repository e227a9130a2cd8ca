//! Pooling, replication and joining.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{Isa, PoolOptions, argmax_channels, concat_channels, max_pool, max_pool2, pad_replicate_end, with_isa};
use proptest::prelude::*;

use crate::support::{check, check_precisions, hold, random, turned, values};

#[test]
fn pooling_matches_differences_and_drops_the_tail_of_odd_sizes() -> Result<()> {
    for dims in [&[2usize, 3, 6, 8][..], &[1, 2, 7, 39], &[1, 1, 2, 2], &[1, 2, 4, 5, 6], &[2, 1, 3, 3, 3], &[1, 3, 2, 2, 35]] {
        check(&format!("{dims:?}"), &[random(1, dims)], |t| max_pool2(&t[0]))?;
    }
    check("strided, reused", &[random(1, &[1, 6, 5, 4])], |t| {
        let x = t[0].transpose(1, 3)?;
        max_pool2(&x)?.transpose(2, 3)? + (max_pool2(&(&x * 2.0)?)?.transpose(2, 3)? * 0.5)?
    })
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for isa in Isa::available() {
            let x = Var::from_tensor(&Tensor::ones((1, 1, 2, 2, 2), dtype, &Device::Cpu)?)?;
            let gradient = with_isa(isa, || max_pool2(&x)?.sum_all()?.backward())??;
            let gradient = gradient.get(&x).map(values).transpose()?;
            ensure!(gradient == Some(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), "{gradient:?}");
        }
    }
    Ok(())
}

#[test]
fn a_volume_too_thin_to_pool_is_refused() {
    let result = max_pool2(&random(1, &[1, 1, 4, 1, 4]));
    assert!(result.is_err_and(|e| e.to_string().contains("at least 2")));
}

#[test]
fn replication_doubles_last_planes_and_gathers_their_gradients() -> Result<()> {
    let axes = [
        vec![true, false],
        vec![false, true],
        vec![true, true],
        vec![true, true, true],
        vec![false, true, false],
        vec![false, false, true],
    ];
    for axes in axes {
        let size: Vec<usize> = (2..2 + axes.len()).collect();
        let x = random(1, &[vec![2, 3], size].concat());
        check(&format!("{axes:?}"), std::slice::from_ref(&x), |t| pad_replicate_end(&t[0].transpose(0, 1)?, &axes)? + 1.0)?;
    }
    let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
    let y = pad_replicate_end(&x, &[true, true])?;
    ensure!(values(&y)? == [1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 3.0, 4.0, 4.0]);
    ensure!(pad_replicate_end(&x, &[true, true, true]).is_err());
    Ok(())
}

#[test]
fn joined_channels_send_their_gradients_back_to_several_consumers() -> Result<()> {
    let inputs = [random(1, &[2, 3, 4, 5]), random(2, &[2, 1, 5, 4])];
    check("concat", &inputs, |t| {
        let up = t[1].transpose(2, 3)?;
        let joined = concat_channels(&[&t[0], &up])?;
        let again = concat_channels(&[&up, &joined])?;
        joined.sum_keepdim(1)?.broadcast_mul(&again)
    })
}

#[test]
fn argmax_names_the_first_greatest_channel() -> Result<()> {
    for dims in [&[2usize, 5, 7, 9][..], &[1, 3, 4, 5, 130], &[3, 1, 2, 2]] {
        let logits = random(5, dims);
        let expected = logits.argmax(1)?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        for isa in Isa::available() {
            let labels = with_isa(isa, || argmax_channels(&logits.to_dtype(DType::F32)?))??;
            ensure!(labels.dims() == [&dims[..1], &dims[2..]].concat());
            ensure!(labels.flatten_all()?.to_vec1::<u8>()? == expected, "{dims:?} {isa:?}");
        }
        ensure!(argmax_channels(&logits)?.flatten_all()?.to_vec1::<u8>()? == expected);
    }
    let tie = Tensor::ones((1, 4, 3, 3), DType::F32, &Device::Cpu)?;
    ensure!(argmax_channels(&tie)?.flatten_all()?.to_vec1::<u8>()? == [0; 9]);
    Ok(())
}

/// Kernels 1 to 5, strides 1 to 3 and any padding allowed, each of every axis, windows that overlap and that leave gaps.
#[test]
fn any_windows_agree_with_the_composed_operations() -> Result<()> {
    let axis = || (1usize..=5, 1usize..=3, 0usize..=2, 0usize..=9);
    let axes = prop_oneof![proptest::collection::vec(axis(), 2), proptest::collection::vec(axis(), 3)];
    hold(80, &(1usize..=2, 1usize..=3, axes), |(batch, channels, axes)| {
        // An entry that an image must not look at.
        let three = |f: fn(&(usize, usize, usize, usize)) -> usize| {
            let mut three = [99; 3];
            three[3 - axes.len()..].copy_from_slice(&axes.iter().map(f).collect::<Vec<_>>());
            three
        };
        let options = PoolOptions { kernel: three(|a| a.0), stride: three(|a| a.1), padding: three(|a| a.2.min(a.0 / 2)) };
        let size: Vec<usize> = axes.iter().map(|a| a.0.saturating_sub(2 * a.2.min(a.0 / 2)).max(1) + a.3).collect();
        let x = turned(&random(1, &[vec![batch, channels], size].concat()))?;
        check_precisions("windows", &[x], |t| max_pool(&t[0], options))
    })
}

#[test]
fn gradients_of_any_windows_match_differences() -> Result<()> {
    let stem = PoolOptions { kernel: [3; 3], stride: [2; 3], padding: [1; 3] };
    let flat = PoolOptions { kernel: [1, 2, 2], stride: [1, 2, 2], padding: [0; 3] };
    for (dims, options) in [(&[2usize, 2, 7, 6][..], stem), (&[1, 2, 4, 5, 6], stem), (&[2, 1, 3, 4, 5], flat), (&[1, 1, 1, 1], stem)] {
        check(&format!("{dims:?}"), &[random(1, dims)], |t| {
            let y = max_pool(&t[0], options)?;
            (&y + max_pool(&(&t[0] * 2.0)?, options)?)? * 0.5
        })?;
    }
    let lowest = Tensor::full(f32::NEG_INFINITY, (1, 1, 4, 4), &Device::Cpu)?;
    let x = Var::from_tensor(&lowest)?;
    for isa in Isa::available() {
        let gradients = with_isa(isa, || max_pool(&x, stem)?.sum_all()?.backward())??;
        let gradient = gradients.get(&x).map(values).transpose()?;
        let first = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0].into_iter().chain([0.0; 10]).collect();
        ensure!(gradient == Some(first), "{isa:?}: {gradient:?}");
    }
    Ok(())
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let refused = |kernel: usize, stride: usize, padding: usize| {
        let options = PoolOptions { kernel: [kernel; 3], stride: [stride; 3], padding: [padding; 3] };
        max_pool(&random(1, &[1, 1, 4, 4]), options).is_err_and(|e| e.to_string().contains("do not fit"))
    };
    assert!(refused(5, 1, 0) && refused(3, 0, 0) && refused(0, 1, 0) && refused(3, 1, 2) && !refused(3, 2, 1));
}
