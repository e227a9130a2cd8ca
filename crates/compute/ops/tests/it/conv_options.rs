//! Convolutions with groups, and with strides, paddings and kernels of each axis.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use ops::{ConvOptions, Isa, conv_transpose_with, conv_with, with_isa};
use proptest::prelude::*;

use crate::support::{check, check_precisions, deviation, hold, random, turned, values};

/// A convolution of tensors of random values; of images if `size` has two axes.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    batch: usize,
    /// Input and output channels of each group.
    channels: [usize; 2],
    size: Vec<usize>,
    kernel: Vec<usize>,
    pub(crate) options: ConvOptions,
}

impl Case {
    pub(crate) fn tensors(&self) -> [Tensor; 3] {
        let [ci, co] = self.channels.map(|c| c * self.options.groups);
        let x = random(1, &[&[self.batch, ci], &self.size[..]].concat());
        let w = random(2, &[&[co, self.channels[0]], &self.kernel[..]].concat());
        [x, w, random(3, &[co])]
    }

    /// The transposed convolution's: its output is the convolution's input, of which the stride leaves this over.
    pub(crate) fn output_padding(&self) -> [usize; 3] {
        let ConvOptions { stride, padding, .. } = self.options;
        let mut left = [0; 3];
        for (a, at) in (3 - self.size.len()..3).enumerate() {
            left[at] = (self.size[a] + 2 * padding[at] - self.kernel[a]) % stride[at];
        }
        left
    }
}

/// Kernels 1 to 7, strides 1 to 3, paddings 0 to 3, each of every axis; one voxel, one channel and depthwise among them.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let axis = || (1usize..=7, 1usize..=3, 0usize..=3, 0usize..=6);
    let axes = prop_oneof![proptest::collection::vec(axis(), 2), proptest::collection::vec(axis(), 3)];
    (1usize..=2, 1usize..=4, [1usize..=5, 1usize..=5], axes).prop_map(|(batch, groups, channels, axes)| {
        let along = |f: fn(&(usize, usize, usize, usize)) -> usize| -> Vec<usize> { axes.iter().map(f).collect() };
        // An entry that an image must not look at.
        let three = |values: Vec<usize>| if values.len() == 2 { [9, values[0], values[1]] } else { [values[0], values[1], values[2]] };
        let options = ConvOptions { stride: three(along(|a| a.1)), padding: three(along(|a| a.2)), groups, ..ConvOptions::new(1, 0) };
        Case { batch, channels, size: along(|a| a.0.saturating_sub(2 * a.2).max(1) + a.3), kernel: along(|a| a.0), options }
    })
}

/// The definition: y[n, o, q] = bias[o] + sum over i of o's group, j of w[o, i, j] x[n, i, q * stride + j - padding].
fn naive(case: &Case, [x, w, bias]: &[Tensor; 3]) -> Result<Tensor> {
    let flat = case.size.len() == 2;
    let volume = |dims: &[usize]| if flat { [1, dims[0], dims[1]] } else { [dims[0], dims[1], dims[2]] };
    let (input, kernel) = (volume(&case.size), volume(&case.kernel));
    let (mut s, mut p) = (case.options.stride, case.options.padding);
    if flat {
        (s[0], p[0]) = (1, 0);
    }
    let [ci, co] = case.channels;
    let out: [usize; 3] = std::array::from_fn(|a| (input[a] + 2 * p[a] - kernel[a]) / s[a] + 1);
    let (x, w, bias) = (values(x)?, values(w)?, values(bias)?);
    let unravel = |i: usize, size: [usize; 3]| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
    let count = |size: [usize; 3]| size.iter().product::<usize>();
    let channels = co * case.options.groups;
    let mut y = Vec::new();
    for (n, o) in (0..case.batch).flat_map(|n| (0..channels).map(move |o| (n, o))) {
        for q in 0..count(out) {
            let q = unravel(q, out);
            let mut sum = bias[o];
            for (i, j) in (0..ci).flat_map(|i| (0..count(kernel)).map(move |j| (i, j))) {
                let tap = unravel(j, kernel);
                let at: [usize; 3] = std::array::from_fn(|a| (q[a] * s[a] + tap[a]).wrapping_sub(p[a]));
                if (0..3).all(|a| at[a] < input[a]) {
                    let channel = (n * case.options.groups + o / co) * ci + i;
                    let place = ((channel * input[0] + at[0]) * input[1] + at[1]) * input[2] + at[2];
                    sum += x[place] * w[(o * ci + i) * count(kernel) + j];
                }
            }
            y.push(sum);
        }
    }
    Ok(Tensor::from_vec(y, [&[case.batch, channels], &out[usize::from(flat)..]].concat(), &Device::Cpu)?)
}

#[test]
fn convolutions_follow_their_definition_and_gradients_their_composition() -> Result<()> {
    hold(120, &cases(), |case| {
        let tensors = case.tensors();
        let expected = naive(&case, &tensors)?;
        let [x, w, b] = &tensors;
        let off = deviation(&conv_with(x, w, Some(b), case.options)?, &expected)?;
        ensure!(off < 1e-12, "composed: off by {off:.1e}");
        let [x, w, b] = tensors.each_ref().map(|t| t.to_dtype(DType::F32));
        let (x, w, b) = (turned(&x?)?, w?, b?);
        for isa in Isa::available() {
            let off = deviation(&with_isa(isa, || conv_with(&x, &w, Some(&b), case.options))??, &expected)?;
            ensure!(off < 1e-5, "{isa:?}: off by {off:.1e}");
        }
        check_precisions("gradients", &tensors, |t| conv_with(&t[0], &t[1], Some(&t[2]), case.options))
    })
}

