//! What a finished training says of its model.

use labels::{Classes, LabelPattern};
use model_card::{Kind, ModelCard, ModelInput, Origin, Output};
use serde_json::Value;
use volume::ModelGrid;

use crate::batch::BatchSource;
use crate::fit::Fitted;
use crate::sampler::Sampling;

impl BatchSource {
    /// How the network sees scans when it is trained on these batches.
    #[must_use]
    pub fn model_input(&self) -> ModelInput {
        let index = self.set().index();
        let patch = match self.sampler().sampling() {
            Sampling::Patches { shape, .. } => shape.to_vec(),
            Sampling::Slices { shape } => shape.to_vec(),
        };
        let grid = ModelGrid { spacing_mm: index.spacing_mm, window_hu: index.window_hu };
        ModelInput { grid, scaling: self.scaling(), crop_foreground: index.crop_foreground, patch }
    }
}

impl Fitted {
    /// The card of the model with these weights, trained on `cases`. It keeps those of the classes that `outputs` find, or all if
    /// there are no outputs.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "a card says as much")]
    pub fn card(
        &self,
        kind: Kind,
        network: Value,
        classes: &Classes,
        outputs: Vec<Output>,
        input: ModelInput,
        cases: String,
        seed: u64,
    ) -> ModelCard {
        let best = self.best;
        let found = outputs.iter().map(Output::pattern).reduce(LabelPattern::union).unwrap_or_else(|| classes.pattern());
        let origin = Origin { cases, seed, best_epoch: best.epoch, validation_score: best.score };
        ModelCard { kind, network, classes: classes.only(found), outputs, input, origin }
    }
}
