//! The way of finished cases into the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::key::hash_of;
use crate::record::{CaseRecord, FileRecord};
use crate::store::CaseStore;

/// A case that was done and is not published yet.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What will be kept of it.
    pub record: CaseRecord,
    /// Place in the attempt → the file.
    files: BTreeMap<String, PathBuf>,
}

impl Finished {
    /// The case whose files are at `files` (place in the attempt → path); `fill` makes its record. From now on the files may
    /// not be written.
    ///
    /// # Errors
    /// When a file is missing.
    pub fn new(files: BTreeMap<String, PathBuf>, fill: impl FnOnce(BTreeMap<String, FileRecord>) -> CaseRecord) -> Result<Self> {
        let mut hashes = BTreeMap::new();
        for (place, path) in &files {
            hashes.insert(place.clone(), hashed(path).with_context(|| format!("cannot keep {}", path.display()))?);
        }
        Ok(Self { record: fill(hashes), files })
    }
}

fn hashed(path: &Path) -> Result<FileRecord> {
    let file = File::open(path).context("the stage has not written it")?;
    let meta = file.metadata()?;
    // An edit through a result would make the store lie.
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & !0o222))?;
    Ok(FileRecord { hash: hash_of(&file)?, bytes: meta.len() })
}

/// Publishes cases, many at a time if many are finished: their files become blobs once they are on the disk for good, and
/// then their records are written.
#[derive(Debug)]
pub struct Publisher {
    store: CaseStore,
    /// Open since before any of the files was written, so that the kernel tells here of every write that failed.
    root: File,
    device: u64,
}

/// So many files are made durable one by one; more than these all at once, together with whatever else is to be written to
/// the same file system.
const FEW: usize = 4;

impl Publisher {
    /// A publisher for cases that are still to be done.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(store: &CaseStore) -> Result<Self> {
        let open = || -> std::io::Result<(File, u64)> {
            let root = File::open(store.root())?;
            let device = root.metadata()?.dev();
            Ok((root, device))
        };
        let (root, device) = open().with_context(|| format!("cannot open the store {}", store.root().display()))?;
        Ok(Self { store: store.clone(), root, device })
    }

    /// Publishes a group of cases; what becomes of each stands in its place.
    #[must_use]
    pub fn publish(&self, group: &[&Finished]) -> Vec<Result<()>> {
        let files: BTreeSet<&Path> = group.iter().flat_map(|case| case.files.values().map(PathBuf::as_path)).collect();
        // Where the file system cannot do it, or has met an error, each file tells by itself.
        let together = files.len() > FEW && self.all_on_one_device(&files) && rustix::fs::syncfs(&self.root).is_ok();
        group.iter().map(|case| self.publish_one(case, together)).collect()
    }

    fn all_on_one_device(&self, files: &BTreeSet<&Path>) -> bool {
        files.iter().all(|path| fs::metadata(path).is_ok_and(|meta| meta.dev() == self.device))
    }

    fn publish_one(&self, case: &Finished, is_durable: bool) -> Result<()> {
        for (place, path) in &case.files {
            let keep = || {
                if !is_durable {
                    File::open(path)?.sync_data()?;
                }
                let hash = &case.record.files.get(place).context("internal error: a file without a hash")?.hash;
                self.store.keep(path, hash)
            };
            keep().with_context(|| format!("cannot keep {}", path.display()))?;
        }
        self.store.write_record(&case.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Common;
    use serde_json::Value;

    #[test]
    fn a_group_is_published_as_its_members_would_be_and_a_bad_one_costs_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = CaseStore::at(&folder.path().join("store"));
        fs::create_dir(store.root()).unwrap();
        let publisher = Publisher::open(&store).unwrap();
        let finished = |n: usize| {
            let path = folder.path().join(n.to_string());
            fs::write(&path, format!("case {n}")).unwrap();
            let common = Common { stage: "s".into(), revision: 1, params: Value::Null, seed: 1, shared: BTreeMap::new() };
            Finished::new(BTreeMap::from([("output/a".to_owned(), path)]), |files| CaseRecord {
                key: format!("key{n}"),
                id: n.to_string(),
                node: "n".into(),
                common,
                reads: BTreeMap::new(),
                facts: Value::Null,
                files,
                seconds: 0.0,
                host: String::new(),
            })
            .unwrap()
        };
        for size in [1, FEW + 3] {
            let cases: Vec<Finished> = (0..size).map(finished).collect();
            fs::remove_file(folder.path().join("0")).unwrap();
            let results = publisher.publish(&cases.iter().collect::<Vec<_>>());
            assert!(results[0].as_ref().is_err_and(|error| format!("{error:#}").contains("cannot keep")), "the file is gone");
            assert_eq!(store.record("key0"), None);
            for (case, result) in cases.iter().zip(results).skip(1) {
                result.unwrap();
                let record = store.record(&case.record.key).unwrap();
                assert_eq!(fs::read_to_string(store.blob(&record.files["output/a"].hash)).unwrap(), format!("case {}", record.id));
            }
        }
    }
}
