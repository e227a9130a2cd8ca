use std::path::PathBuf;

use thiserror::Error;

/// Why a prepared case cannot be written or read.
#[derive(Debug, Error)]
pub enum PreparedError {
    /// A file cannot be opened or read.
    #[error("cannot read {path}: {reason}; it is written by the stage `preprocess`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// A file ends early or goes on too long.
    #[error(
        "{path} is truncated or damaged: it has {found} bytes, and its header tells of {expected}; delete it and run `preprocess` again"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length that follows from its header.
        expected: u64,
    },
    /// A file is whole but is no prepared case.
    #[error("{path} is not a prepared case: {reason}; delete it and run `preprocess` again")]
    NotPrepared {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The index of a folder cannot be understood.
    #[error("{path} is not an index of prepared cases: {reason}; run `preprocess` again")]
    Index {
        /// The index.
        path: PathBuf,
        /// The reason.
        reason: serde_json::Error,
    },
    /// Cases were asked for that are not in the index.
    #[error("{} of the cases asked for are not in {path}: {}; run `preprocess` with the subsets that they belong to", missing.len(), first_few(missing))]
    UnknownCases {
        /// The index.
        path: PathBuf,
        /// The cases that it lacks.
        missing: Vec<String>,
    },
    /// A map to be stored has another shape than the image.
    #[error("{what} has the shape {found:?}, expected the image's {expected:?}")]
    Shape {
        /// Which map, or the grid that goes with it.
        what: &'static str,
        /// Its shape.
        found: [usize; 3],
        /// The shape of the image.
        expected: [usize; 3],
    },
    /// A map to be stored holds a value that it may not.
    #[error("{what} holds the value {found}, expected at most {highest}")]
    Value {
        /// Which map.
        what: &'static str,
        /// The value.
        found: u8,
        /// The highest value allowed.
        highest: u8,
    },
    /// The output cannot be written.
    #[error("cannot write a prepared case: {0}")]
    Write(#[from] std::io::Error),
}

fn first_few(cases: &[String]) -> String {
    let shown = cases.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if cases.len() > 10 { format!("{shown}, …") } else { shown }
}
