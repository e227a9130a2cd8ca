//! A pipeline and its store as they are now, for those who show them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::{Planner, State};
use crate::record::Record;
use crate::status::{NodeState, NodeStatus, statuses};
use crate::store::Store;

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

/// The nodes as they stand, of a survey of all.
///
/// # Errors
/// As [`statuses`].
pub(crate) fn nodes(planner: &Planner<'_>, states: &BTreeMap<usize, State>) -> Result<Vec<NodeView>> {
    let view = |status: NodeStatus| {
        let store = planner.store;
        let key = status.key.clone().filter(|_| status.state == NodeState::Fresh).or_else(|| store.latest_key(&status.node));
        let record = key.and_then(|key| store.record(&key));
        let log = status.log.or_else(|| store.log(&record.as_ref()?.key));
        let reasons = if status.state == NodeState::Fresh { Vec::new() } else { status.about };
        NodeView { state: status.state, record, reasons, log }
    };
    Ok(statuses(planner, states)?.into_iter().map(view).collect())
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
}
