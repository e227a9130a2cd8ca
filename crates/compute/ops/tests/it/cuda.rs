//! The operations on a GPU held against double precision on the CPU, which the other tests hold against definitions and
//! finite differences. Where there is no GPU they say so once and pass, or fail if `GPU_TESTS=required` is set. Without one,
//! `tests/gpu_stand_in/run` runs them.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{
    AdamW, Choice, ConvOptions, DiceCe, Factors, Norm, Parameter, adamw, argmax_channels, conv, conv_norm_leaky_relu, conv_transpose,
    conv_transpose_with, conv_with, cross_entropy, device, dice_ce, group_norm_leaky_relu, instance_norm_leaky_relu, max_pool2,
    pad_replicate_end,
};

use crate::adamw::refuse_memory_met_twice;
use crate::conv::{CASES, Drawn, draw, tensors};
use crate::conv_options::cases;
use crate::support::{deviation, hold, random, random_labels, result_and_gradients, values};

/// Sums in single precision, as the CPU's kernels are allowed.
const SINGLE: f64 = 1e-5;
/// cuDNN may multiply in Winograd's or Fourier's way, which loses some bits more. Nobody has asked for TF32 here, which would
/// lose ten times as many.
const CONVOLUTION: f64 = 1e-4;
/// Results are rounded to eight bits twice, before and after a bias is added: each time by at most half of 2^-7.
const BF16: f64 = 2.0 / 256.0;

/// The GPU, if there is one.
fn gpu() -> Option<&'static Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let found = GPU.get_or_init(|| match device(Choice::Cuda) {
        Ok(device) => Some(device),
        Err(reason) => {
            let reason = reason.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            assert!(std::env::var_os("GPU_TESTS").is_none_or(|tests| tests != "required"), "there is no GPU: {reason}");
            references::skipped(&format!("the tests of the CUDA kernels, there is no GPU: {reason}"));
            None
        }
    });
    found.as_ref()
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>;

/// Compares results and all gradients in `dtype` on the GPU with those in double precision on the CPU.
fn compare(name: &str, inputs: &[Tensor], (dtype, tolerance): (DType, f64), op: Op<'_>) -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (y, gradients) = result_and_gradients(inputs, DType::F64, op)?;
    let there: Vec<Tensor> = inputs.iter().map(|t| t.to_device(gpu)).collect::<candle_core::Result<_>>()?;
    let (found, found_gradients) = result_and_gradients(&there, dtype, op).with_context(|| name.to_owned())?;
    ensure!(found.device().is_cuda(), "{name}: computed on another device");
    let off = deviation(&found, &y)?;
    ensure!(off < tolerance, "{name}: result off by {off:.1e}");
    for (i, (found, expected)) in found_gradients.iter().zip(&gradients).enumerate() {
        let off = deviation(found, expected).with_context(|| format!("{name}: gradient {i}"))?;
        ensure!(off < tolerance, "{name}: gradient {i} off by {off:.1e}");
    }
    Ok(())
}

#[test]
fn convolutions_agree() -> Result<()> {
    let single = (DType::F32, CONVOLUTION);
    for case in CASES {
        compare(&format!("{case:?}"), &tensors(case), single, &|t| conv(&t[0], &t[1], Some(&t[2]), case.5, case.6))?;
        compare(&format!("{case:?}, no bias"), &tensors(case)[..2], single, &|t| conv(&t[0], &t[1], None, case.5, case.6))?;
    }
    for seed in 0..60 {
        let Drawn { name, tensors, stride, padding } = draw(seed)?;
        compare(&name, &tensors, single, &|t| conv(&t[0], &t[1], Some(&t[2]), stride, padding))?;
    }
    let inputs = [random(1, &[2, 6, 5, 3]), random(2, &[3, 3, 3, 3]), random(3, &[3])];
    compare("transposed input and gradient, two consumers", &inputs, single, &|t| {
        let x = t[0].transpose(1, 3)?;
        let once = conv(&x, &t[1].transpose(0, 1)?, Some(&t[2]), 1, 1)?;
        let twice = conv(&once, &t[1], None, 1, 1)?;
        (once.transpose(2, 3)? + twice.transpose(2, 3)? * 0.5)? + x.transpose(2, 3)?
    })
}

