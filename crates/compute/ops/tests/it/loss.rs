//! Dice and cross-entropy.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{DiceCe, Isa, Target, cross_entropy, dice_ce, with_isa};

use crate::support::{check, deviation, random, random_labels, values};

fn fixture(name: &str) -> Result<HashMap<String, Tensor>> {
    let path = format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    Ok(candle_core::safetensors::load(path, &Device::Cpu)?)
}

fn close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    let off = deviation(&found.flatten_all()?, &expected.flatten_all()?)?;
    ensure!(off < 1e-5, "{what}: off by {off:.1e}");
    Ok(())
}

#[test]
fn values_and_gradients_are_monai_s() -> Result<()> {
    let golden = fixture("losses")?;
    let get = |name: String| golden.get(&name).with_context(|| format!("{name} missing"));
    for dim in ["2d", "3d"] {
        let target = get(format!("{dim}.target"))?.squeeze(1)?;
        for isa in Isa::available() {
            for dtype in [DType::F32, DType::F64] {
                let what = format!("{dim} {isa:?} {dtype:?}");
                let logits = Var::from_tensor(&get(format!("{dim}.logits"))?.to_dtype(dtype)?)?;
                for (squared, name) in [(true, "True"), (false, "False")] {
                    let loss = with_isa(isa, || DiceCe { squared, batch: false }.loss(&logits, &target))??;
                    close(&loss, get(format!("{dim}.squared_{name}.loss"))?, &what)?;
                    let gradients = with_isa(isa, || loss.backward())??;
                    let gradient = gradients.get(&logits).context("no gradient")?;
                    close(gradient, get(format!("{dim}.squared_{name}.grad"))?, &what)?;
                }
                let dice = with_isa(isa, || DiceCe { squared: true, batch: false }.dice_alone(&logits, &target))??;
                close(&dice, get(format!("{dim}.dice"))?, &what)?;
                let entropy = with_isa(isa, || cross_entropy(&logits, &target))??;
                close(&entropy, get(format!("{dim}.cross_entropy"))?, &what)?;
            }
        }
    }
    Ok(())
}

/// More than one task per batch entry, a remainder block, strided logits and an upstream gradient.
#[test]
fn gradients_match_differences() -> Result<()> {
    let large = random(1, &[1, 3, 131, 127]);
    let labels = random_labels(2, &[1, 127, 131], 3)?;
    check("large", &[large], |t| dice_ce(&(t[0].transpose(2, 3)? * 4.0)?, &labels)? * 3.0)?;
    let small = (random(3, &[2, 15, 3, 4, 5]) * 5.0)?;
    let labels = random_labels(4, &[2, 3, 4, 5], 15)?;
    for squared in [true, false] {
        let op = DiceCe { squared, batch: false };
        check("small", std::slice::from_ref(&small), |t| op.loss(&t[0], &labels))?;
        check("dice", std::slice::from_ref(&small), |t| op.dice_alone(&t[0], &labels))?;
    }
    check("cross-entropy", &[small], |t| cross_entropy(&t[0], &labels)? + cross_entropy(&(&t[0] * 2.0)?, &labels)?)
}

/// The sums of a whole batch are those of one entry that holds the voxels of all: what that entry's loss is, MONAI says.
#[test]
fn the_loss_of_a_whole_batch_is_that_of_its_entries_side_by_side() -> Result<()> {
    let logits = (random(5, &[3, 4, 9, 150]) * 3.0)?;
    let labels = random_labels(6, &[3, 9, 150], 4)?;
    let side_by_side = labels.reshape((1, 27, 150))?;
    for squared in [true, false] {
        for isa in Isa::available() {
            for dtype in [DType::F32, DType::F64] {
                let logits = Var::from_tensor(&logits.to_dtype(dtype)?)?;
                let found = with_isa(isa, || DiceCe { squared, batch: true }.loss(&logits, &labels))??;
                let joined = logits.transpose(0, 1)?.reshape((1, 4, 27, 150))?;
                let expected = with_isa(isa, || DiceCe { squared, batch: false }.loss(&joined, &side_by_side))??;
                close(&found, &expected, "loss")?;
                let gradient =
                    |loss: &Tensor| -> Result<Tensor> { with_isa(isa, || loss.backward())??.get(&logits).cloned().context("no gradient") };
                close(&gradient(&found)?, &gradient(&expected)?, "gradient")?;
            }
        }
    }
    Ok(())
}

