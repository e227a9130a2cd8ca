//! Dice and cross-entropy.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{DiceCe, Isa, cross_entropy, dice_ce, with_isa};

use crate::support::{check, deviation, random, random_labels, values};

fn fixture() -> Result<HashMap<String, Tensor>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/losses.safetensors");
    Ok(candle_core::safetensors::load(path, &Device::Cpu)?)
}

fn close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    let off = deviation(&found.flatten_all()?, &expected.flatten_all()?)?;
    ensure!(off < 1e-5, "{what}: off by {off:.1e}");
    Ok(())
}

#[test]
fn values_and_gradients_are_monai_s() -> Result<()> {
    let golden = fixture()?;
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
