//! The cases of all datasets, with what is annotated in each.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use dataset::{Case, Manifest, ManifestError, Split};
use labels::LabelPattern;
use partial::{Class, Datasets, Model};
use prepared::{IndexEntry, PreparedSet};
use stage_kit::StageIo;
use streams::Streams;
use training::{BatchSource, Foreground, Order, Sampler, Sampling};

use crate::{CaseSampling, Config, ForegroundConfig};

/// Batches, and the dataset of each case that they come from.
pub(crate) struct Labelled {
    pub(crate) source: BatchSource,
    pub(crate) datasets: Vec<usize>,
}

/// The two sides of the split.
pub(crate) struct Cases {
    pub(crate) training: Labelled,
    pub(crate) validation: Labelled,
}

impl Cases {
    pub(crate) fn open(config: &Config, model: &Model, datasets: &Datasets, io: &StageIo) -> Result<Self> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let training = select(&manifest, datasets, Split::Training, io)?;
        ensure!(!training.is_empty(), "no dataset has training cases; cases per subset: {}", manifest.counts());
        let mut validation = select(&manifest, datasets, Split::Validation, io)?;
        if validation.is_empty() {
            io.report.note(&format!("{}: no dataset has validation cases; the best epoch is told by the training cases", io.node));
            validation.clone_from(&training);
        }
        Ok(Self {
            training: open(config, model, datasets, &training, true, io)?,
            validation: open(config, model, datasets, &validation, false, io)?,
        })
    }
}

/// The cases of every dataset on one side of the split. A dataset without any is told, and left out.
fn select<'a>(manifest: &'a Manifest, datasets: &Datasets, split: Split, io: &StageIo) -> Result<Vec<&'a Case>> {
    let mut cases = Vec::new();
    for dataset in datasets.declared() {
        match manifest.select(dataset.subset, Some(split)) {
            Ok(found) => cases.extend(found),
            Err(ManifestError::EmptySubset { subset, split, .. }) => {
                io.report.note(&format!("{}: the dataset `{}` ({subset}) has no cases{split}", io.node, dataset.name));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(cases)
}

fn open(config: &Config, model: &Model, datasets: &Datasets, cases: &[&Case], training: bool, io: &StageIo) -> Result<Labelled> {
    let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    let set = PreparedSet::open(io.input("prepared")?, &ids)?;
    let of_case: Vec<usize> = set.cases().iter().map(|case| dataset_of(case, datasets)).collect::<Result<_>>()?;
    if let Some(case) = set.cases().iter().find(|case| model.needs_all_labels() && !has_all(case)) {
        bail!(
            "case {}: the second stage of mutual learning needs every class labelled; prepare the cases with the labels of a first",
            case.id
        );
    }
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampling = Sampling::Patches { per_case: config.patches_per_case, shape: config.patch };
    let streams = Streams::new(io.seed);
    if !training {
        let batch = config.fit.micro_batch.unwrap_or(config.fit.batch_size);
        let steps = config.validation_patches.map(|patches| patches.div_ceil(batch as u64));
        let sampler = Sampler::new(sampling, Order::AlwaysTheSame, shapes, batch, steps, streams)?;
        return Ok(Labelled { source: BatchSource::partly_labelled(set, sampler, None, streams)?, datasets: of_case });
    }
    let fit = &config.fit;
    let mut sampler = Sampler::new(sampling, Order::EachEpochAnew, shapes, fit.batch_size, fit.max_steps_per_epoch, streams)?;
    match &config.sampling {
        CaseSampling::EachOnce => {}
        CaseSampling::InverseRoot => sampler = sampler.by_chance(&chances(&of_case, &|_, cases| cases.sqrt()))?,
        CaseSampling::Shares(shares) => {
            let share = |dataset: usize, _| shares[&datasets.declared()[dataset].name];
            sampler = sampler.by_chance(&chances(&of_case, &share))?;
        }
    }
    if let Some(ForegroundConfig { probability, margin }) = config.foreground {
        let boxes = (0..set.len()).map(|case| labels_of(&set, case)).collect::<Result<_>>()?;
        sampler = sampler.among_labels(Foreground { boxes, probability, margin })?;
    }
    Ok(Labelled { source: BatchSource::partly_labelled(set, sampler, Some(config.augment), streams)?, datasets: of_case })
}

/// The box around all labels of a case, if it has any.
fn labels_of(set: &PreparedSet, case: usize) -> Result<Option<[Range<usize>; 3]>> {
    let shape = set.cases()[case].shape;
    let patch = set.read_box(case, [0; 3], shape)?;
    let mut found: Option<[Range<usize>; 3]> = None;
    for labels in [patch.organs, patch.cancer].into_iter().flatten() {
        for (at, _) in labels.iter().enumerate().filter(|(_, label)| **label > 0) {
            let place = [at / (shape[1] * shape[2]), at / shape[2] % shape[1], at % shape[2]];
            found = Some(match found {
                None => place.map(|p| p..p + 1),
                Some(range) => std::array::from_fn(|axis| range[axis].start.min(place[axis])..range[axis].end.max(place[axis] + 1)),
            });
        }
    }
    Ok(found)
}

/// The dataset of a case, which must have everything labelled that the dataset declares.
fn dataset_of(case: &IndexEntry, datasets: &Datasets) -> Result<usize> {
    let Some(dataset) = datasets.of(case.subset) else {
        bail!("case {}: its subset {} belongs to no dataset; prepare and partition the same data", case.id, case.subset);
    };
    let has = |class: &&Class| match class.is_tumor() {
        true => case.has_cancer,
        false => case.has_organs && case.annotated_organs.contains(class.label()),
    };
    match datasets.classes(dataset).iter().find(|class| !has(class)) {
        None => Ok(dataset),
        Some(missing) => bail!(
            "case {}: the dataset `{}` declares that {} is annotated, and the prepared case ({}) knows nothing of it; correct `classes`, \
             or prepare the case with pseudo labels",
            case.id,
            datasets.declared()[dataset].name,
            missing.key(),
            case.subset
        ),
    }
}

fn has_all(case: &IndexEntry) -> bool {
    case.has_cancer && case.has_organs && case.annotated_organs == LabelPattern::ORGANS
}

/// The chance of each case, of those of a dataset together the dataset's `share`, which may depend on its number of cases.
#[expect(clippy::cast_precision_loss, reason = "cases are few")]
fn chances(of_case: &[usize], share: &dyn Fn(usize, f64) -> f64) -> Vec<f64> {
    let cases = |dataset: usize| of_case.iter().filter(|&&other| other == dataset).count() as f64;
    of_case.iter().map(|&dataset| share(dataset, cases(dataset)) / cases(dataset)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cases_of_a_dataset_have_its_share_together() {
        let of_case = [vec![0; 16], vec![1; 4], vec![2; 1]].concat();
        let shares = |share: &dyn Fn(usize, f64) -> f64| {
            let chances = super::chances(&of_case, share);
            let of = |dataset| chances.iter().zip(&of_case).filter(|(_, d)| **d == dataset).map(|(chance, _)| chance).sum::<f64>();
            [of(0), of(1), of(2)]
        };
        assert_eq!(shares(&|_, cases| cases.sqrt()), [4.0, 2.0, 1.0]);
        assert_eq!(shares(&|dataset, _| [0.25, 0.5, 4.0][dataset]), [0.25, 0.5, 4.0]);
    }
}
