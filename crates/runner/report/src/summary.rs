//! What was asked, what there is of it, and the best numbers.

use std::collections::BTreeMap;

use maud::{Markup, html};
use metrics::{GroupSummary, Summary};
use pipeline::{NodeState, RunNote, Snapshot};

use crate::html::{Section, badge};
use crate::models::Scored;
use crate::scores::final_model;
use crate::{date, seconds};

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Section {
    let listed = listed(seen);
    let body = html! {
        div.cards {
            (states(seen))
            @if let Some(last) = final_model(models) {
                @for card in best(last, models) { (card) }
            }
            (work(seen))
        }
        p { (seen.latest_run.as_ref().map_or_else(|| NO_RUN.to_owned(), latest_run)) }
        @if !listed.is_empty() {
            ul.open { @for item in listed { li { (item) } "\n" } }
        }
    };
    Section { id: "summary", title: "Summary".into(), body }
}

const NO_RUN: &str = "No run of this pipeline is on record; what is fresh was found in the store.";

fn card(label: &str, value: &str, about: &Markup) -> Markup {
    html! { div.card { span { (label) } strong { (value) } small { (about) } } "\n" }
}

fn states(seen: &Snapshot<'_>) -> Markup {
    let mut counts: BTreeMap<NodeState, usize> = BTreeMap::new();
    for view in &seen.nodes {
        *counts.entry(view.state).or_default() += 1;
    }
    let fresh = counts.get(&NodeState::Fresh).copied().unwrap_or(0);
    let badges = html! { @for (state, count) in &counts { (count) " " (badge(state.word())) " " } };
    card("Nodes done", &format!("{fresh} of {}", seen.nodes.len()), &badges)
}

/// The final model's means, and where another model is better.
fn best(last: &Scored, models: &[Scored]) -> Vec<Markup> {
    let Some(summary) = last.official.last() else { return Vec::new() };
    let about = |score: &dyn Fn(&Summary) -> Option<f64>| {
        // Means over other classes say nothing about these.
        let all = models.iter().flat_map(|scored| &scored.official).filter(|other| other.scored() == summary.scored());
        let best = all.filter_map(|summary| Some((score(summary)?, &summary.model))).max_by(|a, b| a.0.total_cmp(&b.0));
        let name = &summary.model;
        let mine = score(summary);
        match best {
            Some((value, other)) if mine.is_none_or(|mine| value > mine) && other != name => {
                format!("{name}; best is {other} with {:.2}", 100.0 * value)
            }
            _ => format!("{name}, {} cases", summary.cases),
        }
    };
    let of_group = |group: &GroupSummary| {
        let mean = |summary: &Summary| summary.group(&group.group.key)?.scores.dsc.mean;
        card(&format!("DSC of {}, %", group.group.counted()), &group.scores.dsc.percent(), &html! { (about(&mean)) })
    };
    summary.groups.iter().map(of_group).collect()
}

fn work(seen: &Snapshot<'_>) -> Markup {
    let records = || seen.nodes.iter().filter_map(|view| view.record.as_ref());
    let (time, bytes) = (records().map(|record| record.seconds).sum(), records().map(|record| record.bytes).sum());
    let files = records().map(|record| record.files).sum::<usize>();
    card("Work behind the results", &seconds(time), &html! { (pipeline::size(bytes)) " in " (files) " files" })
}

fn latest_run(run: &RunNote) -> String {
    let asked = if run.asked.is_empty() { "all nodes".to_owned() } else { run.asked.join(", ") };
    let ended = if run.interrupted { "it was stopped after" } else { "it took" };
    let mut counts = vec![format!("{} found fresh", run.fresh), format!("{} run", run.done.len())];
    counts.extend((!run.failed.is_empty()).then(|| format!("{} failed", run.failed.len())));
    counts.extend((run.left > 0).then(|| format!("{} left", run.left)));
    format!(
        "The latest run that did something was asked for {asked} on {}; {ended} {}: {}.",
        date(&run.started),
        seconds(run.seconds),
        counts.join(", ")
    )
}

/// The nodes that are not fresh: why, where there is more to tell than that others come first.
fn listed(seen: &Snapshot<'_>) -> Vec<Markup> {
    let link = |index: usize| html! { a href={ "#node-" (index) } { (seen.pipeline.nodes[index].name) } };
    let of = |state: NodeState| (0..seen.nodes.len()).filter(move |&index| seen.nodes[index].state == state);
    let mut items = Vec::new();
    for state in [NodeState::Failed, NodeState::Running, NodeState::Queued, NodeState::Begun, NodeState::Stale] {
        for index in of(state) {
            let reasons = match state {
                NodeState::Failed | NodeState::Begun => "the end of its log stands below".to_owned(),
                NodeState::Running => String::new(),
                _ => seen.nodes[index].reasons.join("; "),
            };
            items.push(html! { (badge(state.word())) " " (link(index)) " " small { (reasons) } });
        }
    }
    for state in [NodeState::Waits, NodeState::Missing] {
        let links: Vec<Markup> = of(state).map(link).collect();
        if !links.is_empty() {
            items.push(html! {
                (badge(state.word())) " "
                @for (place, link) in links.iter().enumerate() { @if place > 0 { ", " } (link) }
            });
        }
    }
    items
}
