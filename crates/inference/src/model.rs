//! A trained student together with how it is shown a scan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, ParamsError, Precision, Trained, WeightsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streams::Streams;
use volume::{Affine, ModelGrid, ModelGridError, ScalarVolume};

use crate::slices::{SliceLabels, SliceWindow, segment_slices};
use crate::window::WindowError;

/// What inference must know of a student besides its weights.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    /// A scan that cannot be brought onto the model grid.
    #[error(transparent)]
    Grid(#[from] ModelGridError),
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

/// The field of a model's metadata that holds its [`StudentConfig`].
const FIELD: &str = "student";

/// A trained student, ready for scans.
pub struct Student {
    config: StudentConfig,
    network: DualUNet2d,
    weights: Trained,
    device: Device,
}

impl Student {
    /// A student of the weights in a file.
    ///
    /// # Errors
    /// When the file is missing, damaged or of another network.
    pub fn new(config: StudentConfig, weights: &Path, device: &Device) -> Result<Self, StudentError> {
        config.check()?;
        let network = DualUNet2d::new(&config.network);
        let params = Params::init(&network.parameters(), Streams::new(0), device)?;
        params.load(weights)?;
        let weights = Trained::new(params, config.precision);
        Ok(Self { config, network, weights, device: device.clone() })
    }

    /// The student in a file that [`Student::save`] has written.
    ///
    /// # Errors
    /// When the file is missing, damaged, or holds weights without a config.
    pub fn open(model: &Path, device: &Device) -> Result<Self, StudentError> {
        let refused = |reason: String| StudentError::NotAModel { path: model.into(), reason };
        let metadata = nets::metadata(model)?;
        let text = metadata.get(FIELD).ok_or_else(|| refused("holds weights alone".into()))?;
        let config = serde_json::from_str(text).map_err(|error| refused(format!("holds a config that cannot be read ({error})")))?;
        Self::new(config, model, device)
    }

    /// Writes weights, config and `more` metadata as one file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, model: &Path, mut more: BTreeMap<String, String>) -> Result<(), StudentError> {
        let failed = |error: serde_json::Error| WeightsError::Write { path: model.into(), reason: error.to_string() };
        more.insert(FIELD.into(), serde_json::to_string(&self.config).map_err(failed)?);
        Ok(self.weights.params().save(model, &more)?)
    }

    /// Segments a CT scan in Hounsfield units (paper 2.2, 2.3); the label maps lie on the model grid, whose affine map
    /// to RAS+ mm comes with them.
    ///
    /// # Errors
    /// When the scan cannot be brought onto the model grid, or shows no body.
    pub fn segment(&self, image: ScalarVolume) -> Result<(SliceLabels, Affine), StudentError> {
        let image = self.config.grid.prepare(image)?;
        let shown = self.config.grid.shown(&image, self.config.crop_foreground)?;
        let labels = segment_slices(&self.network, &self.weights, &shown.of(&image.data), &self.config.window, &self.device)?;
        let SliceLabels { organs, mut cancer } = labels;
        if let Some(ml) = self.config.smallest_tumor_ml {
            let voxel_ml = image.grid().spacing_mm().iter().product::<f64>() / 1000.0;
            volume::remove_small_parts(&mut cancer, (ml / voxel_ml).ceil() as usize);
        }
        let whole = |map| shown.embed(&map, image.grid().shape);
        Ok((SliceLabels { organs: whole(organs), cancer: whole(cancer) }, image.affine))
    }
}
