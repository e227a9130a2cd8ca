//! What labelling will cost, before scans and teachers are there.

use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use nets::{Network as _, Params, Teacher, TeacherConfig, Trained};
use random::Streams;
use serde_json::{Value, json};
use stage_kit::{Ahead, Chore, Cost, Forecast, Lot, Model, Outlook, StageIo};
use typical::StandIn;
use volume::{ModelGrid, Scan, nifti};

use crate::Config;

/// What is counted: windows that pass a network,
const WINDOWS: &str = "windows";
/// and scans that are read, resampled and written.
const SCANS: &str = "scans";

/// Mirror images of a window that a network is shown with `flips`.
const MIRRORS: f64 = 8.0;

pub(crate) fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
    let partition = ahead.input("partition");
    let lot = match ahead.path("images") {
        Some(images) => typical::lot(&dataset::image_files(images)?.into_iter().map(|file| file.path).collect::<Vec<_>>()),
        None => ahead.input("images").all().or_else(|| partition.lot(&config.subsets)),
    };
    let held_out = |lot: Lot| if config.held_out { Lot { training: 0.0, ..lot } } else { lot };
    let Some(lot) = lot.map(held_out) else { return Ok(Forecast::unknown("the scans to label: nothing is known of them yet")) };
    let mut found = Forecast { outlook: Outlook { classes: partition.classes, ..Outlook::of_scans(lot) }, ..Forecast::default() };
    let mut grid = None;
    for (name, teacher) in ahead.inputs_under("teachers") {
        let model = teacher.model.as_ref().and_then(|model| Some((model, <[usize; 3]>::try_from(&model.patch[..]).ok()?)));
        let Some((model, patch)) = model else {
            found.unknown.push(format!("seconds for each window of teacher {name}, which does not foresee what it will be"));
            continue;
        };
        let (window, spacing) = (config.window.of(patch), config.grid.map_or(model.spacing_mm, |grid| grid.spacing_mm));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides are small and above 0")]
        let shape = lot.on(spacing).shape.map(|side| side as usize);
        #[expect(clippy::cast_precision_loss, reason = "windows are few")]
        let windows = window.count(shape) as f64 * if config.flips { MIRRORS } else { 1.0 };
        let sample = json!({"model": model, "window": window.patch, "precision": config.precision});
        found.chores.push(Chore { what: WINDOWS, count: lot.cases() * windows, sample });
        grid = Some(spacing);
    }
    let groups = found.outlook.classes.as_ref().and_then(Value::as_array).map_or(ahead.inputs_under("teachers").len(), Vec::len);
    let sample = json!({"shape": lot.shape, "spacing_mm": lot.spacing_mm, "groups": groups, "grid": grid});
    found.chores.push(Chore { what: SCANS, count: lot.cases(), sample });
    if config.trust.is_some() {
        found.unknown.push("the further looks of `trust`, each of which passes all windows once more".into());
    }
    Ok(found)
}

pub(crate) fn sample(config: &Config, chore: &Chore, io: &StageIo) -> Result<Cost> {
    if chore.what == WINDOWS { window(config, chore, io) } else { scan(chore, io) }
}

/// A window of noise through a network of random weights, which computes what a trained one does.
fn window(config: &Config, chore: &Chore, io: &StageIo) -> Result<Cost> {
    let model: Model = serde_json::from_value(chore.sample["model"].clone())?;
    let patch: [usize; 3] = serde_json::from_value(chore.sample["window"].clone())?;
    let network: TeacherConfig = serde_json::from_value(model.network).context("only teachers of train-teacher are measured")?;
    let channels = *model.channels.first().context("the network has no output")?;
    let (network, device) = (Teacher::new(&network, channels), nets::device(io.device)?);
    let weights = Trained::new(Params::init(&network.parameters(), Streams::new(0), &device)?, config.precision);
    let [x, y, z] = patch;
    let mut stream = Streams::new(0).stream("pace", &[]);
    let noise: Vec<f32> = (0..x * y * z).map(|_| random::normal(&mut stream)).collect();
    let noise = Tensor::from_vec(noise, (1, 1, x, y, z), &device)?;
    // The first one finds memory that nobody has touched.
    weights.run(&network, &noise)?;
    let begun = Instant::now();
    weights.run(&network, &noise)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(Cost { seconds: begun.elapsed().as_secs_f64(), bytes: 0.0 })
}

/// A stand-in read twice, as for the foreground and for the network, and the label map of each group written.
fn scan(chore: &Chore, io: &StageIo) -> Result<Cost> {
    let (lot, field) = (chore.lot()?, |name: &str| chore.sample[name].clone());
    let spacing_mm: Option<[Option<f64>; 3]> = serde_json::from_value(field("grid"))?;
    let groups: usize = serde_json::from_value(field("groups"))?;
    let standing = StandIn::write(&io.work, &lot, &(1..=13).collect::<Vec<u8>>())?;
    let grid = ModelGrid { spacing_mm: spacing_mm.unwrap_or_default(), window_hu: [-200.0, 300.0] };
    let (labels, header) = nifti::read_labels(&standing.label)?;
    let seconds = stage_kit::time_cases(|worker| {
        let scan = Scan::open(&standing.image, &grid)?;
        let region = scan.foreground()?;
        let mut planes = scan.planes(&region)?;
        while planes.next_plane()?.is_some() {}
        (0..groups).try_for_each(|group| Ok(nifti::write_labels(io.output.join(format!("{worker}-{group}.nii.gz")), &labels, &header)?))
    })?;
    let bytes = |group: usize| Ok(io.output.join(format!("0-{group}.nii.gz")).metadata()?.len());
    let bytes: u64 = (0..groups).map(bytes).sum::<Result<u64>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a file is far below 2^53 bytes")]
    Ok(Cost { seconds, bytes: bytes as f64 })
}
