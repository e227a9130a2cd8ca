//! What segmenting will cost, before scans and the student are there.

use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use inference::StudentParams;
use nets::{DualUNet2d, DualUNet2dConfig, Network as _, Params, Trained};
use random::Streams;
use serde_json::json;
use stage_kit::{Ahead, Chore, Cost, Forecast, Model, Outlook, StageIo};

pub(crate) fn forecast(config: &StudentParams, ahead: &Ahead) -> Result<Forecast> {
    let lot = match ahead.path("images") {
        Some(images) => typical::lot(&dataset::image_files(images)?.into_iter().map(|file| file.path).collect::<Vec<_>>()),
        None => ahead.input("images").all(),
    };
    let Some(lot) = lot else { return Ok(Forecast::unknown("the scans to segment: nothing is known of them yet")) };
    let student = ahead.input("student").model;
    let crop = student.as_ref().and_then(|model| <[usize; 2]>::try_from(&model.patch[..]).ok());
    let (Some(model), Some(crop)) = (student, crop) else {
        return Ok(Forecast {
            outlook: Outlook::of_scans(lot),
            ..Forecast::unknown("seconds for each slice: the student does not foresee what it will be")
        });
    };
    let on_grid = lot.on(config.grid.map_or(model.spacing_mm, |grid| grid.spacing_mm));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides are small and above 0")]
    let slice = [on_grid.shape[0] as usize, on_grid.shape[1] as usize];
    let window = config.window.of(Some(crop));
    let (windows, size) = window.count(slice);
    #[expect(clippy::cast_precision_loss, reason = "windows are few")]
    let count = lot.cases() * on_grid.shape[2] * windows as f64;
    let sample = json!({"model": model, "window": size, "batch": window.batch, "precision": config.precision});
    let unknown = vec!["seconds and bytes for reading each scan and writing its label maps".to_owned()];
    Ok(Forecast { outlook: Outlook::of_scans(on_grid), chores: vec![Chore { what: "windows", count, sample }], unknown, bytes: 0.0 })
}

/// A batch of noise through a network of random weights, which computes what a trained one does.
pub(crate) fn sample(config: &StudentParams, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let model: Model = serde_json::from_value(chore.sample["model"].clone())?;
    let [height, width]: [usize; 2] = serde_json::from_value(chore.sample["window"].clone())?;
    let batch = config.window.batch;
    let network: DualUNet2dConfig = serde_json::from_value(model.network).context("the student's network")?;
    let decoders: Vec<_> = model.channels.iter().enumerate().map(|(place, channels)| (format!("decoder_{place}"), *channels)).collect();
    let (network, device) = (DualUNet2d::new(&network, &decoders), nets::device(io.device)?);
    let weights = Trained::new(Params::init(&network.parameters(), Streams::new(0), &device)?, config.precision);
    let mut stream = Streams::new(0).stream("pace", &[]);
    let noise: Vec<f32> = (0..batch * height * width).map(|_| random::normal(&mut stream)).collect();
    let noise = Tensor::from_vec(noise, (batch, 1, height, width), &device)?;
    // The first one finds memory that nobody has touched.
    weights.student(&network, &noise)?;
    let begun = Instant::now();
    for logits in weights.student(&network, &noise)? {
        logits.flatten_all()?.to_vec1::<f32>()?;
    }
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    Ok(Cost { seconds: begun.elapsed().as_secs_f64() / batch as f64, bytes: 0.0 })
}
