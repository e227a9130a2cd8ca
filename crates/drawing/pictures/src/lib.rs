//! Pictures of label maps over CT slices, as in the paper's Fig. 3: the CT, the ground truth and one panel per model.
//!
//! ```no_run
//! use pictures::{ABDOMEN_WINDOW_HU, Figure, Palette};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use volume::SlicedFile;
//! # let image = SlicedFile::<f32>::open("a_0000.nii.gz".as_ref())?;
//! # let truth = SlicedFile::<u8>::open("a.nii.gz".as_ref())?;
//! # let prediction = SlicedFile::<u8>::open("b.nii.gz".as_ref())?;
//! # let classes = labels::flare23::classes();
//!
//! let mut figure = Figure::new("FLARE23Ts_0001", &image, &truth, &Palette::of(&classes), ABDOMEN_WINDOW_HU)?;
//! figure.add_ct("CT");
//! figure.add_labels("ground truth", &truth)?;
//! figure.add_labels("M_4 organs 0.91 tumor 0.48", &prediction)?;
//! figure.write_png("FLARE23Ts_0001.png".as_ref())?;
//! # Ok(())
//! # }
//! ```
//!
//! Slices are shown as radiologists look at them, from the feet and from the front: the patient's right is on the left,
//! anterior or superior on top. Pixels are square in millimetres whatever the voxels are. Volumes may have any
//! orientation; every panel must be on the grid of the image.

mod canvas;
mod cut;
mod figure;
mod font;
mod gray;
mod overlay;
mod palette;

pub use canvas::Picture;
pub use figure::Figure;
pub use gray::gray_panels;
pub use palette::Palette;

use volume::{AffineError, Grid};

/// The window in which abdominal organs are read: black below -160 HU, white above 240 HU.
pub const ABDOMEN_WINDOW_HU: [f32; 2] = [-160.0, 240.0];

/// Why a picture cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The image has no voxels to show.
    #[error("the image has {shape:?} voxels; every side needs at least one")]
    NoVoxels {
        /// The image's shape.
        shape: [usize; 3],
    },
    /// The image has no place in the patient.
    #[error("the image cannot be placed in the patient: {0}; repair its header")]
    Affine(#[from] AffineError),
    /// The window has no width.
    #[error("the window {window_hu:?} HU is empty; give two finite numbers, the lower first")]
    Window {
        /// The window as given.
        window_hu: [f32; 2],
    },
    /// A label map lies on another grid than the image.
    #[error(
        "{what} has {:?} voxels of {:?} mm and the image {:?} of {:?} mm, or they lie apart; resample it onto the image first",
        .found.shape, .found.spacing_mm(), .expected.shape, .expected.spacing_mm()
    )]
    Grid {
        /// Which label map.
        what: String,
        /// Its grid.
        found: Box<Grid>,
        /// The image's grid.
        expected: Box<Grid>,
    },
    /// A label map holds values that mean nothing.
    #[error("{what}: {reason}")]
    Labels {
        /// Which label map.
        what: String,
        /// The values.
        reason: labels::LabelError,
    },
    /// The image or a label map cannot be read.
    #[error(transparent)]
    Read(#[from] volume::nifti::NiftiError),
    /// The picture cannot be encoded.
    #[error("cannot encode the picture: {0}")]
    Encode(#[from] png::EncodingError),
    /// The picture cannot be written.
    #[error(transparent)]
    Write(Box<dyn std::error::Error + Send + Sync>),
}
