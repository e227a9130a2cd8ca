use std::path::PathBuf;

use labels::LabelError;
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
    /// A file ends early, or is not what was written.
    #[error("{path} is truncated or damaged: {reason}; delete it and run `preprocess` again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
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
        what: String,
        /// Its shape.
        found: [usize; 3],
        /// The shape of the image.
        expected: [usize; 3],
    },
    /// A label map to be stored holds values that mean nothing.
    #[error("case {case}: the label map holds {reason}; correct the map, or declare what its values mean")]
    Labels {
        /// The case.
        case: String,
        /// Which values.
        reason: Box<LabelError>,
    },
    /// The output cannot be written.
    #[error("cannot write a prepared case: {0}")]
    Write(#[from] std::io::Error),
}

fn first_few(cases: &[String]) -> String {
    let shown = cases.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if cases.len() > 10 { format!("{shown}, …") } else { shown }
}
