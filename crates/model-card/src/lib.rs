//! What a trained model says of itself: its network, its classes, and how scans were shown to it.
//!
//! Training writes the card into the metadata of the weights. Inference takes from it what the pipeline file leaves out, and
//! refuses what contradicts it: a network that is shown scans otherwise than in its training finds organs in the wrong places and
//! says nothing.

mod asked;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use volume::ModelGrid;

pub use asked::{Answer, Asked};

/// What kind of model a file of weights holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The 2-D U-Net with two decoders, of `train-student`.
    Student,
    /// A 3-D network of `train-teacher`.
    Teacher,
    /// A model of `train-partial`.
    Partial,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Student => "student, as `train-student` writes it",
            Self::Teacher => "teacher, as `train-teacher` writes it",
            Self::Partial => "model for partial labels, as `train-partial` writes it",
        })
    }
}

/// How scans were shown to a network in its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInput {
    /// Spacing in mm (`null` where each scan kept its own) and window in HU.
    pub grid: ModelGrid,
    /// Whether scans were cropped to the foreground.
    pub crop_foreground: bool,
    /// Voxels of a patch along x, y, z, or pixels of a crop along x, y.
    pub patch: Vec<usize>,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The cases that it was trained on, such as `D_l4`.
    pub cases: String,
    /// The seed of the training.
    pub seed: u64,
    /// The epoch whose weights these are, from 1.
    pub best_epoch: u64,
    /// The validation score of that epoch: the Dice score or the loss, as `fit.select` says.
    pub validation_score: f64,
}

/// All that a trained model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// What it is.
    pub kind: Kind,
    /// Kind and size of the network, as pipeline files declare them.
    pub network: Value,
    /// The names of its outputs, by channel.
    pub classes: Vec<String>,
    /// How scans were shown to it.
    pub input: ModelInput,
    /// Where its weights come from.
    pub origin: Origin,
}

/// Why a model cannot be used as it is asked to be.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// A card of another form.
    #[error("{path}: its card cannot be read ({reason}); train the model anew, or take the version of the program that wrote it")]
    Unreadable {
        /// The file of weights.
        path: PathBuf,
        /// The reason.
        reason: serde_json::Error,
    },
    /// A model of another kind.
    #[error("{path} is a {found}; expected a {expected}")]
    Kind {
        /// The file of weights.
        path: PathBuf,
        /// What it is.
        found: Kind,
        /// What was expected.
        expected: Kind,
    },
    /// A model of other classes.
    #[error("{path} finds {}; expected a model of {}", .found.join(", "), .expected.join(", "))]
    Classes {
        /// The file of weights.
        path: PathBuf,
        /// What it finds.
        found: Vec<String>,
        /// What was expected.
        expected: Vec<String>,
    },
    /// Weights without a card, of which the parameters do not say enough.
    #[error("{path} does not say how it was trained, because its weights come from elsewhere or from an earlier version; give {} under `params:`", .fields.join(", "))]
    Missing {
        /// The file of weights.
        path: PathBuf,
        /// The parameters that must be given.
        fields: Vec<&'static str>,
    },
    /// Parameters that contradict the training.
    #[error("{path}: {}. Leave these parameters out, or take a model that was trained so", .found.join("; "))]
    Contradiction {
        /// The file of weights.
        path: PathBuf,
        /// What was found and what was asked for, parameter by parameter.
        found: Vec<String>,
    },
}

impl ModelCard {
    /// The field of a file's metadata that holds the card.
    pub const FIELD: &str = "card";

    /// The card as metadata of a file of weights.
    ///
    /// # Errors
    /// When a number in it is no number.
    pub fn to_metadata(&self) -> serde_json::Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([(Self::FIELD.to_owned(), serde_json::to_string(self)?)]))
    }

    /// The card in the metadata of the file at `path`; none if the weights come from elsewhere.
    ///
    /// # Errors
    /// When there is a card that cannot be read.
    pub fn of(metadata: &HashMap<String, String>, path: &Path) -> Result<Option<Self>, CardError> {
        let read = |text: &String| serde_json::from_str(text).map_err(|reason| CardError::Unreadable { path: path.into(), reason });
        metadata.get(Self::FIELD).map(read).transpose()
    }

    /// Refuses a model of another kind.
    ///
    /// # Errors
    /// [`CardError::Kind`].
    pub fn must_be(&self, expected: Kind, path: &Path) -> Result<(), CardError> {
        if self.kind == expected { Ok(()) } else { Err(CardError::Kind { path: path.into(), found: self.kind, expected }) }
    }

    /// Refuses a model of other classes.
    ///
    /// # Errors
    /// [`CardError::Classes`].
    pub fn must_find(&self, expected: &[&str], path: &Path) -> Result<(), CardError> {
        if self.classes.iter().eq(expected) {
            return Ok(());
        }
        let expected = expected.iter().map(|class| (*class).to_owned()).collect();
        Err(CardError::Classes { path: path.into(), found: self.classes.clone(), expected })
    }
}
