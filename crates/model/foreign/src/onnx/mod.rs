//! ONNX graphs of one CT channel whose output has a channel for each class, of volumes or of slices.
//!
//! A graph becomes a [`graph::Program`] for the declared patch. All that follows from shapes is computed here, so that the program holds none
//! of it. The file is read where it lies, within bounds; what is not supported is named at once, node by node.

mod arithmetic;
mod declared;
mod ends;
mod layers;
mod node;
mod proto;
mod resize;
mod shapes;
mod simplify;
mod supported;
mod tensor;
mod translate;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use graph::Program;
use model_card::{KeepParts, Kind, ModelCard, ModelInput, Origin, Output};
use nets::{Init, ParamSpec, Params};
use random::Streams;
use serde_json::json;

pub use declared::{Declared, Intensity, Scores};

use crate::Foreign;
use crate::error::ForeignError;
use ends::{begin, finish};
use proto::Model;
use translate::Translator;

/// Protocol buffers are not longer.
const MOST_BYTES: u64 = 1 << 31;

const REMEDY: &str =
    "Export the network for inference with torch.onnx.export, for the patch that it was trained on, or leave these parts out of it";

/// The most that is said of one file.
const MOST_COMPLAINTS: usize = 200;

/// A graph as a model.
pub struct Graph {
    /// The model.
    pub model: Foreign,
    /// Whether weights lie in a file beside that of the graph.
    pub beside: bool,
}

/// The network in the ONNX file at `path`, or in the only one of a folder, as it is declared. Weights in files beside it are read.
///
/// # Errors
/// When the declaration cannot be, the file is missing or damaged, asks for what is not supported, or does not fit the declaration: all that
/// is found at once.
pub fn import(path: &Path, declared: &Declared) -> Result<Graph, ForeignError> {
    let path = &graph_file(path)?;
    let refused = |found: String, expected: &str| ForeignError::Refused { path: path.clone(), found, expected: expected.to_owned() };
    declared.check().map_err(|found| refused(found, "correct the declaration"))?;
    let bytes = read(path)?;
    let model = Model::of(&bytes).map_err(|found| refused(found.into(), "expected a whole .onnx file; export it again"))?;
    let Translated { program, weights, outputs, patch } = translated(path, &model, declared)?;
    program.check().map_err(|error| refused(error.to_string(), "take a smaller patch, or export the network again"))?;
    let params = params(&weights).map_err(|found| refused(found, "take a network whose training went well"))?;
    let [producer, of] = model.producer;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let origin = format!("{name}, by {} {of}", if producer.is_empty() { "an unknown program" } else { producer });
    let card = card(declared, patch, outputs, origin, &program).map_err(|found| refused(found, "correct the declaration"))?;
    let written = serde_json::to_string(&program).map_err(|reason| ForeignError::Card { path: path.clone(), reason })?;
    let more = BTreeMap::from([(Program::FIELD.to_owned(), written)]);
    let beside = model.graph.weights.iter().any(|weight| !weight.elsewhere.is_empty());
    Ok(Graph { model: Foreign { card, params, taken: weights.len(), left: BTreeMap::new(), more }, beside })
}

/// What a graph has become.
struct Translated {
    program: Program,
    weights: BTreeMap<String, Tensor>,
    outputs: Vec<Output>,
    /// Voxels along x, y, z.
    patch: [usize; 3],
}

