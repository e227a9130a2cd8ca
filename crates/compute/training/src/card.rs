//! What a finished training says of its model.

use labels::{Classes, LabelPattern};
use model_card::{Habits, KeepParts, Kind, Measure, ModelCard, ModelInput, Origin, Output};
use serde_json::Value;
use volume::ModelGrid;

use crate::batch::BatchSource;
use crate::fit::Fitted;
use crate::protocol::Select;
use crate::run::Run;
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
        ModelInput { grid, scaling: self.scaling(), crop_foreground: index.crop_foreground, patch, habits: Habits::default() }
    }
}

impl Fitted {
    /// Where its weights come from: a training `run` on `cases`.
    #[must_use]
    pub fn origin(&self, cases: String, seed: u64, select: Select, run: &Run) -> Origin {
        let measure = match select {
            Select::HighestDice => Measure::Dice,
            Select::LowestLoss | Select::LastEpoch => Measure::Loss,
        };
        Origin {
            cases,
            seed,
            best_epoch: self.best.epoch,
            validation_score: self.best.score,
            measure: Some(measure),
            mirrored: Some(self.mirrored),
            node: Some(run.node.clone()),
            key: run.key.clone(),
            inputs: run.inputs.clone(),
        }
    }
}

/// The card of a model that was trained on `classes`. It keeps those that `outputs` find, or all if there are no outputs.
#[must_use]
pub fn card(kind: Kind, network: Value, classes: &Classes, outputs: Vec<Output>, input: ModelInput, origin: Origin) -> ModelCard {
    let found = outputs.iter().map(Output::pattern).reduce(LabelPattern::union).unwrap_or_else(|| classes.pattern());
    ModelCard { kind, network, classes: classes.only(found), outputs, input, origin, keep_parts: KeepParts::default() }
}
