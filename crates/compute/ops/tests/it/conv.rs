//! Convolution and transposed convolution.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use ops::{Isa, conv, conv_transpose, with_isa};

use crate::support::{check, check_precisions, deviation, random, values};

/// Input, output channels, input size, kernel, stride, padding; sizes of two axes are images.
pub(crate) type Case = (usize, usize, usize, &'static [usize], &'static [usize], usize, usize);

/// Every kernel width from 1 to 7, strides up to 4, one voxel, one channel, odd channel counts, more padding than
/// the kernel needs, sizes that leave a remainder.
pub(crate) const CASES: &[Case] = &[
    (1, 1, 1, &[1, 1], &[1, 1], 1, 0),
    (1, 1, 1, &[1, 1, 1], &[3, 3, 3], 1, 1),
    (2, 3, 5, &[7, 9], &[3, 3], 1, 1),
    (1, 1, 9, &[17, 35], &[3, 3], 1, 1),
    (2, 17, 1, &[6, 5], &[3, 3], 1, 1),
    (1, 5, 33, &[5, 19], &[2, 2], 2, 0),
    (1, 4, 6, &[9, 11], &[4, 4], 2, 1),
    (2, 2, 7, &[11, 12], &[5, 5], 3, 2),
    (1, 3, 4, &[13, 9], &[6, 6], 1, 3),
    (1, 2, 16, &[15, 14], &[7, 7], 2, 3),
    (1, 2, 3, &[9, 9], &[2, 2], 4, 1),
    (1, 3, 2, &[8, 6], &[1, 3], 1, 1),
    (2, 3, 6, &[4, 5, 7], &[3, 3, 3], 1, 1),
    (1, 8, 20, &[5, 6, 6], &[3, 3, 3], 2, 1),
    (1, 9, 4, &[5, 4, 7], &[2, 2, 2], 2, 0),
    (1, 2, 5, &[6, 6, 6], &[4, 4, 4], 2, 1),
    (1, 1, 3, &[7, 7, 7], &[7, 7, 7], 1, 3),
    (1, 3, 2, &[3, 3, 3], &[1, 1, 1], 1, 0),
    (1, 2, 2, &[6, 7, 8], &[1, 3, 5], 1, 2),
];

/// The definition: y[n, o, q] = bias[o] + sum over i, j of w[o, i, j] x[n, i, q * stride + j - padding].
fn naive(x: &Tensor, w: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let volume = |dims: &[usize]| if dims.len() == 2 { [1, dims[0], dims[1]] } else { [dims[0], dims[1], dims[2]] };
    let (n, ci, co) = (x.dim(0)?, x.dim(1)?, w.dim(0)?);
    let (input, kernel) = (volume(&x.dims()[2..]), volume(&w.dims()[2..]));
    let flat = x.rank() == 4;
    let (s, p) = if flat { ([1, stride, stride], [0, padding, padding]) } else { ([stride; 3], [padding; 3]) };
    let out: [usize; 3] = std::array::from_fn(|a| (input[a] + 2 * p[a] - kernel[a]) / s[a] + 1);
    let (xs, ws, bs) = (values(x)?, values(w)?, values(bias)?);
    let unravel = |i: usize, size: [usize; 3]| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
    let count = |size: [usize; 3]| size.iter().product::<usize>();
    let mut y = Vec::new();
    for (b, o) in (0..n).flat_map(|b| (0..co).map(move |o| (b, o))) {
        for q in 0..count(out) {
            let q = unravel(q, out);
            let mut sum = bs[o];
            for (i, j) in (0..ci).flat_map(|i| (0..count(kernel)).map(move |j| (i, j))) {
                let tap = unravel(j, kernel);
                let at: [isize; 3] = std::array::from_fn(|a| (q[a] * s[a] + tap[a]) as isize - p[a] as isize);
                if (0..3).all(|a| at[a] >= 0 && at[a] < input[a] as isize) {
                    let [d, h, w] = at.map(|v| v as usize);
                    let place = (((b * ci + i) * input[0] + d) * input[1] + h) * input[2] + w;
                    sum += xs[place] * ws[(o * ci + i) * count(kernel) + j];
                }
            }
            y.push(sum);
        }
    }
    let mut dims = vec![n, co];
    dims.extend(&out[usize::from(flat)..]);
    Ok(Tensor::from_vec(y, dims, &Device::Cpu)?)
}

