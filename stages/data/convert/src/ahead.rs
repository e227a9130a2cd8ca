//! What converting will cost, told by the series that are there.

use anyhow::{Context as _, Result};
use dicom_series::{Series, find};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Lot, Outlook, StageIo};
use volume::Source as _;

use crate::write;

fn series(ahead: &Ahead) -> Vec<Series> {
    ahead.path("scans").map(|scans| find(scans, |_| false).series).unwrap_or_default()
}

/// All series together, by their mean.
fn lot(series: &[Series]) -> Option<Lot> {
    let one = |series: &Series| {
        let grid = series.grid();
        #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^53")]
        Lot::of(1.0, grid.shape.map(|side| side as f64), grid.spacing_mm())
    };
    series.iter().map(one).reduce(|sum, one| sum.and(&one))
}

pub(crate) fn forecast(ahead: &Ahead) -> Forecast {
    let Some(lot) = lot(&series(ahead)) else {
        return Forecast::unknown("the series: none is at its place; give the folder of scans");
    };
    let outlook = Outlook::of_scans(lot);
    if ahead.result.is_some() {
        return Forecast { outlook, ..Forecast::default() };
    }
    let sample = json!({"shape": lot.shape, "spacing_mm": lot.spacing_mm});
    Forecast { outlook, chores: vec![Chore { what: "cases", count: lot.cases(), sample }], ..Forecast::default() }
}

/// Converts the series whose number of slices is in the middle.
pub(crate) fn sample(ahead: &Ahead, io: &StageIo) -> Result<Cost> {
    let mut series = series(ahead);
    series.sort_by_key(|one| one.grid().shape[2]);
    let middle = series.get(series.len() / 2).context("no series is at its place")?;
    let path = |worker: usize| io.output.join(format!("{worker}.nii.gz"));
    let seconds = stage_kit::time_cases(|worker| write::image(middle, &path(worker)))?;
    #[expect(clippy::cast_precision_loss, reason = "a file is far below 2^53 bytes")]
    let bytes = path(0).metadata()?.len() as f64;
    Ok(Cost { seconds, bytes })
}
