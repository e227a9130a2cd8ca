//! Layer normalisation, softmax, GELU, standardised weights, attention.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use ops::{Isa, attention, gelu, layer_norm, softmax, standardize_weights, with_isa};
use proptest::prelude::*;

use crate::support::{check, check_precisions, deviation, hold, random, values};

/// Rows of one element, shorter and longer than a vector, and longer than a block of a sum.
const ROWS: [&[usize]; 6] = [&[3, 1], &[2, 3, 5], &[7, 33], &[4, 96], &[2, 1, 131], &[2, 9001]];

#[test]
fn layer_norm_matches_differences_through_views_and_several_consumers() -> Result<()> {
    for dims in ROWS {
        let n = dims[dims.len() - 1];
        let inputs = [random(1, dims), (random(2, &[n]) + 1.5)?, random(3, &[n])];
        check(&format!("{dims:?}"), &inputs, |t| layer_norm(&t[0], &t[1], &t[2], 1e-5))?;
    }
    check("strided, reused", &[random(1, &[6, 5, 4]), random(2, &[6]), random(3, &[6])], |t| {
        let y = layer_norm(&t[0].transpose(0, 2)?, &t[1], &t[2], 1e-3)?;
        (layer_norm(&y, &t[2], &t[1], 1e-5)? + y)? + t[0].transpose(0, 2)?
    })
}

#[test]
fn layer_norm_of_many_rows_agrees_on_every_task() -> Result<()> {
    check_precisions("many rows", &[random(1, &[3000, 48]), random(2, &[48]), random(3, &[48])], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5))
}

#[test]
fn standardized_filters_have_mean_zero_and_variance_one() -> Result<()> {
    let weight = (random(1, &[5, 3, 3, 2]) * 4.0)?;
    let standard = standardize_weights(&weight, 1e-10)?;
    for filter in standard.flatten_from(1)?.to_vec2::<f64>()? {
        let mean = filter.iter().sum::<f64>() / filter.len() as f64;
        let variance = filter.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / filter.len() as f64;
        ensure!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-6, "mean {mean}, variance {variance}");
    }
    for dims in [&[4usize, 2, 3, 3, 3][..], &[2, 1, 5, 1], &[3, 1]] {
        check(&format!("{dims:?}"), &[random(2, dims)], |t| standardize_weights(&t[0], 1e-5))?;
    }
    ensure!(standardize_weights(&random(1, &[4]), 1e-5).is_err());
    Ok(())
}

#[test]
fn softmax_matches_differences_and_sums_to_one() -> Result<()> {
    for dims in ROWS {
        check(&format!("{dims:?}"), &[(random(1, dims) * 6.0)?], |t| softmax(&t[0]))?;
    }
    check("strided, reused", &[random(1, &[6, 5, 4])], |t| {
        let y = softmax(&t[0].transpose(0, 2)?)?;
        (softmax(&y)? * &y)? + t[0].transpose(0, 2)?
    })?;
    let extreme = Tensor::new(&[[1e4f32, -1e4, 0.0], [f32::NEG_INFINITY, 3.0, 3.0]], &Device::Cpu)?;
    for isa in Isa::available() {
        let y = values(&with_isa(isa, || softmax(&extreme))??)?;
        ensure!(y == [1.0, 0.0, 0.0, 0.0, 0.5, 0.5], "{isa:?}: {y:?}");
    }
    ensure!(softmax(&Tensor::zeros((3, 0), DType::F32, &Device::Cpu)?)?.dims() == [3, 0]);
    Ok(())
}

#[test]
fn gelu_matches_differences_from_tail_to_tail() -> Result<()> {
    for dims in [&[1usize][..], &[37], &[3, 17, 5]] {
        check(&format!("{dims:?}"), &[(random(1, dims) * 7.0)?], |t| gelu(&t[0]))?;
    }
    check("strided, reused", &[random(1, &[6, 5])], |t| gelu(&t[0].t()?)? * gelu(&gelu(&t[0].t()?)?)?)?;
    // torch.nn.functional.gelu of these in double precision.
    let x = Tensor::new(&[-3.0f32, -1.0, -0.1, 0.0, 0.5, 2.0, 30.0, -30.0], &Device::Cpu)?;
    let expected = [-0.004_049_694, -0.158_655_254, -0.046_017_216, 0.0, 0.345_731_231, 1.954_499_736, 30.0, 0.0];
    for (found, expected) in values(&gelu(&x)?)?.iter().zip(expected) {
        ensure!((found - expected).abs() < 2e-7 * expected.abs().max(1.0), "{found} instead of {expected}");
    }
    Ok(())
}

