//! What was asked, what there is of it, and the best numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use metrics::{GroupSummary, Summary};
use pipeline::{NodeState, RunNote, Snapshot};

use crate::html::{Section, badge, escaped};
use crate::models::Scored;
use crate::scores::final_model;
use crate::{date, seconds};

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Section {
    let mut body = String::from("<div class=\"cards\">\n");
    body.push_str(&states(seen));
    if let Some(last) = final_model(models) {
        body.push_str(&best(last, models));
    }
    body.push_str(&work(seen));
    body.push_str("</div>\n");
    let _ = writeln!(body, "<p>{}</p>", seen.latest_run.as_ref().map_or_else(|| NO_RUN.to_owned(), latest_run));
    let listed = listed(seen);
    if !listed.is_empty() {
        let _ = writeln!(body, "<ul class=\"open\">{listed}</ul>");
    }
    Section { id: "summary", title: "Summary".into(), body }
}

const NO_RUN: &str = "No run of this pipeline is on record; what is fresh was found in the store.";

fn card(label: &str, value: &str, about: &str) -> String {
    format!("<div class=\"card\"><span>{label}</span><strong>{value}</strong><small>{about}</small></div>\n")
}

fn states(seen: &Snapshot<'_>) -> String {
    let mut counts: BTreeMap<NodeState, usize> = BTreeMap::new();
    for view in &seen.nodes {
        *counts.entry(view.state).or_default() += 1;
    }
    let fresh = counts.get(&NodeState::Fresh).copied().unwrap_or(0);
    let badges: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {}", badge(state.word()))).collect();
    card("Nodes done", &format!("{fresh} of {}", seen.nodes.len()), &badges.join(" "))
}

/// The final model's means, and where another model is better.
fn best(last: &Scored, models: &[Scored]) -> String {
    let Some(summary) = last.official.last() else { return String::new() };
    let about = |score: &dyn Fn(&Summary) -> Option<f64>| {
        // Means over other classes say nothing about these.
        let all = models.iter().flat_map(|scored| &scored.official).filter(|other| other.scored() == summary.scored());
        let best = all.filter_map(|summary| Some((score(summary)?, &summary.model))).max_by(|a, b| a.0.total_cmp(&b.0));
        let name = &summary.model;
        let mine = score(summary);
        match best {
            Some((value, other)) if mine.is_none_or(|mine| value > mine) && other != name => {
                format!("{}; best is {} with {:.2}", escaped(name), escaped(other), 100.0 * value)
            }
            _ => format!("{}, {} cases", escaped(name), summary.cases),
        }
    };
    let of_group = |group: &GroupSummary| {
        let mean = |summary: &Summary| summary.group(&group.group.key)?.scores.dsc.mean;
        card(&format!("DSC of {}, %", escaped(&group.group.counted())), &group.scores.dsc.percent(), &about(&mean))
    };
    summary.groups.iter().map(of_group).collect()
}

fn work(seen: &Snapshot<'_>) -> String {
    let records = || seen.nodes.iter().filter_map(|view| view.record.as_ref());
    let (time, bytes) = (records().map(|record| record.seconds).sum(), records().map(|record| record.bytes).sum());
    card(
        "Work behind the results",
        &seconds(time),
        &format!("{} in {} files", pipeline::size(bytes), records().map(|record| record.files).sum::<usize>()),
    )
}

fn latest_run(run: &RunNote) -> String {
    let asked = if run.asked.is_empty() { "all nodes".to_owned() } else { run.asked.join(", ") };
    let ended = if run.interrupted { "it was stopped after" } else { "it took" };
    let mut counts = vec![format!("{} found fresh", run.fresh), format!("{} run", run.done.len())];
    counts.extend((!run.failed.is_empty()).then(|| format!("{} failed", run.failed.len())));
    counts.extend((run.left > 0).then(|| format!("{} left", run.left)));
    escaped(&format!(
        "The latest run that did something was asked for {asked} on {}; {ended} {}: {}.",
        date(&run.started),
        seconds(run.seconds),
        counts.join(", ")
    ))
}

/// The nodes that are not fresh: why, where there is more to tell than that others come first.
fn listed(seen: &Snapshot<'_>) -> String {
    let link = |index: usize| format!("<a href=\"#node-{index}\">{}</a>", escaped(&seen.pipeline.nodes[index].name));
    let of = |state: NodeState| (0..seen.nodes.len()).filter(move |&index| seen.nodes[index].state == state);
    let mut out = String::new();
    for state in [NodeState::Failed, NodeState::Running, NodeState::Queued, NodeState::Begun, NodeState::Stale] {
        for index in of(state) {
            let reasons = match state {
                NodeState::Failed | NodeState::Begun => "the end of its log stands below".to_owned(),
                NodeState::Running => String::new(),
                _ => escaped(&seen.nodes[index].reasons.join("; ")),
            };
            let _ = writeln!(out, "<li>{} {} <small>{reasons}</small></li>", badge(state.word()), link(index));
        }
    }
    for state in [NodeState::Waits, NodeState::Missing] {
        let names: Vec<String> = of(state).map(link).collect();
        if !names.is_empty() {
            let _ = writeln!(out, "<li>{} {}</li>", badge(state.word()), names.join(", "));
        }
    }
    out
}
