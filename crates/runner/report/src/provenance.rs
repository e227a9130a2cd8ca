//! Where each result comes from, in full.

use std::fmt::Write as _;

use pipeline::{Node, NodeView, Record, Snapshot, shown};
use serde_json::Value;

use crate::html::{Section, badge, escaped, fold};
use crate::{date, graph, seconds};

pub(crate) fn section(seen: &Snapshot<'_>) -> Section {
    let mut body = String::from(
        "<p class=\"note\">Digests are BLAKE3. A key is the digest of the stage, its revision, all parameters, the seed and the inputs.</p>\n",
    );
    for (index, (node, view)) in seen.pipeline.nodes.iter().zip(&seen.nodes).enumerate() {
        let took = view
            .record
            .as_ref()
            .map_or_else(String::new, |record| format!("{} · {}", seconds(record.seconds), pipeline::size(record.bytes)));
        let summary = format!(
            "<b>{}</b> <span class=\"soft\">{}</span> {} <span class=\"soft right\">{took}</span>",
            escaped(&node.name),
            escaped(node.stage.name),
            badge(graph::class(seen, index))
        );
        let _ = writeln!(body, "<div class=\"node\" id=\"node-{index}\">{}</div>", fold(&summary, &details(seen, node, view)));
    }
    Section { id: "provenance", title: "Provenance".into(), body }
}

fn details(seen: &Snapshot<'_>, node: &Node, view: &NodeView) -> String {
    let mut out = format!("<p>{}</p>\n", escaped(node.stage.about));
    if !view.reasons.is_empty() {
        let _ = writeln!(
            out,
            "<p class=\"note\">Not fresh: {}. What follows is the earlier result, if there is one.</p>",
            escaped(&view.reasons.join("; "))
        );
    }
    match &view.record {
        None => out.push_str("<p class=\"note\">There is no result.</p>\n"),
        Some(record) => out.push_str(&facts(seen, node, record)),
    }
    let params = view.record.as_ref().map_or(&node.params, |record| &record.params);
    let _ = writeln!(out, "<h4>Parameters</h4>\n<pre>{}</pre>", escaped(&lines(params)));
    out
}

fn facts(seen: &Snapshot<'_>, node: &Node, record: &Record) -> String {
    let made_by = &record.made_by;
    let mut rows = vec![
        ("Result".to_owned(), seen.store.result(&node.name).display().to_string()),
        ("Key".to_owned(), record.key.clone()),
        ("Stage".to_owned(), format!("{}, revision {}", record.stage, record.revision)),
        ("Seed".to_owned(), record.seed.to_string()),
        ("Output".to_owned(), format!("{} ({} files, {})", record.output, record.files, pipeline::size(record.bytes))),
        ("Begun".to_owned(), date(&record.started)),
        ("Took".to_owned(), seconds(record.seconds)),
        ("Program".to_owned(), made_by.version.clone()),
        ("Executable".to_owned(), made_by.executable.clone()),
        ("Machine".to_owned(), made_by.host.clone()),
        ("Device asked for".to_owned(), made_by.device.clone()),
    ];
    rows.extend(record.inputs.iter().map(|(role, input)| (format!("Input {role}"), format!("{}\n{}", input.from, input.digest))));
    let cells: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value).replace('\n', "<br/>")))
        .collect();
    format!("<table class=\"facts\"><tbody>\n{cells}</tbody></table>\n")
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
