//! Scans and label maps in the formats of hospitals and viewers.
//!
//! [`ScanFiles`] opens a scan in any of them as a [`volume::Source`], whose slices come one by one. NRRD and MetaImage have
//! the coordinates of ITK, to the patient's Left and to Posterior; an affine of [`volume`] goes to the Right and to Anterior.

mod error;
mod format;
mod metaimage;
mod nrrd;
mod raw;
mod scan_files;
mod write;

pub use error::{FormatError, Problem};
pub use format::Format;
pub use scan_files::ScanFiles;
pub use write::{LabelFile, itk_snap_labels, slicer_colors};
