//! Operations held against PyTorch's results and gradients; `fixtures/operations.py` wrote them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{ConvOptions, Isa, PoolOptions, with_isa};

use crate::support::deviation;

type Operation = fn(&[Tensor], &Tensor) -> candle_core::Result<Tensor>;

fn walk(stride: [usize; 3], padding: [usize; 3], groups: usize) -> ConvOptions {
    ConvOptions { stride, padding, groups, ..ConvOptions::new(1, 0) }
}

/// By the names in the fixture; each gets its inputs and the mask of the attention.
const OPERATIONS: &[(&str, Operation)] = &[
    ("conv2d", |t, _| ops::conv_with(&t[0], &t[1], Some(&t[2]), walk([1, 2, 1], [0, 3, 1], 2))),
    ("conv3d", |t, _| ops::conv_with(&t[0], &t[1], Some(&t[2]), walk([1, 2, 3], [0, 2, 1], 1))),
    ("depthwise3d", |t, _| ops::conv_with(&t[0], &t[1], Some(&t[2]), walk([1; 3], [3; 3], 4))),
    ("up2d", |t, _| ops::conv_transpose_with(&t[0], &t[1], Some(&t[2]), walk([1, 3, 2], [0, 1, 1], 2), [0, 2, 1])),
    ("up3d", |t, _| ops::conv_transpose_with(&t[0], &t[1], Some(&t[2]), walk([1, 2, 2], [0, 1, 0], 1), [0, 1, 0])),
    ("layer_norm", |t, _| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5)),
    ("group_norm", |t, _| ops::group_norm_leaky_relu(&t[0], 3, &t[1], &t[2], 1e-5, 0.1)),
    ("softmax", |t, _| ops::softmax(&(&t[0] * 4.0)?)),
    ("gelu", |t, _| ops::gelu(&(&t[0] * 3.0)?)),
    ("standardize", |t, _| ops::standardize_weights(&t[0], 1e-5)),
    ("attention", |t, mask| ops::attention(&t[0], 3, Some(&t[1]), Some(mask))),
    ("nearest2d", |t, _| ops::upsample_nearest(&t[0], &[6, 12])),
    ("nearest3d", |t, _| ops::upsample_nearest(&t[0], &[4, 6, 3])),
    ("bilinear", |t, _| ops::upsample_linear(&t[0], &[7, 5])),
    ("trilinear", |t, _| ops::upsample_linear(&t[0], &[6, 8, 4])),
    ("max_pool2d", |t, _| ops::max_pool(&t[0], PoolOptions { kernel: [3; 3], stride: [2; 3], padding: [1; 3] })),
    ("max_pool3d", |t, _| ops::max_pool(&t[0], PoolOptions { kernel: [1, 3, 2], stride: [1, 1, 2], padding: [0; 3] })),
];

#[test]
fn results_and_gradients_are_pytorch_s() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/operations.safetensors");
    let golden = candle_core::safetensors::load(path, &Device::Cpu)?;
    for dtype in [DType::F32, DType::F64] {
        for (name, operation) in OPERATIONS {
            for isa in Isa::available() {
                with_isa(isa, || compare(&golden, name, dtype, *operation))?.with_context(|| format!("{name}, {dtype:?}, {isa:?}"))?;
            }
        }
    }
    Ok(())
}

fn compare(golden: &HashMap<String, Tensor>, name: &str, dtype: DType, operation: Operation) -> Result<()> {
    let get = |part: &str| golden.get(&format!("{name}.{part}")).with_context(|| format!("{name}.{part} missing"));
    let count = (0..).take_while(|i| golden.contains_key(&format!("{name}.{i}"))).count();
    ensure!(count > 0, "no inputs");
    let inputs: Vec<Var> = (0..count).map(|i| Ok(Var::from_tensor(&get(&i.to_string())?.to_dtype(dtype)?)?)).collect::<Result<_>>()?;
    let arguments: Vec<Tensor> = inputs.iter().map(|input| input.as_tensor().clone()).collect();
    let y = operation(&arguments, &golden["attention.mask"].to_dtype(dtype)?)?;
    let off = deviation(&y, get("y")?)?;
    ensure!(off < 2e-6, "result off by {off:.1e}");
    let gradients = (&y * get("w")?.to_dtype(dtype)?)?.sum_all()?.backward()?;
    for (i, input) in inputs.iter().enumerate() {
        let off = deviation(gradients.get(input).context("no gradient")?, get(&format!("g{i}"))?)?;
        ensure!(off < 2e-6, "gradient {i} off by {off:.1e}");
    }
    Ok(())
}
