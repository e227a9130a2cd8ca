//! The verbs that look and tell: `status`, `explain`, `log`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::json;

use super::args::{ExplainArgs, LogArgs, StatusArgs};
use super::verbs::{DEFAULT_PIPELINE, Opened, say};
use super::{DONE, Program};
use crate::explain::case_reasons;
use crate::plan::{Planner, State};
use crate::status::{Counts, NodeState, failure, reasons, statuses};
use crate::text::{columns, size};

pub(super) const NOTE: fn(String) = |text| eprintln!("{text}");

/// `status`.
pub(super) fn status(program: &Program, args: &StatusArgs) -> Result<u8> {
    let opened = Opened::new(program, &args.choice, DEFAULT_PIPELINE)?.trusting(&args.trust);
    let (_, wanted) = opened.wanted(&args.nodes)?;
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &NOTE);
    let nodes = statuses(&planner, &planner.survey(&wanted)?)?;
    opened.keep_digests();
    let (counts, bytes) = (Counts::of(&nodes), nodes.iter().filter_map(|node| node.bytes).sum::<u64>());
    if args.json {
        let all = json!({"pipeline": opened.pipeline.name, "store": opened.store.root(), "counts": counts, "bytes": bytes, "nodes": nodes});
        say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(DONE);
    }
    let mut rows = vec![["node", "stage", "state", "about"].map(str::to_owned)];
    for node in &nodes {
        let mut about = node.about.join("; ");
        if matches!(node.state, NodeState::Failed | NodeState::Begun) {
            about.push_str(&format!("; see `{} log {}`", program.name, node.node));
        }
        rows.push([node.node.clone(), node.stage.to_owned(), node.state.word().to_owned(), about]);
    }
    let Counts { fresh, stale, missing, running, queued, failed, begun, waits } = counts;
    let counted = [
        (fresh, "fresh"),
        (stale, "stale"),
        (missing, "missing"),
        (running, "running"),
        (queued, "queued"),
        (failed, "failed"),
        (begun, "begun"),
        (waits, "waiting"),
    ];
    let counted = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    say(&format!("{}{}; fresh results: {}\n", columns(&rows), counted.collect::<Vec<_>>().join(", "), size(bytes)));
    Ok(DONE)
}

/// `NODE` or `NODE:CASE`, taken apart.
fn node_and_case(text: &str) -> (String, Option<&str>) {
    match text.split_once(':') {
        Some((node, case)) => (node.to_owned(), Some(case)),
        None => (text.to_owned(), None),
    }
}

/// `explain`.
pub(super) fn explain(program: &Program, args: &ExplainArgs) -> Result<u8> {
    let opened = Opened::new(program, &args.choice, DEFAULT_PIPELINE)?.trusting(&args.trust);
    let (name, case) = node_and_case(&args.node);
    let index = opened.one(&name)?;
    let (_, wanted) = opened.wanted(std::slice::from_ref(&name))?;
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &NOTE);
    let states = planner.survey(&wanted)?;
    opened.keep_digests();
    match (case, states.get(&index)) {
        (Some(case), Some(State::Fresh(_) | State::Stale(_))) => return explain_case(&planner, index, case, &states),
        (Some(case), Some(State::Waits(_))) => return explain_waiting_case(&planner, index, case, &states),
        _ => {}
    }
    let name = &opened.pipeline.nodes[index].name;
    if let Some(State::Fresh(record)) = states.get(&index) {
        say(&format!("{name} is fresh: nothing differs from the work of {} (key {})\n", record.started, record.key));
        return Ok(DONE);
    }
    let waits = matches!(states.get(&index), Some(State::Waits(_)));
    say(&format!("{name} {} be run:\n", if waits { "may have to" } else { "must" }));
    for line in reasons(&planner, index, &states)? {
        say(&format!("  {line}\n"));
    }
    if let Some(State::Stale(work)) = states.get(&index)
        && let Some(failure) = failure(planner.store, &work.key)
    {
        say(&format!("  its latest attempt failed: {failure}; see `{} log {name}`\n", program.name));
    }
    // What a waiting node waits for is, in the end, one or more nodes that are known to be stale.
    for (&ancestor, _) in states.iter().filter(|(other, state)| waits && **other != index && matches!(state, State::Stale(_))) {
        say(&format!("because {} must be run:\n", opened.pipeline.nodes[ancestor].name));
        for line in reasons(&planner, ancestor, &states)? {
            say(&format!("  {line}\n"));
        }
    }
    Ok(DONE)
}

