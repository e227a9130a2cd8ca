//! What a trained model costs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use partial::TrainedModel;

/// What is known; nothing of a method that is not one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) parameters: Option<usize>,
    pub(crate) training_seconds: Option<f64>,
    /// One pass over a patch of the training's size.
    pub(crate) patch_seconds: Option<f64>,
}

/// The cost of the model in a folder. Passes are timed of models for partial labels alone, whose file tells all about them.
pub(crate) fn of(folder: &Path, repeats: usize, device: &Device) -> Result<Cost> {
    let weights = folder.join("weights.safetensors");
    let metadata = nets::metadata(&weights)?;
    let tensors = candle_core::safetensors::load(&weights, &Device::Cpu).with_context(|| format!("cannot read {}", weights.display()))?;
    // Weights from elsewhere come without.
    let times = std::fs::read_to_string(folder.join(stage_kit::ABOUT).join("times.csv")).unwrap_or_default();
    let mut cost =
        Cost { parameters: Some(tensors.values().map(Tensor::elem_count).sum()), training_seconds: seconds(&times), ..Cost::default() };
    drop(tensors);
    let patch: Option<[usize; 3]> = metadata.get("patch").and_then(|patch| serde_json::from_str(patch).ok());
    if let Some(patch) = patch.filter(|_| repeats > 0 && metadata.contains_key(TrainedModel::METADATA)) {
        cost.patch_seconds = Some(pass(&TrainedModel::load(&weights, device)?, patch, repeats, device)?);
    }
    Ok(cost)
}

/// The sum of the column `seconds` of the epochs' times.
fn seconds(times: &str) -> Option<f64> {
    let mut lines = times.lines();
    let column = lines.next()?.split(',').position(|name| name == "seconds")?;
    lines.map(|line| line.split(',').nth(column)?.parse::<f64>().ok()).sum()
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
        for output in trained.model.forward(&trained.params, &image, &all, false)? {
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
    #[test]
    fn the_time_of_training_is_that_of_all_epochs() {
        assert_eq!(super::seconds("epoch,seconds\n1,2.5\n2,3.0\n"), Some(5.5));
        assert_eq!(super::seconds(""), None);
    }
}