#[test]
fn convolutions_of_bf16_agree() -> Result<()> {
    // Inputs that bf16 holds exactly: what differs is rounded by the computation.
    let exact = |t: Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F64);
    for case in CASES {
        let inputs = tensors(case).into_iter().map(exact).collect::<candle_core::Result<Vec<_>>>()?;
        compare(&format!("{case:?}"), &inputs, (DType::BF16, BF16), &|t| conv(&t[0], &t[1], Some(&t[2]), case.5, case.6))?;
    }
    Ok(())
}

/// Both ways of `f32`, and with factors in bf16 where a convolution is large enough.
#[test]
fn convolution_and_norm_as_one_agree() -> Result<()> {
    // Rounding takes some values to the other side of zero, where another slope would have another gradient.
    for (factors, slope, tolerance) in [(Factors::F32, 0.1, CONVOLUTION), (Factors::Bf16, 1.0, BF16)] {
        for (x, w) in [(&[2usize, 16, 14, 15][..], &[16usize, 16, 3, 3][..]), (&[1, 3, 5, 6, 7], &[4, 3, 3, 3, 3])] {
            let inputs = [random(1, x), random(2, w), (random(3, &w[..1]) + 1.5)?, random(4, &w[..1])];
            let op: Op<'_> = &|t| {
                let norm = Norm { gamma: &t[2], beta: &t[3], eps: 1e-3, slope };
                conv_norm_leaky_relu(&[&t[0]], &t[1], None, ConvOptions { factors, ..ConvOptions::new(1, 1) }, norm)
            };
            compare(&format!("{factors:?}, {x:?}"), &inputs, (DType::F32, tolerance), op)?;
        }
    }
    Ok(())
}

#[test]
fn transposed_convolutions_agree() -> Result<()> {
    type Case = (usize, usize, usize, &'static [usize], usize, usize);
    let cases: &[Case] = &[
        (1, 1, 1, &[1, 1], 2, 2),
        (2, 5, 3, &[4, 7], 2, 2),
        (1, 17, 9, &[3, 19], 2, 2),
        (1, 3, 2, &[4, 3], 3, 2),
        (1, 2, 3, &[5, 4], 2, 3),
        (2, 3, 2, &[3, 3], 3, 1),
        (1, 4, 3, &[2, 3, 5], 2, 2),
        (1, 2, 5, &[3, 2, 3], 3, 2),
    ];
    for case @ &(n, ci, co, size, kernel, stride) in cases {
        let x = random(1, &[&[n, ci], size].concat());
        let w = random(2, &[vec![ci, co], vec![kernel; size.len()]].concat());
        let op: Op<'_> = &|t| conv_transpose(&t[0], &t[1], Some(&t[2]), stride);
        compare(&format!("{case:?}"), &[x, w, random(3, &[co])], (DType::F32, CONVOLUTION), op)?;
    }
    Ok(())
}

#[test]
fn convolutions_with_options_agree() -> Result<()> {
    let single = (DType::F32, CONVOLUTION);
    hold(60, &cases(), |case| {
        let [x, w, bias] = case.tensors();
        let y = conv_with(&x, &w, None, case.options)?;
        compare(&format!("{case:?}"), &[x, w.clone(), bias], single, &|t| conv_with(&t[0], &t[1], Some(&t[2]), case.options))?;
        let up = |t: &[Tensor]| conv_transpose_with(&t[0], &t[1], None, case.options, case.output_padding());
        compare(&format!("transposed {case:?}"), &[random(4, y.dims()), w], single, &up)
    })
}

/// Channels of one voxel, of one block's work, and of several blocks', the last of them not full.
#[test]
fn instance_norms_agree() -> Result<()> {
    for dims in [&[2usize, 3, 5, 7][..], &[1, 17, 3, 4, 5], &[2, 1, 65, 67], &[1, 2, 3, 1, 2], &[2, 3, 27, 31, 23], &[3, 2, 1, 1]] {
        let c = dims[1];
        let inputs = [random(1, dims), (random(2, &[c]) + 1.5)?, random(3, &[c])];
        let op: Op<'_> = &|t| instance_norm_leaky_relu(&t[0], &t[1], &t[2], 1e-5, 0.1);
        compare(&format!("{dims:?}"), &inputs, (DType::F32, SINGLE), op)?;
    }
    let inputs = [random(1, &[2, 6, 5, 3]), random(2, &[3]), random(3, &[3])];
    compare("strided, reused", &inputs, (DType::F32, SINGLE), &|t| {
        let x = t[0].transpose(1, 3)?;
        let y = instance_norm_leaky_relu(&x, &t[1], &t[2], 1e-3, 0.01)?;
        let z = instance_norm_leaky_relu(&y, &t[2], &t[1], 1e-5, 1.0)?;
        (y.transpose(2, 3)? + z.transpose(2, 3)?)? + x.transpose(2, 3)?
    })
}

/// All channels in one group and each in its own, groups of several blocks, the last of them not full.
#[test]
fn group_norms_agree() -> Result<()> {
    for (dims, groups) in [(&[2usize, 6, 5, 7][..], 2), (&[3, 4, 3, 4, 5], 1), (&[2, 3, 2, 3], 3), (&[2, 9, 11, 31, 23], 3)] {
        let c = dims[1];
        let inputs = [random(1, dims), (random(2, &[c]) + 1.5)?, random(3, &[c])];
        let op: Op<'_> = &|t| group_norm_leaky_relu(&t[0], groups, &t[1], &t[2], 1e-5, 0.1);
        compare(&format!("{dims:?}, {groups} groups"), &inputs, (DType::F32, SINGLE), op)?;
    }
    Ok(())
}

/// As on the CPU, see `norm`: single precision holds such inputs to 1e-4 of their spread.
#[test]
fn a_large_mean_does_not_spoil_the_variance() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let x = (random(1, &[1, 2, 140, 150]) + 1000.0)?.to_dtype(DType::F32)?;
    let norm = |x: &Tensor| {
        let affine = |value: f64| (Tensor::ones(2, x.dtype(), x.device())? * value)?.contiguous();
        instance_norm_leaky_relu(x, &affine(1.0)?, &affine(0.0)?, 1e-5, 0.1)
    };
    let off = deviation(&norm(&x.to_device(gpu)?)?, &norm(&x.to_dtype(DType::F64)?)?)?;
    ensure!(off < 2e-4, "off by {off:.1e}");
    Ok(())
}

