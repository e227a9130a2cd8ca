//! A trained model from its file.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use inference::ModelError;
use model_card::{CardError, Kind, ModelCard};
use nets::{Network as _, Numeric, Params, ParamsError, Pass, Precision, Trained, WeightsError};
use random::Streams;

use crate::annotation::Datasets;
use crate::error::PartialError;
use crate::method::ModelConfig;
use crate::model::{Model, Output};
use crate::rule::Rule;

/// A model with its weights, frozen, and the way from its heads to labels.
pub struct TrainedModel {
    /// What it says of itself.
    pub card: ModelCard,
    /// What it was declared as.
    pub config: ModelConfig,
    /// Its structure.
    pub model: Model,
    /// Its weights.
    pub weights: Trained,
    outputs: Vec<model_card::Output>,
    rule: Rule,
}

/// Why a model cannot be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum TrainedModelError {
    /// Weights of another kind.
    #[error("{path} does not say which model for partial labels it is{reason}; take weights that `train-partial` has written")]
    NoModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with what it says.
        reason: String,
    },
    /// Its card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model that it names.
    #[error(transparent)]
    Model(#[from] PartialError),
    /// The parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The precision.
    #[error(transparent)]
    Precision(#[from] ModelError),
}

impl TrainedModel {
    /// Reads the model and its weights, to compute with numbers of `precision`.
    ///
    /// # Errors
    /// When the file is missing or damaged, is of something else, or has no such precision.
    pub fn load(path: &Path, precision: Precision, device: &Device) -> Result<Self, TrainedModelError> {
        let no_model = |reason: String| TrainedModelError::NoModel { path: path.into(), reason };
        let card = ModelCard::of(&nets::metadata(path)?, path)?.ok_or_else(|| no_model(String::new()))?;
        card.must_be(Kind::Partial, path)?;
        let config: ModelConfig =
            serde_json::from_value(card.network.clone()).map_err(|error| no_model(format!(" in words that can be read ({error})")))?;
        let model = Model::new(&config, &Datasets::new(&config.datasets, &card.classes)?, &card.classes)?;
        let params = Params::init(&model.parameters(), Streams::new(0), device)?;
        params.load(path)?;
        let outputs = model.outputs();
        let precision = match config.method.is_packed() {
            true => precision,
            false => inference::single_alone(precision, device, path).map(|()| Precision::Exact)?,
        };
        Ok(Self { card, config, model, weights: Trained::new(params, precision), outputs, rule: Rule::default() })
    }

    /// The same with another rule from outputs to labels.
    ///
    /// # Errors
    /// When the rule names heads that the model lacks.
    pub fn labelling_by(self, rule: Rule) -> Result<Self, PartialError> {
        rule.check(&self.model)?;
        Ok(Self { rule, ..self })
    }

    /// What the model finds, group by group.
    #[must_use]
    pub fn outputs(&self) -> &[model_card::Output] {
        &self.outputs
    }

    /// Scores `(channels, d, h, w)` of a window `(1, 1, d, h, w)` for each of the outputs, whose greatest is the label.
    ///
    /// # Errors
    /// When the window does not fit the network or memory runs out.
    pub fn scores(&self, patch: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        let found = self.pass(patch, &[self.rule.asked(&self.model)])?;
        self.rule.scores(&self.model, &found)
    }

    /// Logits of images `(b, 1, d, h, w)`, for each sample those of the heads wanted of it, in ascending order.
    ///
    /// # Errors
    /// When the images do not fit the network or memory runs out.
    pub fn pass(&self, images: &Tensor, wanted: &[Vec<usize>]) -> candle_core::Result<Vec<Output>> {
        self.weights.run(&Wanted { model: &self.model, heads: wanted }, images)
    }
}

/// The heads that are wanted of each sample.
struct Wanted<'m> {
    model: &'m Model,
    heads: &'m [Vec<usize>],
}

impl Pass for Wanted<'_> {
    type Answer = Vec<Output>;

    fn take<C: Numeric>(&self, compute: &C, batch: &Tensor) -> candle_core::Result<Vec<Output>> {
        let found = self.model.forward(compute, &compute.of_tensor(batch), self.heads, false)?;
        found.into_iter().map(|output| output.map(|map| compute.tensor(map))).collect()
    }
}
