//! Pipelines and stages drawn and listed.

use stage_kit::Entry;

use crate::graph::{Node, Pipeline, Source};

/// Edges that merge several inputs between the same two nodes: from, to, and the roles.
fn edges(pipeline: &Pipeline) -> Vec<(String, usize, String)> {
    let mut edges: Vec<(String, usize, String)> = Vec::new();
    for (index, node) in pipeline.nodes.iter().enumerate() {
        for (role, source) in &node.inputs {
            let from = match source {
                Source::Node { index, .. } => format!("n{index}"),
                Source::Data { name, .. } => format!("data_{name}"),
            };
            match edges.iter_mut().find(|(other, to, _)| *other == from && *to == index) {
                Some((_, _, roles)) => roles.push_str(&format!(", {role}")),
                None => edges.push((from, index, role.clone())),
            }
        }
    }
    edges
}

fn data_names(pipeline: &Pipeline) -> Vec<&str> {
    let mut names: Vec<&str> = pipeline
        .nodes
        .iter()
        .flat_map(|node| node.inputs.values())
        .filter_map(|source| match source {
            Source::Data { name, .. } => Some(name.as_str()),
            Source::Node { .. } => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn title(node: &Node, line_break: &str) -> String {
    if node.name == node.stage.name { node.name.clone() } else { format!("{}{line_break}{}", node.name, node.stage.name) }
}

/// The graph in Mermaid's language, which Markdown viewers draw.
#[must_use]
pub fn mermaid(pipeline: &Pipeline) -> String {
    let mut text = String::from("flowchart TD\n");
    for name in data_names(pipeline) {
        text.push_str(&format!("    data_{name}[(\"data.{name}\")]\n"));
    }
    for (index, node) in pipeline.nodes.iter().enumerate() {
        text.push_str(&format!("    n{index}[\"{}\"]\n", title(node, "<br/>")));
    }
    for (from, to, roles) in edges(pipeline) {
        text.push_str(&format!("    {from} -- \"{roles}\" --> n{to}\n"));
    }
    text
}

/// The graph in Graphviz' language.
#[must_use]
pub fn dot(pipeline: &Pipeline) -> String {
    let mut text = String::from("digraph pipeline {\n    node [shape=box];\n");
    for name in data_names(pipeline) {
        text.push_str(&format!("    \"data_{name}\" [label=\"data.{name}\", shape=cylinder];\n"));
    }
    for (index, node) in pipeline.nodes.iter().enumerate() {
        text.push_str(&format!("    \"n{index}\" [label=\"{}\"];\n", title(node, "\\n")));
    }
    for (from, to, roles) in edges(pipeline) {
        text.push_str(&format!("    \"{from}\" -> \"n{to}\" [label=\"{roles}\"];\n"));
    }
    text + "}\n"
}

/// The stages of `program` as a Markdown page with a table: stage, what it reads, what it writes, where the paper describes it.
#[must_use]
pub fn stage_table(program: &str, stages: &[Entry]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut table = format!("# Stages\n\nIn the order of the method. This page is the output of `{program} stages`.\n\n");
    table.push_str("| stage | what it does | reads | writes | paper |\n|---|---|---|---|---|\n");
    for stage in stages {
        let reads: Vec<String> = stage
            .reads
            .iter()
            .map(|role| {
                let name = if role.many { format!("{}.NAME", role.name) } else { role.name.to_owned() };
                format!("`{name}`{}: {}", if role.required { "" } else { " (optional)" }, cell(role.about))
            })
            .collect();
        let reads = if reads.is_empty() { "–".to_owned() } else { reads.join("<br>") };
        let [about, writes, paper] = [stage.about, stage.writes, stage.paper].map(cell);
        table.push_str(&format!("| `{}` | {about} | {reads} | {writes} | {paper} |\n", stage.name));
    }
    table
}
