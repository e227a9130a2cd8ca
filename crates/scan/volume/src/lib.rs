//! Volumes in patient space: what a voxel array means in millimetres, and how it gets in and out of files.
//!
//! Arrays are indexed `[x, y, z]` in voxels and stored with x fastest, as NIfTI stores them. An [`Affine`] maps voxel
//! indices to RAS+ millimetres (x grows to the patient's Right, y to Anterior, z to Superior). A [`Grid`] is a shape
//! with its affine; a [`Volume`] is a grid with values. Two names carry the choice of interpolation: a
//! [`ScalarVolume`] is resampled linearly, a [`LabelVolume`] to the nearest voxel.
//!
//! ```
//! use volume::{Affine, Grid, Orientation};
//!
//! // 0.8 x 0.8 x 5 mm voxels whose first two axes run to the Left and to Posterior.
//! let affine = Affine([
//!     [-0.8, 0.0, 0.0, 120.0],
//!     [0.0, -0.8, 0.0, 140.0],
//!     [0.0, 0.0, 5.0, -90.0],
//!     [0.0, 0.0, 0.0, 1.0],
//! ]);
//! let scan = Grid { shape: [300, 300, 41], affine };
//! assert_eq!(scan.orientation().to_string(), "LPS");
//!
//! let model = scan.reoriented(Orientation::RAS).with_spacing_mm([1.0, 1.0, 2.5]);
//! assert_eq!(model.shape, [240, 240, 81]);
//! ```

mod affine;
mod back;
mod body;
mod format;
mod grid;
mod intensities;
mod intensity;
mod itk;
mod label_scan;
mod levels;
mod model_grid;
pub mod nifti;
mod orientation;
mod picked;
mod placement;
mod reorient;
mod resample;
mod resampling;
mod runs;
mod scaling;
mod scan;
mod sides;
mod source;
mod volume;

pub use affine::{Affine, AffineError};
pub use format::Format;
pub use grid::{Box3, Grid, KEEP_SPACING};
pub use intensities::{Doubt, DoubtKind, Intensities};
pub use intensity::{foreground_box, window};
pub use itk::data_file;
pub use label_scan::{LabelPlanes, LabelScan};
pub use model_grid::{ModelGrid, ModelGridError};
pub use orientation::{Orientation, OrientationError};
pub use picked::{SlicedFile, Slices, pick_linear, pick_nearest};
pub use reorient::reorient;
pub use resample::{NearestSlices, resample_linear, resample_nearest};
pub use resampling::Resampling;
pub use runs::{Keep, RunMap, keep_parts};
pub use scaling::Scaling;
pub use scan::{LabelsBack, Plane, Planes, Scan, ScanError};
pub use sides::{Cut, Found, find_cuts};
pub use source::{LabelSink, ScanFile, Source, SourceError, SourceSlices};
pub use volume::{LabelVolume, ScalarVolume, Volume};
