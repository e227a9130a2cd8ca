//! What is kept of a case.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::Common;

/// One finished case. Never changed once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// The key, see [`Common::case_key`].
    pub key: String,
    /// The name of the piece of work, such as the case's.
    pub id: String,
    /// The node that it was done for.
    pub node: String,
    /// What it shares with the other cases.
    pub common: Common,
    /// Name → hash of the files that are its own.
    pub reads: BTreeMap<String, String>,
    /// Whatever else it depends on.
    pub facts: Value,
    /// Place in the attempt (`output/…` or `work/…`) → what was written there.
    pub files: BTreeMap<String, FileRecord>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The host's name.
    pub host: String,
}

/// One file of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// BLAKE3 of its content, and the name of its blob.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
}
