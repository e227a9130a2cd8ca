//! What is kept of a finished piece of work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Digest, Tree};

/// One finished piece of work. Never changed once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The key, see [`crate::key::key`].
    pub key: String,
    /// The node that it was done for.
    pub node: String,
    /// The stage.
    pub stage: String,
    /// The stage's revision.
    pub revision: u32,
    /// All parameters.
    pub params: Value,
    /// The seed.
    pub seed: u64,
    /// Full role → what was read.
    pub inputs: BTreeMap<String, InputRecord>,
    /// How many cases it was put together from; 0 if the stage does not work case by case.
    #[serde(default)]
    pub cases: usize,
    /// The digest of the output, but for what is about the work.
    pub output: Digest,
    /// The digest of that part, if there is one (see [`stage_kit::ABOUT`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Digest>,
    /// How many files it has.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// When the (last) attempt began, in UTC.
    pub started: String,
    /// How long the (last) attempt took, in seconds.
    pub seconds: f64,
    /// Who did it; no part of the key.
    pub made_by: MadeBy,
}

impl Record {
    /// Whether the files of the object are those that were published.
    #[must_use]
    pub fn is_of(&self, files: Tree) -> bool {
        let (result, about) = files.split();
        result.digest() == self.output && (!about.0.is_empty()).then(|| about.digest()) == self.about
    }
}

/// One input of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// The reference: `phantom/truth`, or `data.dataset` with its path.
    pub from: String,
    /// The digest of what stood there.
    pub digest: Digest,
}

/// The program and machine behind a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The program's version.
    pub version: String,
    /// BLAKE3 of the executable.
    pub executable: String,
    /// The host's name.
    pub host: String,
    /// The device that was asked for.
    pub device: String,
}
