//! Networks of other programs, which come as graphs of operations.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use graph::Program;
use model_card::{Kind, ModelCard, Output};
use nets::{Init, ParamSpec, Params};
use random::Streams;

use crate::error::ModelError;
use crate::volumetric::VolumeNetwork;
use crate::window::SlidingWindow;

/// A graph with its weights.
pub struct TrainedGraph {
    program: Program,
    params: Params,
    outputs: Vec<Output>,
}

impl TrainedGraph {
    /// The graph in the file at `path` that the card is of, for windows of the patch that it was imported for.
    ///
    /// # Errors
    /// When the file is missing, damaged or of another kind of model, the graph cannot be computed or does not give what the card says, or
    /// windows are of another size.
    pub fn load(card: &ModelCard, window: &SlidingWindow, path: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        card.must_be(Kind::Graph, path)?;
        let unlike = |reason: String| ModelError::NotAModel { path: path.into(), reason };
        let metadata = nets::metadata(path)?;
        let program = metadata.get(Program::FIELD).ok_or_else(|| unlike("holds no graph, although its card says so".into()))?;
        let program: Program =
            serde_json::from_str(program).map_err(|error| unlike(format!("holds a graph that cannot be read ({error})")))?;
        let shapes = program.check().map_err(|error| unlike(format!("holds a graph that cannot be computed ({error})")))?;
        let [x, y, z] = window.patch;
        if program.image != [1, 1, x, y, z] {
            let of = &program.image[program.image.len().min(2)..];
            let reason = format!("window: {:?} voxels; the graph was imported for {of:?}. Import it anew with that `patch`", window.patch);
            return Err(ModelError::NetworkOf { path: path.into(), reason });
        }
        let outputs = card.ordered_outputs();
        let expected: Vec<Vec<usize>> = outputs.iter().map(|output| vec![1, output.channels(), x, y, z]).collect();
        if outputs != card.outputs || shapes != expected {
            return Err(unlike(format!("holds a graph with outputs of {shapes:?}, and its card says {expected:?}")));
        }
        must_fit(&program, path).map_err(unlike)?;
        let spec = |(name, shape): (&String, &Vec<usize>)| ParamSpec { name: name.clone(), shape: shape.clone(), init: Init::Zeros };
        let mut params = Params::init(&program.weights.iter().map(spec).collect::<Vec<_>>(), Streams::new(0), device)?;
        params.load(path)?;
        params.set_live(|_| false);
        Ok(Self { program, params, outputs })
    }

    /// The operations.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// Refuses weights that take more bytes than the file has, before there is room made for them.
fn must_fit(program: &Program, path: &Path) -> std::result::Result<(), String> {
    let values = program.weights.values().map(|shape| shape.iter().fold(1usize, |values, side| values.saturating_mul(*side)));
    let bytes = values.fold(0usize, usize::saturating_add).saturating_mul(size_of::<f32>());
    let found = path.metadata().map_or(0, |file| file.len());
    if bytes as u64 <= found { Ok(()) } else { Err(format!("holds {found} bytes for weights of {bytes}")) }
}

impl VolumeNetwork for TrainedGraph {
    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        let patch = patch.contiguous()?;
        self.program.run(|name| self.params.get(name), &patch)?.iter().map(|scores| scores.squeeze(0)).collect()
    }
}
