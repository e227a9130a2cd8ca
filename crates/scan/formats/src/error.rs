//! What can be wrong with a scan of another format than NIfTI.

use std::io;
use std::path::{Path, PathBuf};

use volume::AffineError;

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
    /// The header says what no scan can be, or what is not read.
    #[error("{field}: {found}; expected {expected}; {remedy}")]
    Field {
        /// The field of the header.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The affine is impossible.
    #[error("{0}; correct the header")]
    Affine(#[from] AffineError),
    /// Voxels are missing.
    #[error("truncated: {found} of {expected} bytes of voxels are there, in {}; copy or download the file again", file.display())]
    Truncated {
        /// The file that holds the voxels.
        file: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes that the header declares.
        expected: u64,
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

/// A finding about a field of a header.
pub(crate) fn field(field: &'static str, found: impl Into<String>, expected: &'static str, remedy: &'static str) -> Problem {
    let mut found: String = found.into();
    if found.len() > MOST_SHOWN {
        let end = (0..=MOST_SHOWN).rev().find(|&end| found.is_char_boundary(end)).unwrap_or(0);
        found.truncate(end);
        found.push('…');
    }
    Problem::Field { field, found: if found.is_empty() { "nothing".into() } else { found }, expected, remedy }
}

/// So many bytes of a field are shown.
const MOST_SHOWN: usize = 120;

/// What to do about a header that contradicts itself.
pub(crate) const WRITE_ANEW: &str = "write the image anew, for example with SimpleITK or 3D Slicer";
