//! The state of every node, for people and for programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::attempt::FAILED;
use crate::explain::{case_lines, differences};
use crate::lock::{Found, Life};
use crate::plan::{Planner, State, Work, records};
use crate::progress::Progress;
use crate::slurm;
use crate::snapshot::log_end;
use crate::store::Store;
use crate::text::{counted, duration, size};

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its result is there.
    Fresh,
    /// Something has changed since its latest result.
    Stale,
    /// It has no result yet.
    Missing,
    /// A process works on it.
    Running,
    /// Its jobs wait in the queue of a cluster, and none of them runs yet.
    Queued,
    /// Its latest attempt failed.
    Failed,
    /// Its latest attempt was interrupted, and the next goes on from there.
    Begun,
    /// Whether it must be run depends on what others will write.
    Waits,
}

impl NodeState {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Failed => "failed",
            Self::Begun => "begun",
            Self::Waits => "waits",
        }
    }
}

/// The state of a node with what is worth knowing.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// The node.
    pub node: String,
    /// Its stage.
    pub stage: &'static str,
    /// Its state.
    pub state: NodeState,
    /// Why, or what else there is to say.
    pub about: Vec<String>,
    /// Its key, as far as it is known.
    pub key: Option<String>,
    /// How many cases it has, if its stage works case by case and they are known.
    pub cases: Option<usize>,
    /// How many of them have a result.
    pub cases_done: Option<usize>,
    /// When its result was made, in UTC.
    pub started: Option<String>,
    /// How long that took, in seconds; of a running node how long it has taken by now.
    pub seconds: Option<f64>,
    /// How long it will take yet, in seconds.
    pub seconds_left: Option<f64>,
    /// The files of its result.
    pub files: Option<usize>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// What its stage said.
    pub log: Option<PathBuf>,
}

/// How many nodes are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the states' own names")]
pub struct Counts {
    pub fresh: usize,
    pub stale: usize,
    pub missing: usize,
    pub running: usize,
    pub queued: usize,
    pub failed: usize,
    pub begun: usize,
    pub waits: usize,
}

impl Counts {
    /// The counts of `nodes`.
    #[must_use]
    pub fn of(nodes: &[NodeStatus]) -> Self {
        let count = |state| nodes.iter().filter(|node| node.state == state).count();
        Self {
            fresh: count(NodeState::Fresh),
            stale: count(NodeState::Stale),
            missing: count(NodeState::Missing),
            running: count(NodeState::Running),
            queued: count(NodeState::Queued),
            failed: count(NodeState::Failed),
            begun: count(NodeState::Begun),
            waits: count(NodeState::Waits),
        }
    }
}

/// The states of the nodes that were surveyed.
///
/// # Errors
/// As [`reasons`].
pub fn statuses(planner: &Planner<'_>, states: &BTreeMap<usize, State>) -> Result<Vec<NodeStatus>> {
    let locks = planner.store.locks();
    states.iter().map(|(&index, state)| status(planner, index, state, states, &locks)).collect()
}

/// By lock, who holds it.
type Locks = BTreeMap<String, Found>;

fn status(planner: &Planner<'_>, index: usize, state: &State, states: &BTreeMap<usize, State>, locks: &Locks) -> Result<NodeStatus> {
    let node = &planner.pipeline.nodes[index];
    let mut status = NodeStatus {
        node: node.name.clone(),
        stage: node.stage.name,
        state: NodeState::Waits,
        about: Vec::new(),
        key: None,
        cases: None,
        cases_done: None,
        started: None,
        seconds: None,
        seconds_left: None,
        files: None,
        bytes: None,
        log: None,
    };
    match state {
        State::Fresh(record) => {
            let took = duration(Duration::from_secs_f64(record.seconds));
            let by = format!("by {} on {}", record.made_by.version, record.made_by.host);
            status.state = NodeState::Fresh;
            status.about = vec![format!("{}, {took}, {}, {}, {by}", record.started, counted(record.files, "file"), size(record.bytes))];
            status.key = Some(record.key.clone());
            (status.started, status.seconds) = (Some(record.started.clone()), Some(record.seconds));
            (status.files, status.bytes) = (Some(record.files), Some(record.bytes));
            status.cases = (record.cases > 0).then_some(record.cases);
            status.cases_done = status.cases;
            let left_out = stage_kit::read_left_out(&planner.store.object(&record.key)).len();
            if left_out > 0 {
                status.about.push(format!("{left_out} findings left cases out; see about/left_out.md in its result"));
            }
        }
        State::Stale(work) => unfinished(planner, index, work, states, locks, &mut status)?,
        State::Waits(parents) => waiting(planner, index, parents, locks, &mut status),
    }
    status.log = status.key.as_ref().and_then(|key| planner.store.log(key));
    Ok(status)
}

