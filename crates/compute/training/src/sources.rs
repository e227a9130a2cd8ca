//! The training and validation cases of a subset, ready to be sampled.

use anyhow::{Result, ensure};
use dataset::{Manifest, ManifestError, Split};
use prepared::PreparedSet;
use random::Streams;
use stage_kit::StageIo;

use crate::augment::Augment;
use crate::batch::{BatchSource, Targets};
use crate::normalisation::Normalisation;
use crate::protocol::FitConfig;
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
    /// A subset too small for validation cases is validated on its training cases, which is said aloud. Where trust in labels
    /// is used, cases of which no label counts are left out.
    ///
    /// # Errors
    /// When the subset is empty, or its cases are not prepared, or lack a target; when trust is used and there is none.
    pub fn open(
        io: &StageIo,
        subset: &str,
        sampling: Sampling,
        targets: Targets,
        augment: Augment,
        fit: &FitConfig,
        validation_samples: Option<u64>,
    ) -> Result<Self> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let streams = Streams::new(io.seed);
        let open = |split: Split| -> Result<PreparedSet> {
            let cases = manifest.select(subset, Some(split))?;
            let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
            Ok(PreparedSet::open(io.input("prepared")?, &ids)?)
        };
        let training_cases = open(Split::Training)?;
        let validation_cases = match open(Split::Validation) {
            Err(error) if matches!(error.downcast_ref::<ManifestError>(), Some(ManifestError::EmptySubset { .. })) => None,
            cases => Some(cases?),
        };
        let weighed = |set: &PreparedSet| set.cases().iter().any(|case| case.trust.is_some());
        ensure!(
            targets.trust.is_unused() || weighed(&training_cases) || validation_cases.as_ref().is_some_and(weighed),
            "trust: nobody has weighed the labels of {subset}; give `trust` to the `pseudo-label` that they come from, or leave it out here"
        );
        let training_cases = trusted(training_cases, &targets, subset, io);
        ensure!(
            !training_cases.is_empty(),
            "no training case of {subset} has a label that is trusted; lower the bounds of `trust` in the `pseudo-label` that they come from"
        );
        let validation_cases = validation_cases.map(|set| trusted(set, &targets, subset, io)).filter(|set| !set.is_empty());
        let validation_cases = validation_cases.unwrap_or_else(|| {
            io.report.note(&format!("{}: {subset} has no validation cases; the best epoch is told by the training cases", io.node));
            training_cases.clone()
        });
        let shapes = |set: &PreparedSet| set.cases().iter().map(|case| case.shape).collect();
        let steps = fit.max_steps_per_epoch;
        let sampler = Sampler::new(sampling, Order::EachEpochAnew, shapes(&training_cases), fit.batch_size, steps, streams)?;
        let training = BatchSource::new(training_cases, sampler, targets.clone(), Some(augment), streams)?;
        let batch = fit.micro_batch.unwrap_or(fit.batch_size);
        let steps = validation_samples.map(|samples| samples.div_ceil(batch as u64));
        let sampler = Sampler::new(sampling, Order::AlwaysTheSame, shapes(&validation_cases), batch, steps, streams)?;
        Ok(Self { training, validation: BatchSource::new(validation_cases, sampler, targets, None, streams)? })
    }

    /// The same with images that are shown in a certain way, which the training cases decide for both.
    ///
    /// # Errors
    /// As [`Normalisation::scaling`].
    pub fn normalised(self, normalisation: Normalisation, io: &StageIo) -> Result<Self> {
        let scaling = normalisation.scaling(self.training.set(), io)?;
        Ok(Self { training: self.training.scaled(scaling), validation: self.validation.scaled(scaling) })
    }
}

/// The cases with labels that count; how many others there are is said aloud.
fn trusted(set: PreparedSet, targets: &Targets, subset: &str, io: &StageIo) -> PreparedSet {
    let all = set.len();
    let set = set.retain(|case| targets.trust.leaves_in(case, targets));
    if set.len() < all {
        io.report.note(&format!(
            "{}: {} of {all} cases of {subset} are left out: none of their labels is trusted",
            io.node,
            all - set.len()
        ));
    }
    set
}
