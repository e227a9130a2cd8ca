//! What a training will cost, before its cases are there.

use anyhow::Result;
use labels::Classes;
use model_card::Output;
use nets::{DualUNet2d, Learning, Network as _};
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Model, Outlook, StageIo};

use crate::{Config, decoded, summed};

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let Some(outputs) = outputs(config, ahead)? else { return Ok(Forecast::unknown("the classes, which `partition` has to tell")) };
    let prepared = ahead.input("prepared");
    let channels: Vec<usize> = outputs.iter().map(Output::channels).collect();
    let bytes = training::weight_bytes(&network(config, &outputs).parameters());
    let model = Model {
        network: serde_json::to_value(&config.network)?,
        channels: channels.clone(),
        patch: config.crop.to_vec(),
        spacing_mm: prepared.spacing_mm.unwrap_or_default(),
        bytes,
    };
    let sample = json!({
        "network": config.network, "channels": channels, "targets": config.places(&outputs)?, "crop": config.crop, "live": config.live,
    });
    let outlook = Outlook { model: Some(model), ..Outlook::default() };
    let lot = match training::cases(&prepared, &config.subset) {
        Ok(lot) => lot,
        Err(unknown) => return Ok(Forecast { outlook, bytes, ..*unknown }),
    };
    #[expect(clippy::cast_precision_loss, reason = "slices are few")]
    let most = config.validation_slices.map_or(f64::INFINITY, |most| most as f64);
    let slices = lot.shape[2];
    let chores = config.fit.chores(lot.training * slices, (lot.validation * slices).min(most), &sample);
    Ok(Forecast { outlook, bytes, chores, unknown: Vec::new() })
}

pub(crate) fn sample(config: &Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let outputs = outputs(config, ahead)?.ok_or_else(|| anyhow::anyhow!("nobody has told the classes"))?;
    let (network, targets) = (network(config, &outputs), config.places(&outputs)?);
    let mut params = config.fit.parameters(&network.parameters(), io)?;
    config.live.apply(&mut params)?;
    let weights = Learning::new(params);
    let channels: Vec<usize> = targets.iter().map(|&target| outputs[target].channels()).collect();
    let loss = config.fit.loss();
    let seconds = config
        .fit
        .pace(chore, weights.params(), &config.crop, &channels, |batch| summed(loss, &decoded(&network, &weights, &targets, batch)?))?;
    Ok(Cost { seconds, bytes: 0.0 })
}

fn network(config: &Config, outputs: &[Output]) -> DualUNet2d {
    DualUNet2d::new(&config.network, &outputs.iter().map(Output::decoder).collect::<Vec<_>>())
}

/// What the decoders find, if the classes are known.
fn outputs(config: &Config, ahead: &Ahead) -> Result<Option<Vec<Output>>> {
    let classes: Option<Classes> = ahead.input("partition").classes.map(serde_json::from_value).transpose()?;
    classes.map(|classes| config.outputs(&classes)).transpose()
}
