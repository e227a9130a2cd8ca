//! How a trained student is shown a scan.

use std::path::PathBuf;

use nets::{DualUNet2dConfig, ParamsError, Precision, WeightsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::{ModelGrid, ModelGridError, ScanError};

use crate::slices::SliceWindow;
use crate::window::WindowError;

/// What inference must know of a student besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// The size of the student; the same as in its training.
    pub network: DualUNet2dConfig,
    /// The grid of inference; the paper's is 1×1×2.5 mm and [−200, 300] HU.
    pub grid: ModelGrid,
    /// Whether the network is shown the foreground alone, as in its training.
    pub crop_foreground: bool,
    /// How slices pass the network.
    pub window: SliceWindow,
    /// Connected parts of the cancer map below this volume in mL are taken for noise and removed. Off in the paper (2.4),
    /// which applies no post-processing: a single voxel in a patient without tumors then costs the whole score.
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
        self.grid.check()?;
        if let Some(ml) = self.smallest_tumor_ml.filter(|ml| !(ml.is_finite() && *ml >= 0.0)) {
            return Err(StudentError::SmallestTumor(ml));
        }
        Ok(self.window.check()?)
    }
}

/// The name under which a student is exported and looked for.
pub const MODEL_FILE: &str = "model.safetensors";
