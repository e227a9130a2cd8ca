//! Damage spreads no further: what was made from bytes that turned out to be damaged is taken back with them.
//!
//! A record says which digests its inputs had, not when they were read. Whether a result was made before a file was damaged or after, nobody
//! knows; so it is taken back, and what was made from it too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result};

use crate::digest::{Digest, Hasher, Tree};
use crate::job::Job;
use crate::own::{self, Kind};
use crate::record::Record;
use crate::store::Store;

/// What is known to be damaged, or made from what is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taint {
    /// Hashes of single files.
    pub(crate) files: BTreeSet<String>,
    /// Digests of results.
    pub(crate) digests: BTreeSet<Digest>,
}

impl Taint {
    /// The files of a result that are not what was published, and the result.
    pub(crate) fn of(store: &Store, record: &Record, found: &Tree) -> Self {
        let published = store.tree(&record.output);
        if published.as_ref() == Some(found) {
            // What tells about the work is read by nobody.
            return Self::default();
        }
        let damaged = published.into_iter().flat_map(|tree| tree.0).filter(|(path, hash)| found.0.get(path) != Some(hash));
        Self { files: damaged.map(|(_, hash)| hash).collect(), digests: [record.output.clone()].into() }
    }

    fn has(&self, digest: &str, trees: &mut HashMap<Digest, bool>, store: &Store) -> bool {
        if self.digests.contains(digest) || digest.strip_prefix("file:").is_some_and(|hash| self.files.contains(hash)) {
            return true;
        }
        let look = || store.tree(digest).is_some_and(|tree| tree.0.values().any(|hash| self.files.contains(hash)));
        *trees.entry(digest.to_owned()).or_insert_with(look)
    }
}

/// Takes back a damaged result: its record, the blobs of its damaged files, and everything that was made from it. Returns the nodes of
/// the results that were taken back beside it.
pub(crate) fn withdraw(store: &Store, record: &Record, found: &Tree) -> Result<Vec<String>> {
    let taint = Taint::of(store, record, found);
    for hash in &taint.files {
        store.cases().drop_blob(hash)?;
    }
    store.withdraw(&record.key)?;
    spread(store, taint)
}

/// Takes back everything that was made from what is tainted. Returns the nodes of the results.
pub(crate) fn spread(store: &Store, mut taint: Taint) -> Result<Vec<String>> {
    let key = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let json = |path: &Path| path.extension().is_some_and(|end| end == "json");
    let keys = own::entries(store.root(), Kind::Record)?.0.into_iter().filter(|path| json(path));
    let mut records: BTreeMap<String, Record> = keys.filter_map(|path| Some((key(&path), store.record(&key(&path))?))).collect();
    let cases = store.cases();
    let mut left: Vec<String> = own::entries(store.root(), Kind::CaseRecord)?.0.iter().map(|path| key(path)).collect();
    let mut nodes = Vec::new();
    loop {
        // What a tree holds is asked anew, since more files are tainted by now.
        let mut trees = HashMap::new();
        let mut grown = false;
        let mut kept = Vec::with_capacity(left.len());
        for key in left {
            let Some(case) = cases.sealed(&key) else { continue };
            let tainted = case.reads.values().any(|hash| taint.files.contains(hash))
                || case.common.shared.values().any(|digest| taint.has(digest, &mut trees, store));
            if tainted {
                cases.withdraw(&key)?;
                taint.files.extend(case.files.into_values().map(|file| file.hash));
                grown = true;
            } else {
                kept.push(key);
            }
        }
        left = kept;
        let tainted = |record: &&Record, trees: &mut HashMap<Digest, bool>| {
            record.inputs.values().any(|input| taint.has(&input.digest, trees, store))
        };
        let found: Vec<Record> = records.values().filter(|record| tainted(record, &mut trees)).cloned().collect();
        for record in found {
            store.withdraw(&record.key)?;
            records.remove(&record.key);
            nodes.push(record.node.clone());
            taint.digests.insert(record.output.clone());
            // Of a stage that works by case the tainted cases have been told apart above.
            if record.cases == 0 {
                taint.files.extend(store.tree(&record.output).unwrap_or_default().0.into_values());
            }
            grown = true;
        }
        if !grown {
            return Ok(nodes);
        }
    }
}

/// Looks at what a job reads, by size, times and inode first: an input from the store must be what was published, and one from outside what
/// was looked at when the job was planned.
///
/// # Errors
/// Names the input; a damaged result is taken back, with what was made from it.
pub(crate) fn check_inputs(store: &Store, job: &Job, hasher: &Hasher) -> Result<()> {
    // Cases look after the files that are their own.
    let is_whole = |role: &str| job.cases.as_ref().is_none_or(|cases| cases.common.shared.contains_key(role));
    for (role, input) in job.inputs.iter().filter(|(role, _)| is_whole(role)) {
        let Ok(inside) = input.path.strip_prefix(store.root().join("objects")) else {
            let (now, _) = hasher.digest(&input.path, &|_| {})?;
            anyhow::ensure!(
                now == input.digest,
                "input {role} ({}): {} has changed since the run was planned; run again when it is at rest",
                input.from,
                input.path.display()
            );
            continue;
        };
        let key = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let record = store.record(&key).with_context(|| format!("input {role} ({}): its result is gone; run again", input.from))?;
        let found = hasher.tree(&store.object(&key), &|_| {})?;
        if !record.is_of(found.clone()) {
            let others = withdraw(store, &record, &found.split().0)?;
            let others =
                if others.is_empty() { String::new() } else { format!(", and so were {}, which were made from it", others.join(", ")) };
            anyhow::bail!(
                "input {role} ({}): the files in {} are not those that were published; they were damaged since. The result was taken back{others}; \
                 run again, which makes it anew",
                input.from,
                store.object(&key).display()
            );
        }
    }
    Ok(())
}
