//! The cases of all datasets, with what is annotated in each.

use anyhow::{Result, bail, ensure};
use dataset::{Case, Manifest, ManifestError, Split};
use labels::LabelPattern;
use partial::{Class, Datasets, Model};
use prepared::PreparedSet;
use random::Streams;
use stage_kit::StageIo;
use training::{BatchSource, Foreground, Order, Sampler};

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
    pub(crate) fn open(config: &Config, manifest: &Manifest, model: &Model, datasets: &Datasets, io: &StageIo) -> Result<Self> {
        let training = Prepared::open(manifest, model, datasets, Split::Training, io)?;
        ensure!(!training.of_case.is_empty(), "no dataset has training cases; cases per subset: {}", manifest.counts());
        let mut validation = Prepared::open(manifest, model, datasets, Split::Validation, io)?;
        ensure!(
            config.trust.is_unused()
                || [&training, &validation].iter().any(|side| side.set.cases().iter().any(|case| case.trust.is_some())),
            "trust: nobody has weighed the labels of these cases; give `trust` to the `pseudo-label` that they come from, or leave it out here"
        );
        if validation.of_case.is_empty() {
            io.report.note(&format!("{}: no dataset has validation cases; the best epoch is told by the training cases", io.node));
            validation = training.clone();
        }
        let scaling = config.normalisation.scaling(&training.set, io)?;
        let labelled = |(source, datasets): (BatchSource, _)| Labelled { source: source.scaled(scaling).trusting(config.trust), datasets };
        Ok(Self {
            training: labelled(training.for_training(config, datasets, io)?),
            validation: labelled(validation.for_validation(config, io)?),
        })
    }
}

/// Prepared cases, and the dataset of each.
#[derive(Clone)]
struct Prepared {
    set: PreparedSet,
    of_case: Vec<usize>,
}

impl Prepared {
    /// The cases of every dataset on one side of the split. Those without any labels are told, and left out.
    fn open(manifest: &Manifest, model: &Model, datasets: &Datasets, split: Split, io: &StageIo) -> Result<Self> {
        let selected = select(manifest, datasets, split, io)?;
        let ids: Vec<&str> = selected.iter().map(|(_, case)| case.id.as_str()).collect();
        let set = PreparedSet::open(io.input("prepared")?, &ids)?;
        ensure!(
            set.index().classes == manifest.classes,
            "the cases are prepared for the classes {}, and partitioned for {}; prepare and partition the same data",
            set.index().classes.keys_of(set.index().classes.pattern()).join(", "),
            manifest.classes.keys_of(manifest.classes.pattern()).join(", ")
        );
        let mut of_case = Vec::with_capacity(selected.len());
        for (dataset, name) in datasets.declared().iter().map(|dataset| &dataset.name).enumerate() {
            let cases = || selected.iter().zip(set.cases()).filter(|((of, _), _)| *of == dataset);
            let labelled = cases().filter(|(_, entry)| entry.has_labels).count();
            let all = cases().count();
            ensure!(
                all == 0 || labelled > 0,
                "the dataset `{name}`: none of its {all} cases has labels; prepare them with pseudo labels, or leave it out"
            );
            if labelled < all {
                io.report.note(&format!(
                    "{}: the dataset `{name}`: {} of {all} cases have no labels, and are left out",
                    io.node,
                    all - labelled
                ));
            }
        }
        for ((dataset, case), entry) in selected.iter().zip(set.cases()).filter(|(_, entry)| entry.has_labels) {
            let found = entry.annotated;
            ensure!(
                entry.subset == case.subset,
                "case {}: it is of {} where it was prepared, and of {} where it was partitioned; prepare and partition the same data",
                case.id,
                entry.subset,
                case.subset
            );
            check_annotated(&case.id, found, *dataset, datasets, manifest)?;
            ensure!(
                !model.needs_all_labels() || model.pattern().is_within(found),
                "case {}: the second stage of mutual learning needs every class labelled, and {} is not; prepare the cases with the labels of a first",
                case.id,
                manifest.classes.keys_of(model.pattern().minus(found)).join(", ")
            );
            of_case.push(*dataset);
        }
        Ok(Self { set: set.retain(|entry| entry.has_labels), of_case })
    }

