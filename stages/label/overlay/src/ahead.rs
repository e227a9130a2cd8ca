//! What laying maps over each other will cost, before they are there.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Outlook, StageIo};
use typical::StandIn;

use crate::{Config, Map, write_overlaid};

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let Some(lot) = ahead.input("labels").all() else {
        return Ok(Forecast::unknown("the label maps to lay over each other: nothing is known of them yet"));
    };
    let sample = json!({"shape": lot.shape, "spacing_mm": lot.spacing_mm, "groups": config.places()?.len()});
    let outlook = Outlook { classes: Some(serde_json::to_value(&config.classes)?), ..Outlook::of_scans(lot) };
    Ok(Forecast { outlook, chores: vec![Chore { what: "cases", count: lot.cases(), sample }], ..Forecast::default() })
}

/// Stand-ins for the maps of all groups, laid over each other.
pub(crate) fn sample(config: &Config, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let lot = chore.lot()?;
    let map = |place: usize| -> Result<Map> {
        let group = &config.classes.groups()[place];
        let path = io.work.join(format!("{}.nii.gz", group.key()));
        StandIn::write_labels(&path, &lot, &group.values())?;
        Ok(Map { group: group.key().to_owned(), classes: group.pattern(), path })
    };
    let maps = config.places()?.into_iter().map(map).collect::<Result<Vec<_>>>()?;
    let output = |worker: usize| -> PathBuf { io.output.join(format!("{worker}.nii.gz")) };
    let seconds = stage_kit::time_cases(|worker| write_overlaid(&output(worker), &maps))?;
    #[expect(clippy::cast_precision_loss, reason = "a file is far below 2^53 bytes")]
    Ok(Cost { seconds, bytes: output(0).metadata()?.len() as f64 })
}
