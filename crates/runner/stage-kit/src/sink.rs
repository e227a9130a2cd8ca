//! Where finished cases go when a runner has asked for them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use case_store::{CaseEntry, CaseList, CaseRecord, CaseStore, Claim, Claimed, Finished, Publisher};

/// The cases that a runner wants, and the store that takes them.
#[derive(Clone, Debug)]
pub struct Sink {
    store: CaseStore,
    list: std::sync::Arc<CaseList>,
    /// Name → place in the list.
    places: std::sync::Arc<HashMap<String, usize>>,
    /// The folders `output` and `work` of the attempt.
    output: PathBuf,
    work: PathBuf,
    node: String,
}

/// What became of a case that was asked for.
pub(crate) enum Turn {
    /// It is this process's to do.
    Ours(Claim),
    /// Another process has done it meanwhile; its files are in place.
    Done,
    /// Another process is doing it.
    Busy,
}

/// How long to leave a case alone that another process is doing.
pub(crate) const BUSY: Duration = Duration::from_millis(100);

impl Sink {
    /// The sink for the list at `path`, with the folders of the attempt.
    ///
    /// # Errors
    /// When there is no list.
    pub fn open(path: &Path, output: &Path, work: &Path, node: &str) -> Result<Self> {
        let list = CaseList::load(path)?;
        let places = list.cases.iter().enumerate().map(|(place, entry)| (entry.id.clone(), place)).collect();
        Ok(Self {
            store: CaseStore::at(&list.root),
            list: list.into(),
            places: std::sync::Arc::new(places),
            output: output.to_owned(),
            work: work.to_owned(),
            node: node.to_owned(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.cases.len()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    pub(crate) fn is_done(&self, id: &str) -> bool {
        self.entry(id).is_some_and(|entry| entry.done)
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.list.partial
    }

    fn entry(&self, id: &str) -> Option<&CaseEntry> {
        self.places.get(id).map(|&place| &self.list.cases[place])
    }

    fn path(&self, place: &str) -> PathBuf {
        match place.split_once('/') {
            Some(("work", file)) => self.work.join(file),
            Some((_, file)) => self.output.join(file),
            None => self.output.join(place),
        }
    }

    /// Asks for the right to do a case.
    pub(crate) fn turn(&self, id: &str) -> Result<Option<Turn>> {
        let Some(entry) = self.entry(id) else { return Ok(None) };
        let claim = match self.store.claim(&entry.key)? {
            Claimed::Busy => return Ok(Some(Turn::Busy)),
            Claimed::Granted(claim) => claim,
        };
        let Some(record) = self.store.record(&entry.key) else { return Ok(Some(Turn::Ours(claim))) };
        for (place, file) in &record.files {
            self.store.link(&file.hash, &self.path(place))?;
        }
        Ok(Some(Turn::Done))
    }

    /// Takes a case that was done; it counts once its publisher has published it.
    pub(crate) fn finish(&self, id: &str, took: Duration) -> Result<Finished> {
        let entry = self.entry(id).context("the case is not on the list")?;
        for seen in &entry.seen {
            seen.check()?;
        }
        let writes: BTreeMap<String, PathBuf> = entry.writes.iter().map(|place| (place.clone(), self.path(place))).collect();
        Finished::new(writes, |files| CaseRecord {
            key: entry.key.clone(),
            id: entry.id.clone(),
            node: self.node.clone(),
            common: self.list.common.clone(),
            reads: entry.reads.clone(),
            facts: entry.facts.clone(),
            files,
            seconds: took.as_secs_f64(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        })
    }

    /// Who publishes the cases that are done from now on.
    pub(crate) fn publisher(&self) -> Result<Publisher> {
        Publisher::open(&self.store)
    }
}
