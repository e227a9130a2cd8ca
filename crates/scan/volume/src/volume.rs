//! Voxel values on a grid.

use std::borrow::Cow;

use ndarray::{Array3, ShapeBuilder as _, ShapeError};

use crate::{Affine, Box3, Grid};

/// An array indexed `[x, y, z]` and the map from its indices to RAS+ mm.
///
/// Functions of this crate make arrays with x fastest in memory, and are quickest on such arrays; they take any layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    /// Values, `[x, y, z]`.
    pub data: Array3<T>,
    /// Voxel indices to RAS+ mm.
    pub affine: Affine,
}

/// Intensities: CT in Hounsfield units, or windowed to `[0, 1]`. Resampled linearly.
pub type ScalarVolume = Volume<f32>;

/// One label per voxel. Resampled to the nearest voxel.
pub type LabelVolume = Volume<u8>;

impl<T: Clone> Volume<T> {
    /// A volume on `grid` from values with x fastest.
    ///
    /// # Errors
    ///
    /// When the number of values is not that of the grid's voxels.
    pub fn from_x_fastest(grid: &Grid, values: Vec<T>) -> Result<Self, ShapeError> {
        let data = Array3::from_shape_vec(grid.shape.f(), values)?;
        Ok(Self { data, affine: grid.affine })
    }

    /// A volume on `grid` with the same value everywhere.
    #[must_use]
    pub fn filled(grid: &Grid, value: T) -> Self {
        Self { data: Array3::from_elem(grid.shape.f(), value), affine: grid.affine }
    }

    /// The values with x fastest; copied only if the array is laid out otherwise.
    #[must_use]
    pub fn x_fastest(&self) -> Cow<'_, [T]> {
        let transposed = self.data.t();
        match transposed.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(transposed.iter().cloned().collect()),
        }
    }

    /// The part inside `region`, which is cut to the volume first. Every voxel keeps its place in the patient.
    #[must_use]
    pub fn crop(&self, region: &Box3) -> Self {
        let region = region.within(self.grid().shape);
        let inside = region.of(&self.data);
        let mut data = Vec::with_capacity(inside.len());
        for row in inside.t().rows() {
            match row.as_slice() {
                Some(row) => data.extend_from_slice(row),
                None => data.extend(row.iter().cloned()),
            }
        }
        let grid = self.grid().cropped(&region);
        match Self::from_x_fastest(&grid, data) {
            Ok(volume) => volume,
            Err(_) => unreachable!("the slice of a region has the region's shape"),
        }
    }
}

impl<T> Volume<T> {
    /// The shape and affine.
    #[must_use]
    pub fn grid(&self) -> Grid {
        let (x, y, z) = self.data.dim();
        Grid { shape: [x, y, z], affine: self.affine }
    }
}
