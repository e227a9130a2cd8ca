//! From the file of a model to its graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use inference::{Manner, ModelError, Student, TrainedTeacher, VolumeNetwork as _, VolumeParams};
use labels::Classes;
use model_card::{CardError, Habits, Kind, ModelCard, ModelInput, Output};
use nets::{Precision, WeightsError};
use partial::{TrainedModel, TrainedModelError};
use serde::Serialize;
use serde_json::json;

use crate::recorder::Recorder;

/// Why a model cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A student or teacher that cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model for partial labels that cannot be opened.
    #[error(transparent)]
    Partial(#[from] TrainedModelError),
    /// A network that has no form in ONNX.
    #[error("{path}: {reason}. Leave `onnx` out, or export a model that is made of convolutions alone")]
    Network {
        /// The file of weights.
        path: PathBuf,
        /// The operation.
        reason: candle_core::Error,
    },
    /// What is said of the model.
    #[error("{path}: what the model says of itself cannot be written ({reason})")]
    Metadata {
        /// The file of weights.
        path: PathBuf,
        /// The reason.
        reason: serde_json::Error,
    },
}

/// The model that a training or `export` has written, as the bytes of an ONNX file (operators of version 17).
///
/// The input `image` is `(batch, 1, x, y)` for a student and `(batch, 1, x, y, z)` for all others, with batch and sides left open. The
/// outputs are logits of the same size; what their channels are about, and how a scan becomes an image, stands in the metadata.
///
/// # Errors
/// When the file is missing or damaged or does not say what it is, or for a network that has no form in ONNX: it names the operation.
pub fn of_model(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let card = ModelCard::of(&nets::metadata(path)?, path)?;
    match card.as_ref().map_or(Kind::Student, |card| card.kind) {
        Kind::Student => of_student(path, card.as_ref()),
        Kind::Teacher => of_teacher(path, card.as_ref()),
        Kind::Partial => of_partial(path),
        Kind::Graph => Err(failed(path, candle_core::Error::Msg("it comes from an ONNX file itself; take that one".into()))),
    }
}

fn of_student(path: &Path, card: Option<&ModelCard>) -> Result<Vec<u8>, OnnxError> {
    // The parameters are the same in each precision; this one keeps them as they are.
    let manner = Manner { precision: Some(Precision::Exact), ..Manner::default() };
    let student = Student::open(path, &manner, &Device::Cpu)?;
    let (network, params) = student.network();
    let recorder = Recorder::of_slices(params);
    let places: Vec<usize> = (0..network.outputs()).collect();
    let logits = network.logits(&recorder, &recorder.image(), &places).map_err(|reason| failed(path, reason))?;
    for (logits, output) in logits.iter().zip(student.outputs()) {
        recorder.output(&output.group, logits, output.channels());
    }
    let outputs = student.outputs().iter().map(|output| Described::exclusive(output, student.classes())).collect();
    written(path, recorder, &Sheet { kind: Kind::Student, input: student.input(), outputs, card })
}

fn of_teacher(path: &Path, card: Option<&ModelCard>) -> Result<Vec<u8>, OnnxError> {
    let params = VolumeParams { precision: Precision::Exact, ..VolumeParams::default() };
    let (teacher, answer, view) = TrainedTeacher::load(&params, path, &Device::Cpu)?;
    let recorder = Recorder::of_volumes(teacher.params());
    let logits = teacher.network().forward(&recorder, &recorder.image()).map_err(|reason| failed(path, reason))?;
    for output in teacher.outputs() {
        recorder.output(&output.group, &logits, output.channels());
    }
    let outputs = teacher.outputs().iter().map(|output| Described::exclusive(output, &answer.classes)).collect();
    let patch = view.window.patch.to_vec();
    let input = ModelInput { grid: view.grid, scaling: answer.scaling, crop_foreground: view.crop_foreground, patch, habits: view.habits };
    written(path, recorder, &Sheet { kind: Kind::Teacher, input, outputs, card })
}