fn translated(path: &Path, model: &Model<'_>, declared: &Declared) -> Result<Translated, ForeignError> {
    let refused = |found: String, expected: String| ForeignError::Refused { path: path.into(), found, expected };
    let supported = |complaints: Vec<String>| match &complaints[..] {
        [] => Ok(()),
        _ => Err(refused(listed(complaints), format!("supported are {}. {REMEDY}", supported::names()))),
    };
    let declaration = |found| refused(found, "correct the declaration, or take the file that it is of".into());
    let graph = &model.graph;
    supported(supported::complaints(graph))?;
    let (image, patch) = begin(graph, declared).map_err(declaration)?;
    let version = model.operators.iter().find(|(domain, _)| matches!(*domain, "" | "ai.onnx")).map_or(1, |(_, version)| *version);
    let mut translator = Translator::new(version, [&[1, 1], &patch[..]].concat());
    let shown = image.shown(&mut translator).map_err(declaration)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let (known, complaints) = translator.all(graph, folder, HashMap::from([(image.name, shown)]));
    supported(complaints)?;
    let outputs = finish(&mut translator, graph, &known, &image, declared).map_err(declaration)?;
    let (outputs, values): (Vec<Output>, Vec<usize>) = outputs.into_iter().unzip();
    let (program, weights) = simplify::program(translator, &values)?;
    Ok(Translated { program, weights, outputs, patch })
}

fn unread(path: &Path) -> impl Fn(std::io::Error) -> ForeignError + Copy + '_ {
    move |reason| ForeignError::Read { path: path.into(), reason, remedy: "give an .onnx file, or a folder with one" }
}

/// The file itself, or the only graph of a folder.
fn graph_file(path: &Path) -> Result<PathBuf, ForeignError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let failed = unread(path);
    let entries =
        std::fs::read_dir(path).map_err(failed)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    let graphs: Vec<PathBuf> = entries.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "onnx")).collect();
    <[PathBuf; 1]>::try_from(graphs).map(|[graph]| graph).map_err(|graphs| {
        let found = format!("{} .onnx files", graphs.len());
        ForeignError::Refused { path: path.into(), found, expected: "expected one; give the file itself".into() }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ForeignError> {
    let failed = unread(path);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        let found = "it has more than 2 GiB".to_owned();
        return Err(ForeignError::Refused { path: path.into(), found, expected: "expected larger weights in a file beside it".into() });
    }
    Ok(bytes)
}

/// Complaints in one sentence.
fn listed(mut complaints: Vec<String>) -> String {
    if complaints.len() > MOST_COMPLAINTS {
        let more = complaints.split_off(MOST_COMPLAINTS).len();
        complaints.push(format!("and {more} more"));
    }
    complaints.join("; ")
}

/// Weights as parameters, which must be numbers.
fn params(weights: &BTreeMap<String, Tensor>) -> Result<Params, String> {
    let mut found = Vec::new();
    for (name, tensor) in weights {
        let values = node::floats(tensor)?;
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            found.push(format!("{bad} of {} values of `{name}` are NaN or infinite", values.len()));
        }
    }
    if !found.is_empty() {
        return Err(listed(found));
    }
    let spec = |(name, tensor): (&String, &Tensor)| ParamSpec { name: name.clone(), shape: tensor.dims().to_vec(), init: Init::Zeros };
    let specs: Vec<ParamSpec> = weights.iter().map(spec).collect();
    let params = Params::init(&specs, Streams::new(0), &Device::Cpu).map_err(|error| error.to_string())?;
    weights.iter().try_for_each(|(name, tensor)| params.set(name, tensor)).map_err(|error| error.to_string())?;
    Ok(params)
}

fn card(declared: &Declared, patch: [usize; 3], outputs: Vec<Output>, cases: String, program: &Program) -> Result<ModelCard, String> {
    let (scaling, habits) = (declared.scaling()?, declared.habits()?);
    let input = ModelInput { grid: declared.grid, scaling, crop_foreground: declared.crop_foreground, patch: patch.to_vec(), habits };
    Ok(ModelCard {
        kind: Kind::Graph,
        network: json!({"graph": {"axes": declared.axes, "overlapping": declared.overlapping, "steps": program.steps.len()}}),
        classes: declared.classes.clone(),
        outputs,
        input,
        origin: Origin { cases, ..Origin::default() },
        keep_parts: KeepParts::default(),
    })
}
