//! Convolutions whose factors are rounded to 16 bits in training.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use ops::{ConvOptions, Factors, Isa, conv_with, with_isa};
use proptest::prelude::*;

use crate::support::{deviation, hold, random, result_and_gradients, turned, values};

fn options(factors: Factors) -> ConvOptions {
    ConvOptions { factors, ..ConvOptions::new(1, 1) }
}

fn run(t: &[Tensor], factors: Factors) -> candle_core::Result<Tensor> {
    conv_with(&t[0], &t[1], t.get(2), options(factors))
}

/// Numbers of 8 bits, which `bf16` holds.
fn short(seed: u64, dims: &[usize]) -> Result<Tensor> {
    Ok(((random(seed, dims) * 128.0)?.round()? / 128.0)?)
}

/// Batch, channels and size of a convolution that is large enough: one of tens of thousands of products for every result.
fn shapes() -> impl Strategy<Value = (usize, [usize; 2], Vec<usize>)> {
    let sizes = prop_oneof![
        (10usize..40, 10usize..60).prop_map(|(h, w)| vec![h, w]),
        (1usize..8, 8usize..14, 24usize..40).prop_map(|(d, h, w)| vec![d, h, w])
    ];
    (1usize..=3, [16usize..=70, 16usize..=70], sizes)
}

fn tensors(batch: usize, [ci, co]: [usize; 2], size: &[usize], of: impl Fn(u64, &[usize]) -> Result<Tensor>) -> Result<[Tensor; 3]> {
    let kernel = vec![3; size.len()];
    Ok([of(1, &[&[batch, ci], size].concat())?, of(2, &[&[co, ci], &kernel[..]].concat())?, of(3, &[co])?])
}

/// Where rounding changes nothing, nothing differs but the order of sums: on every set of instructions, AVX-512 BF16 and AMX among
/// them where they are, and in plain arithmetic by tiles as those of AMX.
#[test]
fn numbers_of_eight_bits_lose_nothing() -> Result<()> {
    hold(12, &shapes(), |(batch, channels, size)| {
        let mut inputs = tensors(batch, channels, &size, short)?;
        inputs[0] = turned(&inputs[0])?;
        let (y, gradients) = result_and_gradients(&inputs, DType::F64, &|t| run(t, Factors::F32))?;
        for isa in Isa::available() {
            let (found, found_gradients) = with_isa(isa, || result_and_gradients(&inputs, DType::F32, &|t| run(t, Factors::Bf16)))??;
            let off = deviation(&found, &y)?;
            ensure!(off < 1e-5, "{isa:?}: result off by {off:.1e}");
            for (i, (found, expected)) in found_gradients.iter().zip(&gradients).enumerate() {
                let off = deviation(found, expected)?;
                ensure!(off < 1e-5, "{isa:?}: gradient {i} off by {off:.1e}");
            }
        }
        Ok(())
    })
}

/// The root of the mean squared difference, relative to that of what is expected.
fn error(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let (found, expected) = (values(found)?, values(expected)?);
    let sum = |of: &dyn Fn((&f64, &f64)) -> f64| found.iter().zip(&expected).map(of).sum::<f64>();
    Ok((sum(&|(a, b)| (a - b) * (a - b)) / sum(&|(_, b)| b * b)).sqrt())
}

#[test]
fn others_are_off_by_the_rounding_of_factors_and_no_more() -> Result<()> {
    for (batch, channels, size) in [(2, [32, 48], vec![40, 37]), (1, [16, 33], vec![9, 17, 20])] {
        let inputs = tensors(batch, channels, &size, |seed, dims| Ok(random(seed, dims)))?;
        let (y, gradients) = result_and_gradients(&inputs, DType::F64, &|t| run(t, Factors::F32))?;
        let (found, found_gradients) = result_and_gradients(&inputs, DType::F32, &|t| run(t, Factors::Bf16))?;
        // Two factors of 8 bits, each off by 1.7e-3 in the mean square: 2.4e-3. The gradient that comes in is exact here, and the
        // bias' gradient, which is a sum without products, is not rounded.
        let off = error(&found, &y)?;
        ensure!((5e-4..3e-3).contains(&off), "result off by {off:.1e}");
        for (i, (found, expected)) in found_gradients.iter().zip(&gradients).enumerate() {
            let off = error(found, expected)?;
            let allowed = if i < 2 { 5e-4..3e-3 } else { 0.0..1e-6 };
            ensure!(allowed.contains(&off), "gradient {i} off by {off:.1e}");
        }
    }
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    let inputs = tensors(2, [40, 72], &[4, 11, 30], |seed, dims| Ok(random(seed, dims)))?;
    let with_threads = |threads: usize| -> Result<Vec<Vec<f64>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| {
            let (y, gradients) = result_and_gradients(&inputs, DType::F32, &|t| run(t, Factors::Bf16))?;
            [vec![y], gradients].concat().iter().map(values).collect()
        })
    };
    let expected = with_threads(1)?;
    for threads in [2, 7] {
        ensure!(with_threads(threads)? == expected, "{threads} threads give other numbers");
    }
    Ok(())
}

/// The first layer, the heads and strided convolutions are not rounded.
#[test]
fn what_is_small_stays_single() -> Result<()> {
    let of = |seed, dims: &[usize]| -> Result<Tensor> { Ok(random(seed, dims).to_dtype(DType::F32)?) };
    for (x, w) in [([1, 1, 40, 40], [32, 1, 3, 3]), ([1, 32, 40, 40], [14, 32, 1, 1]), ([1, 32, 10, 10], [32, 32, 3, 3])] {
        let t = [of(1, &x)?, of(2, &w)?];
        ensure!(values(&run(&t, Factors::Bf16)?)? == values(&run(&t, Factors::F32)?)?, "{w:?} is rounded");
    }
    Ok(())
}