#[test]
fn gradients_with_options_match_differences() -> Result<()> {
    let anisotropic = ConvOptions { stride: [1, 2, 3], padding: [0, 2, 1], groups: 1, ..ConvOptions::new(1, 0) };
    let depthwise = ConvOptions { groups: 3, ..ConvOptions::new(1, 3) };
    let cases = [
        Case { batch: 1, channels: [2, 3], size: vec![3, 7, 8], kernel: vec![1, 3, 5], options: anisotropic },
        Case { batch: 2, channels: [3, 2], size: vec![9, 7], kernel: vec![4, 2], options: anisotropic },
        Case { batch: 2, channels: [1, 1], size: vec![6, 40], kernel: vec![7, 7], options: depthwise },
        Case { batch: 1, channels: [1, 2], size: vec![4, 5, 3], kernel: vec![7, 7, 7], options: depthwise },
        Case {
            batch: 2,
            channels: [2, 3],
            size: vec![5, 6],
            kernel: vec![3, 3],
            options: ConvOptions { groups: 4, ..ConvOptions::new(2, 1) },
        },
    ];
    for case in cases {
        check(&format!("{case:?}"), &case.tensors(), |t| conv_with(&t[0], &t[1], Some(&t[2]), case.options))?;
    }
    Ok(())
}

/// By adjointness: <conv_transpose(x), z> = <x, conv(z)> for every z of the right size, with the same weights.
#[test]
fn transposed_convolutions_are_adjoint_to_convolutions() -> Result<()> {
    hold(80, &(cases(), proptest::num::usize::ANY), |(case, pick)| {
        let [z, w, _] = case.tensors();
        let y = conv_with(&z, &w, None, case.options)?;
        let x = random(pick as u64, y.dims());
        let output_padding = case.output_padding();
        let raised = conv_transpose_with(&x, &w, None, case.options, output_padding)?;
        ensure!(raised.dims() == z.dims(), "{:?} instead of {:?}", raised.dims(), z.dims());
        let left: f64 = (&raised * &z)?.sum_all()?.to_scalar()?;
        let right: f64 = (&x * &y)?.sum_all()?.to_scalar()?;
        ensure!((left - right).abs() < 1e-9 * left.abs().max(1.0), "{left} and {right}");
        let bias = random(4, &[z.dim(1)?]);
        check_precisions("transposed", &[x, w, bias], |t| conv_transpose_with(&t[0], &t[1], Some(&t[2]), case.options, output_padding))
    })
}

#[test]
fn gradients_of_transposed_convolution_with_options_match_differences() -> Result<()> {
    let options = ConvOptions { stride: [1, 3, 2], padding: [0, 1, 1], groups: 2, ..ConvOptions::new(1, 0) };
    for (size, kernel) in [(vec![4, 3], vec![3, 4]), (vec![2, 3, 4], vec![2, 4, 3])] {
        let inputs = [random(1, &[vec![2, 4], size].concat()), random(2, &[vec![4, 3], kernel].concat()), random(3, &[6])];
        check("options", &inputs, |t| conv_transpose_with(&t[0], &t[1], Some(&t[2]), options, [0, 2, 1]))?;
    }
    let anisotropic = ConvOptions { stride: [1, 2, 2], padding: [0; 3], groups: 1, ..ConvOptions::new(1, 0) };
    let inputs = [random(1, &[1, 3, 3, 2, 4]), random(2, &[3, 2, 1, 2, 2]), random(3, &[2])];
    check("kernel equal to stride", &inputs, |t| conv_transpose_with(&t[0], &t[1], Some(&t[2]), anisotropic, [0; 3]))?;
    let grouped = ConvOptions { stride: [2; 3], padding: [0; 3], groups: 3, ..ConvOptions::new(1, 0) };
    let inputs = [random(1, &[2, 6, 3, 4]), random(2, &[6, 2, 2, 2]), random(3, &[6])];
    check("kernel equal to stride, grouped", &inputs, |t| conv_transpose_with(&t[0], &t[1], Some(&t[2]), grouped, [0; 3]))
}

#[test]
fn options_that_do_not_fit_are_named_in_the_error() {
    let message = |groups: usize, w: &[usize]| {
        let options = ConvOptions { groups, ..ConvOptions::new(1, 1) };
        conv_with(&random(1, &[1, 4, 5, 5]), &random(2, w), None, options).map_or_else(|e| e.to_string(), |_| "no error".into())
    };
    assert!(message(3, &[6, 1, 3, 3]).contains("3 groups"));
    assert!(message(2, &[5, 2, 3, 3]).contains("2 groups"));
    assert!(message(0, &[4, 4, 3, 3]).contains("0 groups"));
    assert!(message(2, &[4, 4, 3, 3]).contains("(co, 2, kernel..)"));
    let up = |padding: usize, output_padding: usize| {
        let options = ConvOptions::new(2, padding);
        conv_transpose_with(&random(1, &[1, 4, 1, 1]), &random(2, &[4, 2, 2, 2]), None, options, [output_padding; 3])
            .map_or_else(|e| e.to_string(), |_| "no error".into())
    };
    assert!(up(0, 2).contains("less than stride"));
    assert!(up(1, 0).contains("leave something"));
    assert!(up(0, 1).contains("no error"));
}
