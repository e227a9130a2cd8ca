//! DoDNet against the authors' network, whose weights follow from a formula, and against itself.
//!
//! The reference values are looked for in `GOLDEN_DIR`, else in the reference data beside the checkout.

use candle_core::{Device, Tensor};
use nets::{DoDNet, DynamicHeadConfig, Network, Params, ResidualConfig};
use random::Streams;

fn head() -> DynamicHeadConfig {
    DynamicHeadConfig { depth: 3, width: 8, image_feature: true, task_encoding: true }
}

/// Parameter number k in name order, element i: around 1 for the scales of norms, small for what else has one axis, and of
/// the deviation of Kaiming's initialisation for filters.
fn fill(params: &Params) {
    for (k, (name, var)) in params.all().enumerate() {
        let dims = var.dims();
        let scale = match dims.len() {
            1 if name.ends_with("weight") => 0.1,
            1 => 0.05,
            _ => (2.0 * dims[0] as f64 / var.elem_count() as f64).sqrt(),
        };
        let shift = f64::from(u8::from(dims.len() == 1 && name.ends_with("weight")));
        let value = |i: usize| (shift + scale * (0.7 * i as f64 + 1.3 * k as f64).sin()) as f32;
        let values = Tensor::from_iter((0..var.elem_count()).map(value), &Device::Cpu).unwrap().reshape(dims).unwrap();
        params.set(name, &values).unwrap();
    }
}

/// The largest difference, relative to the largest value of `expected`.
fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let max = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    max(&(found - expected).unwrap()) / max(expected)
}

#[test]
fn the_network_agrees_with_the_authors_in_logits_and_gradients() {
    let Some(path) = references::golden("dodnet.safetensors") else { return };
    let golden = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let trunk = ResidualConfig { features: [32, 64, 128, 256], blocks: [1, 2, 2, 2, 2], groups: 16 };
    let network = DoDNet::new(&trunk, &head(), 7, 2);
    let params = Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap();
    assert_eq!(params.count(), 17_329_528);
    fill(&params);
    let tasks = golden["task_id"].to_vec1::<i64>().unwrap();
    let pairs: Vec<(usize, usize)> = tasks.iter().enumerate().map(|(sample, &task)| (sample, task as usize)).collect();
    let features = network.features(&params, &golden["input"]).unwrap();
    let logits = network.logits(&params, &features, &pairs).unwrap();
    assert!(difference(&logits, &golden["logits"]) < 1e-4, "{}", difference(&logits, &golden["logits"]));
    // The reference gradients are those of the mean of the logits, weighted from -1 to 1.
    let n = logits.elem_count();
    let weights = Tensor::from_iter((0..n).map(|i| (-1.0 + 2.0 * i as f64 / (n - 1) as f64) as f32), &Device::Cpu).unwrap();
    let loss = (logits.flatten_all().unwrap() * weights).unwrap().mean_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (name, expected) in golden.iter().filter_map(|(name, value)| Some((name.strip_prefix("grad.")?, value))) {
        let (_, var) = params.all().find(|(own, _)| *own == name).unwrap();
        let found = gradients.get(&var).unwrap().narrow(0, 0, expected.dim(0).unwrap()).unwrap();
        println!("{name}: {:e}", difference(&found, expected));
        // The derivatives of ReLU jump, and rounding decides on which side some of the activations fall.
        assert!(difference(&found, expected) < 1e-3, "{name}: {}", difference(&found, expected));
    }
}

fn small(head: &DynamicHeadConfig) -> (DoDNet, Params) {
    let trunk = ResidualConfig { features: [4, 4, 8, 8], blocks: [1; 5], groups: 2 };
    let network = DoDNet::new(&trunk, head, 3, 2);
    let params = Params::init(&network.parameters(), Streams::new(3), &Device::Cpu).unwrap();
    (network, params)
}

fn image(samples: usize) -> Tensor {
    Tensor::from_iter((0..samples * 4096).map(|i| (i as f32 * 0.37).sin()), &Device::Cpu)
        .unwrap()
        .reshape((samples, 1, 16, 16, 16))
        .unwrap()
}

#[test]
fn all_tasks_from_one_pass_are_the_tasks_one_by_one() {
    for depth in 1..=4 {
        let (network, params) = small(&DynamicHeadConfig { depth, ..head() });
        let pairs = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 0)];
        let features = network.features(&params, &image(2)).unwrap();
        let together = network.logits(&params, &features, &pairs).unwrap();
        for (k, &(sample, task)) in pairs.iter().enumerate() {
            let alone = image(2).narrow(0, sample, 1).unwrap();
            let alone = network.logits(&params, &network.features(&params, &alone).unwrap(), &[(0, task)]).unwrap();
            assert!(difference(&together.narrow(0, k, 1).unwrap(), &alone) < 1e-5, "depth {depth}, {sample} {task}");
        }
    }
}

#[test]
fn without_the_task_encoding_all_tasks_are_one() {
    for (config, same) in [(head(), false), (DynamicHeadConfig { task_encoding: false, ..head() }, true)] {
        let (network, params) = small(&config);
        let features = network.features(&params, &image(1)).unwrap();
        let logits = network.logits(&params, &features, &[(0, 0), (0, 1)]).unwrap();
        let apart = difference(&logits.narrow(0, 0, 1).unwrap(), &logits.narrow(0, 1, 1).unwrap());
        assert_eq!(apart == 0.0, same);
    }
}
