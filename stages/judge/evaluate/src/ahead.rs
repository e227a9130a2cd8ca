//! What scoring will cost, before the label maps are there.

use anyhow::Result;
use dataset::ImageFile;
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, StageIo};
use typical::StandIn;

use crate::{Config, Job};

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let lot = match ahead.path("truth") {
        Some(truth) => typical::lot(&dataset::label_files(truth)?.into_iter().map(|file| file.path).collect::<Vec<_>>()),
        None => ahead.input("truth").all(),
    };
    let Some(lot) = lot else { return Ok(Forecast::unknown("the true label maps: nothing is known of them yet")) };
    let models = ahead.inputs_under("predictions").len();
    #[expect(clippy::cast_precision_loss, reason = "models are few")]
    let count = lot.cases() * models as f64;
    let sample = json!({"shape": lot.shape, "spacing_mm": lot.spacing_mm, "classes": config.classes, "unions": config.unions});
    Ok(Forecast { chores: vec![Chore { what: "cases of a model", count, sample }], ..Forecast::default() })
}

/// A stand-in with every class, scored against itself without the first one.
pub(crate) fn sample(config: &Config, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let lot = chore.lot()?;
    // The truth speaks in output values here, whatever the values of the true label maps.
    let config = Config { truth: Default::default(), ignore: Vec::new(), ..config.clone() };
    let scoring = config.scoring()?;
    let values: Vec<u8> = config.classes.pattern().iter().collect();
    let (truth, prediction) = (io.work.join("truth.nii.gz"), io.work.join("case.nii.gz"));
    StandIn::write_labels(&truth, &lot, &values)?;
    StandIn::write_labels(&prediction, &lot, &values[1.min(values.len() - 1)..])?;
    let case = ImageFile { id: "case".into(), path: truth };
    let seconds = stage_kit::time_cases(|worker| Job::new(&worker.to_string(), &io.work, &case, None)?.run(&scoring, &io.output))?;
    Ok(Cost { seconds, bytes: 0.0 })
}
