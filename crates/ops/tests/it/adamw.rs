//! AdamW.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor, Var};
use ops::{AdamW, Isa, adamw_step, with_isa};

use crate::support::{deviation, random};

/// Three steps of the formulas of Loshchilov and Hutter (algorithm 2, decoupled decay), in double precision.
fn expected(value: &[f64], gradients: &[Vec<f64>], h: &AdamW) -> Vec<f64> {
    let (mut value, mut m, mut v) = (value.to_vec(), vec![0.0; value.len()], vec![0.0; value.len()]);
    for (t, g) in gradients.iter().enumerate() {
        let t = (t + 1) as f64;
        for i in 0..value.len() {
            m[i] = h.beta1 * m[i] + (1.0 - h.beta1) * g[i];
            v[i] = h.beta2 * v[i] + (1.0 - h.beta2) * g[i] * g[i];
            let m_hat = m[i] / (1.0 - h.beta1.powf(t));
            let v_hat = v[i] / (1.0 - h.beta2.powf(t));
            value[i] -= h.lr * h.weight_decay * value[i];
            value[i] -= h.lr * m_hat / (v_hat.sqrt() + h.eps);
        }
    }
    value
}

#[test]
fn steps_follow_the_formulas_in_place() -> Result<()> {
    let hyper = AdamW { weight_decay: 0.1, ..AdamW::with_lr(1e-2) };
    let start = random(1, &[7, 3, 11]);
    let gradients: Vec<Tensor> = (2..5).map(|seed| random(seed, &[11, 3, 7])).collect();
    let flat = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.flatten_all()?.to_vec1()?) };
    let turned: Vec<Tensor> = gradients.iter().map(|g| g.transpose(0, 2)).collect::<candle_core::Result<_>>()?;
    let steps: Vec<Vec<f64>> = turned.iter().map(flat).collect::<Result<_>>()?;
    let expected = Tensor::new(expected(&flat(&start)?, &steps, &hyper), start.device())?.reshape(start.shape())?;
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        for isa in Isa::available() {
            let var = Var::from_tensor(&start.to_dtype(dtype)?)?;
            let shared = var.as_detached_tensor();
            let (m, v) = (Var::zeros(start.shape(), dtype, start.device())?, Var::zeros(start.shape(), dtype, start.device())?);
            for (i, gradient) in turned.iter().enumerate() {
                let gradient = gradient.to_dtype(dtype)?;
                with_isa(isa, || adamw_step(&var, &gradient, &m, &v, &hyper, i + 1))??;
            }
            let off = deviation(&shared, &expected)?;
            ensure!(off < tolerance, "{dtype:?} {isa:?}: off by {off:.1e}");
        }
    }
    Ok(())
}

#[test]
fn step_zero_and_foreign_shapes_are_refused() -> Result<()> {
    let var = |dims: &[usize]| Var::from_tensor(&random(1, dims));
    let (value, moment) = (var(&[3])?, var(&[3])?);
    let hyper = AdamW::with_lr(1e-3);
    ensure!(adamw_step(&value, &random(2, &[3]), &moment, &var(&[3])?, &hyper, 0).is_err());
    ensure!(adamw_step(&value, &random(2, &[4]), &moment, &var(&[3])?, &hyper, 1).is_err());
    Ok(())
}