/// A node whose inputs are not known yet, so that nobody can say whether it must run. Somebody may be running it already.
fn waiting(planner: &Planner<'_>, index: usize, parents: &[usize], locks: &Locks, status: &mut NodeStatus) {
    let store = planner.store;
    let at_work = |(key, found): (&String, &Found)| {
        found.held && found.holder.as_ref().is_some_and(|holder| holder.node == status.node) && store.attempt(key).exists()
    };
    if let Some((key, _)) = locks.iter().find(|&(key, found)| at_work((key, found))) {
        status.state = NodeState::Running;
        status.key = Some(key.clone());
        progress(&store.attempt(key), status);
    }
    status.about.push(format!("for {}", waits_for(planner, index, parents).join(", ")));
    if let Some(record) = store.latest_key(&status.node).and_then(|key| store.record(&key)) {
        status.about.push(format!("its latest result is of {}", record.started));
    }
}

/// The nodes and the data that a node waits for.
pub(crate) fn waits_for(planner: &Planner<'_>, index: usize, parents: &[usize]) -> Vec<String> {
    parents.iter().map(|&parent| planner.pipeline.nodes[parent].name.clone()).chain(planner.absent(index)).collect()
}

/// How far a running attempt is; whether it says so.
fn progress(attempt: &Path, status: &mut NodeStatus) -> bool {
    let Some(progress) = Progress::of(attempt) else { return false };
    let (update, left) = (&progress.update, progress.left());
    (status.seconds, status.seconds_left) = (Some(progress.elapsed), Some(left.as_secs_f64()));
    let message = if update.message.is_empty() { String::new() } else { format!(", {}", update.message) };
    status.about.insert(0, format!("{}/{} {}, {} left{message}", update.done, update.total, update.what, duration(left)));
    true
}

/// A node that must be run, is running, or was.
fn unfinished(
    planner: &Planner<'_>,
    index: usize,
    work: &Work,
    states: &BTreeMap<usize, State>,
    locks: &Locks,
    status: &mut NodeStatus,
) -> Result<()> {
    status.key = Some(work.key.clone());
    if let Some(cases) = &work.cases {
        status.cases = Some(cases.list.len());
        status.cases_done = Some(cases.list.len() - cases.missing(planner.store).len());
    }
    let of_cases = status.cases.zip(status.cases_done).map(|(all, done)| format!("{done} of {all} cases are done"));
    let folder = planner.store.attempt(&work.key);
    let failed = failure(planner.store, &work.key);
    if let Some(state) = at_work(planner.store, &work.key, locks, &mut status.about) {
        status.state = state;
        if state != NodeState::Running || !progress(&folder, status) {
            status.about.extend(of_cases);
        }
        return Ok(());
    }
    if let Some(failed) = failed {
        status.state = NodeState::Failed;
        status.about = vec![failed];
        status.about.extend(of_cases);
    } else if folder.join("output").exists() {
        status.state = NodeState::Begun;
        status.about = vec!["interrupted; the next run goes on from there".to_owned()];
        status.about.extend(of_cases);
    } else {
        let known = planner.store.latest_key(&status.node).is_some_and(|key| planner.store.record(&key).is_some());
        status.state = if known { NodeState::Stale } else { NodeState::Missing };
        status.about = reasons(planner, index, states)?;
    }
    status.about.extend(left_behind(planner.store, &work.key, locks));
    Ok(())
}

