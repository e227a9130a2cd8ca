//! What a run will cost: by node and in all, before anything runs.
//!
//! Each stage foresees its own work ([`stage_kit::Stage::forecast`]) from what the stages before it foresee. How long one of a kind of
//! work takes is never assumed: it was measured on this machine and is kept in the store, or earlier results tell it, or it is unknown.

mod rest;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use stage_kit::{Ahead, Cost, Forecast, Lot, Outlook};

use crate::graph::{Node, Pipeline, Source};
use crate::plan::{Planner, State};
use crate::record::Record;

pub(crate) use rest::{Rest, Running};
pub(crate) use samples::Samples;

/// What a node will take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeCost {
    /// The node's place in the pipeline.
    pub index: usize,
    /// Seconds of work that are known.
    pub seconds: f64,
    /// Bytes that are known to stay.
    pub bytes: f64,
    /// What the seconds are made of, such as `17,940 steps of 6.1 s`.
    pub work: Vec<String>,
    /// What is not known, and what would tell it.
    pub unknown: Vec<String>,
}

/// Foresees the nodes that are not fresh, in the order of the pipeline. `supposed` says what lies behind entries of `data:`.
pub(crate) fn forecast(
    planner: &Planner<'_>,
    states: &BTreeMap<usize, State>,
    forced: &BTreeSet<usize>,
    supposed: &BTreeMap<String, Lot>,
    samples: &Samples<'_>,
) -> Vec<NodeCost> {
    let mut outlooks: BTreeMap<usize, (Outlook, Option<PathBuf>)> = BTreeMap::new();
    let mut costs = Vec::new();
    for (&index, state) in states {
        let node = &planner.pipeline.nodes[index];
        let fresh = matches!(state, State::Fresh(_)) && !forced.contains(&index);
        let result = if let State::Fresh(record) = state { Some(planner.store.object(&record.key)) } else { None };
        let ahead = ahead(node, &outlooks, supposed, result.clone().filter(|_| fresh));
        let forecast = node.stage.forecast(node.params.clone(), &ahead).unwrap_or_else(|error| Forecast::unknown(format!("{error:#}")));
        if !fresh {
            costs.push(cost(planner, index, state, &forecast, &ahead, samples));
        }
        outlooks.insert(index, (forecast.outlook, result.filter(|_| fresh)));
    }
    costs
}

fn ahead(
    node: &Node,
    outlooks: &BTreeMap<usize, (Outlook, Option<PathBuf>)>,
    supposed: &BTreeMap<String, Lot>,
    result: Option<PathBuf>,
) -> Ahead {
    let mut ahead = Ahead { result, ..Ahead::default() };
    for (role, source) in &node.inputs {
        let (outlook, path) = match source {
            Source::Node { index, sub } => match outlooks.get(index) {
                Some((outlook, result)) => (outlook.clone(), result.as_ref().map(|result| result.join(sub))),
                None => continue,
            },
            Source::Data { name, path } => {
                let outlook = supposed.get(name).map(|lot| Outlook::of_scans(*lot)).unwrap_or_default();
                // What is supposed stands in for what is there.
                (outlook, Some(path.clone()).filter(|path| path.exists() && !supposed.contains_key(name)))
            }
        };
        ahead.inputs.insert(role.clone(), outlook);
        ahead.paths.extend(path.map(|path| (role.clone(), path)));
    }
    ahead
}

fn cost(planner: &Planner<'_>, index: usize, state: &State, forecast: &Forecast, ahead: &Ahead, samples: &Samples<'_>) -> NodeCost {
    let node = &planner.pipeline.nodes[index];
    let mut found = NodeCost { index, bytes: forecast.bytes, unknown: forecast.unknown.clone(), ..NodeCost::default() };
    let left = share_left(planner, state);
    found.bytes *= left;
    for chore in &forecast.chores {
        let count = chore.count * left;
        match samples.of(node, ahead, chore) {
            Ok(Some(Cost { seconds, bytes })) => {
                found.seconds += count * seconds;
                found.bytes += count * bytes;
                found.work.push(format!("{} {} of {}", thousands(count), chore.what, short_seconds(seconds)));
            }
            Ok(None) => found.unknown.push(format!("seconds for each of {} {}: not measured", thousands(count), chore.what)),
            Err(error) => found.unknown.push(format!("seconds for each of {} {}: {error:#}", thousands(count), chore.what)),
        }
    }
    if forecast.chores.is_empty() && !found.unknown.is_empty() {
        earlier(planner, node, state, &mut found);
    }
    found
}

