//! What is run: every operation over sizes below, at and above those of vectors, tiles and blocks.

use candle_core::{DType, Result, Tensor, Var};
use ops::frozen::{Element, InstanceNorm, Int8, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use ops::{ConvOptions, DiceCe, Factors, Parameter, PoolOptions, Target};

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Sync>;

/// An operation and the shapes of its inputs.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) inputs: Vec<Vec<usize>>,
    pub(crate) run: Run,
}

/// Lengths of rows: one, a vector's of every instruction set with its neighbours, some vectors and a rest. Miri, which is
/// a thousand times slower, gets one.
fn lengths() -> Vec<usize> {
    if cfg!(miri) { vec![5] } else { vec![1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 50, 67, 131] }
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &str, inputs: &[&[usize]], run: impl Fn(&[Tensor]) -> Result<Tensor> + Sync + 'static) {
        let name = format!("{name} {inputs:?}");
        self.0.push(Case { name, inputs: inputs.iter().map(|dims| dims.to_vec()).collect(), run: Box::new(run) });
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    adamw(&mut cases);
    for n in lengths() {
        losses(&mut cases, n);
        tokens(&mut cases, n);
        maps(&mut cases, n);
        convolutions(&mut cases, n);
        frozen::<f32>(&mut cases, "frozen in f32", n);
        frozen::<Int8>(&mut cases, "frozen in 8 bits", n);
    }
    large(&mut cases);
    cases.0
}

fn convolutions(cases: &mut Cases, n: usize) {
    let options = |stride, padding, groups| ConvOptions { stride, padding, groups, ..ConvOptions::new(1, 0) };
    for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (2, 2, 0), (4, 3, 2), (7, 1, 3)] {
        let size = n.max(kernel);
        cases.add("conv", &[&[1, 2, 3.max(kernel), size], &[3, 2, kernel, kernel], &[3]], move |t| {
            ops::conv(&t[0], &t[1], Some(&t[2]), stride, padding)
        });
        cases.add("conv_transpose", &[&[1, 3, 2, n], &[3, 2, kernel, kernel], &[2]], move |t| {
            ops::conv_transpose(&t[0], &t[1], Some(&t[2]), stride)
        });
    }
    // Output channels in blocks of one, a few, and more than a register tile's.
    for channels in if cfg!(miri) { vec![n] } else { vec![1, 4, 9, n] } {
        let inputs: [&[usize]; 2] = [&[2, channels, 2, 3, 5], &[channels, channels, 3, 3, 3]];
        cases.add("conv3", &inputs, |t| ops::conv(&t[0], &t[1], None, 1, 1));
    }
    cases.add("anisotropic", &[&[1, 2, 3, 4, n], &[3, 2, 1, 3, 1]], move |t| {
        ops::conv_with(&t[0], &t[1], None, options([1, 2, 3], [0, 1, 2], 1))
    });
    cases.add("groups", &[&[2, 4, 5, n], &[6, 2, 3, 3], &[6]], move |t| {
        ops::conv_with(&t[0], &t[1], Some(&t[2]), options([1; 3], [1; 3], 2))
    });
    cases.add("depthwise", &[&[2, 3, 5, n], &[6, 1, 5, 5], &[6]], move |t| {
        ops::conv_with(&t[0], &t[1], Some(&t[2]), options([2; 3], [2; 3], 3))
    });
    cases.add("output padding", &[&[1, 4, 3, n], &[4, 3, 3, 4], &[6]], move |t| {
        ops::conv_transpose_with(&t[0], &t[1], Some(&t[2]), options([1, 3, 2], [0, 1, 1], 2), [0, 2, 1])
    });
}

