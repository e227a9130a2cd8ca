//! Convolution, instance normalisation and activation as one operation.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{ConvOptions, Isa, Norm, conv_norm_leaky_relu, conv_with, instance_norm_leaky_relu, with_isa};
use proptest::prelude::*;

use crate::conv_options::{Case, cases};
use crate::support::{check, hold, random, result_and_gradients, turned, values};

fn norm(t: &[Tensor]) -> Norm<'_> {
    Norm { gamma: &t[0], beta: &t[1], eps: 1e-3, slope: 0.1 }
}

/// x, weights, gamma, beta and bias.
fn inputs(case: &Case) -> Result<[Tensor; 5]> {
    let [x, w, bias] = case.tensors();
    let channels = bias.dims().to_vec();
    Ok([x, w, (random(4, &channels) + 1.5)?, (random(5, &channels) + 0.01)?, bias])
}

#[test]
fn gradients_match_differences_through_views_and_several_consumers() -> Result<()> {
    for (x, w, padding) in [(&[2usize, 3, 7, 9][..], &[4usize, 3, 3, 3][..], 1), (&[1, 2, 4, 5, 6], &[3, 2, 1, 2, 3], 0)] {
        let inputs = [random(1, x), random(2, w), (random(3, &w[..1]) + 1.5)?, random(4, &w[..1])];
        let options = ConvOptions::new(1, padding);
        check(&format!("{x:?}"), &inputs, |t| conv_norm_leaky_relu(&[&t[0]], &t[1], None, options, norm(&t[2..])))?;
    }
    let inputs = [random(1, &[2, 3, 5, 6]), random(2, &[3, 3, 3, 3]), (random(3, &[3]) + 1.5)?, random(4, &[3])];
    check("strided, reused", &inputs, |t| {
        let x = t[0].transpose(2, 3)?;
        let options = ConvOptions::new(1, 1);
        let y = conv_norm_leaky_relu(&[&x], &t[1], None, options, norm(&t[2..]))?;
        (conv_norm_leaky_relu(&[&y], &t[1], None, options, norm(&t[2..]))? + y)? + x
    })
}

/// Nothing but the way to it differs from two operations, so that no bit does, with all sets of instructions.
#[test]
fn the_result_and_all_gradients_are_those_of_the_two_operations() -> Result<()> {
    hold(40, &(cases(), any::<bool>()), |(case, biased)| {
        let mut inputs = inputs(&case)?.to_vec();
        inputs[0] = turned(&inputs[0])?;
        inputs.truncate(if biased { 5 } else { 4 });
        for isa in Isa::available() {
            let one = |t: &[Tensor]| conv_norm_leaky_relu(&[&t[0]], &t[1], t.get(4), case.options, norm(&t[2..4]));
            let two = |t: &[Tensor]| {
                let Norm { gamma, beta, eps, slope } = norm(&t[2..4]);
                instance_norm_leaky_relu(&conv_with(&t[0], &t[1], t.get(4), case.options)?, gamma, beta, eps, slope)
            };
            let (found, found_gradients) = with_isa(isa, || result_and_gradients(&inputs, DType::F32, &one))??;
            let (expected, gradients) = with_isa(isa, || result_and_gradients(&inputs, DType::F32, &two))??;
            ensure!(values(&found)? == values(&expected)?, "{isa:?}, {case:?}: another result");
            for (i, (found, expected)) in found_gradients.iter().zip(&gradients).enumerate() {
                ensure!(values(found)? == values(expected)?, "{isa:?}, {case:?}: another gradient of input {i}");
            }
        }
        Ok(())
    })
}