    fn sampler(&self, config: &Config, order: Order, batch: usize, steps: Option<u64>, streams: Streams) -> Result<Sampler> {
        let shapes = self.set.cases().iter().map(|case| case.shape).collect();
        Ok(Sampler::new(config.boxes(), order, shapes, batch, steps, streams)?)
    }

    fn for_validation(self, config: &Config, io: &StageIo) -> Result<(BatchSource, Vec<usize>)> {
        let streams = Streams::new(io.seed);
        let batch = config.fit.batch_size;
        let steps = config.validation_patches.map(|patches| patches.div_ceil(batch as u64));
        let sampler = self.sampler(config, Order::AlwaysTheSame, batch, steps, streams)?;
        Ok((BatchSource::partly_labelled(self.set, sampler, None, streams)?, self.of_case))
    }

    fn for_training(self, config: &Config, datasets: &Datasets, io: &StageIo) -> Result<(BatchSource, Vec<usize>)> {
        let (streams, fit) = (Streams::new(io.seed), &config.fit);
        let mut sampler = self.sampler(config, Order::EachEpochAnew, fit.batch_size, fit.max_steps_per_epoch, streams)?;
        match &config.sampling {
            CaseSampling::EachOnce => {}
            CaseSampling::InverseRoot => sampler = sampler.by_chance(&chances(&self.of_case, &|_, cases| cases.sqrt()))?,
            CaseSampling::Shares(shares) => {
                let share = |dataset: usize, _| shares[&datasets.declared()[dataset].name];
                sampler = sampler.by_chance(&chances(&self.of_case, &share))?;
            }
        }
        if let Some(ForegroundConfig { probability, margin }) = config.foreground {
            let annotated = |case: usize| pattern(datasets.classes(self.of_case[case]));
            let labels_of = |case: usize| self.set.label_box(case, &self.set.values_of(case, annotated(case)));
            let boxes = (0..self.set.len()).map(labels_of).collect::<Result<_, _>>()?;
            sampler = sampler.among_labels(Foreground { boxes, probability, margin })?;
        }
        Ok((BatchSource::partly_labelled(self.set, sampler, Some(config.augment()?), streams)?, self.of_case))
    }
}

/// The cases of every dataset on one side of the split, each with its dataset. A dataset without any is told, and left out.
fn select<'a>(manifest: &'a Manifest, datasets: &Datasets, split: Split, io: &StageIo) -> Result<Vec<(usize, &'a Case)>> {
    let mut cases = Vec::new();
    for (place, dataset) in datasets.declared().iter().enumerate() {
        match manifest.select(&dataset.subset, Some(split)) {
            Ok(found) => cases.extend(found.into_iter().map(|case| (place, case))),
            Err(ManifestError::EmptySubset { subset, split, .. }) => {
                io.report.note(&format!("{}: the dataset `{}` ({subset}) has no cases{split}", io.node, dataset.name));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(cases)
}

fn pattern(classes: &[Class]) -> LabelPattern {
    classes.iter().map(|class| class.value()).collect()
}

/// Refuses a case in which nobody looked for what its dataset declares.
fn check_annotated(case: &str, found: LabelPattern, dataset: usize, datasets: &Datasets, manifest: &Manifest) -> Result<()> {
    let missing = pattern(datasets.classes(dataset)).minus(found);
    if missing.is_empty() {
        return Ok(());
    }
    let [missing, found] = [missing, found].map(|pattern| manifest.classes.keys_of(pattern).join(", "));
    bail!(
        "case {case}: the dataset `{}` declares that {missing} is annotated, and the prepared case has {found} alone; correct `classes`, \
         or prepare the case with pseudo labels",
        datasets.declared()[dataset].name
    )
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
