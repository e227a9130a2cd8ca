use std::collections::BTreeMap;

use labels::{LabelPattern, Regions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The order of the axes of a prepared case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// (x, y, z), for 3-D patches.
    Volume,
    /// (z, x, y), for slices, each of which is read by itself.
    Slices,
}

impl Layout {
    /// For each stored axis, which of x (0), y (1), z (2) it is.
    #[must_use]
    pub const fn axes(self) -> [usize; 3] {
        match self {
            Self::Volume => [0, 1, 2],
            Self::Slices => [2, 0, 1],
        }
    }

    /// Sizes, spacings or the like along x, y, z, in the order of the stored axes.
    #[must_use]
    pub fn stored<T: Copy>(self, along_xyz: [T; 3]) -> [T; 3] {
        self.axes().map(|axis| along_xyz[axis])
    }

    /// The position of z among the stored axes.
    #[must_use]
    pub const fn depth_axis(self) -> usize {
        match self {
            Self::Volume => 2,
            Self::Slices => 0,
        }
    }
}

/// Where a label map comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// The dataset's own labels.
    True,
    /// A teacher's labels, completed by the dataset's own where there are any (paper, section 2.3).
    Pseudo,
}

/// For each group the mean trust in the labels of a case, from 0 to 1; 0 when no label of the group counts.
pub type MeanTrust = BTreeMap<String, f64>;

/// A voxel grid in numbers: sizes along x, y, z and the map from voxel index to RAS+ mm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridRecord {
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// Rows of the affine map from voxel index to RAS+ mm.
    pub affine: [[f64; 4]; 4],
}

/// A box of voxels of the uncropped model grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropBox {
    /// The first voxel along x, y, z.
    pub start: [usize; 3],
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
}

/// What a prepared case tells of itself besides its voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseInfo {
    /// The name of the case.
    pub id: String,
    /// The dataset that it comes from.
    pub dataset: String,
    /// The order of the axes in the file.
    pub layout: Layout,
    /// The subset of the case (paper, section 2.1).
    pub subset: String,
    /// Voxel size along x, y, z in mm, whatever the layout.
    pub spacing_mm: [f64; 3],
    /// The grid that the arrays lie on: the model grid after cropping.
    pub grid: GridRecord,
    /// The image's own grid, as its file has it.
    pub original_grid: GridRecord,
    /// Where `grid` lies in the model grid before cropping.
    pub crop: CropBox,
    /// The intensities that became 0 and 1, in HU.
    pub window_hu: [f32; 2],
    /// The classes that were looked for. Where the label map does not show others, nobody knows whether they are there.
    pub annotated: LabelPattern,
    /// What the values of the label map mean.
    pub regions: Regions,
    /// Where the label map comes from; absent when the map is.
    pub source: Option<LabelSource>,
    /// How far the labels can be trusted; absent when nobody has weighed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<MeanTrust>,
}

impl CaseInfo {
    /// The shape of the arrays, in stored order.
    #[must_use]
    pub fn stored_shape(&self) -> [usize; 3] {
        self.layout.stored(self.grid.shape)
    }
}