/// What of a node's cases is still to be done, where its cases are known.
fn share_left(planner: &Planner<'_>, state: &State) -> f64 {
    match state {
        State::Stale(work) => work.cases.as_ref().filter(|cases| !cases.list.is_empty()).map_or(1.0, |cases| {
            #[expect(clippy::cast_precision_loss, reason = "cases are few")]
            let share = cases.missing(planner.store).len() as f64 / cases.list.len() as f64;
            share
        }),
        _ => 1.0,
    }
}

/// Takes from an earlier result of the node what its stage does not foresee.
fn earlier(planner: &Planner<'_>, node: &Node, state: &State, found: &mut NodeCost) {
    let record = planner.store.latest_key(&node.name).and_then(|key| planner.store.record(&key));
    let same = |record: &Record| record.stage == node.stage.name && record.revision == node.stage.revision && record.params == node.params;
    let Some(record) = record.filter(same) else { return };
    let cases = match state {
        State::Stale(work) => work.cases.as_ref().map(|cases| cases.missing(planner.store).len()),
        _ => None,
    };
    #[expect(clippy::cast_precision_loss, reason = "cases are few")]
    let times = match cases {
        Some(cases) if record.cases > 0 => cases as f64 / record.cases as f64,
        _ => 1.0,
    };
    found.unknown.clear();
    found.seconds += times * record.seconds;
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let bytes = record.bytes as f64;
    found.bytes += times * bytes;
    found.work.push(format!("as its result of {} took", record.started));
}

/// All seconds, and those of the longest chain of nodes, each of which reads the one before it: no number of machines does the run in
/// less.
#[must_use]
pub fn critical_path(pipeline: &Pipeline, costs: &[NodeCost]) -> (f64, Vec<usize>) {
    let mut longest: BTreeMap<usize, (f64, Option<usize>)> = BTreeMap::new();
    for cost in costs {
        let parents = pipeline.nodes[cost.index].parents();
        // Of equal ones the first, which `max_by` finds from the end.
        let before = parents.iter().rev().filter_map(|parent| Some((longest.get(parent)?.0, *parent))).max_by(|a, b| a.0.total_cmp(&b.0));
        let seconds = before.map_or(0.0, |(seconds, _)| seconds) + cost.seconds;
        longest.insert(cost.index, (seconds, before.map(|(_, parent)| parent)));
    }
    let Some((&last, &(seconds, _))) = longest.iter().rev().max_by(|a, b| a.1.0.total_cmp(&b.1.0)) else { return (0.0, Vec::new()) };
    let mut path = vec![last];
    while let Some(&(_, Some(before))) = path.last().and_then(|at| longest.get(at)) {
        path.push(before);
    }
    path.reverse();
    (seconds, path)
}

/// `17,940`; below ten with a digit more.
pub(crate) fn thousands(count: f64) -> String {
    if count < 10.0 && count.fract() > 0.05 {
        return format!("{count:.1}");
    }
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with two or three digits.
fn short_seconds(seconds: f64) -> String {
    match seconds {
        ..0.1 => format!("{:.1} ms", seconds * 1000.0),
        ..10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// Reads `NAME=CASES,XxYxZ,AxBxC`.
pub(crate) fn supposed(text: &str) -> Result<(String, Lot), String> {
    let read = || {
        let (name, lot) = text.split_once('=')?;
        let mut parts = lot.split(',');
        let cases: f64 = parts.next()?.trim().parse().ok()?;
        let three = |text: &str| -> Option<[f64; 3]> {
            let sides: Vec<f64> = text.trim().split('x').map(|side| side.parse().ok()).collect::<Option<_>>()?;
            sides.try_into().ok()
        };
        let (shape, spacing) = (three(parts.next()?)?, three(parts.next()?)?);
        let sound = [cases].iter().chain(&shape).chain(&spacing).all(|value: &f64| value.is_finite() && *value > 0.0);
        (sound && !name.is_empty() && parts.next().is_none()).then(|| (name.to_owned(), Lot::of(cases, shape, spacing)))
    };
    read().ok_or_else(|| format!("`{text}` is not NAME=CASES,SHAPE,SPACING such as `FLARE23=4000,512x512x240,0.8x0.8x2.5`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_data_are_supposed_to_be_is_read_or_refused() {
        let (name, lot) = supposed("FLARE23=4000,512x512x240,0.8x0.8x2.5").unwrap();
        assert_eq!((name.as_str(), lot.cases(), lot.shape, lot.spacing_mm), ("FLARE23", 4000.0, [512.0, 512.0, 240.0], [0.8, 0.8, 2.5]));
        for wrong in ["FLARE23", "FLARE23=4000", "x=1,2x3,1x1x1", "x=1,2x3x4,1x1x0", "=1,2x3x4,1x1x1", "x=1,2x3x4,1x1x1,5"] {
            assert!(supposed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0.4, 3.0, 999.0, 1000.0, 1_234_567.0].map(thousands), ["0.4", "3", "999", "1,000", "1,234,567"]);
    }
}