/// A level of a trained network: convolutions of one channel and of several, one over two maps, with everything between.
fn frozen<E: Element>(cases: &mut Cases, name: &str, n: usize) {
    let size = [5, n.max(2)];
    let inputs: [&[usize]; 7] =
        [&[1, 1, size[0], size[1]], &[17, 1, 3, 3], &[n, 17, 3, 3], &[n, 4, 2, 2], &[9, 21, 3, 3], &[3, 9, 1, 1], &[n.max(17)]];
    cases.add(name, &inputs, |t| {
        let layer = |sources: &[&Map<E>], weight: &Tensor, stride: usize| {
            let channels: Vec<_> = sources.iter().map(|source| source.channels()).collect();
            let (raw, moments) = PackedConv::<E>::new(weight, &channels, [1, stride, stride], Method::Direct)?.run(sources)?;
            let vector = t[6].detach().narrow(0, 0, weight.dim(0)?)?;
            InstanceNorm::new(&vector, &vector, 1e-5, 0.1)?.run(raw, &moments)
        };
        let skip = layer(&[&Map::of_tensor(&t[0].detach(), 0)?], &t[1].detach(), 1)?;
        let stepped = layer(&[&skip], &t[2].detach(), 2)?;
        stepped.add_leaky_relu(&stepped, 0.1)?.average([1, 3, 1])?;
        let below = layer(&[&skip.max_pool2()?], &t[2].detach(), 1)?;
        let raised = PackedUpsampling::new(&t[3].detach(), &t[6].detach().narrow(0, 0, 4)?)?.run(&below, skip.size())?;
        let joined = layer(&[&skip, &raised], &t[4].detach(), 1)?;
        PackedHead::new(&t[5].detach(), &t[6].detach().narrow(0, 0, 3)?)?.run(&joined)
    });
}

fn maps(cases: &mut Cases, n: usize) {
    cases.add("instance norm", &[&[2, 3, 2, n], &[3], &[3]], |t| ops::instance_norm_leaky_relu(&t[0], &t[1], &t[2], 1e-5, 0.1));
    cases.add("conv and norm", &[&[2, 3, 2, n], &[4, 3, 1, 1], &[4], &[4], &[4]], |t| {
        let norm = ops::Norm { gamma: &t[2], beta: &t[3], eps: 1e-5, slope: 0.1 };
        ops::conv_norm_leaky_relu(&[&t[0]], &t[1], Some(&t[4]), ops::ConvOptions::new(1, 0), norm)
    });
    cases.add("group norm", &[&[1, 6, 1, 2, n], &[6], &[6]], |t| ops::group_norm_leaky_relu(&t[0], 2, &t[1], &t[2], 1e-5, 0.0));
    cases.add("standardize", &[&[3, n]], |t| ops::standardize_weights(&t[0], 1e-5));
    cases.add("pool 2", &[&[1, 2, 3, 2, n.max(2)]], |t| ops::max_pool2(&t[0]));
    cases.add("pool", &[&[1, 2, 4, n]], |t| ops::max_pool(&t[0], PoolOptions { kernel: [3; 3], stride: [2; 3], padding: [1; 3] }));
    cases.add("replicate", &[&[2, 1, 2, 3, n]], |t| ops::pad_replicate_end(&t[0], &[true, false, true]));
    for size in [2 * n, n.div_ceil(3), 50] {
        cases.add("linear", &[&[1, 2, 3, n]], move |t| ops::upsample_linear(&t[0], &[5, size]));
        cases.add("nearest", &[&[1, 2, 2, 3, n]], move |t| ops::upsample_nearest(&t[0], &[4, 1, size]));
    }
    cases.add("argmax", &[&[2, 3, 1, n]], |t| ops::argmax_channels(&t[0]));
    cases.add("overlay", &[&[2, 5, 2, n], &[2, 2, 2, n]], |t| ops::argmax_overlay(&t[0], &t[1], 14));
}

fn tokens(cases: &mut Cases, n: usize) {
    cases.add("layer norm", &[&[3, n], &[n], &[n]], |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5));
    cases.add("softmax", &[&[3, n]], |t| ops::softmax(&t[0]));
    cases.add("gelu", &[&[n]], |t| ops::gelu(&t[0]));
    cases.add("attention by tokens", &[&[2, n, 30], &[2, n, n]], |t| {
        let mask = Tensor::zeros(t[1].dims(), t[1].dtype(), t[1].device())?;
        ops::attention(&t[0], 2, Some(&t[1]), Some(&mask))
    });
    cases.add("attention by depth", &[&[1, 3, 3 * n]], |t| ops::attention(&t[0], 1, None, None));
}

