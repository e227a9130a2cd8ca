//! The way of a finished attempt into the store: whole, durable, and the record last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use case_store::{CaseList, CaseStore, FileRecord};
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::digest::{Digest, Tree, sealed};
use crate::layout::gather;
use crate::record::Record;
use crate::store::{Store, remove_if_there};

/// What an attempt has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The digest of the result.
    pub output: Digest,
    /// The digest of what is about the work, if there is any.
    pub about: Option<Digest>,
    /// How many files there are, of both.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Takes the finished output of an attempt into the store, for good: first the object, then its record.
    ///
    /// # Errors
    /// When the output is empty, or the store cannot be written.
    pub fn publish(&self, fill: impl FnOnce(Written) -> Record, key: &str, cases: Option<&CaseList>) -> Result<Record> {
        let attempt = self.attempt(key);
        let output = attempt.join("output");
        let known = cases.map(|list| gather(&self.cases(), list)).transpose()?.unwrap_or_default();
        let (tree, bytes) = settle(&output, &self.cases(), &known).with_context(|| format!("cannot finish {}", output.display()))?;
        let files = tree.0.len();
        let (tree, about) = tree.split();
        anyhow::ensure!(!tree.0.is_empty(), "the stage ended well but wrote nothing into {}", output.display());
        let about = if about.0.is_empty() { None } else { Some(self.keep_tree(&about)?) };
        let record = fill(Written { output: self.keep_tree(&tree)?, about, files, bytes });
        if let Some(list) = cases {
            let lines: String = list.cases.iter().map(|case| format!("{}  {}\n", case.key, case.id)).collect();
            stage_kit::write_atomic_text(&self.cases_path(key), &sealed(&lines))?;
        }
        let object = self.object(key);
        let publish = || -> std::io::Result<()> {
            if object.exists() {
                // Forced again, or left without its record by a crash: the record goes before the object does.
                remove_if_there(&self.record_path(key))?;
                fs::rename(&object, attempt.join("replaced"))?;
            }
            fs::rename(&output, &object)?;
            sync_folder(&self.root().join("objects"))?;
            if attempt.join("log.txt").is_file() {
                fs::rename(attempt.join("log.txt"), self.log_of_record(key))?;
            }
            Ok(())
        };
        publish().with_context(|| format!("cannot publish {}", object.display()))?;
        stage_kit::write_atomic_text(&self.record_path(key), &case_store::seal(&record)?)?;
        sync_folder(&self.root().join("records")).context("cannot sync the records")?;
        // The result is there for good. What is left of the attempt goes now, or when the next run meets it.
        let _ = fs::remove_dir_all(&attempt);
        Ok(record)
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes temporary files, which a killed stage leaves behind; makes the others read-only and durable. Returns what there is, and its size. Files that are
/// links to the blobs of cases, `known` by their path, were seen to when the case was published.
fn settle(output: &Path, cases: &CaseStore, known: &BTreeMap<String, FileRecord>) -> Result<(Tree, u64)> {
    let mut files = Vec::new();
    for entry in WalkDir::new(output).contents_first(true) {
        let entry = entry?;
        if entry.file_type().is_dir() {
            sync_folder(entry.path())?;
        } else if entry.file_name().to_string_lossy().starts_with(whole_files::PREFIX) {
            fs::remove_file(entry.path())?;
        } else if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    let settled = |path: PathBuf| -> Result<(String, String, u64)> {
        let name = path.strip_prefix(output).ok().and_then(Path::to_str).filter(|name| !name.contains('\n'));
        let name = name.with_context(|| format!("{}: the file's name must be UTF-8 without line breaks", path.display()))?.to_owned();
        let meta = fs::metadata(&path)?;
        if let Some(file) = known.get(&name)
            && fs::metadata(cases.blob(&file.hash)).is_ok_and(|blob| (blob.dev(), blob.ino()) == (meta.dev(), meta.ino()))
        {
            return Ok((name, file.hash.clone(), meta.len()));
        }
        let file = File::open(&path)?;
        // An edit through results/NODE would make the store lie.
        let mut permissions = meta.permissions();
        permissions.set_mode(permissions.mode() & !0o222);
        file.set_permissions(permissions)?;
        let hash = case_store::hash_of(&file)?;
        file.sync_all()?;
        Ok((name, hash, meta.len()))
    };
    let settled: Vec<_> = files.into_par_iter().map(settled).collect::<Result<_>>()?;
    let bytes = settled.iter().map(|(_, _, bytes)| bytes).sum();
    Ok((Tree(settled.into_iter().map(|(name, hash, _)| (name, hash)).collect()), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MadeBy;
    use serde_json::json;

    fn record(key: &str, written: Written) -> Record {
        let Written { output, about, files, bytes } = written;
        let made_by = MadeBy { version: "1".into(), executable: String::new(), host: String::new(), device: "cpu".into() };
        Record {
            key: key.into(),
            node: "a".into(),
            stage: "s".into(),
            revision: 1,
            params: json!({}),
            seed: 0,
            inputs: BTreeMap::new(),
            cases: 0,
            output,
            about,
            files,
            bytes,
            started: String::new(),
            seconds: 0.5,
            made_by,
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "pipeline");
        store.create().unwrap();
        (folder, store)
    }

    fn attempt(store: &Store, key: &str, text: &str) {
        fs::create_dir_all(store.attempt(key).join("output/deep")).unwrap();
        fs::write(store.attempt(key).join("output/deep/result.txt"), text).unwrap();
        fs::write(store.attempt(key).join("output/.writing-x"), "half").unwrap();
    }

    #[test]
    fn an_object_appears_whole_with_its_record_and_the_attempt_is_gone() {
        let (_folder, store) = store();
        attempt(&store, "k", "one");
        assert_eq!(store.record("k"), None);
        let published = store.publish(|written| record("k", written), "k", None).unwrap();
        assert_eq!((published.files, published.bytes), (1, 3), "temporary files are no results");
        assert_eq!(store.record("k"), Some(published.clone()));
        assert!(!store.attempt("k").exists());
        assert_eq!(store.tree(&published.output).unwrap().0.keys().collect::<Vec<_>>(), ["deep/result.txt"]);
        assert!(fs::metadata(store.object("k").join("deep/result.txt")).unwrap().permissions().readonly());
    }

    #[test]
    fn an_object_without_a_record_and_a_record_without_an_object_are_nothing() {
        let (_folder, store) = store();
        fs::create_dir_all(store.object("k")).unwrap();
        fs::write(store.object("k").join("half.txt"), "half").unwrap();
        assert_eq!(store.record("k"), None);
        attempt(&store, "k", "whole");
        store.publish(|written| record("k", written), "k", None).unwrap();
        assert!(!store.object("k").join("half.txt").exists(), "what a crash left is replaced, not mixed in");
        fs::remove_dir_all(store.object("k")).unwrap();
        assert_eq!(store.record("k"), None);
    }

    #[test]
    fn an_empty_output_is_not_published() {
        let (_folder, store) = store();
        fs::create_dir_all(store.attempt("k").join("output")).unwrap();
        let error = store.publish(|written| record("k", written), "k", None).unwrap_err();
        assert!(error.to_string().contains("wrote nothing"), "{error}");
        assert_eq!(store.record("k"), None);
    }

    #[test]
    fn the_readable_name_follows_the_latest_key() {
        let (_folder, store) = store();
        assert_eq!(store.latest_key("segment[M_1]"), None);
        store.link_result("segment[M_1]", "k1").unwrap();
        store.link_result("segment[M_1]", "k2").unwrap();
        assert_eq!(store.latest_key("segment[M_1]").as_deref(), Some("k2"));
    }

    #[test]
    fn a_name_that_a_killed_runner_left_half_made_goes() {
        let (_folder, store) = store();
        store.link_result("segment[M_1]", "k1").unwrap();
        let view = store.result("segment[M_1]").parent().unwrap().to_owned();
        std::os::unix::fs::symlink("../../objects/k2", view.join(".segment[M_1]")).unwrap();
        store.link_result("segment[M_1]", "k2").unwrap();
        assert_eq!(store.latest_key("segment[M_1]").as_deref(), Some("k2"));
        assert_eq!(std::fs::read_dir(view).unwrap().count(), 1, "the name alone is there");
    }
}
