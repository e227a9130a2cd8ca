//! The list of cases that a runner hands to a stage.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::Common;

/// The cases of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseList {
    /// The store to publish to.
    pub root: PathBuf,
    /// Whether these are not all cases of the node, so that no result of the whole is to be made.
    pub partial: bool,
    /// Whether all cases are done anew, even those that have a result.
    pub forced: bool,
    /// What the cases share.
    pub common: Common,
    /// The cases.
    pub cases: Vec<CaseEntry>,
}

/// One case to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseEntry {
    /// The name of the piece of work.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Whether its files are in place already.
    pub done: bool,
    /// Name → hash of its own files.
    pub reads: BTreeMap<String, String>,
    /// The files behind `reads` that may change under the reader's hands, as they were when they were hashed.
    pub seen: Vec<Seen>,
    /// Whatever else it depends on.
    pub facts: Value,
    /// What it writes: `output/…` and `work/…`.
    pub writes: Vec<String>,
}

/// A file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The file.
    pub path: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// Its length.
    pub size: u64,
    /// When it was last written, in seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl Seen {
    /// The file as it is now.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn now(path: &Path) -> std::io::Result<Self> {
        let meta = path.metadata()?;
        Ok(Self { path: path.to_owned(), inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Refuses a file that was written since.
    ///
    /// # Errors
    /// Names the file.
    pub fn check(&self) -> Result<()> {
        let now = Self::now(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        anyhow::ensure!(now == *self, "{} was changed while it was read; run again when it is at rest", self.path.display());
        Ok(())
    }
}

impl CaseList {
    /// Reads a list.
    ///
    /// # Errors
    /// When the file is missing or no list.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the list of cases {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no list of cases; start the run again", path.display()))
    }
}