#[test]
fn pooling_and_replication_agree() -> Result<()> {
    let single = (DType::F32, SINGLE);
    for dims in [&[2usize, 3, 6, 8][..], &[1, 2, 7, 39], &[1, 1, 2, 2], &[1, 2, 4, 5, 6], &[2, 1, 3, 3, 3], &[2, 5, 20, 21, 35]] {
        compare(&format!("pooling {dims:?}"), &[random(1, dims)], single, &|t| max_pool2(&t[0]))?;
    }
    compare("pooling, strided, reused", &[random(1, &[1, 6, 5, 4])], single, &|t| {
        let x = t[0].transpose(1, 3)?;
        max_pool2(&x)?.transpose(2, 3)? + (max_pool2(&(&x * 2.0)?)?.transpose(2, 3)? * 0.5)?
    })?;
    let ties = Tensor::ones((1, 2, 3, 5, 4), DType::F64, &Device::Cpu)?;
    compare("pooling of equal values", &[ties], single, &|t| max_pool2(&t[0]))?;
    for axes in [vec![true, false], vec![true, true], vec![true, true, true], vec![false, true, false], vec![false, false, true]] {
        let x = random(1, &[vec![2, 3], (1..1 + axes.len()).collect()].concat());
        compare(&format!("replication {axes:?}"), &[x], single, &|t| pad_replicate_end(&t[0].transpose(0, 1)?, &axes)? + 1.0)?;
    }
    Ok(())
}

/// One voxel, one class, many, several blocks per entry, the last of them not full, strided logits, an upstream gradient.
#[test]
fn losses_agree() -> Result<()> {
    let single = (DType::F32, SINGLE);
    for (dims, classes) in [(&[2usize, 3, 4, 5][..], 15), (&[3, 33, 70], 4), (&[1, 1, 1], 2), (&[2, 5, 6], 1), (&[1, 9, 8], 256)] {
        let inputs = [(random(1, &[&[dims[0], classes], &dims[1..]].concat()) * 5.0)?];
        let labels = random_labels(2, dims, classes)?;
        let on = |t: &Tensor| labels.to_device(t.device());
        for (squared, batch) in [(true, false), (false, false), (true, true), (false, true)] {
            let (name, op) = (format!("{dims:?}, {classes} classes, {squared}, {batch}"), DiceCe { squared, batch });
            compare(&name, &inputs, single, &|t| op.loss(&t[0], &on(&t[0])?)? * 3.0)?;
            compare(&name, &inputs, single, &|t| op.dice_alone(&t[0], &on(&t[0])?))?;
        }
        compare("cross-entropy", &inputs, single, &|t| cross_entropy(&t[0], &on(&t[0])?)? + cross_entropy(&(&t[0] * 2.0)?, &on(&t[0])?)?)?;
    }
    let labels = random_labels(2, &[1, 127, 131], 3)?;
    compare("strided", &[random(1, &[1, 3, 131, 127])], single, &|t| {
        dice_ce(&(t[0].transpose(2, 3)? * 4.0)?, &labels.to_device(t[0].device())?)
    })
}

