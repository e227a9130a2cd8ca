//! What trained models cost.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use comparison::Cost;
use model_card::{Kind, ModelCard};
use nets::Precision;
use partial::TrainedModel;
use tables::{Table, TableError};

use crate::Model;

/// The cost of a method by its models. Passes are timed of models for partial labels alone, whose file tells all about them.
pub(crate) fn of(models: &[Model<'_>], repeats: usize, device: &Device) -> Result<Cost> {
    let mut cost = Cost::default();
    for model in models {
        // Weights from elsewhere come without.
        let times = model.folder.join(stage_kit::ABOUT).join(training::TIMES_FILE);
        if times.is_file() {
            let [seconds, peaks] = columns(Table::open(&times)?, ["seconds", "peak_mib"])?;
            if let Some(seconds) = seconds {
                cost.training_seconds = Some(cost.training_seconds.unwrap_or(0.0) + seconds.iter().sum::<f64>());
            }
            let most = peaks.and_then(|peaks| peaks.into_iter().reduce(f64::max));
            cost.training_mib = most.into_iter().chain(cost.training_mib).reduce(f64::max);
        }
        if model.labels {
            labelling(&mut cost, &model.folder.join("weights.safetensors"), repeats, device)?;
        }
    }
    Ok(cost)
}

/// What the model costs that labels.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn labelling(cost: &mut Cost, weights: &Path, repeats: usize, device: &Device) -> Result<()> {
    let card = ModelCard::of(&nets::metadata(weights)?, weights)?.filter(|card| card.kind == Kind::Partial && repeats > 0);
    let tensors = candle_core::safetensors::load(weights, &Device::Cpu).with_context(|| format!("cannot read {}", weights.display()))?;
    cost.parameters = Some(tensors.values().map(Tensor::elem_count).sum());
    drop(tensors);
    let Some(Ok(patch)) = card.map(|card| <[usize; 3]>::try_from(card.input.patch)) else { return Ok(()) };
    // The models before have left memory behind, which would count as this one's.
    ops::release_memory();
    let begun_anew = stage_kit::forget_peak_memory();
    cost.patch_seconds = Some(pass(&TrainedModel::load(weights, Precision::F32, device)?, patch, repeats, device)?);
    cost.patch_mib = stage_kit::peak_memory().filter(|_| begun_anew).map(|bytes| (bytes >> 20) as f64);
    Ok(())
}

/// The numbers of some columns of a table; nothing of a column that is not there, or has a number that is not known.
fn columns<const N: usize>(mut table: Table<impl Read>, names: [&str; N]) -> Result<[Option<Vec<f64>>; N], TableError> {
    let places = names.map(|name| table.column(name).ok());
    let mut columns = places.map(|place| place.map(|_| Vec::new()));
    for row in table.rows() {
        let row = row?;
        for (column, place) in columns.iter_mut().zip(places) {
            let number = place.map_or(Ok(None), |place| row.number(place))?;
            *column = column.take().zip(number).map(|(mut column, number)| {
                column.push(number);
                column
            });
        }
    }
    Ok(columns)
}

/// The median time of a pass for all heads over a patch.
fn pass(trained: &TrainedModel, patch: [usize; 3], repeats: usize, device: &Device) -> Result<f64> {
    let [a, b, c] = patch;
    let wave = (0..a * b * c).map(|i| 0.5 + 0.5 * (i as f32 * 0.37).sin());
    let image = Tensor::from_iter(wave, device)?.reshape((1, 1, a, b, c))?;
    let all = [(0..trained.model.heads().len()).collect()];
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let begun = Instant::now();
        for output in trained.pass(&image, &all)? {
            // A GPU is only waited for when a value is asked for.
            output.logits.flatten_all()?.narrow(0, 0, 1)?.to_vec1::<f32>()?;
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_by_its_name_and_must_be_whole() {
        let of = |text: &str| columns(Table::of(Path::new("times.csv"), text.as_bytes()).unwrap(), ["seconds", "peak_mib"]).unwrap();
        assert_eq!(of("epoch,seconds,peak_mib\n1,2.5,\n2,3.0,7\n"), [Some(vec![2.5, 3.0]), None]);
        assert_eq!(of("epoch,loss\n1,2\n"), [None, None]);
    }
}
