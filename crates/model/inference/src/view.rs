//! How scans are brought before 3-D networks: what the pipeline file says, completed by what the models say of themselves.

use std::path::Path;
use std::sync::Arc;

use labels::Classes;
use model_card::{Answer, Asked, Habits, ModelCard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use volume::{ModelGrid, Scan, ScanError, Source};

use crate::error::ModelError;
use crate::together::Differences;
use crate::window::{SlidingWindow, check_overlap};

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
    /// What the networks are used to from another program.
    pub habits: Habits,
}

impl ViewParams {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), ModelError> {
        self.grid.map_or(Ok(()), |grid| grid.check())?;
        match self.window.patch {
            Some(patch) => self.window.of(patch).check()?,
            None => check_overlap(self.window.overlap)?,
        }
        Ok(())
    }

    /// How scans are shown to the model at `path`.
    ///
    /// # Errors
    /// When the parameters contradict its card.
    pub fn of(&self, card: &ModelCard, path: &Path) -> Result<View, ModelError> {
        Ok(self.resolve(None, None, Some(card), path)?.1)
    }

    /// How scans are shown to the model at `path`, and all else that it says of itself or, for weights without a card, is said of it.
    pub(crate) fn resolve(
        &self,
        network: Option<Value>,
        classes: Option<&Classes>,
        card: Option<&ModelCard>,
        path: &Path,
    ) -> Result<(Answer, View), ModelError> {
        let patch = self.window.patch.map(|patch| patch.to_vec());
        let asked = Asked { network, classes: classes.cloned(), grid: self.grid, crop_foreground: self.crop_foreground, patch };
        let answer = asked.resolve(card, path)?;
        let flat = |_| ModelError::Flat { path: path.into(), patch: answer.patch.clone() };
        let patch = <[usize; 3]>::try_from(&answer.patch[..]).map_err(flat)?;
        let Answer { grid, crop_foreground, habits, .. } = answer;
        let view = View { grid, crop_foreground, window: self.window.of(patch), habits };
        view.grid.check()?;
        view.window.check()?;
        Ok((answer, view))
    }
}

impl View {
    /// A scan as it is shown to the networks.
    ///
    /// # Errors
    /// When it has no place on the model grid.
    pub fn scan(&self, source: Arc<dyn Source>) -> Result<Scan, ScanError> {
        Scan::resampled(source, &self.grid, self.habits.resampling)
    }

    /// In what scans are shown to another model otherwise.
    pub(crate) fn differences(&self, other: &Self) -> Differences {
        let mut found = Differences::of_grids(&self.grid, &other.grid);
        found.add("crop_foreground", &self.crop_foreground, &other.crop_foreground);
        found.add("window.patch", &self.window.patch, &other.window.patch);
        found.add("window.overlap", &self.window.overlap, &other.window.overlap);
        let [own, others] = [self, other].map(|view| view.habits);
        found.add("orientation", &format_args!("{}", own.orientation()), &format_args!("{}", others.orientation()));
        found.add("intensity around a scan", &own.around, &others.around);
        found.add("resampling", &own.resampling, &others.resampling);
        found
    }
}
