//! The graph with the nodes in the colors of their state.

use maud::html;
use pipeline::{NodeState, Snapshot};

use crate::html::{Section, badge, drawing, note};
use crate::seconds;

/// The class of a node: how it stands, or `ran` when the latest run did it.
pub(crate) fn class(seen: &Snapshot<'_>, index: usize) -> &'static str {
    let name = &seen.pipeline.nodes[index].name;
    let ran = seen.latest_run.as_ref().is_some_and(|run| run.done.contains(name));
    match seen.nodes[index].state {
        NodeState::Fresh if ran => "ran",
        state => state.word(),
    }
}

/// What the classes mean, in the order of the legend.
const LEGEND: [(&str, &str); 9] = [
    ("fresh", "its result was there"),
    ("ran", "done by the latest run"),
    ("running", "is being worked on"),
    ("queued", "its jobs wait on a cluster"),
    ("begun", "goes on with the next run"),
    ("failed", "its log tells why"),
    ("stale", "parameters or inputs have changed"),
    ("waits", "for others, and then may have to be run"),
    ("missing", "never run"),
];

pub(crate) fn section(seen: &Snapshot<'_>) -> Section {
    let classes: Vec<&str> = (0..seen.nodes.len()).map(|index| class(seen, index)).collect();
    let legend = LEGEND.iter().filter(|(class, _)| classes.contains(class));
    let mark = |index: usize| {
        let view = &seen.nodes[index];
        let mut lines = vec![format!("{}: {}", seen.pipeline.nodes[index].name, classes[index])];
        lines.extend(view.record.as_ref().map(|record| format!("{}, {}", seconds(record.seconds), pipeline::size(record.bytes))));
        lines.extend(view.reasons.iter().cloned());
        (classes[index], lines.join("\n"))
    };
    let body = html! {
        (note(&html! {
            "Each node stands below what it reads; a box leads to the node's provenance. Pale arrows tell what a longer way tells too."
        }))
        ul.legend { @for (class, about) in legend { li { (badge(class)) " " (about) } } }
        (drawing(pipeline::svg_for_page(seen.pipeline, &mark)))
    };
    Section { id: "graph", title: "Graph".into(), body }
}
