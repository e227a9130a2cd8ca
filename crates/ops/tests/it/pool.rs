//! Pooling, replication and joining.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{Isa, argmax_channels, concat_channels, max_pool2, pad_replicate_end, with_isa};

use crate::support::{check, random, values};

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
