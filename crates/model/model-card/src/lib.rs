//! What a trained model says of itself: its network, its classes, and how scans were shown to it.
//!
//! Training writes the card into the metadata of the weights. Inference takes from it what the pipeline file leaves out, and
//! refuses what contradicts it: a network that is shown scans otherwise than in its training finds organs in the wrong places and
//! says nothing.

mod asked;
mod file;
mod habits;
mod mirrors;
mod output;
mod page;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use labels::{Classes, LabelError, LabelPattern};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use volume::{ModelGrid, Scaling};

pub use asked::{Answer, Asked};
pub use file::{MODEL_FILE, WEIGHTS_FILE, model_file};
pub use habits::Habits;
pub use mirrors::UnseenMirrors;
pub use output::Output;
pub use page::Publication;
pub use parts::{KeepParts, KeptParts, Part};

/// What kind of model a file of weights holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The 2-D U-Net with a decoder for each group, of `train-student`.
    Student,
    /// A 3-D network of `train-teacher`.
    Teacher,
    /// A model of `train-partial`.
    Partial,
    /// A graph of operations from another program.
    Graph,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Student => "student, as `train-student` writes it",
            Self::Teacher => "teacher, as `train-teacher` writes it",
            Self::Partial => "model for partial labels, as `train-partial` writes it",
            Self::Graph => "graph from another program, as `import` writes it",
        })
    }
}

/// How scans were shown to a network in its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInput {
    /// Spacing in mm (`null` where each scan kept its own) and window in HU.
    pub grid: ModelGrid,
    /// How the windowed intensities were scaled.
    #[serde(default)]
    pub scaling: Scaling,
    /// Whether scans were cropped to the foreground.
    pub crop_foreground: bool,
    /// Voxels of a patch along x, y, z, or pixels of a crop along x, y.
    pub patch: Vec<usize>,
    /// What it is used to from another program.
    #[serde(default, skip_serializing_if = "Habits::is_none")]
    pub habits: Habits,
}

/// Where the weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The cases that it was trained on, such as `D_l4`.
    pub cases: String,
    /// The seed of the training.
    pub seed: u64,
    /// The epoch whose weights these are, from 1; 0 for a model that another program has trained, of which neither seed nor score is known.
    pub best_epoch: u64,
    /// The validation score of that epoch: the Dice score or the loss, as `fit.select` says.
    pub validation_score: f64,
    /// Which of the two it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// Along which of x, y and z its training mirrored samples; unknown of models from another program or an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<[bool; 3]>,
    /// The node of the pipeline that trained it, or the stage where it ran alone. A training whose key is the same under another name
    /// is not done again, and so keeps the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The key of the training in the store; none where no runner planned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Digests of what it was trained on, by the roles of the stage's inputs: `tree:…` of a folder, `file:…` of a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// What tells how good an epoch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The mean Dice score of the validation cases, from 0 to 1.
    Dice,
    /// The validation loss.
    Loss,
}

/// All that a trained model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// What it is.
    pub kind: Kind,
    /// Kind and size of the network, as pipeline files declare them.
    pub network: Value,
    /// The classes that it finds, as the pipeline declared them.
    pub classes: Classes,
    /// What its outputs stand for; none for a model of `train-partial`, whose heads follow from `network`.
    pub outputs: Vec<Output>,
    /// How scans were shown to it.
    pub input: ModelInput,
    /// Where its weights come from.
    pub origin: Origin,
    /// Which connected parts of what it finds are kept, as `export` was told; all in the paper (2.4).
    #[serde(default, skip_serializing_if = "KeepParts::is_empty")]
    pub keep_parts: KeepParts,
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
    #[error("{path} finds {}; expected a model that finds {}", .found.join(", "), .expected.join(", "))]
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
    /// A number that says nothing of the parts of a class.
    #[error("keep_parts.{key}: {found:?} is not {expected}; leave it out to keep every part")]
    Part {
        /// The class or group.
        key: String,
        /// What was found.
        found: Part,
        /// What was expected.
        expected: &'static str,
    },
    /// Parts of what the model does not find.
    #[error("keep_parts: {reason}")]
    PartOf {
        /// The name, and those that are known.
        reason: Box<LabelError>,
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
    /// When there is a card that cannot be read, or whose outputs are not of its classes.
    pub fn of(metadata: &HashMap<String, String>, path: &Path) -> Result<Option<Self>, CardError> {
        let read = |text: &String| {
            let card: Self = serde_json::from_str(text)?;
            card.outputs.iter().enumerate().try_for_each(|(k, output)| card.check_output(output, &card.outputs[..k]))?;
            Ok(card)
        };
        metadata.get(Self::FIELD).map(read).transpose().map_err(|reason| CardError::Unreadable { path: path.into(), reason })
    }

    fn check_output(&self, output: &Output, before: &[Output]) -> serde_json::Result<()> {
        let group = self.classes.group(&output.group).map_err(serde_json::Error::custom)?;
        let among = output.pattern().is_within(self.classes.groups()[group].pattern()) && output.pattern().len() == output.values.len();
        if among && before.iter().all(|other| other.group != output.group) {
            return Ok(());
        }
        let [found, known] = [&output.values, &self.classes.groups()[group].values()].map(|values| format!("{values:?}"));
        Err(serde_json::Error::custom(format!(
            "an output has the values {found} of the group `{}`, whose values are {known}",
            output.group
        )))
    }

    /// What the outputs stand for, by the order of the groups: later ones are laid over earlier ones.
    #[must_use]
    pub fn ordered_outputs(&self) -> Vec<Output> {
        let mut outputs = self.outputs.clone();
        outputs.sort_by_key(|output| self.classes.groups().iter().position(|group| group.key() == output.group));
        outputs
    }

    /// Refuses a model of another kind.
    ///
    /// # Errors
    /// [`CardError::Kind`].
    pub fn must_be(&self, expected: Kind, path: &Path) -> Result<(), CardError> {
        if self.kind == expected { Ok(()) } else { Err(CardError::Kind { path: path.into(), found: self.kind, expected }) }
    }

    /// Refuses a model that does not find all of some classes.
    ///
    /// # Errors
    /// [`CardError::Classes`].
    pub fn must_find(&self, expected: LabelPattern, among: &Classes, path: &Path) -> Result<(), CardError> {
        must_find(&self.classes, expected, among, path)
    }
}

/// Refuses the model at `path` if it finds `found` and not all of some classes.
///
/// # Errors
/// [`CardError::Classes`].
pub fn must_find(found: &Classes, expected: LabelPattern, among: &Classes, path: &Path) -> Result<(), CardError> {
    // Classes of one name and of different values are different classes to whoever reads the label maps.
    let finds = |value: u8| found.of_value(value).is_some_and(|class| class.key == among.key_of(value));
    if expected.iter().all(finds) {
        return Ok(());
    }
    let [found, expected] = [(found, found.pattern()), (among, expected)]
        .map(|(classes, pattern)| pattern.iter().map(|value| format!("{} ({value})", classes.key_of(value))).collect());
    Err(CardError::Classes { path: path.into(), found, expected })
}
