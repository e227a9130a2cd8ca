//! `run --dry-run`: what would be run, and what it would cost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use super::args::RunArgs;
use super::verbs::say;
use super::{DONE, Program, WORK_FOUND};
use crate::error::Usage;
use crate::forecast::{NodeCost, Samples, critical_path, forecast};
use crate::graph::{Pipeline, Source};
use crate::plan::{Planner, State};
use crate::status::{reasons, waits_for};
use crate::text::{columns, duration, instead, size};

/// Tells what would be run, how much disk it will take, and how long.
pub(super) fn dry_run(
    program: &Program,
    planner: &Planner<'_>,
    wanted: &BTreeSet<usize>,
    forced: &BTreeSet<usize>,
    args: &RunArgs,
) -> Result<u8> {
    check_supposed(planner.pipeline, args)?;
    let first = planner.store.is_empty();
    // Nothing can be fresh where there is no result, and datasets need not be read to know it.
    let states = if first { wanted.iter().map(|&index| (index, State::Waits(Vec::new()))).collect() } else { planner.survey(wanted)? };
    let mut found = false;
    for (index, state) in &states {
        let absent = planner.absent(*index);
        let reason = match state {
            State::Fresh(_) if forced.contains(index) => "would be run again (--force)".to_owned(),
            State::Fresh(_) => continue,
            State::Waits(_) if first && absent.is_empty() => "would be run: it has no result yet".to_owned(),
            State::Waits(parents) if absent.is_empty() => {
                format!("depends on what {} will write", waits_for(planner, *index, parents).join(", "))
            }
            State::Waits(_) => format!("waits for {}", absent.join(" and ")),
            State::Stale(_) => format!("would be run: {}", reasons(planner, *index, &states)?.join("; ")),
        };
        found = true;
        say(&format!("{}: {reason}\n", planner.pipeline.nodes[*index].name));
    }
    if !found {
        return Ok(DONE);
    }
    let supposed = args.suppose.iter().cloned().collect();
    let mut samples = Samples::kept_in(planner.store, planner.pipeline.device);
    let mut costs = forecast(planner, &states, forced, &supposed, &samples);
    if args.measure {
        planner.store.create()?;
        // The first time told what there is to measure.
        samples = samples.measured_now();
        costs = forecast(planner, &states, forced, &supposed, &samples);
    }
    say(&table(program, planner.pipeline, &costs, args.measure));
    Ok(WORK_FOUND)
}

/// Refuses to suppose something of data that nobody reads.
fn check_supposed(pipeline: &Pipeline, args: &RunArgs) -> Result<()> {
    let sources = pipeline.nodes.iter().flat_map(|node| node.inputs.values());
    let known: BTreeSet<&str> =
        sources.filter_map(|source| if let Source::Data { name, .. } = source { Some(name.as_str()) } else { None }).collect();
    let known: Vec<&str> = known.into_iter().collect();
    match args.suppose.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => {
            Err(Usage(format!("--suppose {name}: no node reads `data.{name}`; {}", instead(name, "they read", &known))).into())
        }
        None => Ok(()),
    }
}

/// A row for each node, the sums, and what is not known.
fn table(program: &Program, pipeline: &Pipeline, costs: &[NodeCost], measured: bool) -> String {
    let name = |cost: &NodeCost| pipeline.nodes[cost.index].name.clone();
    let time = |seconds: f64| duration(Duration::from_secs_f64(seconds));
    // What follows with certainty is shown even where other parts are not known.
    let shown = |known: f64, text: String, cost: &NodeCost| match (known > 0.0, cost.unknown.is_empty()) {
        (true, true) => text,
        (true, false) => format!("more than {text}"),
        (false, true) => "little".to_owned(),
        (false, false) => "unknown".to_owned(),
    };
    let mut rows = vec![["node", "time", "disk", "work"].map(str::to_owned)];
    for cost in costs {
        let disk = shown(cost.bytes, bytes(cost.bytes), cost);
        rows.push([name(cost), shown(cost.seconds, time(cost.seconds), cost), disk, cost.work.join(", ")]);
    }
    let mut text = format!("\n{}\n", columns(&rows));
    let (seconds, disk) = costs.iter().fold((0.0, 0.0), |(seconds, disk), cost| (seconds + cost.seconds, disk + cost.bytes));
    let known = if costs.iter().all(|cost| cost.unknown.is_empty()) { "" } else { "what is known: " };
    text += &format!("In all, {known}{} and {} on this machine, one node after another.\n", time(seconds), bytes(disk));
    let (longest, path) = critical_path(pipeline, costs);
    if longest > 0.0 {
        let path: Vec<&str> = path.iter().map(|&index| pipeline.nodes[index].name.as_str()).collect();
        text += &format!("The longest chain takes {}, on however many machines like this one: {}.\n", time(longest), path.join(" → "));
    }
    let mut unknown: Vec<(String, Vec<String>)> = Vec::new();
    for cost in costs.iter().filter(|cost| !cost.unknown.is_empty()) {
        let reason = cost.unknown.join("; ");
        match unknown.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, nodes)) => nodes.push(name(cost)),
            None => unknown.push((reason, vec![name(cost)])),
        }
    }
    if !unknown.is_empty() {
        let lines: String = unknown.iter().map(|(reason, nodes)| format!("  {}: {reason}\n", nodes.join(", "))).collect();
        text += &format!("Unknown:\n{lines}");
    }
    if !measured && costs.iter().any(|cost| cost.unknown.iter().any(|reason| reason.ends_with("not measured"))) {
        text += &format!(
            "`{} run --dry-run --measure` does a little of each kind of work, measures it, and keeps that in the store.\n",
            program.name
        );
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "disks are smaller than 2^63 bytes")]
fn bytes(bytes: f64) -> String {
    size(bytes.round() as u64)
}
