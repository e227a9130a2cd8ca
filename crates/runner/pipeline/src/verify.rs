//! Everything in a store read again: what is not what it was when it was published is reported and taken back.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use case_store::CaseRecord;
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::digest::{Digest, Tree};
use crate::own::{self, Kind};
use crate::record::Record;
use crate::store::{Store, cases_in, remove_if_there};
use crate::taint::{self, Taint};

/// Something that is not what it was when it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it, and what was done.
    pub what: String,
}

/// Reads all results, records and cases of a store. The record of what is damaged is taken back, so that the next run makes
/// it anew. Also returns how many files were read.
///
/// # Errors
/// When the store cannot be read, or a damaged part cannot be taken back.
pub fn verify(store: &Store) -> Result<(Vec<Damage>, usize)> {
    let check = Check { store, hashes: Mutex::new(HashMap::new()), taint: Mutex::new(Taint::default()) };
    let mut damage = check.trees()?;
    damage.extend(check.blobs()?);
    // Cases after blobs: a case whose blob is gone by now is damaged too.
    damage.extend(check.cases()?);
    damage.extend(check.records()?);
    let taint = check.taint.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for node in taint::spread(store, taint)? {
        damage.push(Damage {
            path: store.result(&node),
            what: "it was made from what is damaged, before or after; its record was taken back".into(),
        });
    }
    let read = check.hashes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).len();
    Ok((damage, read))
}

struct Check<'a> {
    store: &'a Store,
    /// Results and cases share files; each is read once.
    hashes: Mutex<HashMap<(u64, u64), String>>,
    /// What turned out to be damaged.
    taint: Mutex<Taint>,
}

impl Check<'_> {
    fn hash(&self, path: &Path) -> Result<String> {
        let read = || -> std::io::Result<String> {
            let file = fs::File::open(path)?;
            let meta = file.metadata()?;
            let lock = || self.hashes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(hash) = lock().get(&(meta.dev(), meta.ino())) {
                return Ok(hash.clone());
            }
            let hash = case_store::hash_of(&file)?;
            lock().insert((meta.dev(), meta.ino()), hash.clone());
            Ok(hash)
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    fn trees(&self) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for path in own::entries(self.store.root(), Kind::Tree)?.0 {
            if self.hash(&path)? != name(&path) {
                remove_if_there(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                damage.push(Damage { path, what: "the list of files is damaged and was removed; it is made anew from the files".into() });
            }
        }
        Ok(damage)
    }

    fn blobs(&self) -> Result<Vec<Damage>> {
        let blobs = own::entries(self.store.root(), Kind::Blob)?.0;
        let check = |path: PathBuf| -> Result<Option<Damage>> {
            let hash = name(&path);
            if self.hash(&path)? == hash {
                return Ok(None);
            }
            self.store.cases().drop_blob(&hash)?;
            self.taint(Taint { files: [hash].into(), ..Taint::default() });
            Ok(Some(Damage { path, what: "the file of a case is not what was published; it was removed".into() }))
        };
        some(blobs.into_par_iter().map(check).collect::<Result<_>>()?)
    }

    fn cases(&self) -> Result<Vec<Damage>> {
        let cases = self.store.cases();
        let records = own::entries(self.store.root(), Kind::CaseRecord)?.0;
        let check = |path: PathBuf| -> Result<Option<Damage>> {
            let key = name(&path).trim_end_matches(".json").to_owned();
            let what = match cases.sealed(&key) {
                None => "the record of a case is damaged; it was taken back".to_owned(),
                Some(record) if cases.record(&key).is_none() => format!("{} has lost a file; its record was taken back", told(&record)),
                Some(_) => return Ok(None),
            };
            remove_if_there(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            Ok(Some(Damage { path, what }))
        };
        some(records.into_par_iter().map(check).collect::<Result<_>>()?)
    }

    fn records(&self) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for path in own::entries(self.store.root(), Kind::Record)?.0 {
            let Some(key) = name(&path).strip_suffix(".json").map(str::to_owned) else { continue };
            let object = self.store.object(&key);
            let found = match fs::read_to_string(&path).ok().and_then(|text| case_store::open::<Record>(&text)) {
                None => Some((path, "the record is damaged; it was taken back".to_owned())),
                Some(record) => match self.differences(&record, &object)? {
                    Some(what) => Some((object, what)),
                    None => self.cases_list(&record),
                },
            };
            if let Some((path, what)) = found {
                self.store.withdraw(&key)?;
                damage.push(Damage { path, what });
            }
        }
        Ok(damage)
    }

    /// What is wrong with the list of cases of a record, if anything is.
    fn cases_list(&self, record: &Record) -> Option<(PathBuf, String)> {
        let path = self.store.cases_path(&record.key);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let listed = cases_in(&text).map_or(0, |lines| lines.lines().count());
        (listed != record.cases).then(|| (path, format!("the list of the cases of {} is damaged; its record was taken back", record.node)))
    }

    fn taint(&self, damaged: Taint) {
        let mut taint = self.taint.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taint.files.extend(damaged.files);
        taint.digests.extend(damaged.digests);
    }

    /// What is wrong with the object of a record, if anything is.
    fn differences(&self, record: &Record, object: &Path) -> Result<Option<String>> {
        if !object.is_dir() {
            return Ok(Some(format!("the result of {} is gone; its record was taken back", record.node)));
        }
        let hashed = |path: PathBuf| -> Result<(String, String)> {
            let inside = path.strip_prefix(object).unwrap_or(&path).to_string_lossy().into_owned();
            Ok((inside, self.hash(&path)?))
        };
        let tree = Tree(files(object)?.into_par_iter().map(hashed).collect::<Result<_>>()?);
        let (result, about) = tree.clone().split();
        if record.is_of(tree) {
            for tree in [result, about].iter().filter(|tree| !tree.0.is_empty()) {
                self.store.keep_tree(tree)?;
            }
            return Ok(None);
        }
        let of = Taint::of(self.store, record, &result);
        for hash in &of.files {
            self.store.cases().drop_blob(hash)?;
        }
        self.taint(of);
        let expected = |digest: Option<&Digest>| digest.map_or_else(|| Some(Tree::default()), |digest| self.store.tree(digest));
        let parts = [(expected(Some(&record.output)), result), (expected(record.about.as_ref()), about)];
        let changes = parts.into_iter().filter_map(|(expected, found)| Some(crate::explain::tree_change(&expected?, &found)));
        let files = changes.filter(|change| !change.is_empty()).collect::<Vec<_>>().join("; ");
        Ok(Some(format!("the result of {} is not what was published ({files}); its record was taken back", record.node)))
    }
}

fn told(record: &CaseRecord) -> String {
    format!("case {} of {}", record.id, record.node)
}

fn some(found: Vec<Option<Damage>>) -> Result<Vec<Damage>> {
    Ok(found.into_iter().flatten().collect())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All files below the folder of a result.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}
