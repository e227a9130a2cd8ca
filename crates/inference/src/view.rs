//! How scans are brought before 3-D networks: what the pipeline file says, completed by what the models say of themselves.

use std::path::{Path, PathBuf};

use model_card::{Answer, Asked, CardError, ModelCard};
use nets::WeightsError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use volume::{ModelGrid, ModelGridError};

use crate::window::{SlidingWindow, WindowError, check_overlap};

/// How windows are laid over a volume, as far as a pipeline file says it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowParams {
    /// Voxels of a window along x, y, z; by default those of the patches in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<[usize; 3]>,
    /// The part of a window that its neighbour shares, in 0..1.
    #[serde(default = "one_half")]
    pub overlap: f64,
}

fn one_half() -> f64 {
    0.5
}

impl Default for WindowParams {
    fn default() -> Self {
        Self { patch: None, overlap: one_half() }
    }
}

impl WindowParams {
    /// The windows, of `patch` voxels unless the parameters say otherwise.
    #[must_use]
    pub fn of(&self, patch: [usize; 3]) -> SlidingWindow {
        SlidingWindow { patch: self.patch.unwrap_or(patch), overlap: self.overlap }
    }
}

/// What a pipeline file says of how scans are shown to 3-D networks; nothing where it leaves it to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ViewParams {
    /// Spacing and window of intensities.
    pub grid: Option<ModelGrid>,
    /// Whether scans are cropped to the foreground.
    pub crop_foreground: Option<bool>,
    /// How windows are laid.
    pub window: WindowParams,
}

/// How scans are shown to 3-D networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Spacing and window of intensities.
    pub grid: ModelGrid,
    /// Whether scans are cropped to the foreground.
    pub crop_foreground: bool,
    /// How windows are laid.
    pub window: SlidingWindow,
}

/// Why models cannot be shown scans.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model is not what it is asked to be.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A grid that makes no sense.
    #[error(transparent)]
    Grid(#[from] ModelGridError),
    /// Windows that cannot be laid.
    #[error("window: {0}")]
    Window(#[from] WindowError),
    /// A model of slices.
    #[error("{path} was trained on patches of {patch:?}; expected three sides, along x, y and z")]
    Flat {
        /// The file of weights.
        path: PathBuf,
        /// The patch of its training.
        patch: Vec<usize>,
    },
    /// Models that were trained differently.
    #[error(
        "{first} and {path} were shown scans differently: {a} and {b}. Take models that agree in grid, foreground and patch, or give `window.patch`"
    )]
    Disagreement {
        /// The first model.
        first: PathBuf,
        /// The other.
        path: PathBuf,
        /// How scans were shown to the first.
        a: String,
        /// How scans were shown to the other.
        b: String,
    },
}

impl ViewParams {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), ViewError> {
        self.grid.map_or(Ok(()), |grid| grid.check())?;
        match self.window.patch {
            Some(patch) => self.window.of(patch).check()?,
            None => check_overlap(self.window.overlap)?,
        }
        Ok(())
    }

    /// How scans are shown to the model at `path`, and its network, which the pipeline file may say too.
    ///
    /// # Errors
    /// When the file is missing or damaged, says too little, or contradicts the parameters.
    pub fn resolve(&self, network: Option<Value>, card: Option<&ModelCard>, path: &Path) -> Result<(Value, View), ViewError> {
        let patch = self.window.patch.map(|patch| patch.to_vec());
        let asked = Asked { network, grid: self.grid, crop_foreground: self.crop_foreground, patch };
        let Answer { network, grid, crop_foreground, patch } = asked.resolve(card, path)?;
        let patch = <[usize; 3]>::try_from(patch).map_err(|patch| ViewError::Flat { path: path.into(), patch })?;
        let view = View { grid, crop_foreground, window: self.window.of(patch) };
        view.grid.check()?;
        view.window.check()?;
        Ok((network, view))
    }
}

impl View {
    /// Refuses a second model that scans were shown to differently.
    ///
    /// # Errors
    /// [`ViewError::Disagreement`].
    pub fn must_be(&self, other: &Self, first: &Path, path: &Path) -> Result<(), ViewError> {
        if self == other {
            return Ok(());
        }
        let [a, b] = [self, other].map(|view| {
            let View { grid: ModelGrid { spacing_mm, window_hu }, crop_foreground, window } = view;
            format!("spacing_mm {spacing_mm:?}, window_hu {window_hu:?}, crop_foreground {crop_foreground}, patch {:?}", window.patch)
        });
        Err(ViewError::Disagreement { first: first.into(), path: path.into(), a, b })
    }
}
