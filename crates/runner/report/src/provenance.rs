//! Where each result comes from, in full.

use std::fmt::Write as _;

use maud::{Markup, html};
use pipeline::{Node, NodeView, Record, Snapshot, shown};
use serde_json::Value;

use crate::html::{Section, badge, fold, note};
use crate::{date, graph, seconds};

pub(crate) fn section(seen: &Snapshot<'_>) -> Section {
    let body = html! {
        (note(&html! {
            "Digests are BLAKE3. A key is the digest of the stage, its revision, all parameters, the seed and the inputs."
        }))
        @for (index, (node, view)) in seen.pipeline.nodes.iter().zip(&seen.nodes).enumerate() {
            div.node id={ "node-" (index) } { (fold(&summary(seen, index), &details(seen, node, view))) }
            "\n"
        }
    };
    Section { id: "provenance", title: "Provenance".into(), body }
}

fn summary(seen: &Snapshot<'_>, index: usize) -> Markup {
    let (node, record) = (&seen.pipeline.nodes[index], seen.nodes[index].record.as_ref());
    html! {
        b { (node.name) } " " span.soft { (node.stage.name) } " " (badge(graph::class(seen, index))) " "
        span.soft.right { @if let Some(record) = record { (seconds(record.seconds)) " · " (pipeline::size(record.bytes)) } }
    }
}

fn details(seen: &Snapshot<'_>, node: &Node, view: &NodeView) -> Markup {
    let params = view.record.as_ref().map_or(&node.params, |record| &record.params);
    html! {
        p { (node.stage.about) }
        @if !view.reasons.is_empty() {
            (note(&html! { "Not fresh: " (view.reasons.join("; ")) ". What follows is the earlier result, if there is one." }))
        }
        @match &view.record {
            None => (note(&html! { "There is no result." })),
            Some(record) => (facts(seen, node, record)),
        }
        h4 { "Parameters" }
        pre { (lines(params)) }
    }
}

fn facts(seen: &Snapshot<'_>, node: &Node, record: &Record) -> Markup {
    let made_by = &record.made_by;
    let row = |name: &str, value: &dyn std::fmt::Display| html! { tr { th { (name) } td { (value.to_string()) } } "\n" };
    html! {
        table.facts {
            tbody {
                (row("Result", &seen.store.result(&node.name).display()))
                (row("Key", &record.key))
                (row("Stage", &format_args!("{}, revision {}", record.stage, record.revision)))
                (row("Seed", &record.seed))
                (row("Output", &format_args!("{} ({} files, {})", record.output, record.files, pipeline::size(record.bytes))))
                (row("Begun", &date(&record.started)))
                (row("Took", &seconds(record.seconds)))
                (row("Program", &made_by.version))
                (row("Executable", &made_by.executable))
                (row("Machine", &made_by.host))
                (row("Device asked for", &made_by.device))
                @for (role, input) in &record.inputs {
                    tr { th { "Input " (role) } td { div { (input.from) } div { (input.digest) } } }
                }
            }
        }
    }
}

/// A line for each parameter that is no map.
fn lines(params: &Value) -> String {
    fn walk(at: &str, value: &Value, out: &mut String) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    walk(&if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, value, out);
                }
            }
            value if at.is_empty() => out.push_str(if value.is_object() { "none\n" } else { "" }),
            value => {
                let _ = writeln!(out, "{at}: {}", text(value));
            }
        }
    }
    let mut out = String::new();
    walk("", params, &mut out);
    out
}

fn text(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", ")),
        value => shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_stand_on_a_line_each_with_their_whole_name() {
        let params = json!({"grid": {"spacing_mm": [1, 2.5, null]}, "on": true, "none": {}});
        assert_eq!(lines(&params), "grid.spacing_mm: [1, 2.5, null]\non: true\nnone: {}\n");
        assert_eq!(lines(&json!({})), "none\n");
    }
}
