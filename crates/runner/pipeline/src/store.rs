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
//! STORE                 the mark: only a folder with it is ever cleaned up (see `own`)
//! in-use                held by runners, and alone by who cleans up
//! locks/KEY             held while somebody works on the key
//! results/FILE/NODE     a link to the latest object of a node of FILE.yaml, for people
//! samples/KEY.json      what a little work was measured to take on a machine (see `forecast`)
//! slurm/KEY/            jobs of a cluster that do the work (see `slurm`)
//! index                 digests of files seen before (see `digest`)
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use case_store::CaseStore;

use crate::digest::{Digest, Tree, unsealed};
use crate::lock::{self, Found};
use crate::own;
use crate::record::Record;

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

    /// Makes its folders, and marks it.
    ///
    /// # Errors
    /// When the folder is no store, its folders lie on several file systems, or it cannot be written.
    pub fn create(&self) -> Result<()> {
        own::create(&self.root)?;
        fs::create_dir_all(&self.view).with_context(|| format!("cannot make the folder {}", self.view.display()))
    }

    /// Whether there is a store; a folder of something else is refused.
    ///
    /// # Errors
    /// Names what lies there instead.
    pub fn exists(&self) -> Result<bool> {
        own::check(&self.root)
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

    /// Whether no result is there yet, of a node or of a case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_empty = |folder: &str| fs::read_dir(self.root.join(folder)).map_or(true, |mut entries| entries.next().is_none());
        ["records", "cases"].into_iter().all(is_empty)
    }

    /// A measured sample.
    #[must_use]
    pub fn sample(&self, key: &str) -> PathBuf {
        self.root.join("samples").join(format!("{key}.json"))
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

    /// Lets go of a lock that its holder has left: of a dead process, or with `elsewhere` of a process on another machine, which cannot
    /// be asked. Whether it was let go; never that of a process that lives, or that took it just now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn free_lock(&self, name: &str, elsewhere: bool) -> Result<bool> {
        lock::free(&self.lock(name), elsewhere)
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

    pub(crate) fn log_of_record(&self, key: &str) -> PathBuf {
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
        // Of one name, so that the next one finds what a killed one left. Where two meet, one renames the other's.
        let temporary = self.view.join(format!(".{node}"));
        let write = || -> std::io::Result<()> {
            loop {
                remove_if_there(&temporary)?;
                let made = std::os::unix::fs::symlink(Path::new("../../objects").join(key), &temporary);
                match made.and_then(|()| fs::rename(&temporary, &link)) {
                    Err(error)
                        if matches!(error.kind(), std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotFound)
                            && self.view.is_dir() => {}
                    end => return end,
                }
            }
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
        cases_in(&text)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(key, id)| (id.to_owned(), key.to_owned()))
            .collect()
    }

    pub(crate) fn cases_path(&self, key: &str) -> PathBuf {
        self.root.join("records").join(format!("{key}.cases"))
    }
}

/// The lines of a list of cases; `None` if it is damaged. Lists of earlier versions have no seal.
pub(crate) fn cases_in(text: &str) -> Option<&str> {
    let is_sealed = text.lines().last().is_some_and(|line| !line.contains(' '));
    if is_sealed { Some(unsealed(text)).filter(|lines| !lines.is_empty()) } else { Some(text) }
}

pub(crate) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
