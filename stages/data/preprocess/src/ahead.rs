//! What preprocessing will cost, before the partition is there.

use anyhow::{Context as _, Result};
use dataset::{Case, Manifest, Split};
use labels::{Classes, LabelPattern, Regions};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Outlook, StageIo};
use typical::StandIn;

use crate::Config;
use crate::case::{Job, Labels};

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let partition = ahead.input("partition");
    let names = partition.subsets_of(&config.subsets);
    let on_grid = |name: &String| Some((name.clone(), partition.lots.get(name)?.on(config.grid.spacing_mm)));
    let outlook = Outlook {
        lots: names.iter().filter_map(on_grid).collect(),
        members: partition.members.clone(),
        classes: partition.classes.clone(),
        spacing_mm: Some(config.grid.spacing_mm),
        ..Outlook::default()
    };
    let Some(lot) = partition.lot(&config.subsets) else {
        let reason = format!("how many cases {} have: run `partition` first, or give it `expected`", config.subsets.join(", "));
        return Ok(Forecast { outlook, ..Forecast::unknown(reason) });
    };
    let sample = json!({
        "shape": lot.shape, "spacing_mm": lot.spacing_mm, "layout": config.layout, "grid": config.grid,
        "crop_foreground": config.crop_foreground, "of": if real(ahead, config)?.is_some() { "a case" } else { "a stand-in" },
    });
    Ok(Forecast { outlook, chores: vec![Chore { what: "cases", count: lot.cases(), sample }], ..Forecast::default() })
}

/// Prepares the case whose size is nearest to the mean, or a stand-in if none is there.
pub(crate) fn sample(config: &Config, ahead: &Ahead, io: &StageIo) -> Result<Cost> {
    let job = match real(ahead, config)? {
        Some(job) => job,
        None => stand_in(config, ahead, io)?,
    };
    let path = |worker: usize| io.output.join(format!("{worker}.zarr.zip"));
    let seconds = stage_kit::time_cases(|worker| job.prepare(config, &path(worker)))?;
    #[expect(clippy::cast_precision_loss, reason = "a file is far below 2^53 bytes")]
    let bytes = path(0).metadata().context("the prepared sample")?.len() as f64;
    Ok(Cost { seconds, bytes })
}

/// The case of the partition whose size is nearest to the mean of the cases to prepare, if the partition and its scan are there.
fn real(ahead: &Ahead, config: &Config) -> Result<Option<Job>> {
    let Some(partition) = ahead.path("partition") else { return Ok(None) };
    let manifest = Manifest::load(partition)?;
    let cases = crate::selected(&manifest, config)?;
    let voxels = |case: &Case| case.shape.iter().product::<usize>();
    let mean = cases.iter().map(|case| voxels(case)).sum::<usize>() / cases.len().max(1);
    let Some(case) = cases.into_iter().min_by_key(|case| voxels(case).abs_diff(mean)) else { return Ok(None) };
    let root = ahead.path(&format!("{}.{}", dataset::DATASETS.name, case.dataset));
    root.map(|root| Job::new(case, &manifest, root, ahead.path("pseudo"))).transpose()
}

fn stand_in(config: &Config, ahead: &Ahead, io: &StageIo) -> Result<Job> {
    let partition = ahead.input("partition");
    let lot = partition.lot(&config.subsets).context("nothing is known of the cases")?;
    let classes: Classes = serde_json::from_value(partition.classes.context("nobody has told the classes")?)?;
    let values: Vec<u8> = classes.pattern().iter().collect();
    let standing = StandIn::write(&io.work, &lot, &values)?;
    let case = Case {
        id: "stand-in".into(),
        dataset: String::new(),
        image: standing.image.clone(),
        label: Some(standing.label.clone()),
        pattern: classes.pattern(),
        subset: String::new(),
        annotated: classes.pattern(),
        split: Split::Training,
        shape: [0; 3],
        spacing_mm: lot.spacing_mm,
        cuts: Vec::new(),
    };
    let regions = Regions::plain(values.into_iter().collect::<LabelPattern>());
    Ok(Job { case, image: standing.image, labels: Labels::True(Some(standing.label)), classes, regions })
}
