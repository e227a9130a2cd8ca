//! A batch may be taken in parts of any size: the losses of the trainings and their gradients stay what they are.

use anyhow::Result;
use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use prepared::Layout;
use random::Streams;
use serde_json::json;
use training::{Accumulator, Batch, BatchSource, FitConfig, Order, Sampler, Sampling, Trust};

use crate::toy::{targets, weighed_cases};

fn fit(batch_dice: bool, micro_batch: Option<usize>) -> FitConfig {
    serde_json::from_value(json!({"epochs": 1, "batch_size": 5, "batch_dice": batch_dice, "micro_batch": micro_batch, "learning_rate": 0.1,
        "schedule": {"polynomial": {"power": 0.9}}, "weight_decay": 0, "select": "lowest_loss"}))
    .unwrap()
}

/// Five samples, some of whose labels count less.
fn batch(layout: Layout, sampling: Sampling, trust: Trust) -> Batch {
    let folder = tempfile::tempdir().unwrap();
    let set = weighed_cases(folder.path(), layout, &[[20, 20, 17], [24, 18, 20], [16, 22, 18]], true, &[100, 30, 0]);
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(sampling, Order::EachEpochAnew, shapes, 5, None, Streams::new(5)).unwrap();
    let source = BatchSource::new(set, sampler, targets(&[0, 1], trust), None, Streams::new(5)).unwrap();
    source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap()
}

/// Loss and gradients of a batch in parts of some size.
fn step(params: &Params, batch: &Batch, size: usize, loss: &dyn Fn(&Batch) -> Result<Tensor>) -> (f64, Vec<(String, Vec<f32>)>) {
    let (mut accumulator, mut sum) = (Accumulator::default(), 0.0);
    for part in batch.micro_batches(size).unwrap() {
        let (loss, share) = (loss(&part).unwrap(), part.len() as f64 / batch.len() as f64);
        accumulator.add(params, &loss, share).unwrap();
        sum += share * f64::from(loss.to_scalar::<f32>().unwrap());
    }
    let gradients = accumulator.into_gradients();
    let of =
        |(name, var): (&str, candle_core::Var)| (name.to_owned(), gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap());
    (sum, params.live().map(of).collect())
}

/// How much gradients differ in parts of their length, over all parameters.
fn differ(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> f64 {
    let (mut length, mut distance) = (0.0, 0.0);
    for ((name, a), (other, b)) in a.iter().zip(b) {
        assert_eq!(name, other);
        for (a, b) in a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b))) {
            length += a * a;
            distance += (a - b) * (a - b);
        }
    }
    assert!(length > 0.0);
    (distance / length).sqrt()
}

fn must_not_depend_on_parts(params: &Params, batch: &Batch, loss: &dyn Fn(&Batch) -> Result<Tensor>) {
    let (whole, gradients) = step(params, batch, 5, loss);
    for size in 1..5 {
        let (parts, of_parts) = step(params, batch, size, loss);
        assert!((whole - parts).abs() < 1e-6 * whole.abs(), "{size}: {parts} instead of {whole}");
        let difference = differ(&gradients, &of_parts);
        assert!(difference < 1e-4, "{size}: {difference}");
    }
}

fn teacher() -> (Teacher, Params) {
    let config: TeacherConfig = serde_json::from_value(json!({"features": [4, 4, 4, 4, 4, 4]})).unwrap();
    let network = Teacher::new(&config, 2);
    let params = Params::init(&network.parameters(), Streams::new(8), &Device::Cpu).unwrap();
    (network, params)
}

const PATCHES: Sampling = Sampling::Patches { per_case: 2, shape: [16, 16, 16] };

#[test]
fn the_teacher_s_loss_is_the_mean_of_those_of_the_parts() {
    let (network, params) = teacher();
    for trust in [Trust::Unused, Trust::Soft, Trust::Hard] {
        let loss = |part: &Batch| Ok(fit(false, Some(2)).loss().loss(&network.forward(&params, &part.image)?, part.truth(0)?.target())?);
        must_not_depend_on_parts(&params, &batch(Layout::Volume, PATCHES, trust), &loss);
    }
}

#[test]
fn the_student_s_loss_is_the_mean_of_those_of_the_parts() {
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [4; 6] }, &[("organ_decoder".into(), 2), ("cancer_decoder".into(), 2)]);
    let params = Params::init(&network.parameters(), Streams::new(8), &Device::Cpu).unwrap();
    for trust in [Trust::Unused, Trust::Soft, Trust::Hard] {
        let loss = |part: &Batch| {
            let (loss, logits) = (fit(false, Some(2)).loss(), network.logits(&params, &part.image, &[0, 1])?);
            let of = |output: usize| -> Result<Tensor> { Ok(loss.loss(&logits[output], part.truth(output)?.target())?) };
            Ok((of(0)? + of(1)?)?)
        };
        must_not_depend_on_parts(&params, &batch(Layout::Slices, Sampling::Slices { shape: [16, 16] }, trust), &loss);
    }
}

#[test]
fn the_dice_score_of_a_batch_does_depend_on_them_and_the_two_together_are_refused_by_name() {
    let (network, params) = teacher();
    let batch = batch(Layout::Volume, PATCHES, Trust::Unused);
    let loss = |part: &Batch| Ok(fit(true, None).loss().loss(&network.forward(&params, &part.image)?, part.truth(0)?.target())?);
    let [whole, parts] = [5, 2].map(|size| step(&params, &batch, size, &loss).0);
    assert!((whole - parts).abs() > 1e-5, "{whole} and {parts}");
    let error = fit(true, Some(2)).check().unwrap_err().to_string();
    assert!(error.contains("micro_batch: `batch_dice`"), "{error}");
    for fits in [fit(true, Some(5)), fit(true, Some(9)), fit(true, None), fit(false, Some(2))] {
        fits.check().unwrap();
    }
}