fn losses(cases: &mut Cases, n: usize) {
    cases.add("loss", &[&[2, 3, 2, n]], move |t| {
        let labels = Tensor::from_vec((0..4 * n).map(|i| (i % 3) as u8).collect::<Vec<_>>(), (2, 2, n), t[0].device())?;
        let dice = DiceCe { squared: n.is_multiple_of(2), batch: n.is_multiple_of(3) };
        let weights = Tensor::ones((2, 2, n), DType::F32, t[0].device())?;
        dice.loss(&t[0], &labels)? + ops::cross_entropy(&t[0], Target { labels: &labels, weights: Some(&weights) })?
    });
}

/// More than one tile, run, group and task.
fn large(cases: &mut Cases) {
    if cfg!(miri) {
        return;
    }
    cases.add("conv", &[&[1, 40, 37, 70], &[24, 40, 3, 3], &[24]], |t| ops::conv(&t[0], &t[1], Some(&t[2]), 1, 1));
    for shapes in [[&[2usize, 18, 9, 23][..], &[17, 18, 3, 3], &[17]], [&[1, 65, 4, 7, 11], &[40, 65, 3, 3, 3], &[40]]] {
        cases.add("conv in bf16", &shapes, |t| {
            ops::conv_with(&t[0], &t[1], Some(&t[2]), ConvOptions { factors: Factors::Bf16, ..ConvOptions::new(1, 1) })
        });
    }
    cases.add("conv", &[&[2, 17, 9, 11, 35], &[19, 17, 3, 3, 3], &[19]], |t| ops::conv(&t[0], &t[1], Some(&t[2]), 1, 1));
    cases.add("conv", &[&[1, 33, 9, 13, 17], &[34, 33, 3, 3, 3], &[34]], |t| ops::conv(&t[0], &t[1], Some(&t[2]), 2, 1));
    cases.add("conv", &[&[3, 32, 65, 64], &[14, 32, 1, 1], &[14]], |t| ops::conv(&t[0], &t[1], Some(&t[2]), 1, 0));
    cases.add("conv_transpose", &[&[1, 33, 5, 9, 31], &[33, 18, 2, 2, 2], &[18]], |t| ops::conv_transpose(&t[0], &t[1], Some(&t[2]), 2));
    cases.add("instance norm", &[&[1, 2, 70, 131], &[2], &[2]], |t| ops::instance_norm_leaky_relu(&t[0], &t[1], &t[2], 1e-5, 0.1));
    cases.add("layer norm", &[&[700, 97], &[97], &[97]], |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5));
    cases.add("argmax", &[&[1, 15, 131, 257]], |t| ops::argmax_channels(&t[0]));
    cases.add("gelu", &[&[70_001]], |t| ops::gelu(&t[0]));
    cases.add("attention", &[&[2, 343, 96], &[1, 343, 343]], |t| ops::attention(&t[0], 1, Some(&t[1]), None));
}

fn adamw(cases: &mut Cases) {
    let shapes: [&[usize]; 3] = if cfg!(miri) { [&[1], &[7], &[3, 5]] } else { [&[1], &[65_600], &[19, 7]] };
    cases.add("adamw", &shapes, |t| {
        let variables = |scale: f64| -> Result<Vec<Var>> { t.iter().map(|t| Var::from_tensor(&(t.detach() * scale)?)).collect() };
        let (values, gradients, m, v) = (variables(1.0)?, variables(0.5)?, variables(0.1)?, variables(0.0)?);
        let parameter = |i: usize| Parameter { value: &values[i], gradient: &gradients[i], m: &m[i], v: &v[i] };
        let parameters: Vec<_> = (0..t.len()).map(parameter).collect();
        ops::adamw(&parameters, &ops::AdamW::with_lr(1e-2), 1)?;
        Ok(values[0].as_detached_tensor())
    });
}
