//! How a trained student is shown a scan.

use std::path::{Path, PathBuf};

use model_card::{Asked, CardError, Kind, ModelCard};
use nets::{DualUNet2dConfig, ParamsError, Precision, WeightsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::{ModelGrid, ModelGridError, ScanError};

use crate::slices::{SliceWindow, SliceWindowParams, WindowSize};
use crate::window::WindowError;

/// How scans are segmented with a student, as far as a pipeline file says it. What it leaves out, the student says of itself;
/// what contradicts the student is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentParams {
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
    /// Connected parts of the cancer map below this volume in mL are taken for noise and removed. Off in the paper (2.4),
    /// which applies no post-processing: a single voxel in a patient without tumors then costs the whole score.
    pub smallest_tumor_ml: Option<f64>,
    /// The numbers that the network computes with on a CPU.
    pub precision: Precision,
}

impl StudentParams {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), StudentError> {
        self.grid.map_or(Ok(()), |grid| grid.check())?;
        check_volume(self.smallest_tumor_ml)?;
        self.network.as_ref().map_or(Ok(()), DualUNet2dConfig::check).map_err(StudentError::Network)?;
        // Only a size that is given can be wrong.
        Ok(self.window.of(None).check()?)
    }

    /// The whole, with what the student behind the weights at `path` says of itself.
    ///
    /// # Errors
    /// When the file is missing or damaged, is of another kind of model, says too little, or contradicts the parameters.
    pub fn resolve(&self, path: &Path) -> Result<StudentConfig, StudentError> {
        let card = ModelCard::of(&nets::metadata(path)?, path)?;
        card.as_ref().map_or(Ok(()), |card| card.must_be(Kind::Student, path))?;
        let asked = Asked {
            network: self.network.as_ref().map(serde_json::to_value).transpose().map_err(|error| unreadable(path, &error))?,
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
        let config = StudentConfig {
            network: serde_json::from_value(answer.network).map_err(|error| unreadable(path, &error))?,
            grid: answer.grid,
            crop_foreground: answer.crop_foreground,
            window: self.window.of(crop),
            smallest_tumor_ml: self.smallest_tumor_ml,
            precision: self.precision,
        };
        config.check()?;
        Ok(config)
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> StudentError {
    StudentError::NotAModel { path: path.into(), reason: format!("holds a network that cannot be read ({error})") }
}

fn check_volume(smallest_tumor_ml: Option<f64>) -> Result<(), StudentError> {
    match smallest_tumor_ml.filter(|ml| !(ml.is_finite() && *ml >= 0.0)) {
        Some(ml) => Err(StudentError::SmallestTumor(ml)),
        None => Ok(()),
    }
}

/// What inference must know of a student besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// The size of the student.
    pub network: DualUNet2dConfig,
    /// The grid of inference.
    pub grid: ModelGrid,
    /// Whether the network is shown the foreground alone, as in its training.
    pub crop_foreground: bool,
    /// How slices pass the network.
    pub window: SliceWindow,
    /// Connected parts of the cancer map below this volume in mL are removed.
    #[serde(default)]
    pub smallest_tumor_ml: Option<f64>,
    /// The numbers that the network computes with on a CPU.
    #[serde(default)]
    pub precision: Precision,
}

/// Why a student cannot be had, or a scan not be segmented.
#[derive(Debug, thiserror::Error)]
pub enum StudentError {
    /// The weights cannot be read, or are of another network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model is not what it is asked to be.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The network cannot be made.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A file of weights that does not say how they are used.
    #[error("{path} {reason}; expected a model as the stage `export` writes it")]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A network that cannot be.
    #[error("network.{0}")]
    Network(String),
    /// Parameters that make no sense.
    #[error("window: {0}")]
    Window(#[from] WindowError),
    /// A volume that is none.
    #[error("smallest_tumor_ml: {0} is not a volume in mL; `null` keeps every part")]
    SmallestTumor(f64),
    /// A model grid that makes no sense.
    #[error(transparent)]
    Grid(#[from] ModelGridError),
    /// A scan that cannot be read or brought onto the model grid, or labels that cannot be written.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Slices larger than any patient.
    #[error(
        "{path}: {shape:?} pixels of a slice on the model grid, more than the {most} that are segmented; its spacing is likely wrong, correct the header"
    )]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Pixels along x and y.
        shape: [usize; 2],
        /// The limit.
        most: usize,
    },
    /// Models of an ensemble that do not go together.
    #[error(
        "{path} is shown scans otherwise than {first} (grid, foreground, windows or removal of small parts); an ensemble takes models that agree in these"
    )]
    Ensemble {
        /// The first model.
        first: PathBuf,
        /// The other.
        path: PathBuf,
    },
    /// An ensemble of nothing.
    #[error("no model was given; give one at least")]
    NoModel,
    /// A failure of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl StudentConfig {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), StudentError> {
        self.network.check().map_err(StudentError::Network)?;
        self.grid.check()?;
        check_volume(self.smallest_tumor_ml)?;
        Ok(self.window.check()?)
    }
}

/// The name under which a student is exported and looked for.
pub const MODEL_FILE: &str = "model.safetensors";
