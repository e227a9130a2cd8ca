//! How a trained student is shown a scan.

use std::path::Path;

use labels::Classes;
use model_card::{Asked, KeepParts, KeptParts, Kind, ModelCard, Output};
use nets::{DualUNet2dConfig, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::{ModelGrid, Scaling};

use crate::error::ModelError;
use crate::slices::{SliceWindow, SliceWindowParams, WindowSize};
use crate::together::Differences;

/// How scans are segmented with a student, as far as a pipeline file says it. What it leaves out, the student says of itself;
/// what contradicts the student is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentParams {
    /// The classes, which may be more than the student finds; needed for weights that do not say them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// The size of the student; needed for weights that do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<DualUNet2dConfig>,
    /// The grid of inference, by default that of the training. The paper's is 1×1×2.5 mm and [−200, 300] HU: slices are trained on at
    /// their native depth, so that their distance may be any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<ModelGrid>,
    /// Whether the network is shown the foreground alone, by default as in its training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_foreground: Option<bool>,
    /// How slices pass the network: by default eight at a time, in windows of the training's crops that share a quarter.
    pub window: SliceWindowParams,
    /// Which connected parts of classes are kept, by class or group: `largest`, `{ml: 2}` and so on; by default what the model says. All in
    /// the paper (2.4), which applies no post-processing: a single voxel in a patient without tumors then costs the whole score.
    #[serde(skip_serializing_if = "KeepParts::is_empty")]
    pub keep_parts: KeepParts,
    /// The numbers that the network computes with on a CPU.
    pub precision: Precision,
}

impl StudentParams {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), ModelError> {
        self.grid.map_or(Ok(()), |grid| grid.check())?;
        self.keep_parts.check()?;
        self.network.as_ref().map_or(Ok(()), DualUNet2dConfig::check).map_err(ModelError::Network)?;
        // Only a size that is given can be wrong.
        Ok(self.window.of(None).check()?)
    }

    /// The whole, with what the student behind the weights at `path` says of itself.
    ///
    /// # Errors
    /// When the file is missing or damaged, is of another kind of model, says too little, or contradicts the parameters.
    pub fn resolve(&self, path: &Path) -> Result<StudentConfig, ModelError> {
        let card = ModelCard::of(&nets::metadata(path)?, path)?;
        card.as_ref().map_or(Ok(()), |card| card.must_be(Kind::Student, path))?;
        let asked = Asked {
            network: self.network.as_ref().map(serde_json::to_value).transpose().map_err(|error| unreadable(path, &error))?,
            classes: self.classes.clone(),
            grid: self.grid,
            crop_foreground: self.crop_foreground,
            patch: match self.window.size {
                WindowSize::AsInTraining => None,
                WindowSize::Whole => Some(Vec::new()),
                WindowSize::Pixels(size) => Some(size.to_vec()),
            },
        };
        let answer = asked.resolve(card.as_ref(), path)?;
        let crop = <[usize; 2]>::try_from(answer.patch).ok();
        let kept = if self.keep_parts.is_empty() { &answer.keep_parts } else { &self.keep_parts }.of(&answer.classes)?;
        let config = StudentConfig {
            network: serde_json::from_value(answer.network).map_err(|error| unreadable(path, &error))?,
            classes: answer.classes,
            outputs: answer.outputs,
            grid: answer.grid,
            scaling: answer.scaling,
            crop_foreground: answer.crop_foreground,
            window: self.window.of(crop),
            kept,
            precision: self.precision,
        };
        config.check(path)?;
        Ok(config)
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> ModelError {
    ModelError::NotAModel { path: path.into(), reason: format!("holds a network that cannot be read ({error})") }
}

/// What inference must know of a student besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct StudentConfig {
    /// The size of the student.
    pub network: DualUNet2dConfig,
    /// The classes that it finds.
    pub classes: Classes,
    /// What its decoders stand for, by the order of the groups.
    pub outputs: Vec<Output>,
    /// The grid of inference.
    pub grid: ModelGrid,
    /// How windowed intensities are scaled.
    pub scaling: Scaling,
    /// Whether the network is shown the foreground alone, as in its training.
    pub crop_foreground: bool,
    /// How slices pass the network.
    pub window: SliceWindow,
    /// Which connected parts of what it finds are kept.
    pub kept: KeptParts,
    /// The numbers that the network computes with on a CPU.
    pub precision: Precision,
}

impl StudentConfig {
    fn check(&self, path: &Path) -> Result<(), ModelError> {
        let network = self.network.check();
        network.map_err(|reason| ModelError::NetworkOf { path: path.into(), reason: format!("network.{reason}") })?;
        self.grid.check()?;
        Ok(self.window.check()?)
    }

    /// In what the other is shown scans otherwise.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let [own, others] = [self, other].map(|config| config.window);
        let mut found = Differences::of_grids(&self.grid, &other.grid);
        found.add("crop_foreground", &self.crop_foreground, &other.crop_foreground);
        found.add("window.batch", &own.batch, &others.batch);
        found.add("window.size", &own.size, &others.size);
        found.add("window.overlap", &own.overlap, &others.overlap);
        found.add("keep_parts", &self.kept, &other.kept);
        found.0
    }
}