/// A frozen layer below a live one: its parameters have no gradient, its input has; and the other way round. `backward` leaves in the
/// store whatever was computed for a tensor that no variable is in.
#[test]
fn frozen_parameters_have_no_gradients() -> Result<()> {
    let (x, w, gamma, beta) = (var(1, &[1, 2, 5, 5])?, var(2, &[3, 2, 3, 3])?, var(3, &[3])?, var(4, &[3])?);
    let run = |x: &Tensor, w: &Tensor, gamma: &Tensor, beta: &Tensor| {
        conv_norm_leaky_relu(&[x], w, None, ConvOptions::new(1, 1), Norm { gamma, beta, eps: 1e-5, slope: 0.1 })
    };
    let gradients = run(&x, &frozen(&w), &frozen(&gamma), &frozen(&beta))?.sqr()?.sum_all()?.backward()?;
    ensure!(gradients.get(&x).is_some() && gradients.get_ids().count() == 1);
    // Gamma and beta come as one tensor, whose gradient is taken apart.
    let gradients = run(&frozen(&x), &w, &gamma, &beta)?.sqr()?.sum_all()?.backward()?;
    ensure!([&w, &gamma, &beta].iter().all(|var| gradients.get(var).is_some()) && gradients.get_ids().count() == 3);
    Ok(())
}

fn var(seed: u64, dims: &[usize]) -> Result<Var> {
    Ok(Var::from_tensor(&random(seed, dims).to_dtype(DType::F32)?)?)
}

fn frozen(var: &Var) -> Tensor {
    var.as_detached_tensor()
}

/// Where one of two joined maps takes a gradient, it is that of the joined map, and that of the other one is not computed.
#[test]
fn of_joined_maps_each_has_its_part_of_the_gradient() -> Result<()> {
    let (w, gamma, beta) = (var(2, &[19, 13, 3, 3])?, var(3, &[19])?, var(4, &[19])?);
    let maps = [var(5, &[2, 4, 9, 10])?, var(6, &[2, 9, 9, 10])?];
    let factors = random(7, &[2, 19, 9, 10]).to_dtype(DType::F32)?;
    let gradients = |sources: &[&Tensor]| {
        let norm = Norm { gamma: &gamma, beta: &beta, eps: 1e-5, slope: 0.1 };
        let y = conv_norm_leaky_relu(sources, &w, None, ConvOptions::new(1, 1), norm)?;
        (y * &factors)?.sum_all()?.backward()
    };
    let both = gradients(&[&maps[0], &maps[1]])?;
    let joined = gradients(&[&ops::concat_channels(&[&maps[0], &maps[1]])?])?;
    for (place, map) in maps.iter().enumerate() {
        let [first, second] = [0, 1].map(|k| if k == place { maps[k].as_tensor().clone() } else { frozen(&maps[k]) });
        let alone = gradients(&[&first, &second])?;
        for var in [&w, &gamma, &beta] {
            ensure!(alone.get(var).map(values).transpose()? == both.get(var).map(values).transpose()?, "map {place}: another gradient");
        }
        let of_map = |store: &candle_core::backprop::GradStore| store.get(map).context("no gradient").and_then(values);
        ensure!(of_map(&both)? == of_map(&joined)?);
        // Fewer channels may be summed up by another way.
        let apart = of_map(&alone)?.iter().zip(of_map(&both)?).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        ensure!(apart < 1e-4, "map {place}: off by {apart}");
        // Of a product, `backward` computes the gradients by both factors.
        ensure!(alone.get(&factors).is_some() && alone.get_ids().count() == 5, "gradients of one map, weights, gamma and beta alone");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let x = Tensor::zeros((1, 2, 5, 5), DType::F32, &Device::Cpu)?;
    let (w, gamma) = (x.zeros_like()?.reshape((2, 1, 5, 5))?, Tensor::zeros(2, DType::F32, &Device::Cpu)?);
    let run = |w: &Tensor, bias: Option<&Tensor>, gamma: &Tensor| {
        conv_norm_leaky_relu(
            &[&x],
            w,
            bias,
            ConvOptions::new(1, 1),
            Norm { gamma, beta: &Tensor::zeros(2, DType::F32, x.device())?, eps: 1e-5, slope: 0.1 },
        )
    };
    let message = |result: candle_core::Result<Tensor>| result.map_or_else(|error| error.to_string(), |_| String::new());
    ensure!(message(run(&w, None, &gamma)).contains("weights (co, 2, kernel..)"));
    let w = w.reshape((1, 2, 5, 5))?;
    ensure!(message(run(&w, Some(&gamma), &gamma)).contains("a bias of shape [1]"));
    ensure!(message(run(&w, None, &gamma)).contains("gamma and beta of shape [1]"));
    Ok(())
}
