//! The list of cases that a runner hands to a stage.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::{Common, hash_of};

/// The cases of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseList {
    /// The store to publish to.
    pub root: PathBuf,
    /// Whether these are not all cases of the node, so that no result of the whole is to be made.
    pub partial: bool,
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
    /// BLAKE3 of its content; empty if there was no file.
    pub hash: String,
    /// What tells that it is still the same file; none if there was none.
    stat: Option<Stat>,
}

/// Device and inode, length, and when it was last written and changed in any way, in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        Some(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Seen {
    /// The file as it is now, whose content has that hash.
    #[must_use]
    pub fn now(path: &Path, hash: &str) -> Self {
        Self { path: path.to_owned(), hash: hash.to_owned(), stat: Stat::of(path) }
    }

    /// Refuses a file that is another one since. One that only its times tell apart is read again.
    ///
    /// # Errors
    /// Names the file.
    pub fn check(&self) -> Result<()> {
        let now = Stat::of(&self.path);
        if now == self.stat {
            return Ok(());
        }
        let read = || hash_of(&File::open(&self.path)?);
        let same = now.is_some() && read().with_context(|| format!("cannot read {}", self.path.display()))? == self.hash;
        anyhow::ensure!(same, "{} was changed while it was read; run again when it is at rest", self.path.display());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_seen_even_if_its_time_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&path, "one").unwrap();
        let hash = blake3::hash(b"one").to_hex().to_string();
        let seen = Seen::now(&path, &hash);
        seen.check().unwrap();
        std::fs::hard_link(&path, folder.path().join("link")).unwrap();
        seen.check().unwrap();
        std::fs::write(&other, "two").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(seen.check().unwrap_err().to_string().contains("was changed while it was read"));
        std::fs::remove_file(&path).unwrap();
        assert!(seen.check().is_err());
        let absent = Seen::now(&path, "");
        absent.check().unwrap();
        std::fs::write(&path, "one").unwrap();
        assert!(absent.check().is_err(), "what was not there and is there now was read by nobody knows whom");
    }
}
