//! Random tensors and the chain of checks that every differentiable operation goes through.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{Isa, with_isa};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Numbers from -1 to 1 that single precision holds exactly (splitmix64).
pub(crate) fn random(seed: u64, dims: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let values: Vec<f64> = (0..dims.iter().product())
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            (z >> 41) as f64 / f64::from(1 << 22) - 1.0
        })
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).expect("dims match the values")
}

/// Labels below `classes`.
pub(crate) fn random_labels(seed: u64, dims: &[usize], classes: usize) -> Result<Tensor> {
    let labels = ((random(seed, dims) + 1.0)? * (classes as f64 / 2.0 - 1e-6))?;
    Ok(labels.to_dtype(DType::U8)?)
}

pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The greatest difference, relative to the greatest expected value (or to 1e-3, for gradients that vanish).
pub(crate) fn deviation(found: &Tensor, expected: &Tensor) -> Result<f64> {
    ensure!(found.dims() == expected.dims(), "shape {:?} found, {:?} expected", found.dims(), expected.dims());
    let (found, expected) = (values(found)?, values(expected)?);
    let scale = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    let mut worst = 0.0f64;
    for (found, expected) in found.iter().zip(&expected) {
        ensure!(found.is_finite(), "{found} found");
        worst = worst.max((found - expected).abs());
    }
    Ok(worst / scale)
}

/// Weights that every element type holds exactly.
fn weights(dims: &[usize]) -> Result<Tensor> {
    Ok(((random(99, dims) * 64.0)?.round()? / 64.0)?)
}

/// The operation's result and the gradients of its inner product with fixed random weights.
pub(crate) fn result_and_gradients(
    inputs: &[Tensor],
    dtype: DType,
    op: &dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype)?)).collect::<candle_core::Result<_>>()?;
    let arguments: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = op(&arguments)?;
    let weights = weights(y.dims())?.to_dtype(dtype)?.to_device(y.device())?;
    let gradients = (&y * weights)?.flatten_all()?.sum_all()?.backward()?;
    let gradients = vars.iter().map(|v| gradients.get(v).cloned().context("no gradient")).collect::<Result<_>>()?;
    Ok((y.detach(), gradients))
}

/// Holds `op` in double precision (composed of candle's operations) against central differences, and then the
/// kernels in single precision, on every instruction set of this machine, against double precision.
///
/// Single precision carries 24 bits; sums of a few hundred products stay within 1e-5 of the greatest value.
pub(crate) fn check(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Result<()> {
    let (y, gradients) = result_and_gradients(inputs, DType::F64, &op)?;
    for (i, gradient) in gradients.iter().enumerate() {
        check_differences(inputs, i, gradient, &op).with_context(|| format!("{name}: input {i}"))?;
    }
    compare_precisions(name, inputs, (&y, &gradients), &op)
}

/// Holds the kernels in single precision, on every instruction set of this machine, against double precision.
pub(crate) fn check_precisions(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Result<()> {
    let (y, gradients) = result_and_gradients(inputs, DType::F64, &op)?;
    compare_precisions(name, inputs, (&y, &gradients), &op)
}

fn compare_precisions(
    name: &str,
    inputs: &[Tensor],
    (y, gradients): (&Tensor, &[Tensor]),
    op: &dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Result<()> {
    for isa in Isa::available() {
        let (y32, gradients32) = with_isa(isa, || result_and_gradients(inputs, DType::F32, op))??;
        let off = deviation(&y32, y).with_context(|| format!("{name}, {isa:?}"))?;
        ensure!(off < 1e-5, "{name}, {isa:?}: result off by {off:.1e}");
        for (i, (found, expected)) in gradients32.iter().zip(gradients).enumerate() {
            let off = deviation(found, expected)?;
            ensure!(off < 1e-5, "{name}, {isa:?}: gradient {i} off by {off:.1e}");
        }
    }
    Ok(())
}

/// Central differences at some two dozen elements of input `i`.
fn check_differences(inputs: &[Tensor], i: usize, gradient: &Tensor, op: &dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Result<()> {
    const STEP: f64 = 1e-5;
    let at = |element: usize, step: f64| -> Result<f64> {
        let mut moved = values(&inputs[i])?;
        moved[element] += step;
        let mut inputs = inputs.to_vec();
        inputs[i] = Tensor::from_vec(moved, inputs[i].dims(), &Device::Cpu)?;
        let y = op(&inputs)?;
        Ok((&y * weights(y.dims())?)?.sum_all()?.to_scalar()?)
    };
    let gradient = values(gradient)?;
    let scale = gradient.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    for element in (0..gradient.len()).step_by(gradient.len().div_ceil(24)) {
        let difference = (at(element, STEP)? - at(element, -STEP)?) / (2.0 * STEP);
        let off = (difference - gradient[element]).abs() / scale;
        ensure!(off < 1e-6, "element {element}: gradient {}, difference {difference}", gradient[element]);
    }
    Ok(())
}

/// Holds a law for values drawn from a strategy: the same ones in every run, and `PROPTEST_CASES` of them if that is more.
pub(crate) fn hold<T: Strategy>(cases: u32, values: &T, law: impl Fn(T::Value) -> Result<()>) -> Result<()> {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let config = Config { cases: cases.max(wanted), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let law = |value| law(value).map_err(|error| TestCaseError::fail(format!("{error:#}")));
    runner.run(values, law).map_err(|error| anyhow::anyhow!("{error}"))
}

/// A view of the same shape and values whose last two axes lie the other way round in memory.
pub(crate) fn turned(tensor: &Tensor) -> Result<Tensor> {
    let last = tensor.rank() - 1;
    Ok(tensor.transpose(last - 1, last)?.contiguous()?.transpose(last - 1, last)?)
}
