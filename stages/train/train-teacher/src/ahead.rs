//! What a training will cost, before its cases are there.

use anyhow::Result;
use labels::Classes;
use model_card::Output;
use nets::{Learning, Network as _, Teacher};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Model, Outlook, StageIo};

use crate::Config;

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let Some(output) = output(config, ahead)? else { return Ok(Forecast::unknown("the classes, which `partition` has to tell")) };
    let prepared = ahead.input("prepared");
    let network = Teacher::new(&config.network, output.channels());
    let bytes = training::weight_bytes(&network.parameters());
    let model = Model {
        network: serde_json::to_value(&config.network)?,
        channels: vec![output.channels()],
        patch: config.patch.to_vec(),
        spacing_mm: prepared.spacing_mm.unwrap_or_default(),
        bytes,
    };
    let sample = json!({"network": config.network, "channels": output.channels(), "patch": config.patch, "live": config.live});
    let outlook = Outlook { model: Some(model), ..Outlook::default() };
    let lot = match training::cases(&prepared, &config.subset) {
        Ok(lot) => lot,
        Err(unknown) => return Ok(Forecast { outlook, bytes, ..*unknown }),
    };
    #[expect(clippy::cast_precision_loss, reason = "patches are few")]
    let (per_case, most) = (config.patches_per_case as f64, config.validation_patches.map_or(f64::INFINITY, |most| most as f64));
    let chores = config.fit.chores(lot.training * per_case, (lot.validation * per_case).min(most), &sample);
    Ok(Forecast { outlook, bytes, chores, unknown: Vec::new() })
}

pub(crate) fn sample(config: &Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let output = output(config, ahead)?.ok_or_else(|| anyhow::anyhow!("nobody has told the classes"))?;
    let network = Teacher::new(&config.network, output.channels());
    let mut params = config.fit.parameters(&network.parameters(), io)?;
    config.live.apply(&mut params)?;
    let (weights, loss) = (Learning::new(params), config.fit.loss());
    let seconds = config.fit.pace(chore, weights.params(), &config.patch, &[output.channels()], |batch| {
        Ok(loss.loss(&weights.run(&network, &batch.image)?, batch.truth(0)?.target())?)
    })?;
    Ok(Cost { seconds, bytes: 0.0 })
}

/// What is learnt, if the classes are known.
fn output(config: &Config, ahead: &Ahead) -> Result<Option<Output>> {
    let classes: Option<Classes> = ahead.input("partition").classes.map(serde_json::from_value).transpose()?;
    classes.map(|classes| config.target.output(&classes)).transpose()
}