/// Attention by its definition, one score at a time.
fn naive(qkv: &Tensor, heads: usize, bias: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let d = width / (3 * heads);
    let all = values(qkv)?;
    let at = |entry: usize, token: usize, part: usize, head: usize| &all[((entry * n + token) * 3 + part) * heads * d + head * d..][..d];
    let (bias, mask) = (bias.map(values).transpose()?, mask.map(values).transpose()?);
    let mut y = vec![0.0; b * n * heads * d];
    for (entry, head, i) in (0..b).flat_map(|e| (0..heads).flat_map(move |h| (0..n).map(move |i| (e, h, i)))) {
        let score = |j: usize| {
            let product: f64 = at(entry, i, 0, head).iter().zip(at(entry, j, 1, head)).map(|(q, k)| q * k).sum();
            let bias = bias.as_ref().map_or(0.0, |bias| bias[(head * n + i) * n + j]);
            let mask = mask.as_ref().map_or(0.0, |mask| mask[(entry % (mask.len() / (n * n)) * n + i) * n + j]);
            product / (d as f64).sqrt() + bias + mask
        };
        let exponentials: Vec<f64> = (0..n).map(|j| score(j).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        for (j, e) in exponentials.iter().enumerate() {
            for (k, v) in at(entry, j, 2, head).iter().enumerate() {
                y[((entry * n + i) * heads + head) * d + k] += e / sum * v;
            }
        }
    }
    Ok(Tensor::from_vec(y, (b, n, heads * d), &Device::Cpu)?)
}

#[test]
fn attention_follows_its_definition_and_gradients_their_composition() -> Result<()> {
    // Batch as windows and how many of each, tokens, heads, depth, bias, mask.
    let shapes = ((1usize..=3, 1usize..=2), 1usize..=70, 1usize..=4, 1usize..=35, any::<bool>(), any::<bool>());
    hold(40, &shapes, |((windows, times), tokens, heads, depth, with_bias, with_mask)| {
        let qkv = (random(1, &[windows * times, tokens, 3 * heads * depth]) * 2.0)?;
        // A single token has probability 1 whatever the bias: a gradient of nothing but rounding has no scale.
        let bias = (with_bias && tokens > 1).then(|| random(2, &[heads, tokens, tokens]));
        let mask = with_mask.then(|| random(3, &[windows, tokens, tokens]));
        let expected = naive(&qkv, heads, bias.as_ref(), mask.as_ref())?;
        let off = deviation(&attention(&qkv, heads, bias.as_ref(), mask.as_ref())?, &expected)?;
        ensure!(off < 1e-12, "composed: off by {off:.1e}");
        let inputs: Vec<Tensor> = std::iter::once(qkv).chain(bias).collect();
        check_precisions("attention", &inputs, |t| {
            let mask = mask.as_ref().map(|mask| mask.to_dtype(t[0].dtype())).transpose()?;
            attention(&t[0], heads, t.get(1), mask.as_ref())
        })
    })
}

#[test]
fn gradients_of_attention_match_differences() -> Result<()> {
    check("plain", &[random(1, &[2, 5, 18])], |t| attention(&t[0], 2, None, None))?;
    let mask = random(3, &[2, 7, 7]);
    let inputs = [random(1, &[24, 7, 4]), random(2, &[2, 7, 7])];
    check("bias, mask, strided, several consumers", &inputs, |t| {
        let mask = mask.to_dtype(t[0].dtype())?;
        let qkv = t[0].transpose(0, 2)?;
        let once = attention(&qkv, 2, Some(&t[1].transpose(1, 2)?), Some(&mask))?;
        let again = Tensor::cat(&[&once, &qkv.narrow(2, 0, 16)?], 2)?;
        attention(&again, 2, Some(&t[1]), None)
    })
}

/// A window of Swin's shape: 343 tokens.
#[test]
fn a_window_of_real_size_agrees_and_does_not_depend_on_the_number_of_threads() -> Result<()> {
    let inputs = [(random(1, &[6, 343, 96]) * 3.0)?, random(2, &[2, 343, 343])];
    let mask = (random(3, &[3, 343, 343]).gt(0.8)?.to_dtype(DType::F64)? * -100.0)?;
    let run = |t: &[Tensor]| attention(&t[0], 2, Some(&t[1]), Some(&mask.to_dtype(t[0].dtype())?));
    check_precisions("window", &inputs, run)?;
    let bits = |threads: usize| -> Result<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let (y, gradients) = pool.install(|| crate::support::result_and_gradients(&inputs, DType::F32, &run))?;
        std::iter::once(&y).chain(&gradients).map(values).collect::<Result<Vec<_>>>().map(|all| all.concat())
    };
    ensure!(bits(1)? == bits(5)?, "results differ in some bits");
    Ok(())
}

/// Minus infinity in the mask hides a token as if it were not there.
#[test]
fn hidden_tokens_have_no_part_in_the_result() -> Result<()> {
    let qkv = random(1, &[1, 5, 12]).to_dtype(DType::F32)?;
    let seen = Tensor::new(&[0f32, 0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY], &Device::Cpu)?;
    let mask = seen.reshape((1, 1, 5))?.broadcast_as((1, 5, 5))?;
    for isa in Isa::available() {
        let found = with_isa(isa, || attention(&qkv, 2, None, Some(&mask)))??.narrow(1, 0, 3)?;
        let alone = with_isa(isa, || attention(&qkv.narrow(1, 0, 3)?, 2, None, None))??;
        let off = deviation(&found, &alone)?;
        ensure!(off < 1e-6, "{isa:?}: off by {off:.1e}");
    }
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_named_in_the_error() {
    let refused = |result: candle_core::Result<Tensor>, part: &str| {
        let message = result.map_or_else(|e| e.to_string(), |_| "no error".into());
        assert!(message.contains(part), "{message}");
    };
    let qkv = random(1, &[4, 5, 12]);
    refused(attention(&qkv, 5, None, None), "3 * 5 heads");
    refused(attention(&qkv, 0, None, None), "0 heads");
    refused(attention(&qkv, 2, Some(&random(2, &[2, 5, 4])), None), "[2, 5, 4]");
    refused(attention(&qkv, 2, None, Some(&random(2, &[3, 5, 5]))), "dividing 4");
    refused(layer_norm(&qkv, &random(1, &[11]), &random(1, &[12]), 1e-5), "of its length");
}
