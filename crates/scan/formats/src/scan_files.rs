//! A scan as a folder holds it: one file, a header with its voxels, or the many files of a series.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use volume::{ScanFile, Source, SourceError};

use crate::Format;
#[cfg(not(feature = "dicom"))]
use crate::error::{FormatError, Problem};

/// A scan that can be opened.
#[derive(Clone, Debug)]
pub struct ScanFiles {
    path: PathBuf,
    format: Format,
    #[cfg(feature = "dicom")]
    series: Option<dicom_series::Series>,
}

impl ScanFiles {
    /// The scan in one file, or behind the header in it.
    #[must_use]
    pub fn at(path: &Path, format: Format) -> Self {
        Self {
            path: path.to_owned(),
            format,
            #[cfg(feature = "dicom")]
            series: None,
        }
    }

    /// A series of DICOM files.
    #[cfg(feature = "dicom")]
    #[must_use]
    pub fn of_series(series: &dicom_series::Series) -> Self {
        // A single file, as of an enhanced CT, is named itself.
        let mut files = series.files();
        let path = match (files.next(), files.next()) {
            (Some(file), None) => file,
            _ => series.folder(),
        };
        Self { path: path.to_owned(), format: Format::Dicom, series: Some(series.clone()) }
    }

    /// The file, or the folder of the series.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The series, if it is one.
    #[cfg(feature = "dicom")]
    #[must_use]
    pub fn series(&self) -> Option<&dicom_series::Series> {
        self.series.as_ref()
    }

    /// Every file that it is read from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        #[cfg(feature = "dicom")]
        if let Some(series) = &self.series {
            return series.files().map(Path::to_owned).collect();
        }
        std::iter::once(self.path.clone()).chain(volume::data_file(&self.path)).collect()
    }

    /// Opens it: what its header says is read and checked, and its slices come as they are asked for.
    ///
    /// # Errors
    /// When it cannot be read, or is no scan.
    pub fn open(&self) -> Result<Arc<dyn Source>, SourceError> {
        Ok(match self.format {
            Format::Nifti | Format::Nrrd | Format::MetaImage => Arc::new(ScanFile::with_data(&self.path)?),
            Format::Dicom => return self.open_series(),
        })
    }

    #[cfg(feature = "dicom")]
    fn open_series(&self) -> Result<Arc<dyn Source>, SourceError> {
        if let Some(series) = &self.series {
            return Ok(Arc::new(series.clone()));
        }
        let found = dicom_series::find(&self.path, |_| false);
        match (found.series.into_iter().next(), found.bad.into_iter().next()) {
            (Some(series), _) => Ok(Arc::new(series)),
            (None, Some(bad)) => Err(bad.into()),
            (None, None) => Err(format!("{}: no CT image; expected a series of CT", self.path.display()).into()),
        }
    }

    #[cfg(not(feature = "dicom"))]
    fn open_series(&self) -> Result<Arc<dyn Source>, SourceError> {
        Err(FormatError::at(&self.path)(Problem::NoDicom).into())
    }
}
