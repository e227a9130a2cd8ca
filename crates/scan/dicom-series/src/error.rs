//! What can be wrong with a DICOM file.

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct DicomError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl DicomError {
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
    /// The elements of the file cannot be told apart.
    #[error("the DICOM elements are damaged ({0}); export the series again")]
    Damaged(String),
    /// An element that reaches beyond the end of the file.
    #[error("truncated: the element {tag} declares {declared} bytes, and {left} are left in the file; export the series again")]
    Truncated {
        /// The element.
        tag: String,
        /// The bytes that it declares.
        declared: u64,
        /// The bytes that there are.
        left: u64,
    },
    /// Sequences within sequences without an end.
    #[error("sequences are nested more than {0} deep; the file is damaged, export the series again")]
    Nested(usize),
    /// An element that has no such value.
    #[error("{name}: {found}; expected {expected}; {remedy}")]
    Element {
        /// Its name.
        name: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Pixels that are packed as no decoder here unpacks them.
    #[error(
        "the pixels are packed as {name} ({uid}), which is not unpacked here; unpack the series first, for example with `gdcmconv --raw` or `dcmdjpeg`"
    )]
    Syntax {
        /// The transfer syntax.
        uid: String,
        /// Its name.
        name: &'static str,
    },
    /// Packed pixels that are damaged.
    #[error("frame {frame}: the {packing} pixels are damaged ({reason}); export the series again")]
    Pixels {
        /// Which frame, from 1.
        frame: u32,
        /// How they are packed.
        packing: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

/// A finding about an element.
pub(crate) fn element(name: &'static str, found: impl Into<String>, expected: &'static str, remedy: &'static str) -> Problem {
    let mut found: String = found.into().chars().take(120).collect();
    if found.is_empty() {
        found.push_str("nothing");
    }
    Problem::Element { name, found, expected, remedy }
}

pub(crate) const EXPORT: &str = "export the series again";
