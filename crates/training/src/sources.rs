//! The training and validation cases of a subset, ready to be sampled.

use anyhow::Result;
use dataset::{Case, Manifest, ManifestError, Split};
use labels::SubsetName;
use prepared::PreparedSet;
use stage_kit::StageIo;
use streams::Streams;

use crate::augment::AugmentConfig;
use crate::batch::{BatchSource, Targets};
use crate::fit::FitConfig;
use crate::sampler::{Order, Sampler, Sampling};

/// Where a training gets its batches, and where its validation does.
pub struct Sources {
    /// Augmented batches of the training cases, each epoch anew.
    pub training: BatchSource,
    /// Plain batches of the validation cases, always the same.
    pub validation: BatchSource,
}

impl Sources {
    /// The cases of `subset` behind the roles `partition` and `prepared`. At most `validation_samples` are validated on.
    ///
    /// A subset too small for validation cases is validated on its training cases, which is said aloud.
    ///
    /// # Errors
    /// When the subset is empty, or its cases are not prepared, or lack a target.
    pub fn open(
        io: &StageIo,
        subset: SubsetName,
        sampling: Sampling,
        targets: Targets,
        augment: AugmentConfig,
        fit: &FitConfig,
        validation_samples: Option<u64>,
    ) -> Result<Self> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let training_cases = manifest.select(subset, Some(Split::Training))?;
        let validation_cases = match manifest.select(subset, Some(Split::Validation)) {
            Ok(cases) => cases,
            Err(ManifestError::EmptySubset { .. }) => {
                io.report.note(&format!("{}: {subset} has no validation cases; the best epoch is told by the training cases", io.node));
                training_cases.clone()
            }
            Err(error) => return Err(error.into()),
        };
        let streams = Streams::new(io.seed);
        let open = |cases: &[&Case]| -> Result<PreparedSet> {
            let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
            Ok(PreparedSet::open(io.input("prepared")?, &ids)?)
        };
        let shapes = |set: &PreparedSet| set.cases().iter().map(|case| case.shape).collect();
        let set = open(&training_cases)?;
        let sampler = Sampler::new(sampling, Order::EachEpochAnew, shapes(&set), fit.batch_size, fit.max_steps_per_epoch, streams)?;
        let training = BatchSource::new(set, sampler, targets, Some(augment), streams)?;
        let set = open(&validation_cases)?;
        let batch = fit.micro_batch.unwrap_or(fit.batch_size);
        let steps = validation_samples.map(|samples| samples.div_ceil(batch as u64));
        let sampler = Sampler::new(sampling, Order::AlwaysTheSame, shapes(&set), batch, steps, streams)?;
        Ok(Self { training, validation: BatchSource::new(set, sampler, targets, None, streams)? })
    }
}