/// `explain NODE:CASE`, for a node whose inputs are not there yet: what of the same case is to be done before.
fn explain_waiting_case(planner: &Planner<'_>, index: usize, case: &str, states: &BTreeMap<usize, State>) -> Result<u8> {
    let nodes = &planner.pipeline.nodes;
    say(&format!("{}:{case} may have to be run:\n", nodes[index].name));
    for (&ancestor, state) in states.iter().filter(|(ancestor, _)| **ancestor != index) {
        let State::Stale(work) = state else { continue };
        match work.cases.as_ref().filter(|cases| cases.list.iter().any(|found| found.id == case || found.case == case)) {
            Some(_) => drop(explain_case(planner, ancestor, case, states)?),
            None => {
                say(&format!("{} must be run:\n", nodes[ancestor].name));
                for line in reasons(planner, ancestor, states)? {
                    say(&format!("  {line}\n"));
                }
            }
        }
    }
    Ok(DONE)
}

/// `explain NODE:CASE`, for a node whose inputs are there.
fn explain_case(planner: &Planner<'_>, index: usize, case: &str, states: &BTreeMap<usize, State>) -> Result<u8> {
    let (node, store) = (&planner.pipeline.nodes[index].name, planner.store);
    let records = crate::plan::records(states, planner.pipeline.nodes.len());
    let work = planner.work(index, &records)?.context("what the node reads is not there")?;
    let cases = work.cases.with_context(|| format!("{node} does not work case by case, or its cases cannot be told"))?;
    let chosen: Vec<_> = cases.list.iter().filter(|found| found.id == case || found.case == case).collect();
    anyhow::ensure!(!chosen.is_empty(), "{node} has no case {case}; it has {} others", cases.list.len());
    let old = store.latest_key(node).map(|key| store.cases_of(&key)).unwrap_or_default();
    for case in chosen {
        if let Some(record) = store.cases().record(&case.key) {
            say(&format!("{node}:{} is fresh: it took {:.2} s on {} (key {})\n", case.id, record.seconds, record.host, record.key));
            continue;
        }
        say(&format!("{node}:{} must be run:\n", case.id));
        for line in case_reasons(store, &cases.common, case, old.get(&case.id)) {
            say(&format!("  {line}\n"));
        }
    }
    Ok(DONE)
}

/// `log`.
pub(super) fn log(program: &Program, args: &LogArgs) -> Result<u8> {
    let opened = Opened::new(program, &args.choice, DEFAULT_PIPELINE)?;
    let (name, case) = node_and_case(&args.node);
    let index = opened.one(&name)?;
    let (_, wanted) = opened.wanted(std::slice::from_ref(&name))?;
    let states = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &NOTE).survey(&wanted)?;
    opened.keep_digests();
    let name = &opened.pipeline.nodes[index].name;
    let key = match states.get(&index) {
        Some(State::Fresh(record)) => Some(record.key.clone()),
        // An attempt is newer than the latest result.
        Some(State::Stale(work)) if opened.store.log(&work.key).is_some() => Some(work.key.clone()),
        _ => opened.store.latest_key(name),
    };
    let Some(path) = key.and_then(|key| opened.store.log(&key)) else {
        say(&format!("{name} has not been run yet\n"));
        return Ok(DONE);
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    match case {
        None => say(&text),
        Some(case) => {
            let about: String = text.lines().filter(|line| line.contains(case)).map(|line| format!("{line}\n")).collect();
            say(&if about.is_empty() {
                format!("the log of {name} says nothing of case {case}; `{} log {name}` prints all of it\n", program.name)
            } else {
                about
            });
        }
    }
    Ok(DONE)
}