#[test]
fn a_label_beyond_the_channels_is_named_in_the_error() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let target = Tensor::new(&[0u8, 1, 3, 2], gpu)?.reshape((1, 2, 2))?;
    let logits = random(1, &[1, 3, 2, 2]).to_dtype(DType::F32)?.to_device(gpu)?;
    let error = dice_ce(&logits, &target).err().context("no error")?;
    ensure!(error.to_string().contains("label 3 outside 0..3"), "{error}");
    Ok(())
}

#[test]
fn argmax_names_the_first_greatest_channel() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dims in [&[2usize, 5, 7, 9][..], &[1, 3, 4, 5, 130], &[3, 1, 2, 2], &[1, 256, 3]] {
        // Rounded to few values, so that many are equal.
        let logits = (random(5, dims) * 4.0)?.round()?.to_dtype(DType::F32)?;
        let (found, expected) = (argmax_channels(&logits.to_device(gpu)?)?, argmax_channels(&logits)?);
        ensure!(found.dims() == expected.dims() && values(&found)? == values(&expected)?, "{dims:?}");
    }
    Ok(())
}

#[test]
fn optimizer_steps_agree() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let hyper = AdamW { weight_decay: 0.1, ..AdamW::with_lr(1e-2) };
    let starts = [random(1, &[7, 3, 110]), random(2, &[3])];
    let run = |dtype: DType, device: &Device| -> Result<Vec<Tensor>> {
        let make = |t: &Tensor| Var::from_tensor(&t.to_dtype(dtype)?.to_device(device)?);
        let zeros = |t: &Tensor| Var::zeros(t.shape(), dtype, device);
        let [values, m, v]: [Vec<Var>; 3] = [
            starts.iter().map(make).collect::<candle_core::Result<_>>()?,
            starts.iter().map(zeros).collect::<candle_core::Result<_>>()?,
            starts.iter().map(zeros).collect::<candle_core::Result<_>>()?,
        ];
        for step in 1..4 {
            let on = |t: Tensor| t.to_dtype(dtype)?.to_device(device);
            let gradients = [on(random(step, &[110, 3, 7]))?.transpose(0, 2)?, on(random(step + 10, &[3]))?];
            let parameter = |i: usize| Parameter { value: &values[i], gradient: &gradients[i], m: &m[i], v: &v[i] };
            adamw(&[parameter(0), parameter(1)], &hyper, step as usize)?;
        }
        Ok(values.iter().chain(&m).chain(&v).map(|var| var.as_detached_tensor()).collect())
    };
    for (found, expected) in run(DType::F32, gpu)?.iter().zip(&run(DType::F64, &Device::Cpu)?) {
        ensure!(found.device().is_cuda(), "moved to another device");
        let off = deviation(found, expected)?;
        ensure!(off < 1e-6, "off by {off:.1e}");
    }
    refuse_memory_met_twice(DType::F32, gpu)
}

/// Sums have an order of their own, and cuDNN is held to its deterministic algorithms.
#[test]
fn a_second_run_gives_the_same_bits() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let to_gpu = |t: Tensor| t.to_device(gpu);
    let x = random(1, &[2, 8, 21, 34, 30]);
    let inputs = [x, random(2, &[6, 8, 3, 3, 3]), random(3, &[6]), (random(4, &[6]) + 1.5)?].map(to_gpu);
    let inputs = inputs.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
    let labels = random_labels(5, &[2, 21, 34, 30], 6)?.to_device(gpu)?;
    let run = || -> Result<Vec<Vec<f64>>> {
        let (loss, gradients) = result_and_gradients(&inputs, DType::F32, &|t| {
            let y = conv(&t[0], &t[1], Some(&t[2]), 1, 1)?;
            dice_ce(&instance_norm_leaky_relu(&y, &t[3], &t[2], 1e-5, 0.1)?, &labels)
        })?;
        std::iter::once(&loss).chain(&gradients).map(values).collect()
    };
    ensure!(run()? == run()?, "results differ in some bits");
    Ok(())
}
