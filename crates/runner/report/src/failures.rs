//! What failed or was interrupted, with the end of its log.

use maud::{Markup, html};
use pipeline::{NodeState, Snapshot, log_end};

use crate::html::{Section, badge, note};

const SHOWN_LINES: usize = 30;

pub(crate) fn section(seen: &Snapshot<'_>) -> Option<Section> {
    let ended_badly = |index: &usize| matches!(seen.nodes[*index].state, NodeState::Failed | NodeState::Begun);
    let failures: Vec<usize> = (0..seen.nodes.len()).filter(ended_badly).collect();
    let body = html! { @for &index in &failures { (failure(seen, index)) } };
    (!failures.is_empty()).then(|| Section { id: "failures", title: "Failures".into(), body })
}

fn failure(seen: &Snapshot<'_>, index: usize) -> Markup {
    let (node, view) = (&seen.pipeline.nodes[index], &seen.nodes[index]);
    let end = view.log.as_ref().map(|log| match log_end(log) {
        Ok(lines) => (log, lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")),
        Err(error) => (log, format!("{error:#}")),
    });
    html! {
        h3 { a href={ "#node-" (index) } { (node.name) } " " (badge(view.state.word())) }
        @match end {
            None => (note(&html! { "It has left no log." })),
            Some((log, lines)) => {
                pre { (lines) }
                (note(&html! { "All of it: " code { (log.display()) } }))
            }
        }
    }
}
