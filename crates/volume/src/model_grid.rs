//! The grid that a network sees, and the way of an image onto it (paper 2.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Box3, Grid, KEEP_SPACING, Orientation, ScalarVolume, foreground_box, reorient, resample_linear, window};

/// The voxel limit of a model grid: a scan of 2,471 slices at 1 mm has 0.6 billion, a wrong spacing of 0.01 mm far more.
const MOST_VOXELS: usize = 4_000_000_000;

/// The limit of a side: what the header of a label map on the model grid can say.
const LONGEST_SIDE: usize = 32767;

/// RAS orientation, a spacing, and a window of intensities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelGrid {
    /// Voxel size along x, y, z in mm; `null` keeps the native one.
    pub spacing_mm: [Option<f64>; 3],
    /// The intensities that become 0 and 1; those outside are clipped.
    pub window_hu: [f32; 2],
}

/// Why an image cannot be brought onto a model grid.
#[derive(Debug, thiserror::Error)]
pub enum ModelGridError {
    /// A spacing that is no length.
    #[error("spacing_mm: {0} is not a length in mm above 0; `null` keeps the native spacing")]
    Spacing(f64),
    /// A window without width.
    #[error("window_hu: [{0}, {1}] is not a window; the second must be above the first")]
    Window(f32, f32),
    /// A grid that no memory holds.
    #[error(
        "{from:?} voxels of {spacing_mm:?} mm would become {shape:?} voxels on the model grid; the spacing in the header is likely wrong, correct it"
    )]
    TooLarge {
        /// The shape of the image.
        from: [usize; 3],
        /// Its spacing.
        spacing_mm: [f64; 3],
        /// The shape on the model grid.
        shape: [usize; 3],
    },
    /// A scan that has to be held whole and is too large for it.
    #[error(
        "{from:?} voxels along sheared axes (a tilted gantry), {shape:?} on the model grid: more than the {most} that are held at a time; resample the scan onto axes at right angles, or crop it"
    )]
    HeldTooLarge {
        /// The shape of the image.
        from: [usize; 3],
        /// The shape on the model grid.
        shape: [usize; 3],
        /// The limit.
        most: usize,
    },
    /// An image of air.
    #[error("no voxel above {0} HU, expected a body; check the rescale slope and intercept, or leave the case out")]
    NoBody(f32),
}

impl ModelGrid {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Says which and why.
    pub fn check(&self) -> Result<(), ModelGridError> {
        if let Some(wrong) = self.spacing_mm.iter().flatten().find(|mm| !(mm.is_finite() && **mm > 0.0)) {
            return Err(ModelGridError::Spacing(*wrong));
        }
        let [low, high] = self.window_hu;
        if low.is_finite() && high.is_finite() && low < high { Ok(()) } else { Err(ModelGridError::Window(low, high)) }
    }

    /// The model grid for an image on `original`.
    ///
    /// # Errors
    /// When it would have more voxels than any scan.
    pub fn of(&self, original: &Grid) -> Result<Grid, ModelGridError> {
        let grid = original.reoriented(Orientation::RAS).with_spacing_mm(self.spacing_mm.map(|mm| mm.unwrap_or(KEEP_SPACING)));
        if grid.voxels() > MOST_VOXELS || grid.shape.iter().any(|&side| side > LONGEST_SIDE) {
            let (from, spacing_mm) = (original.shape, original.spacing_mm());
            return Err(ModelGridError::TooLarge { from, spacing_mm, shape: grid.shape });
        }
        Ok(grid)
    }

    /// Brings a CT scan in Hounsfield units onto the model grid: reorients, resamples linearly, and maps the window to 0..1.
    ///
    /// Holds at most two volumes at a time; the input is dropped as soon as it is no longer needed.
    ///
    /// # Errors
    /// Those of [`ModelGrid::of`].
    pub fn prepare(&self, image: ScalarVolume) -> Result<ScalarVolume, ModelGridError> {
        let grid = self.of(&image.grid())?;
        let reoriented = reorient(&image, Orientation::RAS);
        drop(image);
        let mut resampled = resample_linear(&reoriented, &grid);
        window(&mut resampled, self.window_hu);
        Ok(resampled)
    }

    /// The part of a prepared image that a network is shown: all of it, or cropped to the foreground, the smallest box
    /// around what is above the window's lower end (paper 3.2). Training and inference must agree in this: what share of
    /// its input is air is something that a network with instance normalisation sees.
    ///
    /// # Errors
    /// When there is no foreground to crop to.
    pub fn shown(&self, image: &ScalarVolume, crop_foreground: bool) -> Result<Box3, ModelGridError> {
        if !crop_foreground {
            return Ok(Box3 { start: [0; 3], shape: image.grid().shape });
        }
        foreground_box(image, 0.0).ok_or(ModelGridError::NoBody(self.window_hu[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let grid = |spacing_mm, window_hu| ModelGrid { spacing_mm, window_hu }.check().map_err(|error| error.to_string());
        assert!(grid([Some(1.0), Some(1.0), None], [-200.0, 300.0]).is_ok());
        assert!(grid([Some(0.0), None, None], [-200.0, 300.0]).unwrap_err().contains("spacing_mm: 0"));
        assert!(grid([None; 3], [300.0, -200.0]).unwrap_err().contains("window_hu: [300, -200]"));
        assert!(grid([None; 3], [f32::NAN, 300.0]).is_err());
    }
}