/// How the latest attempt at a key failed, if it did.
pub(crate) fn failure(store: &Store, key: &str) -> Option<String> {
    let folder = store.attempt(key);
    let failed = std::fs::read_to_string(folder.join(FAILED)).ok()?;
    Some(std::iter::once(failed.trim_end().to_owned()).chain(last_words(&folder)).collect::<Vec<_>>().join("; "))
}

/// The last line of an attempt's log, which tells of a failure what the stage itself has to say.
fn last_words(attempt: &Path) -> Option<String> {
    let lines = log_end(&attempt.join("log.txt")).ok()?;
    let last = lines.iter().rfind(|line| !line.trim().is_empty())?.trim();
    (!last.starts_with("---")).then(|| last.to_owned())
}

/// Whether somebody works on a key, or has jobs for it in a queue; what there is to say of these goes to `about`.
fn at_work(store: &Store, key: &str, locks: &Locks, about: &mut Vec<String>) -> Option<NodeState> {
    let submits = slurm::lock_name(key);
    let held = |name: &str| locks.get(name).is_some_and(|found| found.held);
    let queue = slurm::in_queue(store, key).filter(|_| held(&submits));
    about.extend(queue.as_ref().map(slurm::InQueue::words));
    let runs = of_key(locks, key).any(|(name, found)| found.held && *name != submits) || queue.is_some_and(|queue| queue.running > 0);
    match runs {
        true => Some(NodeState::Running),
        false => held(&submits).then_some(NodeState::Queued),
    }
}

/// What somebody who is gone, or who cannot be asked, has left.
fn left_behind(store: &Store, key: &str, locks: &Locks) -> Vec<String> {
    let elsewhere = of_key(locks, key).filter_map(|(_, found)| found.holder.as_ref().filter(|holder| holder.life() == Life::Elsewhere));
    let mut lines: Vec<String> = elsewhere.map(|holder| format!("{holder} has it locked and cannot be asked from here")).collect();
    let jobs = slurm::submitted(store, key);
    if !jobs.is_empty() {
        lines.push(format!("its jobs ({}) may be in the queue still; the next run on the cluster takes them up", jobs.join(", ")));
    }
    lines
}

/// The locks of a key and of its parts.
fn of_key<'l>(locks: &'l Locks, key: &str) -> impl Iterator<Item = (&'l String, &'l Found)> {
    let key = key.to_owned();
    locks.range(key.clone()..).take_while(move |(name, _)| name.starts_with(&key))
}

/// Why a node is not fresh, a line each.
///
/// # Errors
/// As [`Planner::inputs`].
pub fn reasons(planner: &Planner<'_>, index: usize, states: &BTreeMap<usize, State>) -> Result<Vec<String>> {
    let (pipeline, store) = (planner.pipeline, planner.store);
    let node = &pipeline.nodes[index];
    let cases = match states.get(&index) {
        Some(State::Stale(work)) => work.cases.as_ref(),
        _ => None,
    };
    let key = store.latest_key(&node.name);
    let Some(old) = key.and_then(|key| store.record(&key)) else {
        let mut lines = vec!["it has no result yet".to_owned()];
        lines.extend(cases.map(|cases| case_lines(store, cases, &BTreeMap::new())).unwrap_or_default());
        return Ok(lines);
    };
    let inputs = planner.inputs(index, &records(states, pipeline.nodes.len()))?;
    let mut lines = differences(store, node, &inputs, &old, cases.is_some());
    if let Some(cases) = cases {
        lines.extend(case_lines(store, cases, &store.cases_of(&old.key)));
    }
    if let (Some(State::Stale(work)), true) = (states.get(&index), lines.is_empty()) {
        let damaged = work.key == old.key || work.cases.is_none();
        lines.push(if damaged { "its result is damaged".into() } else { "what it is put together from changed, and no case".into() });
    }
    if let Some(State::Waits(parents)) = states.get(&index) {
        if !parents.is_empty() {
            let names: Vec<&str> = parents.iter().map(|&parent| pipeline.nodes[parent].name.as_str()).collect();
            lines.push(format!("what {} will write may differ", names.join(", ")));
        }
        lines.extend(planner.absent(index).into_iter().map(|absent| format!("it reads {absent}")));
    }
    Ok(lines)
}
