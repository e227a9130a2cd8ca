//! What failed or was interrupted, with the end of its log.

use std::fmt::Write as _;

use pipeline::{NodeState, Snapshot, log_end};

use crate::html::{Section, badge, escaped};

const SHOWN_LINES: usize = 30;

pub(crate) fn section(seen: &Snapshot<'_>) -> Option<Section> {
    let mut body = String::new();
    for (index, (node, view)) in seen.pipeline.nodes.iter().zip(&seen.nodes).enumerate() {
        if !matches!(view.state, NodeState::Failed | NodeState::Begun) {
            continue;
        }
        let _ = writeln!(body, "<h3><a href=\"#node-{index}\">{}</a> {}</h3>", escaped(&node.name), badge(view.state.word()));
        let Some(log) = &view.log else {
            body.push_str("<p class=\"note\">It has left no log.</p>\n");
            continue;
        };
        let lines = match log_end(log) {
            Ok(lines) => lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"),
            Err(error) => format!("{error:#}"),
        };
        let _ = writeln!(
            body,
            "<pre>{}</pre>\n<p class=\"note\">All of it: <code>{}</code></p>",
            escaped(&lines),
            escaped(&log.display().to_string())
        );
    }
    (!body.is_empty()).then(|| Section { id: "failures", title: "Failures".into(), body })
}
