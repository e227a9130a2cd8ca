//! AdamW.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{AdamW, Isa, Parameter, adamw, adamw_step, with_isa};

use crate::support::{deviation, random, values};

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

/// All parameters of a call move as each would alone, to the bit, however many threads share them.
#[test]
fn a_call_over_all_parameters_is_the_sum_of_single_steps() -> Result<()> {
    let shapes: Vec<Vec<usize>> = vec![vec![3], vec![1, 1], vec![0, 4], vec![300, 500], vec![64, 32, 3, 3, 3], vec![17]];
    let make = |seed: u64| -> Result<Vec<Var>> {
        let var = |dims: &Vec<usize>| Ok(Var::from_tensor(&random(seed, dims).to_dtype(DType::F32)?.abs()?)?);
        shapes.iter().map(var).collect()
    };
    let hyper = AdamW::with_lr(1e-2);
    let gradients = make(9)?;
    let run = |all_at_once: bool, threads: usize| -> Result<Vec<Vec<f32>>> {
        let (values, m, v) = (make(1)?, make(2)?, make(3)?);
        let parameter = |i: usize| Parameter { value: &values[i], gradient: &gradients[i], m: &m[i], v: &v[i] };
        let parameters: Vec<_> = (0..shapes.len()).map(parameter).collect();
        rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| {
            if all_at_once { adamw(&parameters, &hyper, 3) } else { parameters.iter().try_for_each(|p| adamw(&[*p], &hyper, 3)) }
        })?;
        values.iter().chain(&m).chain(&v).map(|var| Ok(var.flatten_all()?.to_vec1()?)).collect()
    };
    let alone = run(false, 1)?;
    ensure!(alone == run(true, 1)? && alone == run(true, 5)?, "results differ in some bits");
    Ok(())
}

#[test]
fn memory_met_twice_is_refused() -> Result<()> {
    [DType::F32, DType::F64].into_iter().try_for_each(|dtype| refuse_memory_met_twice(dtype, &Device::Cpu))
}

/// A step over memory that it meets twice would wait for itself for ever.
pub(crate) fn refuse_memory_met_twice(dtype: DType, device: &Device) -> Result<()> {
    let var = |seed: u64| -> Result<Var> { Ok(Var::from_tensor(&random(seed, &[8]).to_dtype(dtype)?.to_device(device)?)?) };
    let (value, m, v, gradient) = (var(1)?, var(2)?, var(3)?, var(4)?);
    let before = values(&value)?;
    let hyper = AdamW::with_lr(1e-2);
    let tied = Parameter { value: &value, gradient: &gradient, m: &m, v: &v };
    ensure!(adamw(&[tied, tied], &hyper, 1).is_err_and(|e| e.to_string().contains("given twice")));
    ensure!(adamw_step(&value, &gradient, &m, &m, &hyper, 1).is_err_and(|e| e.to_string().contains("given twice")));
    ensure!(adamw_step(&value, &value, &m, &v, &hyper, 1).is_err_and(|e| e.to_string().contains("gradient shares")));
    ensure!(before == values(&value)?, "a refused step changed the value");
    Ok(())
}
