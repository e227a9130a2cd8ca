//! What can be wrong with a label map that is written, or a series that is not read.

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FormatError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl FormatError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(Problem) -> Self {
        move |problem| Self { path: path.to_owned(), problem }
    }
}

/// What was found in a file, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system did not let us read or write.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// A DICOM segmentation names the images that it belongs to.
    #[error("a DICOM segmentation refers to the images of a DICOM series, and this scan is in the format {found}; ask for another format")]
    NoSeries {
        /// The format of the scan.
        found: &'static str,
    },
    /// The program reads DICOM only if it was built so.
    #[error(
        "a DICOM file, which this program was built without; build it with `--features dicom`, or convert the series to NIfTI (dcm2niix)"
    )]
    NoDicom,
}
