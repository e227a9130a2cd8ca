//! CT series in DICOM files as scans, read slice by slice; label maps as DICOM segmentations; and labels in such segmentations and in
//! structure sets, which are painted slice by slice.
//!
//! A folder is looked through for series; the frames of each are sorted by their places. DICOM's coordinates run to the patient's
//! Left and to Posterior, and the affine of a series to the Right and to Anterior, as everywhere in [`volume`].
//!
//! Files are not trusted: their elements are gone over in bounded memory, each length is compared with what is left of the file,
//! and what the decoders of packed pixels say is checked.

mod annotation;
mod contours;
mod elements;
mod encode;
mod error;
mod find;
mod instance;
mod pixels;
mod planes;
mod segmentation;
mod segmented;
mod series;
mod stack;

pub use annotation::{Annotation, Painter};
pub use elements::looks_like_dicom;
pub use error::{DicomError, Problem};
pub use find::{Finding, Found, find};
pub use segmentation::SegmentationWriter;
pub use series::{About, Series};
