//! Scans and label maps in the formats of hospitals and viewers.
//!
//! [`ScanFiles`] opens a scan in any of them as a [`volume::Source`], whose slices come one by one.

mod error;
mod scan_files;
mod write;

pub use error::{FormatError, Problem};
pub use scan_files::ScanFiles;
pub use volume::Format;
pub use write::{LabelFile, itk_snap_labels, slicer_colors};
