//! What a step takes: measured on a batch of noise, by the code that trains.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use nets::Params;
use random::Streams;
use stage_kit::{Chore, Forecast, Lot};

use crate::batch::Batch;
use crate::optim::{Accumulator, Optimizer};
use crate::protocol::FitConfig;
use crate::sampler::Sample;

/// What is counted of a training.
pub const STEPS: &str = "steps";
/// What is counted of its validations.
pub const VALIDATION: &str = "batches of validation";

impl FitConfig {
    /// The chores of a training on `samples` samples of training and `validation_samples` of validation in an epoch. `sample` tells all
    /// that the time of a step depends on beside the protocol.
    #[must_use]
    pub fn chores(&self, samples: f64, validation_samples: f64, sample: &serde_json::Value) -> Vec<Chore> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let (epochs, batch, part) = (self.epochs as f64, self.batch_size as f64, self.part() as f64);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let most = self.max_steps_per_epoch.map_or(f64::INFINITY, |most| most as f64);
        let steps = (samples / batch).ceil().min(most);
        let of = serde_json::json!({
            "sample": sample,
            "batch_size": self.batch_size,
            "micro_batch": self.part(),
            "optimizer": self.optimizer,
            "precision": self.precision,
            "clip_gradient": self.clip_gradient.is_some(),
        });
        let of_validation = serde_json::json!({"sample": sample, "micro_batch": self.part(), "precision": self.precision});
        vec![
            Chore { what: STEPS, count: epochs * steps, sample: of },
            Chore { what: VALIDATION, count: epochs * (validation_samples / part).ceil(), sample: of_validation },
        ]
    }

    /// Samples that are on the device at once.
    fn part(&self) -> usize {
        self.micro_batch.unwrap_or(self.batch_size).min(self.batch_size)
    }

    /// Seconds of one chore of [`FitConfig::chores`]. `spatial` are the voxels of a sample, `channels` those of each target.
    ///
    /// # Errors
    /// Those of the network.
    pub fn pace(
        &self,
        chore: &Chore,
        params: &Params,
        spatial: &[usize],
        channels: &[usize],
        loss: impl Fn(&Batch) -> Result<Tensor>,
    ) -> Result<f64> {
        let batch = noise(self.part(), spatial, channels, &params.device())?;
        if chore.what == VALIDATION {
            finish(&loss(&batch)?)?;
            let begun = Instant::now();
            finish(&loss(&batch)?)?;
            return Ok(begun.elapsed().as_secs_f64());
        }
        let mut optimizer = Optimizer::new(self.optimizer, self.weight_decay, params)?;
        let mut accumulator = Accumulator::unreached_are_zero();
        // The first part finds memory that nobody has touched, and caches that are empty.
        accumulator.add(params, &loss(&batch)?, 0.5)?;
        let begun = Instant::now();
        let part = loss(&batch)?;
        finish(&part)?;
        accumulator.add(params, &part, 0.5)?;
        let of_part = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        if let Some(longest) = self.clip_gradient {
            accumulator.clip(params, longest)?;
        }
        // At this rate no weight moves so far that the sample could fail.
        optimizer.step(&accumulator.into_gradients(), f64::from(f32::MIN_POSITIVE))?;
        #[expect(clippy::cast_precision_loss, reason = "parts are few")]
        let parts = self.batch_size.div_ceil(self.part()) as f64;
        Ok(of_part * parts + begun.elapsed().as_secs_f64())
    }
}

/// The bytes of a network's weights in their file.
#[must_use]
pub fn weight_bytes(specs: &[nets::ParamSpec]) -> f64 {
    let values: usize = specs.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
    #[expect(clippy::cast_precision_loss, reason = "networks are far below 2^53")]
    let values = values as f64;
    values * size_of::<f32>() as f64
}

/// The cases of a subset as a training sees them; the reason if nothing is known of them.
///
/// # Errors
/// A forecast that says so.
pub fn cases(prepared: &stage_kit::Outlook, subset: &str) -> Result<Lot, Box<Forecast>> {
    let lot = prepared.lot(&[subset.to_owned()]);
    let lot = lot.ok_or_else(|| {
        Box::new(Forecast::unknown(format!("how many cases {subset} will have: run `partition` first, or give it `expected`")))
    })?;
    // A subset without validation cases is validated on its training cases.
    Ok(if lot.validation < 1.0 { Lot { validation: lot.training, ..lot } } else { lot })
}

/// Waits until a value is computed.
fn finish(value: &Tensor) -> Result<f32> {
    Ok(value.to_dtype(DType::F32)?.to_scalar::<f32>()?)
}

fn noise(samples: usize, spatial: &[usize], channels: &[usize], device: &Device) -> Result<Batch> {
    let mut stream = Streams::new(0).stream("pace", &[]);
    let voxels = samples * spatial.iter().product::<usize>();
    let image: Vec<f32> = (0..voxels).map(|_| random::normal(&mut stream)).collect();
    let shape = |inner: &[usize]| [&[samples], inner, spatial].concat();
    let labels = |&channels: &usize| {
        let values: Vec<u8> = (0..voxels).map(|voxel| u8::try_from(voxel / 64 % channels.max(1)).unwrap_or_default()).collect();
        Tensor::from_vec(values, shape(&[]), device)
    };
    let sample = |number: usize| Sample { case: 0, start: [0; 3], shape: [1; 3], number: number as u64 };
    Ok(Batch {
        samples: (0..samples).map(sample).collect(),
        image: Tensor::from_vec(image, shape(&[1]), device)?,
        labels: channels.iter().map(labels).collect::<candle_core::Result<_>>()?,
        weights: vec![None; channels.len()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(more: &str) -> FitConfig {
        let text = format!(
            r#"{{"epochs": 3, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0, "select": "lowest_loss",
                "schedule": {{"polynomial": {{"power": 0.9}}}}{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_training_has_as_many_steps_as_its_sampler_gives() {
        let counts = |fit: &FitConfig| fit.chores(10.0, 5.0, &serde_json::Value::Null).iter().map(|chore| chore.count).collect::<Vec<_>>();
        // The last batch of an epoch is smaller; validation goes by the parts of a batch.
        assert_eq!(counts(&fit("")), [9.0, 6.0]);
        assert_eq!(counts(&fit(r#", "micro_batch": 2, "max_steps_per_epoch": 2"#)), [6.0, 9.0]);
    }

    #[test]
    fn what_a_step_takes_is_measured_with_and_without_parts() {
        let spec = nets::ParamSpec { name: "w".into(), shape: vec![1], init: nets::Init::Ones };
        let params = Params::init(&[spec], Streams::new(0), &Device::Cpu).unwrap();
        for fit in [fit(""), fit(r#", "micro_batch": 1, "clip_gradient": 1.0"#)] {
            for chore in fit.chores(10.0, 5.0, &serde_json::Value::Null) {
                let loss = |batch: &Batch| Ok(batch.image.broadcast_mul(&params.get("w")?)?.sqr()?.mean_all()?);
                let seconds = fit.pace(&chore, &params, &[16, 16], &[3], loss).unwrap();
                assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
            }
        }
    }
}
