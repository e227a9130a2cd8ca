//! Why a model of another program cannot be taken.

use std::path::PathBuf;

/// A model that cannot be taken: what was found, what was expected, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {reason}; {remedy}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A file that is not what its name says.
    #[error("{path}: {part}{reason}; expected {expected}")]
    Form {
        /// The file.
        path: PathBuf,
        /// The part of it, with a colon behind, or nothing.
        part: String,
        /// The reason.
        reason: serde_json::Error,
        /// What it should be.
        expected: &'static str,
    },
    /// What this program has no form for.
    #[error("{path}: {found}; {expected}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected, and what to do.
        expected: String,
    },
    /// Weights of another network.
    #[error("the weights {path} do not fit the network that they are said to be of: {}. {remedy}", .found.join(", "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// All that is missing, unknown, of another shape or no number.
        found: Vec<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// Classes that cannot be.
    #[error("{path}: {reason}")]
    Classes {
        /// The file that names them.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A card that cannot be written.
    #[error("cannot write {path}: {reason}")]
    Card {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: serde_json::Error,
    },
    /// A file of PyTorch's that holds something else.
    #[error("cannot read the weights: {0}")]
    Pth(#[from] pth::PthError),
    /// Weights that cannot be read or written.
    #[error(transparent)]
    Files(#[from] nets::WeightsError),
    /// A failure of the tensor library.
    #[error(transparent)]
    Params(#[from] nets::ParamsError),
}

impl From<candle_core::Error> for ForeignError {
    fn from(error: candle_core::Error) -> Self {
        Self::Params(error.into())
    }
}