pub(crate) fn tensors(&(n, ci, co, size, kernel, _, _): &Case) -> [Tensor; 3] {
    let x = random(1, &[&[n, ci], size].concat());
    let w = random(2, &[&[co, ci], kernel].concat());
    [x, w, random(3, &[co])]
}

/// candle's own 2-D convolution pads both axes of a kernel alike, as ours does, so 1 x 3 kernels fit this table too.
#[test]
fn convolution_follows_its_definition_on_every_instruction_set() -> Result<()> {
    for case in CASES {
        let [x, w, b] = tensors(case);
        let expected = naive(&x, &w, &b, case.5, case.6)?;
        let off = deviation(&conv(&x, &w, Some(&b), case.5, case.6)?, &expected)?;
        ensure!(off < 1e-12, "{case:?} composed: off by {off:.1e}");
        let [x, w, b] = [x, w, b].map(|t| t.to_dtype(DType::F32));
        let (x, w, b) = (x?, w?, b?);
        for isa in Isa::available() {
            let y = with_isa(isa, || conv(&x, &w, Some(&b), case.5, case.6))??;
            let off = deviation(&y, &expected)?;
            ensure!(off < 1e-5, "{case:?} {isa:?}: off by {off:.1e}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_convolution_match_differences_on_every_instruction_set() -> Result<()> {
    for case in CASES {
        check(&format!("{case:?}"), &tensors(case), |t| conv(&t[0], &t[1], Some(&t[2]), case.5, case.6))?;
    }
    Ok(())
}

/// Several tiles along every axis, several runs and groups of input and of output channels, blocks of output channels split
/// over tasks: what the small cases above leave out.
#[test]
fn layers_of_real_size_agree_with_the_composed_operations() -> Result<()> {
    let cases: &[Case] = &[
        (2, 5, 9, &[67, 150], &[3, 3], 1, 1),
        (1, 96, 40, &[14, 15], &[3, 3], 1, 1),
        (1, 72, 80, &[6, 7, 9], &[3, 3, 3], 1, 1),
        (2, 72, 200, &[9, 10], &[3, 3], 1, 1),
        (1, 16, 17, &[18, 21, 34], &[3, 3, 3], 1, 1),
        // By Winograd's method, with tiles that reach beyond the edges, of several images in one task.
        (2, 33, 40, &[17, 23], &[3, 3], 1, 1),
        (5, 64, 24, &[14, 14], &[3, 3], 1, 1),
        (2, 20, 48, &[3, 18, 21], &[3, 3, 3], 1, 1),
        (1, 48, 34, &[9, 8, 9], &[3, 3, 3], 1, 1),
        (2, 40, 33, &[1, 300], &[3, 3], 1, 1),
        (3, 16, 20, &[70, 1], &[3, 3], 1, 1),
        (1, 24, 40, &[33, 6, 7], &[3, 3, 3], 1, 1),
        (1, 200, 144, &[14, 14], &[3, 3], 1, 1),
        (2, 12, 24, &[19, 40, 22], &[3, 3, 3], 2, 1),
        (1, 24, 10, &[40, 33], &[5, 5], 2, 2),
        (3, 10, 3, &[30, 64], &[1, 1], 1, 0),
    ];
    for case in cases {
        check_precisions(&format!("{case:?}"), &tensors(case), |t| conv(&t[0], &t[1], Some(&t[2]), case.5, case.6))?;
    }
    let up = [random(1, &[2, 40, 9, 14, 21]), random(2, &[40, 18, 2, 2, 2]), random(3, &[18])];
    check_precisions("transposed", &up, |t| conv_transpose(&t[0], &t[1], Some(&t[2]), 2))
}

/// A convolution drawn at random: kernels 1 to 5, strides 1 to 3, padding 0 to 3, 2-D and 3-D.
pub(crate) struct Drawn {
    pub(crate) name: String,
    pub(crate) tensors: [Tensor; 3],
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

pub(crate) fn draw(seed: u64) -> Result<Drawn> {
    let draw = values(&random(1000 + seed, &[10]))?;
    let pick = |i: usize, low: usize, high: usize| low + ((draw[i] + 1.0) / 2.0 * (high - low + 1) as f64) as usize;
    let axes = pick(0, 2, 3);
    let (kernel, stride, padding) = (pick(1, 1, 5), pick(2, 1, 3), pick(3, 0, 3));
    let least = kernel.saturating_sub(2 * padding).max(1);
    let size: Vec<usize> = (0..axes).map(|a| pick(4 + a, least, least + 10)).collect();
    let (n, ci, co) = (pick(7, 1, 2), pick(8, 1, 20), pick(9, 1, 20));
    let x = random(seed, &[&[n, ci], &size[..]].concat());
    let w = random(seed + 1, &[vec![co, ci], vec![kernel; axes]].concat());
    let name = format!("{n} x {ci} -> {co}, {size:?}, kernel {kernel}, stride {stride}, padding {padding}");
    Ok(Drawn { name, tensors: [x, w, random(3, &[co])], stride, padding })
}

#[test]
fn random_shapes_agree_with_the_composed_operations() -> Result<()> {
    for seed in 0..60 {
        let Drawn { name, tensors, stride, padding } = draw(seed)?;
        check_precisions(&name, &tensors, |t| conv(&t[0], &t[1], Some(&t[2]), stride, padding))?;
    }
    Ok(())
}

#[test]
fn gradients_reach_every_consumer_through_strided_views() -> Result<()> {
    let inputs = [random(1, &[2, 6, 5, 3]), random(2, &[3, 3, 3, 3]), random(3, &[3])];
    check("transposed input and gradient, two consumers", &inputs, |t| {
        let x = t[0].transpose(1, 3)?;
        let once = conv(&x, &t[1].transpose(0, 1)?, Some(&t[2]), 1, 1)?;
        let twice = conv(&once, &t[1], None, 1, 1)?;
        (once.transpose(2, 3)? + twice.transpose(2, 3)? * 0.5)? + x.transpose(2, 3)?
    })?;
    let inputs = [random(1, &[1, 3, 4, 7, 6]), random(2, &[5, 3, 3, 3, 3])];
    check("narrowed input", &inputs, |t| conv(&t[0].narrow(3, 1, 5)?, &t[1], None, 1, 1))
}

/// Kernel equal to stride takes a path of its own, the others go phase by phase.
#[test]
fn transposed_convolution_matches_differences_and_adjointness() -> Result<()> {
    type Case = (usize, usize, usize, &'static [usize], usize, usize);
    let cases: &[Case] = &[
        (1, 1, 1, &[1, 1], 2, 2),
        (2, 5, 3, &[4, 7], 2, 2),
        (1, 17, 9, &[3, 19], 2, 2),
        (1, 3, 2, &[4, 3], 3, 2),
        (1, 3, 4, &[3, 4], 3, 3),
        (1, 2, 3, &[5, 4], 2, 3),
        (2, 3, 2, &[3, 3], 3, 1),
        (1, 4, 3, &[2, 3, 5], 2, 2),
        (1, 2, 5, &[3, 2, 3], 3, 2),
        (1, 3, 2, &[2, 3, 2], 3, 3),
    ];
    for case @ &(n, ci, co, size, kernel, stride) in cases {
        let x = random(1, &[&[n, ci], size].concat());
        let w = random(2, &[vec![ci, co], vec![kernel; size.len()]].concat());
        check(&format!("{case:?}"), &[x.clone(), w.clone(), random(3, &[co])], |t| conv_transpose(&t[0], &t[1], Some(&t[2]), stride))?;
        // <conv_transpose(x), z> = <x, conv(z)> with the same weights.
        let y = conv_transpose(&x, &w, None, stride)?;
        let z = random(4, y.dims());
        let left: f64 = (&y * &z)?.sum_all()?.to_scalar()?;
        let right: f64 = (&x * conv(&z, &w, None, stride, 0)?)?.sum_all()?.to_scalar()?;
        ensure!((left - right).abs() < 1e-9, "{case:?}: {left} and {right}");
    }
    Ok(())
}

/// Large enough to be cut into many tasks, in both directions.
#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let run = |threads: usize| -> Result<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| {
            let mut bits = Vec::new();
            for (size, channels) in [(vec![40, 52], 24), (vec![12, 14, 18], 40)] {
                let x = Var::from_tensor(&random(1, &[vec![2, channels], size.clone()].concat()).to_dtype(DType::F32)?)?;
                let kernel = vec![3; size.len()];
                let w = Var::from_tensor(&random(2, &[vec![20, channels], kernel].concat()).to_dtype(DType::F32)?)?;
                let y = conv(&x, &w, None, 1, 1)?;
                let gradients = y.sqr()?.sum_all()?.backward()?;
                for tensor in [Some(&y), gradients.get(&x), gradients.get(&w)].into_iter().flatten() {
                    bits.push(tensor.flatten_all()?.to_vec1()?);
                }
            }
            Ok(bits)
        })
    };
    let one = run(1)?;
    ensure!(one.len() == 6, "a gradient is missing");
    ensure!(one == run(2)? && one == run(7)?, "results differ in some bits");
    Ok(())
}

#[test]
fn frozen_arguments_get_no_gradient() -> Result<()> {
    let x = random(1, &[1, 2, 5, 5]).to_dtype(DType::F32)?;
    let w = Var::from_tensor(&random(2, &[3, 2, 3, 3]).to_dtype(DType::F32)?)?;
    let b = Var::from_tensor(&random(3, &[3]).to_dtype(DType::F32)?)?;
    let gradients = conv(&x, &w.as_detached_tensor(), Some(&b), 1, 1)?.sum_all()?.backward()?;
    ensure!(gradients.get(&x).is_none() && gradients.get(&w).is_none());
    ensure!(gradients.get(&b).is_some());
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_named_in_the_error() {
    let message = |x: &[usize], w: &[usize], b: usize, stride, padding| {
        conv(&random(1, x), &random(2, w), Some(&random(3, &[b])), stride, padding).map_or_else(|e| e.to_string(), |_| "no error".into())
    };
    assert!(message(&[1, 2, 5, 5], &[3, 4, 3, 3], 3, 1, 1).contains("[3, 4, 3, 3]"));
    assert!(message(&[1, 2, 5, 5], &[3, 2, 3, 3], 2, 1, 1).contains("bias of shape [3]"));
    assert!(message(&[1, 2, 2, 2], &[3, 2, 5, 5], 3, 1, 1).contains("does not fit"));
    assert!(message(&[1, 2, 5, 5], &[3, 2, 3, 3], 3, 0, 1).contains("does not fit"));
    assert!(message(&[1, 2, 5, 5], &[3, 2, 3, 3, 3], 3, 1, 1).contains("[3, 2, 3, 3, 3]"));
    assert!(message(&[1, 0, 5, 5], &[3, 0, 3, 3], 3, 1, 1).contains("must have channels"));
    assert!(message(&[1, 2, 5, 5], &[0, 2, 3, 3], 0, 1, 1).contains("must have channels"));
    assert!(message(&[2, 5, 5], &[3, 2, 3], 3, 1, 1).contains("[2, 5, 5]"));
    assert!(message(&[1, 2, 5, 5], &[], 3, 1, 1).contains("found shape []"));
}
