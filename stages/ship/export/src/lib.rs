//! Puts a trained model into other hands: for `predict` in one file that takes no parameters, for onnxruntime and its like as a graph, and
//! with a page that says what it is.
//!
//! What trainings write says all else of itself, and `predict` takes it too.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use inference::{Manner, Model, Student, StudentParams};
use model_card::{Asked, KeepParts, Kind, MODEL_FILE, ModelCard, Publication, model_file};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ahead, DeviceChoice, Forecast, Role, Stage, StageIo, write_atomic, write_atomic_text};

/// The graph.
const GRAPH_FILE: &str = "model.onnx";
/// The page.
const PAGE_FILE: &str = "README.md";

/// What is written, and what of a student's use the file is to say.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(flatten)]
    student: StudentParams,
    /// Whether model.onnx is written too. Networks of convolutions have such a form, transformers have none here.
    #[serde(default)]
    onnx: bool,
    /// What README.md says that the model does not know.
    #[serde(default)]
    card: Publication,
}

/// The stage `export`.
pub struct Export;

impl Stage for Export {
    const NAME: &'static str = "export";
    const REVISION: u32 = 5;
    const ABOUT: &'static str = "Puts a model and how it is to be used (the parts that are kept; a student's grid and windows) into one file for `predict`, and into ONNX";
    const READS: &'static [Role] = &[Role::required(
        "model",
        "a folder with weights.safetensors, as a training writes it, or a file of weights: .safetensors, a student's also .pth",
    )];
    const WRITES: &'static str = "model.safetensors: the weights under the names of PyTorch's modules, and in the file's metadata what they say of \
         themselves and the parameters; README.md: the same for people, as the hub's model card, if the weights say how they were trained; \
         model.onnx if asked for";
    const PAPER: &'static str = "2.2, 2.3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        Ok(config.student.check()?)
    }

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        let outlook = ahead.input("model");
        let there = ahead.path("model").and_then(|path| model_file(path).metadata().ok()).map(|file| file.len() as f64);
        let Some(bytes) = there.or_else(|| outlook.model.as_ref().map(|model| model.bytes)) else {
            return Ok(Forecast::unknown("the size of the model, which does not foresee what it will be"));
        };
        let files = if config.onnx { 2.0 } else { 1.0 };
        Ok(Forecast { outlook, bytes: files * bytes, ..Forecast::default() })
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let (weights, model) = (model_file(io.input("model")?), io.output.join(MODEL_FILE));
        let card = ModelCard::of(&nets::metadata(&weights)?, &weights)?;
        let card = match card {
            Some(card) if card.kind != Kind::Student => Some(other(config, card, &weights, &model)?),
            card => student(config, card, &weights, &model)?,
        };
        let mut files = vec![MODEL_FILE];
        if config.onnx {
            let graph = onnx::of_model(&model)?;
            write_atomic(&io.output.join(GRAPH_FILE), |file| Ok(file.write_all(&graph)?))?;
            files.push(GRAPH_FILE);
        }
        match card {
            Some(card) => write_atomic_text(&io.output.join(PAGE_FILE), &config.card.page(&card, &files)?),
            None => {
                let why = format!("{} does not say how it was trained, so that there is no {PAGE_FILE}", weights.display());
                io.report.note(&format!("{}: {why}", io.node));
                Ok(())
            }
        }
    }
}

/// Writes a student; its card then says how it is shown scans from now on.
fn student(config: &Config, card: Option<ModelCard>, weights: &Path, model: &Path) -> Result<Option<ModelCard>> {
    Student::export(&config.student, weights, model)?;
    let input = Student::open(model, &Manner::default(), &nets::device(DeviceChoice::Cpu)?)?.input();
    Ok(card.map(|card| ModelCard { input, ..card }))
}

/// Writes a model that says all of its use itself.
fn other(config: &Config, card: ModelCard, weights: &Path, model: &Path) -> Result<ModelCard> {
    let Config { student, .. } = config;
    ensure!(
        StudentParams { classes: None, keep_parts: KeepParts::default(), ..student.clone() } == StudentParams::default(),
        "{} is a {}; of the parameters, `onnx`, `card`, `classes` and `keep_parts` are for it, and all others for a student. Leave them out",
        weights.display(),
        card.kind
    );
    Asked { classes: student.classes.clone(), ..Asked::default() }.resolve(Some(&card), weights)?;
    let manner = Manner { partial: Some(partial::open), ..Manner::default() };
    Model::open(&[weights.to_owned()], &manner, &nets::device(DeviceChoice::Cpu)?)?;
    let (mut card, mut bytes) = (card, std::fs::read(weights).with_context(|| format!("cannot read {}", weights.display()))?);
    if !student.keep_parts.is_empty() {
        card.keep_parts = student.keep_parts.clone();
        card.keep_parts.of(&card.classes).with_context(|| weights.display().to_string())?;
        let mut metadata: BTreeMap<String, String> = nets::metadata(weights)?.into_iter().collect();
        metadata.extend(card.to_metadata()?);
        bytes = nets::with_other_metadata(&bytes, &metadata).with_context(|| format!("cannot read the header of {}", weights.display()))?;
    }
    write_atomic(model, |file| Ok(file.write_all(&bytes)?))?;
    Ok(card)
}