/// All ways to take a Dice score.
const DICE: [DiceCe; 4] = [
    DiceCe { squared: true, batch: false },
    DiceCe { squared: true, batch: true },
    DiceCe { squared: false, batch: false },
    DiceCe { squared: false, batch: true },
];

/// Of a shape, weights from 0 to 1; half of them are 0.
fn random_weights(seed: u64, dims: &[usize]) -> Result<Tensor> {
    Ok(random(seed, dims).relu()?.to_dtype(DType::F32)?)
}

/// The loss and its gradient by the logits, three times.
fn with_gradient(isa: Isa, op: DiceCe, logits: &Tensor, target: Target<'_>) -> Result<[Tensor; 2]> {
    let logits = Var::from_tensor(logits)?;
    let loss = with_isa(isa, || op.loss(&logits, target)? * 3.0)??;
    let gradients = with_isa(isa, || loss.backward())??;
    Ok([loss, gradients.get(&logits).cloned().context("no gradient")?])
}

#[test]
fn weighted_losses_and_gradients_are_pytorch_s() -> Result<()> {
    let golden = fixture("weighted_loss")?;
    let target = Target { labels: &golden["target"], weights: Some(&golden["weights"]) };
    for isa in Isa::available() {
        for (op, dtype) in DICE.into_iter().flat_map(|op| [(op, DType::F32), (op, DType::F64)]) {
            let what = format!("{op:?} {isa:?} {dtype:?}");
            let [loss, gradient] = with_gradient(isa, op, &golden["logits"].to_dtype(dtype)?, target)?;
            let expected = |part: &str| golden[&format!("{}.{}.{part}", op.squared, op.batch)].clone() * 3.0;
            close(&loss, &expected("loss")?, &what)?;
            close(&gradient, &expected("grad")?, &what)?;
        }
    }
    Ok(())
}

#[test]
fn weighted_gradients_match_differences() -> Result<()> {
    let large = random(1, &[1, 3, 131, 127]);
    let (labels, weights) = (random_labels(2, &[1, 127, 131], 3)?, random_weights(7, &[1, 127, 131])?);
    let weighted = Target { labels: &labels, weights: Some(&weights) };
    check("large", &[large], |t| dice_ce(&(t[0].transpose(2, 3)? * 4.0)?, weighted)? * 3.0)?;
    let small = (random(3, &[2, 15, 3, 4, 5]) * 5.0)?;
    let (labels, weights) = (random_labels(4, &[2, 3, 4, 5], 15)?, random_weights(8, &[2, 3, 4, 5])?);
    let weighted = Target { labels: &labels, weights: Some(&weights) };
    for op in DICE {
        check("small", std::slice::from_ref(&small), |t| op.loss(&t[0], weighted))?;
        check("dice", std::slice::from_ref(&small), |t| op.dice_alone(&t[0], weighted))?;
    }
    check("cross-entropy", &[small], |t| cross_entropy(&t[0], weighted))
}

