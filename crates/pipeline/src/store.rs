//! The folder of results.
//!
//! ```text
//! objects/KEY/          what a piece of work has written; appears whole, by renaming
//! records/KEY.json      what was done, from what, and the digest of the output; without it an object is not there
//! records/KEY.cases     the keys of its cases, if the stage works case by case
//! records/KEY.log       what the stage said
//! trees/HASH            the list of files behind a digest `tree:HASH`
//! cases/, blobs/        results of single cases (see the crate `case-store`); objects link to their files
//! attempts/KEY/         output, work (checkpoints), params.json and log.txt of work that goes on or was interrupted
//! in-use                held by runners, and alone by who cleans up
//! locks/KEY             held while somebody works on the key
//! results/FILE/NODE     a link to the latest object of a node of FILE.yaml, for people
//! index                 digests of files seen before (see `digest`)
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use case_store::{CaseList, CaseStore, FileRecord};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use walkdir::WalkDir;

use crate::digest::{Digest, Tree};
use crate::layout::gather;
use crate::lock::{self, Found};

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

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// The folder under `results`.
    view: PathBuf,
}

impl Store {
    /// The store at `root` as the pipeline `name` sees it; nothing is made yet.
    ///
    /// Pipelines share all objects, so that a variant repeats only what differs; the readable links are each one's own.
    #[must_use]
    pub fn new(root: &Path, name: &str) -> Self {
        Self { root: root.to_owned(), view: root.join("results").join(name) }
    }

    /// The store at `root` as nobody in particular sees it, without readable links of its own.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self::new(root, "")
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes its folders.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(&self) -> Result<()> {
        let folders = ["objects", "records", "trees", "cases", "blobs", "attempts", "locks"].map(|folder| self.root.join(folder));
        for folder in folders.iter().chain([&self.view]) {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(())
    }

    /// Results of single cases.
    #[must_use]
    pub fn cases(&self) -> CaseStore {
        CaseStore::at(&self.root)
    }

    /// The folder of readable links.
    #[must_use]
    pub fn results(&self) -> &Path {
        &self.view
    }

    /// Says that the store is in use until the file is dropped; `None` while another process cleans it up.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn enter(&self) -> Result<Option<File>> {
        self.gate(File::try_lock_shared)
    }

