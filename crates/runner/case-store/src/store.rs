//! Blobs and records on the disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::claim::{Claim, Claimed};
use crate::record::{CaseRecord, FileRecord};
use crate::seal::{open, seal};

/// The part of a store that holds single cases.
#[derive(Clone, Debug)]
pub struct CaseStore {
    root: PathBuf,
}

impl CaseStore {
    /// The case store in the folder `root`; nothing is made yet.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder of all records.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.root.join("cases")
    }

    /// The folder of all blobs.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The content of that hash.
    #[must_use]
    pub fn blob(&self, hash: &str) -> PathBuf {
        sharded(&self.blobs(), hash)
    }

    fn record_path(&self, key: &str) -> PathBuf {
        sharded(&self.records(), &format!("{key}.json"))
    }

    /// Claims a case.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn claim(&self, key: &str) -> Result<Claimed> {
        Claim::take(&self.root.join("locks").join(format!("case-{key}")))
    }

    /// The record of a case, if it is whole and its blobs are there in their full length.
    #[must_use]
    pub fn record(&self, key: &str) -> Option<CaseRecord> {
        let record = self.sealed(key)?;
        let there = |file: &FileRecord| fs::metadata(self.blob(&file.hash)).is_ok_and(|meta| meta.len() == file.bytes);
        record.files.values().all(there).then_some(record)
    }

    /// The record of a case, if it is whole, whatever became of its blobs.
    #[must_use]
    pub fn sealed(&self, key: &str) -> Option<CaseRecord> {
        let text = fs::read_to_string(self.record_path(key)).ok()?;
        open::<CaseRecord>(&text).filter(|record| record.key == key)
    }

    /// Takes the record of a case back, so that it counts as not done.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn withdraw(&self, key: &str) -> Result<()> {
        remove_if_there(&self.record_path(key))
    }

    /// Removes a blob whose content is not what its name says.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn drop_blob(&self, hash: &str) -> Result<()> {
        remove_if_there(&self.blob(hash))
    }

    /// The folder of the whole store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a file, which is on the disk for good, the blob of that hash.
    pub(crate) fn keep(&self, path: &Path, hash: &str) -> Result<()> {
        let blob = self.blob(hash);
        make_parent(&blob)?;
        // A blob of that name that is there already may have been damaged since; what was hashed just now has not.
        place(path, &blob)
    }

    /// Puts a blob where a result wants it, in place of what is there.
    ///
    /// # Errors
    /// When there is no such blob, or the place cannot be written.
    pub fn link(&self, hash: &str, to: &Path) -> Result<()> {
        make_parent(to)?;
        place(&self.blob(hash), to)
    }

    pub(crate) fn write_record(&self, record: &CaseRecord) -> Result<()> {
        let path = self.record_path(&record.key);
        self.write_to(&path, record).with_context(|| format!("cannot write {}; check that the disk has room", path.display()))
    }

    fn write_to(&self, path: &Path, record: &CaseRecord) -> Result<()> {
        make_parent(path)?;
        let temporary = beside(path);
        // Not synced: a record that a power failure tears is no record, by its seal, and costs the work of one case.
        let mut file = File::create(&temporary)?;
        let written = file.write_all(seal(record)?.as_bytes());
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
            remove_if_there(&temporary)?;
            return Err(error.into());
        }
        Ok(())
    }
}

/// `folder/ab/NAME`: folders of many thousand entries are slow on some file systems.
fn sharded(folder: &Path, name: &str) -> PathBuf {
    folder.join(name.get(..2).unwrap_or("__")).join(name)
}

fn make_parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        fs::create_dir_all(parent)?;
    }
    Ok(())
}

/// Makes `to` the same file as `from` at once; a copy where the file system has no links.
fn place(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} is missing", from.display()));
        }
        Err(_) => {}
    }
    let temporary = beside(to);
    if fs::hard_link(from, &temporary).is_err() {
        fs::copy(from, &temporary)?;
        File::open(&temporary)?.sync_data()?;
    }
    let renamed = fs::rename(&temporary, to);
    // Renaming one of two links to the same file onto the other does nothing and leaves both.
    remove_if_there(&temporary)?;
    Ok(renamed?)
}

/// A name of its own in the same folder, by the pattern that everybody sweeps up.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".writing-{}-{number}", std::process::id()))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::key::Common;
    use crate::publish::{Finished, Publisher};
    use serde_json::Value;

    fn record(key: &str, files: BTreeMap<String, FileRecord>) -> CaseRecord {
        let common = Common { stage: "s".into(), revision: 1, params: Value::Null, seed: 1, shared: BTreeMap::new() };
        let (key, id, node, host) = (key.into(), "a".into(), "n".into(), "h".into());
        CaseRecord { key, id, node, common, reads: BTreeMap::new(), facts: Value::Null, files, seconds: 1.0, host }
    }

    fn publish(store: &CaseStore, key: &str, path: &Path, text: &str) -> CaseRecord {
        fs::write(path, text).unwrap();
        let writes = BTreeMap::from([("output/a.txt".to_owned(), path.to_owned())]);
        let case = Finished::new(writes, |files| record(key, files)).unwrap();
        Publisher::open(store).unwrap().publish(&[&case]).pop().unwrap().unwrap();
        case.record
    }

    #[test]
    fn a_published_case_can_be_put_into_place_again_and_takes_room_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = CaseStore::at(&folder.path().join("store"));
        fs::create_dir(folder.path().join("store")).unwrap();
        let [one, two, three] = ["1", "2", "3"].map(|name| folder.path().join(name));
        let kept = publish(&store, "key1", &one, "text");
        assert_eq!(store.record("key1"), Some(kept.clone()));
        publish(&store, "key2", &two, "text");
        store.link(&kept.files["output/a.txt"].hash, &three).unwrap();
        store.link(&kept.files["output/a.txt"].hash, &three).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&two), inode(&three));
        assert_eq!(inode(&two), inode(&store.blob(&kept.files["output/a.txt"].hash)));
        assert!(fs::metadata(&three).unwrap().permissions().readonly());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "no temporary names stay");
    }

    #[test]
    fn a_torn_record_a_missing_blob_and_a_short_blob_are_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let store = CaseStore::at(&folder.path().join("store"));
        fs::create_dir(folder.path().join("store")).unwrap();
        let path = folder.path().join("a");
        let blob = store.blob(&publish(&store, "key", &path, "text").files["output/a.txt"].hash);
        fs::remove_file(&blob).unwrap();
        assert_eq!(store.record("key"), None);
        fs::write(&blob, "tex").unwrap();
        assert_eq!(store.record("key"), None);
        fs::remove_file(&path).unwrap();
        publish(&store, "key", &path, "text");
        assert!(store.record("key").is_some(), "a short blob is replaced");
        let text = fs::read_to_string(store.record_path("key")).unwrap();
        fs::write(store.record_path("key"), &text[..text.len() / 2]).unwrap();
        assert_eq!(store.record("key"), None);
    }
}
