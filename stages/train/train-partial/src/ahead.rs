//! What a training will cost, before its cases are there.
//!
//! What each dataset annotates stands in the manifest, so that nothing is foreseen before `partition` has run.

use anyhow::{Context as _, Result};
use dataset::{Manifest, Split};
use labels::Classes;
use nets::Network as _;
use partial::{Datasets, Loss, Model, Truth};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Outlook, StageIo};

use crate::Config;

/// The model, the datasets that it learns from, and the classes.
struct Plan {
    model: Model,
    datasets: Datasets,
    classes: Classes,
    loss: Loss,
}

impl Plan {
    fn of(config: &Config, manifest: &Manifest) -> Result<Self> {
        let declared = config.model.resolved(manifest)?;
        let datasets = Datasets::new(&declared.datasets, &manifest.classes)?.labelled_by(manifest.regions.values());
        let model = Model::new(&declared, &datasets, &manifest.classes)?;
        let loss = Loss { by: declared.method.objective(), dice: config.dice };
        Ok(Self { model, datasets, classes: manifest.classes.clone(), loss })
    }
}

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let Some(partition) = ahead.path("partition") else {
        return Ok(Forecast::unknown("what each dataset annotates, and so the network: run `partition` first"));
    };
    let manifest = Manifest::load(partition)?;
    let plan = Plan::of(config, &manifest)?;
    let cases = |split: Split| {
        let of = |dataset: &partial::Dataset| manifest.select(&dataset.subset, Some(split)).map_or(0, |cases| cases.len());
        plan.datasets.declared().iter().map(of).sum::<usize>()
    };
    let (training, validation) = (cases(Split::Training), cases(Split::Validation));
    let (training, validation) = (training, if validation == 0 { training } else { validation });
    #[expect(clippy::cast_precision_loss, reason = "patches are few")]
    let patches = |cases: usize| (cases * config.patches_per_case) as f64;
    #[expect(clippy::cast_precision_loss, reason = "patches are few")]
    let most = config.validation_patches.map_or(f64::INFINITY, |most| most as f64);
    let sample = json!({"model": config.model, "patch": config.patch, "live": config.live, "classes": plan.classes});
    let chores = config.fit.chores(patches(training), patches(validation).min(most), &sample);
    let bytes = training::weight_bytes(&plan.model.parameters());
    Ok(Forecast { outlook: Outlook::default(), chores, bytes, unknown: Vec::new() })
}

/// Steps on noise, whose samples are of the datasets in turn.
pub(crate) fn sample(config: &Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let manifest = Manifest::load(ahead.path("partition").context("nobody has told what the datasets annotate")?)?;
    let Plan { model, datasets, classes, loss } = Plan::of(config, &manifest)?;
    let mut params = config.fit.parameters(&model.parameters(), io)?;
    config.live.apply(&mut params)?;
    let channels: Vec<usize> = classes.groups().iter().map(|group| group.values().len() + 1).collect();
    let seconds = config.fit.pace(chore, &params, &config.patch, &channels, |batch| {
        let of_samples: Vec<usize> = (0..batch.samples.len()).map(|sample| sample % datasets.declared().len()).collect();
        let wanted: Vec<Vec<usize>> = of_samples.iter().map(|&dataset| model.trained_by(&datasets, dataset)).collect();
        let outputs = model.forward(&params, &batch.image, &wanted, chore.what == training::STEPS)?;
        Ok(loss.of(&model, &outputs, &Truth::of(batch, &of_samples), &datasets)?)
    })?;
    Ok(Cost { seconds, bytes: 0.0 })
}
