//! Label maps in the formats of viewers, with what their classes are called.

mod metaimage;
mod nifti;
mod nrrd;
mod packed;
mod tables;

use std::path::Path;

use labels::Class;
use volume::{LabelSink, Source, SourceError};

use crate::{Format, ScanFiles};

pub use tables::{itk_snap_labels, slicer_colors};

/// A label map to be written.
#[derive(Clone, Copy)]
pub struct LabelFile<'a> {
    /// The format.
    pub format: Format,
    /// The scan.
    pub scan: &'a ScanFiles,
    /// The same, opened.
    pub source: &'a dyn Source,
    /// The classes that may be in it.
    pub classes: &'a [&'a Class],
    /// Whether a NIfTI file holds the names and colours of the classes; those of other formats hold them anyway, but for MetaImage,
    /// which cannot.
    pub names: bool,
}

impl LabelFile<'_> {
    /// Begins to write it to `path`. The slices are those of the scan.
    ///
    /// # Errors
    /// When the file cannot be made, and when a DICOM segmentation is asked for of a scan that is no DICOM series.
    pub fn create(&self, path: &Path) -> Result<Box<dyn LabelSink>, SourceError> {
        Ok(match self.format {
            Format::Nifti => Box::new(nifti::create(path, self)?),
            Format::Nrrd => Box::new(nrrd::create(path, self)?),
            Format::MetaImage => Box::new(metaimage::create(path, self)?),
            Format::Dicom => return self.segmentation(path),
        })
    }

    #[cfg(feature = "dicom")]
    fn segmentation(&self, path: &Path) -> Result<Box<dyn LabelSink>, SourceError> {
        match self.scan.series() {
            Some(series) => Ok(Box::new(dicom_series::SegmentationWriter::create(path, series, self.classes)?)),
            None => Err(crate::FormatError::at(self.scan.path())(crate::Problem::NoSeries { found: self.scan.format().word() }).into()),
        }
    }

    #[cfg(not(feature = "dicom"))]
    fn segmentation(&self, _: &Path) -> Result<Box<dyn LabelSink>, SourceError> {
        Err(crate::FormatError::at(self.scan.path())(crate::Problem::NoDicom).into())
    }
}
