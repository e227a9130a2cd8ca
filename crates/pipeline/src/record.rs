//! What is kept of a finished piece of work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

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
    /// The digest of the output.
    pub output: Digest,
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