fn of_partial(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let TrainedModel { card, model, weights, .. } = &TrainedModel::load(path, Precision::Exact, &Device::Cpu)?;
    let recorder = Recorder::of_volumes(weights.params());
    // One sample stands for all of a batch, and every head is asked for.
    let all: Vec<usize> = (0..model.heads().len()).collect();
    let found = model.forward(&recorder, &recorder.image(), &[all], false).map_err(|reason| failed(path, reason))?;
    let one = found.len() == 1;
    let outputs = found.iter().map(|output| {
        let channels: Vec<Channel> = output
            .rows
            .iter()
            .flat_map(|row| &row.channels)
            .map(|about| match about {
                Some(about) => Channel {
                    class: Some(card.classes.key_of(about.class.value()).into_owned()),
                    value: Some(about.class.value()),
                    head: (!model.is_exclusive()).then(|| model.heads()[about.head].name.clone()),
                },
                None if model.is_exclusive() => Channel::background(),
                None => Channel::default(),
            })
            .collect();
        let head = channels.iter().find_map(|channel| channel.head.clone());
        let name = if one { "logits".to_owned() } else { head.unwrap_or_else(|| "logits".to_owned()) };
        recorder.output(&name, &output.logits, channels.len());
        Described { name, scores: if model.is_exclusive() { "softmax" } else { "sigmoid" }, channels }
    });
    let outputs = outputs.collect();
    written(path, recorder, &Sheet { kind: Kind::Partial, input: card.input.clone(), outputs, card: Some(card) })
}

fn failed(path: &Path, reason: candle_core::Error) -> OnnxError {
    OnnxError::Network { path: path.into(), reason }
}

/// What is said of a graph.
struct Sheet<'a> {
    kind: Kind,
    input: ModelInput,
    outputs: Vec<Described>,
    card: Option<&'a ModelCard>,
}

/// An output of the graph.
#[derive(Serialize)]
struct Described {
    name: String,
    /// What makes probabilities of its logits.
    scores: &'static str,
    channels: Vec<Channel>,
}

/// What a channel is about; nothing where a head leaves it free.
#[derive(Default, Serialize)]
struct Channel {
    class: Option<String>,
    /// The value of the class in label maps.
    value: Option<u8>,
    /// The dataset or task whose definition it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
}

impl Channel {
    fn background() -> Self {
        Self { class: Some(labels::BACKGROUND_KEY.to_owned()), value: Some(labels::BACKGROUND), head: None }
    }
}

impl Described {
    /// Of classes that exclude each other.
    fn exclusive(output: &Output, classes: &Classes) -> Self {
        let named = output.keys(classes).into_iter().zip(output.value_of_channel());
        let channels = named.map(|(class, value)| Channel { class: Some(class), value: Some(value), head: None }).collect();
        Self { name: output.group.clone(), scores: "softmax", channels }
    }
}

fn written(path: &Path, recorder: Recorder<'_>, sheet: &Sheet<'_>) -> Result<Vec<u8>, OnnxError> {
    let metadata = metadata(sheet).map_err(|reason| OnnxError::Metadata { path: path.into(), reason })?;
    let about = format!("A {}. The metadata say what it is shown (`input`) and what it gives (`outputs`).", sheet.kind);
    Ok(recorder.into_bytes(&about, &metadata))
}

/// The orientation in letters and in words.
fn oriented(habits: &Habits) -> String {
    const ENDS: [[&str; 2]; 3] =
        [["to the right of the patient", "to the left of the patient"], ["to the front", "to the back"], ["to the head", "to the feet"]];
    let [x, y, z] = std::array::from_fn(|axis| ENDS[axis][usize::from(habits.mirrored[axis])]);
    format!("{}: x grows {x}, y {y}, z {z}", habits.orientation())
}

fn metadata(sheet: &Sheet<'_>) -> serde_json::Result<BTreeMap<String, String>> {
    let ModelInput { grid, scaling, crop_foreground, patch, habits } = &sheet.input;
    let axes: &[&str] = if sheet.kind == Kind::Student { &["batch", "channel", "x", "y"] } else { &["batch", "channel", "x", "y", "z"] };
    let input = json!({
        "name": "image",
        "axes": axes,
        "orientation": oriented(habits),
        "spacing_mm": grid.spacing_mm,
        "resampling": habits.resampling,
        "window_hu": grid.window_hu,
        "intensity": "v = (hu - window_hu[0]) / (window_hu[1] - window_hu[0]), image = (clip(v, clip[0], clip[1]) - shift) / scale",
        "clip": scaling.clip,
        "shift": scaling.shift,
        "scale": scaling.scale,
        "crop_foreground": crop_foreground,
        "patch": patch,
    });
    let mut metadata = BTreeMap::from([
        ("input".to_owned(), serde_json::to_string(&input)?),
        ("outputs".to_owned(), serde_json::to_string(&sheet.outputs)?),
    ]);
    if let Some(card) = sheet.card {
        metadata.extend(card.to_metadata()?);
    }
    Ok(metadata)
}
