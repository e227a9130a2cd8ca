//! Optimizers, accumulation and freezing.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use nets::{Init, ParamSpec, Params};
use random::Streams;
use training::{Accumulator, FreezePlan, LrSchedule, OptimError, Optimizer, OptimizerConfig, Order, Trainable as _};

use crate::toy::{Toy, slices};

fn one_param(values: &[f32]) -> Params {
    let spec = ParamSpec { name: "p".into(), shape: vec![values.len()], init: Init::Zeros };
    let params = Params::init(&[spec], Streams::new(0), &Device::Cpu).unwrap();
    params.set("p", &Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
    params
}

fn adamw(params: &Params, weight_decay: f64) -> Optimizer {
    Optimizer::new(OptimizerConfig::AdamW, weight_decay, params).unwrap()
}

fn values(params: &Params) -> Vec<f32> {
    params.get("p").unwrap().to_vec1().unwrap()
}

const GRADIENTS: [[f32; 3]; 3] = [[0.1, -2.0, 0.0], [0.3, 1.0, 1e-4], [-0.2, 0.5, 30.0]];

fn step(optimizer: &mut Optimizer, params: &Params, at: usize) {
    let mut gradients = GradStore::default();
    gradients.insert(&params.get("p").unwrap(), Tensor::new(&GRADIENTS[at], &Device::Cpu).unwrap());
    let rate = 5e-4 * LrSchedule::Polynomial { power: 0.9 }.factor(at as u64, 3, 1);
    optimizer.step(&gradients, rate).unwrap();
}

/* The expected values, PyTorch 2.15:
import torch
p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
o = torch.optim.AdamW([p], lr=5e-4, weight_decay=1e-2)
for k, g in enumerate([[0.1, -2.0, 0.0], [0.3, 1.0, 1e-4], [-0.2, 0.5, 30.0]]):
    o.param_groups[0]["lr"] = 5e-4 * (1 - k / 3) ** 0.9
    p.grad = torch.tensor(g); o.step(); print([f"{v:.9g}" for v in p.tolist()])
*/
const EXPECTED: [[f64; 3]; 3] =
    [[0.499497503, -0.99949497, 1.99998999], [0.499177188, -0.999399066, 1.99972475], [0.499128282, -0.999385774, 1.9996022]];

#[test]
fn steps_under_polynomial_decay_go_where_pytorch_goes() {
    let params = one_param(&[0.5, -1.0, 2.0]);
    let mut optimizer = adamw(&params, 1e-2);
    for (at, expected) in EXPECTED.iter().enumerate() {
        step(&mut optimizer, &params, at);
        for (value, expected) in values(&params).iter().zip(expected) {
            // Two units in the last place of 2.0; the steps themselves are 1e-4 and more.
            assert!((f64::from(*value) - expected).abs() < 2.5e-7, "step {at}: {value} instead of {expected}");
        }
    }
}

#[test]
fn a_restored_optimizer_goes_on_to_the_bit() {
    let params = one_param(&[0.5, -1.0, 2.0]);
    let mut whole = adamw(&params, 1e-2);
    step(&mut whole, &params, 0);
    step(&mut whole, &params, 1);
    let resumed_params = one_param(&values(&params));
    let saved: BTreeMap<String, Tensor> = whole.moments().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
    let mut resumed = adamw(&resumed_params, 1e-2);
    resumed.restore(whole.steps(), &saved).unwrap();
    step(&mut whole, &params, 2);
    step(&mut resumed, &resumed_params, 2);
    assert_eq!(values(&params), values(&resumed_params));
}

#[test]
fn moments_of_other_parameters_are_refused() {
    let params = one_param(&[0.5, -1.0, 2.0]);
    let mut optimizer = adamw(&params, 0.0);
    let other = adamw(&one_param(&[1.0]), 0.0).moments();
    let error = optimizer.restore(1, &other).unwrap_err().to_string();
    assert!(error.contains("`mean.p` has shape [1] instead of [3]"), "{error}");
    assert!(optimizer.restore(1, &BTreeMap::new()).is_err());
}

#[test]
fn a_live_parameter_that_the_loss_does_not_reach_is_an_error() {
    let params = one_param(&[1.0]);
    let unrelated = candle_core::Var::new(&[1.0_f32], &Device::Cpu).unwrap();
    let loss = unrelated.sqr().unwrap().sum_all().unwrap();
    let error = Accumulator::default().add(&params, &loss, 1.0).unwrap_err();
    assert!(matches!(&error, OptimError::NoGradient(names) if names == "`p`"), "{error}");
}

#[test]
fn a_step_takes_a_gradient_of_every_live_parameter_and_of_no_other() {
    let spec = |name: &str| ParamSpec { name: name.into(), shape: vec![1], init: Init::Ones };
    let mut params = Params::init(&[spec("p"), spec("q")], Streams::new(0), &Device::Cpu).unwrap();
    params.set_live(|name| name == "p");
    let mut optimizer = adamw(&params, 0.0);
    let none = optimizer.step(&GradStore::default(), 1e-3).unwrap_err();
    assert!(matches!(&none, OptimError::NoGradient(names) if names == "`p`"), "{none}");
    params.set_live(|_| true);
    let loss = (params.get("p").unwrap() + params.get("q").unwrap()).unwrap().sum_all().unwrap();
    let late = optimizer.step(&loss.backward().unwrap(), 1e-3).unwrap_err().to_string();
    assert!(late.contains("2 gradients, 1 expected"), "{late}");
    assert_eq!((values(&params), optimizer.steps()), (vec![1.0], 0));
}

#[test]
fn gradients_of_micro_batches_sum_to_those_of_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(folder.path(), Order::AlwaysTheSame, 9);
    let toy = Toy::new(&source);
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap();
    let gradients = |size: usize| {
        let mut accumulator = Accumulator::default();
        for part in batch.micro_batches(size).unwrap() {
            // 9 samples in parts of 4 are 4, 4 and 1: the last part weighs less.
            accumulator.add(&toy.params, &toy.loss(&part).unwrap(), part.len() as f64 / 9.0).unwrap();
        }
        accumulator.into_gradients()
    };
    let (whole, parts) = (gradients(9), gradients(4));
    for (name, var) in toy.params.live() {
        let flat = |gradients: &GradStore| gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (whole, parts) = (flat(&whole), flat(&parts));
        let scale = whole.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        assert!(scale > 0.0);
        for (a, b) in whole.iter().zip(&parts) {
            assert!((a - b).abs() < 1e-5 * scale, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn frozen_parameters_keep_every_bit_and_live_ones_move() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(folder.path(), Order::AlwaysTheSame, 9);
    let mut toy = Toy::new(&source);
    FreezePlan { live: vec!["organ_decoder.*".into()] }.apply(&mut toy.params).unwrap();
    let before = toy.values();
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap();
    let mut optimizer = adamw(&toy.params, 1e-5);
    for _ in 0..3 {
        let mut accumulator = Accumulator::default();
        accumulator.add(&toy.params, &toy.loss(&batch).unwrap(), 1.0).unwrap();
        optimizer.step(&accumulator.into_gradients(), 1e-3).unwrap();
    }
    for ((name, before), (_, after)) in before.iter().zip(&toy.values()) {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(before) == bits(after), !name.starts_with("organ_decoder"), "{name}");
    }
}

/* The expected values, PyTorch 2.15:
for nesterov in (True, False):
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
    o = torch.optim.SGD([p], lr=1e-2, momentum=0.99, nesterov=nesterov, weight_decay=1e-2)
    for k, g in enumerate([[0.1, -2.0, 0.0], [0.3, 1.0, 1e-4], [-0.2, 0.5, 30.0]]):
        o.param_groups[0]["lr"] = 1e-2 * (1 - k / 3) ** 0.9
        p.grad = torch.tensor(g); torch.nn.utils.clip_grad_norm_([p], 12); o.step(); print([f"{v:.9g}" for v in p.tolist()])
*/
const SGD_EXPECTED: [[[f64; 3]; 3]; 2] = [
    [[0.4979105, -0.960000992, 1.99960196], [0.492982566, -0.960007191, 1.99918818], [0.492047161, -0.957772076, 1.91006565]],
    [[0.498950005, -0.979900002, 1.99979997], [0.496110916, -0.972959578, 1.99952292], [0.494883835, -0.969985247, 1.95466387]],
];

#[test]
fn momentum_nesterov_and_clipping_go_where_pytorch_goes() {
    for (nesterov, expected) in [true, false].into_iter().zip(SGD_EXPECTED) {
        let params = one_param(&[0.5, -1.0, 2.0]);
        let mut optimizer = Optimizer::new(OptimizerConfig::Sgd { momentum: 0.99, nesterov }, 1e-2, &params).unwrap();
        for (at, expected) in expected.iter().enumerate() {
            // A loss whose gradient is the given one.
            let gradient = Tensor::new(&GRADIENTS[at], &Device::Cpu).unwrap();
            let loss = (params.get("p").unwrap() * gradient).unwrap().sum_all().unwrap();
            let mut accumulator = Accumulator::default();
            accumulator.add(&params, &loss, 1.0).unwrap();
            accumulator.clip(&params, 12.0).unwrap();
            let rate = 1e-2 * LrSchedule::Polynomial { power: 0.9 }.factor(at as u64, 3, 1);
            optimizer.step(&accumulator.into_gradients(), rate).unwrap();
            for (value, expected) in values(&params).iter().zip(expected) {
                // Two units in the last place of 2.0; the steps themselves are 1e-4 and more.
                assert!((f64::from(*value) - expected).abs() < 2.5e-7, "nesterov {nesterov}, step {at}: {value} instead of {expected}");
            }
        }
    }
}

#[test]
fn what_a_loss_may_leave_out_has_the_gradient_zero() {
    let params = one_param(&[1.0]);
    let unrelated = candle_core::Var::new(&[1.0_f32], &Device::Cpu).unwrap();
    let mut accumulator = Accumulator::unreached_are_zero();
    accumulator.add(&params, &unrelated.sqr().unwrap().sum_all().unwrap(), 0.5).unwrap();
    accumulator.add(&params, &(params.get("p").unwrap() * 3.0).unwrap().sum_all().unwrap(), 0.5).unwrap();
    assert_eq!(accumulator.into_gradients().get(&params.get("p").unwrap()).unwrap().to_vec1::<f32>().unwrap(), [1.5]);
}