    /// Has the store for itself until the file is dropped; `None` while others use it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn enter_alone(&self) -> Result<Option<File>> {
        self.gate(File::try_lock)
    }

    fn gate(&self, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>> {
        let path = self.root.join("in-use");
        let open = File::options().write(true).create(true).truncate(false).open(&path);
        let file = open.with_context(|| format!("cannot open {}", path.display()))?;
        match lock(&file) {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}; does its file system know locks?", path.display()))
            }
        }
    }

    /// The index of digests.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// The published output of a key.
    #[must_use]
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.join("objects").join(key)
    }

    /// The folder of an attempt.
    #[must_use]
    pub fn attempt(&self, key: &str) -> PathBuf {
        self.root.join("attempts").join(key)
    }

    /// The lock of a key.
    #[must_use]
    pub fn lock(&self, key: &str) -> PathBuf {
        self.root.join("locks").join(key)
    }

    /// All locks that are held, or whose holders have not let them go in good order, by name: a key, or a key and a part.
    #[must_use]
    pub fn locks(&self) -> BTreeMap<String, Found> {
        let entries = fs::read_dir(self.root.join("locks")).into_iter().flatten().filter_map(Result::ok);
        let look = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, lock::look(&entry.path())?));
        entries.filter_map(look).filter(|(_, found)| found.held || found.holder.is_some()).collect()
    }

    /// The link to a node's latest object.
    #[must_use]
    pub fn result(&self, node: &str) -> PathBuf {
        self.view.join(node)
    }

    /// What the stage said while it did the work of `key`: of the finished work, or else of the attempt.
    #[must_use]
    pub fn log(&self, key: &str) -> Option<PathBuf> {
        [self.attempt(key).join("log.txt"), self.log_of_record(key)].into_iter().find(|path| path.is_file())
    }

    fn log_of_record(&self, key: &str) -> PathBuf {
        self.root.join("records").join(format!("{key}.log"))
    }

    pub(crate) fn record_path(&self, key: &str) -> PathBuf {
        self.root.join("records").join(format!("{key}.json"))
    }

    /// The record of a key, if the work was finished and its object is there.
    #[must_use]
    pub fn record(&self, key: &str) -> Option<Record> {
        let text = fs::read_to_string(self.record_path(key)).ok()?;
        // What is torn, altered or of another version is done again.
        let record: Record = case_store::open(&text)?;
        (record.key == key && self.object(key).is_dir()).then_some(record)
    }

    /// Takes a record back whose object turned out to be damaged: the work counts as not done.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn withdraw(&self, key: &str) -> Result<()> {
        let path = self.record_path(key);
        remove_if_there(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The key that the node had when it was last run or found fresh.
    #[must_use]
    pub fn latest_key(&self, node: &str) -> Option<String> {
        let target = fs::read_link(self.result(node)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }

    /// Points the readable name of a node to its object.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn link_result(&self, node: &str, key: &str) -> Result<()> {
        if self.latest_key(node).as_deref() == Some(key) {
            return Ok(());
        }
        let link = self.result(node);
        let temporary = self.view.join(format!(".{node}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            if temporary.is_symlink() {
                fs::remove_file(&temporary)?;
            }
            std::os::unix::fs::symlink(Path::new("../../objects").join(key), &temporary)?;
            fs::rename(&temporary, &link)
        };
        write().with_context(|| format!("cannot write the link {}", link.display()))
    }

    /// The tree behind a digest, if it is known and whole.
    #[must_use]
    pub fn tree(&self, digest: &str) -> Option<Tree> {
        let hash = digest.strip_prefix("tree:")?;
        let text = fs::read_to_string(self.root.join("trees").join(hash)).ok()?;
        (blake3::hash(text.as_bytes()).to_hex().as_str() == hash).then(|| Tree::parse(&text))
    }

    /// Keeps a tree, so that `explain` can tell later which files changed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_tree(&self, tree: &Tree) -> Result<Digest> {
        let digest = tree.digest();
        let path = self.root.join("trees").join(digest.trim_start_matches("tree:"));
        if !path.is_file() {
            stage_kit::write_atomic_text(&path, &tree.text())?;
        }
        Ok(digest)
    }

    /// The names and keys of the cases that the result of a key was put together from.
    #[must_use]
    pub fn cases_of(&self, key: &str) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.cases_path(key)).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once("  ")).map(|(key, id)| (id.to_owned(), key.to_owned())).collect()
    }

    pub(crate) fn cases_path(&self, key: &str) -> PathBuf {
        self.root.join("records").join(format!("{key}.cases"))
    }

    /// Takes the finished output of an attempt into the store, for good: first the object, then its record.
    ///
    /// # Errors
    /// When the output is empty, or the store cannot be written.
    pub fn publish(&self, fill: impl FnOnce(Digest, usize, u64) -> Record, key: &str, cases: Option<&CaseList>) -> Result<Record> {
        let attempt = self.attempt(key);
        let output = attempt.join("output");
        let known = cases.map(|list| gather(&self.cases(), list)).transpose()?.unwrap_or_default();
        let (tree, bytes) = settle(&output, &self.cases(), &known).with_context(|| format!("cannot finish {}", output.display()))?;
        anyhow::ensure!(!tree.0.is_empty(), "the stage ended well but wrote nothing into {}", output.display());
        let digest = self.keep_tree(&tree)?;
        let record = fill(digest, tree.0.len(), bytes);
        if let Some(list) = cases {
            let lines: String = list.cases.iter().map(|case| format!("{}  {}\n", case.key, case.id)).collect();
            stage_kit::write_atomic_text(&self.cases_path(key), &lines)?;
        }
        let object = self.object(key);
        let publish = || -> std::io::Result<()> {
            if object.exists() {
                // Forced again, or left without its record by a crash: the record goes before the object does.
                remove_if_there(&self.record_path(key))?;
                fs::rename(&object, attempt.join("replaced"))?;
            }
            fs::rename(&output, &object)?;
            sync_folder(&self.root.join("objects"))?;
            if attempt.join("log.txt").is_file() {
                fs::rename(attempt.join("log.txt"), self.log_of_record(key))?;
            }
            Ok(())
        };
        publish().with_context(|| format!("cannot publish {}", object.display()))?;
        stage_kit::write_atomic_text(&self.record_path(key), &case_store::seal(&record)?)?;
        sync_folder(&self.root.join("records")).context("cannot sync the records")?;
        fs::remove_dir_all(&attempt).with_context(|| format!("cannot remove {}", attempt.display()))?;
        Ok(record)
    }
}

pub(crate) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// The temporary files of `stage_kit::write_atomic`, which a killed stage leaves behind.
const TEMPORARY_PREFIX: &str = ".writing-";

/// Removes temporary files; makes the others read-only and durable. Returns what there is, and its size. Files that are
/// links to the blobs of cases, `known` by their path, were seen to when the case was published.
fn settle(output: &Path, cases: &CaseStore, known: &BTreeMap<String, FileRecord>) -> Result<(Tree, u64)> {
    let mut files = Vec::new();
    for entry in WalkDir::new(output).contents_first(true) {
        let entry = entry?;
        if entry.file_type().is_dir() {
            sync_folder(entry.path())?;
        } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
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
        let hash = blake3::Hasher::new().update_reader(&file)?.finalize().to_string();
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
    use serde_json::json;

    fn record(key: &str, output: Digest, files: usize, bytes: u64) -> Record {
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
        let published = store.publish(|output, files, bytes| record("k", output, files, bytes), "k", None).unwrap();
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
        store.publish(|output, files, bytes| record("k", output, files, bytes), "k", None).unwrap();
        assert!(!store.object("k").join("half.txt").exists(), "what a crash left is replaced, not mixed in");
        fs::remove_dir_all(store.object("k")).unwrap();
        assert_eq!(store.record("k"), None);
    }

    #[test]
    fn an_empty_output_is_not_published() {
        let (_folder, store) = store();
        fs::create_dir_all(store.attempt("k").join("output")).unwrap();
        let error = store.publish(|output, files, bytes| record("k", output, files, bytes), "k", None).unwrap_err();
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
}
