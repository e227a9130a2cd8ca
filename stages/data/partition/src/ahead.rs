//! What the partition will be, before label maps are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dataset::{CaseFiles, DATASETS, Manifest, Source, Split, SplitRule};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Lot, Outlook, StageIo};
use typical::StandIn;

use crate::Config;
use crate::check;
use crate::gather::Candidate;

const CASES: &str = "cases";

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let outlook =
        Outlook { members: config.subsets()?.members(), classes: Some(serde_json::to_value(&config.classes)?), ..Outlook::default() };
    if let Some(result) = &ahead.result {
        return Ok(Forecast { outlook: Outlook { lots: sorted(&Manifest::load(result)?), ..outlook }, ..Forecast::default() });
    }
    let datasets = datasets(config, ahead)?;
    let all = datasets.values().flatten().copied().reduce(|sum, lot| sum.and(&lot));
    let Some(all) = all else {
        return Ok(Forecast { outlook, ..Forecast::unknown("the scans: nothing is at their place; give it, or `--suppose`") });
    };
    let sample = json!({"shape": all.shape, "spacing_mm": all.spacing_mm, "check_images": config.check_images});
    let mut found = Forecast {
        outlook: Outlook { lots: subsets(config, &datasets, &all), ..outlook },
        chores: vec![Chore { what: CASES, count: all.cases(), sample }],
        ..Forecast::default()
    };
    if found.outlook.lots.is_empty() {
        found.unknown.push("the cases of each subset: the label maps will tell; `expected` can say it before".into());
    }
    if config.datasets.keys().any(|name| matches!(config.split_of(name), SplitRule::File { .. })) {
        found.unknown.push("the sides of the split, which the datasets' own lists tell: run this node to know them".into());
    }
    Ok(found)
}

/// Checks a stand-in.
pub(crate) fn sample(config: &Config, ahead: &Ahead, io: &StageIo) -> Result<Cost> {
    let datasets = datasets(config, ahead)?;
    let all = datasets.values().flatten().copied().reduce(|sum, lot| sum.and(&lot)).context("there are no scans")?;
    let standing = StandIn::write(&io.work, &all, &config.classes.pattern().iter().collect::<Vec<_>>())?;
    let name = |path: &PathBuf| path.file_name().map(PathBuf::from).unwrap_or_default();
    let files = CaseFiles { case: "stand-in".into(), image: name(&standing.image), label: Some(name(&standing.label)), patient: None };
    let (id, unit, dataset) = (files.case.clone(), files.case.clone(), String::new());
    let candidate = Candidate { id, dataset, root: io.work.clone(), files, unit, side: None, regions: Arc::default() };
    // A finding would end the check early, and a stand-in gives cause for none.
    let seconds = stage_kit::time_cases(|_| check::check(&candidate, config).map(drop).map_err(|found| anyhow::anyhow!("{found:?}")))?;
    Ok(Cost { seconds, bytes: 0.0 })
}

/// The cases of each dataset: those that are there, or what is supposed of them.
fn datasets(config: &Config, ahead: &Ahead) -> Result<BTreeMap<String, Option<Lot>>> {
    let of = |(name, declared): (&String, &dataset::DatasetConfig)| {
        let role = format!("{}.{name}", DATASETS.name);
        let Some(root) = ahead.path(&role) else { return Ok((name.clone(), ahead.input(&role).all())) };
        let images: Vec<PathBuf> =
            Source::open(name, declared, root, &config.classes)?.cases()?.0.into_iter().map(|case| root.join(case.image)).collect();
        Ok((name.clone(), typical::lot(&images)))
    };
    config.datasets.iter().map(of).collect()
}

/// The cases of a manifest by subsets. Their sizes are those of the files, whose axes nearly always run as those of RAS.
fn sorted(manifest: &Manifest) -> BTreeMap<String, Lot> {
    let mut lots: BTreeMap<String, Lot> = BTreeMap::new();
    for case in &manifest.cases {
        #[expect(clippy::cast_precision_loss, reason = "sides are small")]
        let lot = Lot::of(1.0, case.shape.map(|side| side as f64), case.spacing_mm);
        let lot = if case.split == Split::Validation { Lot { training: 0.0, validation: 1.0, ..lot } } else { lot };
        lots.entry(case.subset.clone()).and_modify(|sum| *sum = sum.and(&lot)).or_insert(lot);
    }
    with_none(lots, manifest.subsets.values().flatten())
}

/// The same, and no cases of each of `subsets` that has no lot.
fn with_none<'n>(mut lots: BTreeMap<String, Lot>, subsets: impl Iterator<Item = &'n String>) -> BTreeMap<String, Lot> {
    if let Some(first) = lots.values().next().copied() {
        let none = Lot { training: 0.0, validation: 0.0, ..first };
        subsets.for_each(|name| _ = lots.entry(name.clone()).or_insert(none));
    }
    lots
}

/// The cases of each subset, as far as they can be told: `expected` says it, or each dataset is one.
fn subsets(config: &Config, datasets: &BTreeMap<String, Option<Lot>>, all: &Lot) -> BTreeMap<String, Lot> {
    if config.subsets.is_empty() {
        let lots = datasets.iter().filter_map(|(name, lot)| Some((name.clone(), split(config.split_of(name), (*lot)?))));
        return lots.collect();
    }
    #[expect(clippy::cast_precision_loss, reason = "cases are few")]
    let expected =
        config.expected.iter().map(|(name, cases)| (name.clone(), split(&config.split, Lot { training: *cases as f64, ..*all })));
    with_none(expected.collect(), config.subsets.keys())
}

/// The lot on its two sides.
fn split(rule: &SplitRule, lot: Lot) -> Lot {
    let share = match rule {
        SplitRule::Fraction(share) => *share,
        SplitRule::Every(nth) | SplitRule::Folds { folds: nth, .. } => 1.0 / f64::from((*nth).max(1)),
        // Told as unknown.
        SplitRule::File { .. } => 0.0,
    };
    let validation = (lot.cases() * share).round();
    Lot { training: lot.cases() - validation, validation, ..lot }
}