#[test]
fn weights_of_one_change_no_bit() -> Result<()> {
    let logits = (random(9, &[2, 5, 150, 131]) * 4.0)?;
    let labels = random_labels(10, &[2, 150, 131], 5)?;
    let ones = Tensor::ones(labels.dims(), DType::F32, &Device::Cpu)?;
    for isa in Isa::available() {
        for (op, dtype) in DICE.into_iter().flat_map(|op| [(op, DType::F32), (op, DType::F64)]) {
            let logits = logits.to_dtype(dtype)?;
            let plain = with_gradient(isa, op, &logits, (&labels).into())?;
            let weighted = with_gradient(isa, op, &logits, Target { labels: &labels, weights: Some(&ones) })?;
            for (plain, weighted) in plain.iter().zip(&weighted) {
                let bits = |t: &Tensor| -> Result<Vec<u64>> { Ok(values(t)?.into_iter().map(f64::to_bits).collect()) };
                ensure!(bits(plain)? == bits(weighted)?, "{op:?} {isa:?} {dtype:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_voxel_of_weight_zero_has_no_gradient_and_no_label() -> Result<()> {
    let logits = (random(11, &[2, 4, 33, 70]) * 4.0)?;
    let dims = [2, 33, 70];
    let (labels, weights) = (random_labels(12, &dims, 4)?, random_weights(13, &dims)?);
    let ignored = weights.eq(0f32)?;
    let others = ignored.where_cond(&random_labels(14, &dims, 4)?, &labels)?;
    let everywhere = weights.zeros_like()?;
    for isa in Isa::available() {
        for (op, dtype) in DICE.into_iter().flat_map(|op| [(op, DType::F32), (op, DType::F64)]) {
            let logits = logits.to_dtype(dtype)?;
            let found = with_gradient(isa, op, &logits, Target { labels: &labels, weights: Some(&weights) })?;
            let same = with_gradient(isa, op, &logits, Target { labels: &others, weights: Some(&weights) })?;
            for (found, same) in found.iter().zip(&same) {
                ensure!(values(found)? == values(same)?, "{op:?} {isa:?} {dtype:?}: the label of an ignored voxel matters");
            }
            let of_ignored = found[1].broadcast_mul(&ignored.unsqueeze(1)?.to_dtype(dtype)?)?;
            ensure!(values(&of_ignored)?.iter().all(|&g| g == 0.0) && values(&found[1])?.iter().any(|&g| g != 0.0));
            let [loss, gradient] = with_gradient(isa, op, &logits, Target { labels: &labels, weights: Some(&everywhere) })?;
            ensure!(values(&loss)? == [0.0] && values(&gradient)?.iter().all(|&g| g == 0.0), "{op:?} {isa:?} {dtype:?}: nothing counts");
        }
    }
    Ok(())
}

#[test]
fn weights_that_do_not_fit_are_refused() -> Result<()> {
    let logits = random(1, &[1, 3, 2, 2]).to_dtype(DType::F32)?;
    let labels = Tensor::zeros((1, 2, 2), DType::U8, &Device::Cpu)?;
    for weights in [Tensor::ones((1, 4), DType::F32, &Device::Cpu)?, Tensor::ones((1, 2, 2), DType::F64, &Device::Cpu)?] {
        let error = dice_ce(&logits, Target { labels: &labels, weights: Some(&weights) }).err().context("no error")?;
        ensure!(error.to_string().contains("need f32 weights of their shape"), "{error}");
    }
    Ok(())
}

#[test]
fn certain_logits_give_finite_losses() -> Result<()> {
    let logits = Tensor::new(&[[1e4f32, -1e4, 0.0, 200.0], [-1e4, 1e4, 0.0, -200.0]], &Device::Cpu)?.reshape((1, 2, 2, 2))?;
    let right = Tensor::new(&[0u8, 1, 0, 0], &Device::Cpu)?.reshape((1, 2, 2))?;
    let wrong = Tensor::new(&[1u8, 0, 1, 1], &Device::Cpu)?.reshape((1, 2, 2))?;
    for isa in Isa::available() {
        let logits = Var::from_tensor(&logits)?;
        for target in [&right, &wrong] {
            let loss = with_isa(isa, || dice_ce(&logits, target))??;
            let gradients = with_isa(isa, || loss.backward())??;
            let gradient = values(gradients.get(&logits).context("no gradient")?)?;
            ensure!(values(&loss)?[0].is_finite() && gradient.iter().all(|g| g.is_finite()));
        }
        let entropy = values(&with_isa(isa, || cross_entropy(&logits, &wrong))??)?[0];
        let expected = (2e4 + 2e4 + 2f64.ln() + 400.0) / 4.0;
        ensure!((entropy / expected - 1.0).abs() < 1e-6, "{entropy} found, {expected} expected");
    }
    Ok(())
}

#[test]
fn a_label_beyond_the_channels_is_named_in_the_error() -> Result<()> {
    let target = Tensor::new(&[0u8, 1, 3, 2], &Device::Cpu)?.reshape((1, 2, 2))?;
    for dtype in [DType::F32, DType::F64] {
        let logits = random(1, &[1, 3, 2, 2]).to_dtype(dtype)?;
        let error = dice_ce(&logits, &target).err().context("no error")?;
        ensure!(error.to_string().contains("label 3 outside 0..3"), "{error}");
        ensure!(dice_ce(&logits, &target.narrow(1, 0, 1)?).is_err());
    }
    Ok(())
}
