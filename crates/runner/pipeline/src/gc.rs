//! What no pipeline file reaches any more, swept out of a store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::graph::Pipeline;
use crate::job::Job;
use crate::own::{self, Kind};
use crate::plan::State;
use crate::slurm;
use crate::store::Store;

/// What was swept out, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Results of nodes.
    pub results: usize,
    /// Results of single cases.
    pub cases: usize,
    /// Attempts that nothing would go on from.
    pub attempts: usize,
    /// Readable links of nodes that the pipeline file has no more.
    pub links: Vec<String>,
    /// Slurm's numbers of arrays for the attempts that are gone, which may be in the queue still.
    pub jobs: Vec<String>,
    /// The room on the disk.
    pub bytes: u64,
}

/// What is reached.
#[derive(Default)]
struct Kept {
    /// Keys of nodes.
    keys: BTreeSet<String>,
    trees: BTreeSet<String>,
    cases: BTreeSet<String>,
    blobs: BTreeSet<String>,
}

/// Sweeps a store: what stays is what the nodes of `pipeline` are made of now or were when they were last run, and the
/// latest results of every other pipeline file that has been run with the store. Nobody else may use the store meanwhile.
///
/// # Errors
/// When the store cannot be read or written.
pub fn collect(pipeline: &Pipeline, store: &Store, states: &BTreeMap<usize, State>, dry_run: bool) -> Result<Swept> {
    let mut sweep = Sweep { store, dry_run, swept: Swept::default(), links: HashMap::new() };
    let gone = gone_links(pipeline, store)?;
    let kept = reached(store, states, &gone)?;
    for link in &gone {
        sweep.remove(link)?;
        let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What begins with a dot was about to become a link when its runner was killed.
        sweep.swept.links.extend(Some(name).filter(|name| !name.starts_with('.')));
    }
    for (kind, keep) in [(Kind::Object, &kept.keys), (Kind::Record, &kept.keys), (Kind::Tree, &kept.trees)] {
        for path in sweep.entries(kind)? {
            if !keep.contains(&stem(&path)) {
                sweep.remove(&path)?;
                sweep.swept.results += usize::from(kind == Kind::Object);
            }
        }
    }
    let over = attempts(pipeline, store, &kept)?;
    sweep.submissions(&over)?;
    for path in over {
        sweep.remove(&path)?;
        sweep.swept.attempts += 1;
    }
    sweep.cases(&kept)?;
    for path in own::list(store.root())?.iter().filter(|path| own::is_temporary(path)) {
        sweep.remove(path)?;
    }
    let locks = store.locks();
    for path in sweep.entries(Kind::Lock)? {
        if !locks.contains_key(&*path.file_name().unwrap_or_default().to_string_lossy()) {
            sweep.remove(&path)?;
        }
    }
    sweep.swept.bytes = sweep.freed();
    Ok(sweep.swept)
}

/// The readable links of `pipeline` to nodes that it has no more.
fn gone_links(pipeline: &Pipeline, store: &Store) -> Result<Vec<PathBuf>> {
    let node_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().split(':').next().unwrap_or_default().to_owned();
    Ok(own::list(store.results())?.into_iter().filter(|path| path.is_symlink() && pipeline.find(&node_of(path)).is_none()).collect())
}

fn reached(store: &Store, states: &BTreeMap<usize, State>, gone: &[PathBuf]) -> Result<Kept> {
    let mut kept = Kept::default();
    for view in own::list(&store.root().join("results"))? {
        for link in own::list(&view)?.into_iter().filter(|link| !gone.contains(link)) {
            kept.keys.extend(fs::read_link(&link).ok().map(|target| stem(&target)));
        }
    }
    for state in states.values() {
        match state {
            State::Fresh(record) => {
                kept.keys.insert(record.key.clone());
            }
            State::Stale(work) => {
                kept.keys.insert(work.key.clone());
                kept.cases.extend(work.cases.iter().flat_map(|cases| cases.list.iter().map(|case| case.key.clone())));
            }
            State::Waits(_) => {}
        }
    }
    for record in kept.keys.iter().filter_map(|key| store.record(key)) {
        let digests = record.inputs.values().map(|input| &input.digest).chain([&record.output]).chain(&record.about);
        kept.trees.extend(digests.filter_map(|digest| Some(digest.strip_prefix("tree:")?.to_owned())));
        kept.cases.extend(store.cases_of(&record.key).into_values());
    }
    let cases = store.cases();
    kept.blobs =
        kept.cases.iter().filter_map(|key| cases.sealed(key)).flat_map(|record| record.files.into_values()).map(|f| f.hash).collect();
    Ok(kept)
}

/// Attempts of this pipeline at work that it does not stand for any more, and folders that are no attempts.
fn attempts(pipeline: &Pipeline, store: &Store, kept: &Kept) -> Result<Vec<PathBuf>> {
    let is_over = |path: &PathBuf| {
        let key = stem(path);
        !kept.keys.contains(&key) && Job::load(store, &key).map_or(true, |job| job.pipeline == pipeline.name)
    };
    Ok(own::entries(store.root(), Kind::Attempt)?.0.into_iter().filter(is_over).collect())
}

struct Sweep<'a> {
    store: &'a Store,
    dry_run: bool,
    swept: Swept,
    /// (device, inode) → links removed, links there are, size.
    links: HashMap<(u64, u64), (u64, u64, u64)>,
}

impl Sweep<'_> {
    /// The entries of a kind. What somebody began to write beside them and was killed goes at once.
    fn entries(&mut self, kind: Kind) -> Result<Vec<PathBuf>> {
        let (own, temporary) = own::entries(self.store.root(), kind)?;
        temporary.iter().try_for_each(|path| self.remove(path))?;
        Ok(own)
    }

    /// What is kept of jobs on a cluster goes with the attempt that they are for, be it `over` or long published.
    fn submissions(&mut self, over: &[PathBuf]) -> Result<()> {
        for path in self.entries(Kind::Submission)? {
            let attempt = self.store.attempt(&stem(&path));
            let is_over = over.contains(&attempt);
            if is_over {
                self.swept.jobs.extend(slurm::submitted(self.store, &stem(&path)));
            }
            if is_over || !attempt.exists() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn cases(&mut self, kept: &Kept) -> Result<()> {
        for (kind, keep) in [(Kind::CaseRecord, &kept.cases), (Kind::Blob, &kept.blobs)] {
            for path in self.entries(kind)?.iter().filter(|path| !keep.contains(&stem(path))) {
                self.remove(path)?;
                self.swept.cases += usize::from(kind == Kind::CaseRecord);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        for entry in WalkDir::new(path) {
            let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
            if entry.file_type().is_file() {
                let meta = entry.metadata().with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.links.entry((meta.dev(), meta.ino())).or_insert((0, meta.nlink(), meta.len())).0 += 1;
            }
        }
        if self.dry_run {
            return Ok(());
        }
        let is_folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The bytes of files all of whose names are gone.
    fn freed(&self) -> u64 {
        self.links.values().filter(|(removed, links, _)| removed >= links).map(|(_, _, size)| size).sum()
    }
}

/// The name without what follows a dot: the key of a record, of a case, or of a folder.
fn stem(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}
