//! A student in its third step: most of it frozen.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Learning, Network as _, Params};
use prepared::Layout;
use random::Streams;
use training::{Batch, FitConfig, FreezePlan, Order, Sampling, Trainable, Validation, fit};

use crate::resume::{SELDOM, config, run};
use crate::toy::{prepared_cases, source};

struct Student {
    network: DualUNet2d,
    weights: Learning,
    validation: Batch,
    calls_left: Cell<u64>,
}

impl Student {
    fn organ_loss(&self, batch: &Batch) -> Result<Tensor> {
        let logits = self.weights.student(&self.network, &batch.image, &[0])?;
        Ok(ops::dice_ce(&logits[0], &batch.labels[0])?)
    }
}

impl Trainable for Student {
    fn params(&self) -> &Params {
        self.weights.params()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        anyhow::ensure!(self.calls_left.get() > 0, "killed");
        self.calls_left.set(self.calls_left.get() - 1);
        self.organ_loss(batch)
    }

    fn validate(&self, _: &stage_kit::Ranks) -> Result<Validation> {
        let loss = f64::from(self.organ_loss(&self.validation)?.to_scalar::<f32>()?);
        Ok(Validation { loss, dice: 1.0 / (1.0 + loss), details: Vec::new() })
    }
}

type Values = Vec<(String, Vec<f32>)>;

fn values(params: &Params) -> Values {
    params.all().map(|(name, var)| (name.to_owned(), var.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

/// Trains in `folder`, failing after `calls` losses: the weights before and after.
fn train(folder: &Path, config: &FitConfig, interval: Duration, calls: u64) -> Result<[Values; 2]> {
    let set = prepared_cases(&folder.join("prepared"), Layout::Slices, &[[32, 36, 4], [40, 32, 3]], true);
    let source = source(set, Sampling::Slices { shape: [32, 32] }, Order::EachEpochAnew, config.batch_size)?;
    let validation = source.assemble(&source.sampler().epoch(0), 0, 0)?.into_tensors(&Device::Cpu)?;
    let decoders = [("organ_decoder".to_owned(), 2), ("cancer_decoder".to_owned(), 2)];
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [8, 8, 16, 16, 32, 16] }, &decoders);
    let mut params = Params::init(&network.parameters(), Streams::new(8), &Device::Cpu)?;
    params.set_factors(config.precision.factors());
    FreezePlan { live: vec!["organ_decoder.*".into()] }.apply(&mut params)?;
    let before = values(&params);
    let student = Student { network, weights: Learning::new(params), validation, calls_left: Cell::new(calls) };
    fit(config, &student, source, &run(folder, interval))?;
    Ok([before, values(student.params())])
}

#[test]
fn what_is_frozen_keeps_its_bits_and_the_rest_does_not_depend_on_kills_and_threads() {
    for precision in [training::TrainingPrecision::F32, training::TrainingPrecision::Bf16] {
        let config = FitConfig { precision, ..config() };
        let folder = tempfile::tempdir().unwrap();
        let [before, expected] = train(folder.path(), &config, SELDOM, u64::MAX).unwrap();
        for ((name, before), (_, after)) in before.iter().zip(&expected) {
            // The bias before an instance norm has no effect, and its gradient is rounding noise.
            let idle = name.contains(".conv_") && name.ends_with("conv.bias");
            assert!(idle || (before != after) == name.starts_with("organ_decoder."), "{precision:?}: {name}");
        }
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let found = pool.install(|| {
                for calls in [3, 1, 4] {
                    let error = train(folder.path(), &config, Duration::ZERO, calls).err().map(|error| error.to_string());
                    assert_eq!(error.as_deref(), Some("killed"), "after {calls} losses");
                }
                train(folder.path(), &config, Duration::ZERO, u64::MAX).unwrap()
            });
            assert!(found == [before.clone(), expected.clone()], "{precision:?}, {threads} threads: other bits");
        }
    }
}
