//! A pipeline and its store as they are now, for those who show them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::State;
use crate::store::{Record, Store};

/// The state of a node, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Its result is there.
    Fresh,
    /// It is being worked on.
    Running,
    /// Its latest attempt failed.
    Failed,
    /// Its latest attempt was stopped or killed; the next run goes on with it.
    Begun,
    /// It has a result of other parameters or inputs.
    Stale,
    /// Whether it must be run depends on what others will write.
    Waits,
    /// It has never been run.
    Missing,
}

impl NodeState {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Begun => "begun",
            Self::Stale => "stale",
            Self::Waits => "waits",
            Self::Missing => "missing",
        }
    }

    fn of(store: &Store, state: &State, has_record: bool) -> Self {
        let work = match state {
            State::Fresh(_) => return Self::Fresh,
            State::Waits(_) => return Self::Waits,
            State::Stale(work) => work,
        };
        if !store.attempt(&work.key).exists() {
            if has_record { Self::Stale } else { Self::Missing }
        } else if is_locked(&store.lock(&work.key)) {
            Self::Running
        } else if store.log(&work.key).is_some_and(|log| ends_with_an_error(&log)) {
            Self::Failed
        } else {
            Self::Begun
        }
    }
}

/// Whether somebody works under the lock at `path`.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// How much of a log is looked at.
const LOG_END: u64 = 16 << 10;

/// The last lines of a log, at most 16 KiB of it.
///
/// # Errors
/// When it cannot be read.
pub fn log_end(path: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(LOG_END);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_END).read_to_end(&mut bytes)?;
        Ok((bytes, start > 0))
    };
    let (bytes, cut) = read().with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().skip(usize::from(cut)).map(str::to_owned).collect())
}

/// Whether the last attempt of a log said what went wrong, or died of a panic. One that was killed had no time to.
fn ends_with_an_error(log: &Path) -> bool {
    let Ok(lines) = log_end(log) else { return false };
    let attempt = lines.iter().rev().take_while(|line| !line.starts_with("--- "));
    attempt.into_iter().any(|line| line.starts_with("error: ") || line.contains("panicked at"))
}

/// One node as it stands.
pub struct NodeView {
    /// Its state.
    pub state: NodeState,
    /// The record of its result, or of an earlier one if it has no fresh one.
    pub record: Option<Record>,
    /// Why it is not fresh, a line each.
    pub reasons: Vec<String>,
    /// What the stage said: in its latest attempt, or in the work behind `record`.
    pub log: Option<PathBuf>,
}

/// A pipeline and its store.
pub struct Snapshot<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The store.
    pub store: &'a Store,
    /// The pipeline file, as it was named.
    pub file: PathBuf,
    /// The nodes, in the order of the pipeline.
    pub nodes: Vec<NodeView>,
    /// The latest run, if it was noted.
    pub latest_run: Option<RunNote>,
    /// The program's name and version.
    pub program: (&'static str, &'static str),
    /// Now, in UTC.
    pub taken: String,
}

/// The nodes as they stand; `reasons` tells why one is not fresh.
pub(crate) fn nodes(
    pipeline: &Pipeline,
    store: &Store,
    states: &BTreeMap<usize, State>,
    reasons: impl Fn(usize) -> Result<Vec<String>>,
) -> Result<Vec<NodeView>> {
    let view = |(index, node): (usize, &crate::graph::Node)| {
        let surveyed = states.get(&index).with_context(|| format!("the state of {} is unknown", node.name))?;
        let record = match surveyed {
            State::Fresh(record) => Some((**record).clone()),
            _ => store.latest_key(&node.name).and_then(|key| store.record(&key)),
        };
        let state = NodeState::of(store, surveyed, record.is_some());
        let attempt = if let State::Stale(work) = surveyed { store.log(&work.key) } else { None };
        let log = attempt.or_else(|| store.log(&record.as_ref()?.key));
        let reasons = if state == NodeState::Fresh { Vec::new() } else { reasons(index)? };
        Ok(NodeView { state, record, reasons, log })
    };
    pipeline.nodes.iter().enumerate().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_log_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let lines: Vec<String> = (0..5000).map(|line| format!("line {line}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let end = log_end(&path).unwrap();
        assert!(end.len() < 2000 && lines.ends_with(&end), "{:?}", end.first());
    }

    #[test]
    fn only_the_last_attempt_tells_whether_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let log = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ends_with_an_error(&path)
        };
        assert!(log("--- then: a starts\nstep 1\nerror: no\n  case x: bad\n"));
        assert!(!log("--- then: a starts\nerror: no\n--- now: a goes on\nstep 2\n"));
    }
}
