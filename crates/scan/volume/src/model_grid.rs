//! The grid that a network sees, and the way of an image onto it (paper 2.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Box3, Grid, KEEP_SPACING, Orientation, Resampling, ScalarVolume, foreground_box, reorient, resample_linear, window};

/// Longer edges than this no voxel of CT has: slices of 10 mm are the thickest that are made, 5 mm the thickest that are usual.
const MOST_EDGE_MM: f64 = 20.0;

/// A larger voxel shows no organ: an adrenal gland has 4 mL. Pixels of 2 mm in slices of 10 mm, the coarsest of a scanner, have 0.04.
const MOST_VOXEL_ML: f64 = 1.0;

/// No scanner sees more: tables move 2 m, and a bore is 0.9 m wide. The rest is for borders that somebody has added.
const MOST_ALONG_MM: f64 = 3000.0;
const MOST_ACROSS_MM: f64 = 1200.0;

/// The voxel limit of a model grid: a scan of 2,471 slices at 1 mm has 0.6 billion, a tilted one of 2 m a billion, a wrong
/// spacing of 0.01 mm far more.
const MOST_VOXELS: usize = 2_000_000_000;

/// More voxels than this are not held at a time: 1 GiB, in 4 bytes each. [`Scan`](crate::Scan) gives any number of planes.
const MOST_HELD: usize = 1 << 28;

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
    /// Voxels that no CT has.
    #[error(
        "voxels of {spacing_mm:?} mm, expected edges of at most {MOST_EDGE_MM} mm and at most {MOST_VOXEL_ML} mL, as CT has; correct the spacing in the header, or leave the case out"
    )]
    Voxel {
        /// The spacing of the image.
        spacing_mm: [f64; 3],
    },
    /// A size that no body has.
    #[error(
        "{shape:?} voxels of {spacing_mm:?} mm are {sides_mm:?} mm, expected at most {MOST_ALONG_MM} mm along a body and {MOST_ACROSS_MM} mm across; correct the spacing in the header, or crop the scan"
    )]
    NotABody {
        /// The shape of the image.
        shape: [usize; 3],
        /// Its spacing.
        spacing_mm: [f64; 3],
        /// Its sides.
        sides_mm: [f64; 3],
    },
    /// Axes that are nearly parallel.
    #[error(
        "{from:?} voxels of {spacing_mm:?} mm lie along axes that are nearly parallel, expected a tilt that a gantry has; correct the affine, for example from the DICOM series"
    )]
    Slanted {
        /// The shape of the image.
        from: [usize; 3],
        /// Its spacing.
        spacing_mm: [f64; 3],
    },
    /// A grid that is too large to hold whole.
    #[error(
        "{shape:?} voxels on the model grid, more than the {MOST_HELD} that are held at a time; crop the scan, or choose a larger spacing_mm"
    )]
    TooManyToHold {
        /// The shape on the model grid.
        shape: [usize; 3],
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
    /// When the image has voxels or sides that no scan of a body has, or its model grid would have more voxels than any.
    pub fn of(&self, original: &Grid) -> Result<Grid, ModelGridError> {
        self.resampled(original, Resampling::Linear)
    }

    /// The same for an image that is resampled in this way.
    ///
    /// # Errors
    /// As [`ModelGrid::of`].
    pub fn resampled(&self, original: &Grid, resampling: Resampling) -> Result<Grid, ModelGridError> {
        check_body(original)?;
        let grid = resampling.grid(&original.reoriented(Orientation::RAS), self.spacing_mm.map(|mm| mm.unwrap_or(KEEP_SPACING)));
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
    /// Those of [`ModelGrid::of`], and when the grid is too large to hold.
    pub fn prepare(&self, image: ScalarVolume) -> Result<ScalarVolume, ModelGridError> {
        let grid = self.of(&image.grid())?;
        if grid.voxels() > MOST_HELD {
            return Err(ModelGridError::TooManyToHold { shape: grid.shape });
        }
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

/// Refuses an image whose voxels or sides no scan of a body has, before anything is allocated for it.
fn check_body(image: &Grid) -> Result<(), ModelGridError> {
    let (shape, spacing_mm) = (image.shape, image.spacing_mm());
    let voxel_ml = spacing_mm.iter().product::<f64>() / 1000.0;
    if spacing_mm.iter().any(|&mm| mm > MOST_EDGE_MM) || voxel_ml > MOST_VOXEL_ML {
        return Err(ModelGridError::Voxel { spacing_mm });
    }
    let sides_mm: [f64; 3] = std::array::from_fn(|axis| shape[axis] as f64 * spacing_mm[axis]);
    let mut sorted = sides_mm;
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted[2] > MOST_ALONG_MM || sorted[1] > MOST_ACROSS_MM {
        return Err(ModelGridError::NotABody { shape, spacing_mm, sides_mm });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Affine;

    #[test]
    fn what_no_scanner_makes_is_refused_before_anything_is_allocated() {
        let model = ModelGrid { spacing_mm: [Some(1.0); 3], window_hu: [-200.0, 300.0] };
        let of = |shape: [usize; 3], spacing_mm: [f64; 3]| {
            let grid = Grid { shape, affine: Affine::from_spacing_mm(spacing_mm, [0.0; 3]) };
            model.of(&grid).map_err(|error| error.to_string())
        };
        for (shape, spacing_mm) in
            [([512, 512, 2471], [0.977, 0.977, 1.0]), ([512, 512, 60], [1.5, 1.5, 10.0]), ([40, 20, 1], [3.0, 3.0, 20.0])]
        {
            assert!(of(shape, spacing_mm).is_ok(), "{shape:?} {spacing_mm:?}");
        }
        for (shape, spacing_mm) in
            [([24, 24, 12], [100.0; 3]), ([4, 4, 4], [60.0; 3]), ([80, 80, 80], [19.9; 3]), ([4, 4, 4], [1.0, 1.0, 21.0])]
        {
            let error = of(shape, spacing_mm).unwrap_err();
            assert!(error.contains("voxels of") && error.contains("correct the spacing"), "{error}");
        }
        for (shape, spacing_mm) in [([512, 512, 1300], [2.0, 2.0, 2.5]), ([200, 200, 100], [7.0; 3]), ([3001, 1, 1], [1.0; 3])] {
            let error = of(shape, spacing_mm).unwrap_err();
            assert!(error.contains("1200 mm across"), "{error}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let grid = |spacing_mm, window_hu| ModelGrid { spacing_mm, window_hu }.check().map_err(|error| error.to_string());
        assert!(grid([Some(1.0), Some(1.0), None], [-200.0, 300.0]).is_ok());
        assert!(grid([Some(0.0), None, None], [-200.0, 300.0]).unwrap_err().contains("spacing_mm: 0"));
        assert!(grid([None; 3], [300.0, -200.0]).unwrap_err().contains("window_hu: [300, -200]"));
        assert!(grid([None; 3], [f32::NAN, 300.0]).is_err());
    }
}
