//! Pipelines and stages as text.

use stage_kit::Entry;

use super::{Edge, From, data_names, edges, title};
use crate::graph::{Node, Pipeline};
use crate::text::columns;

fn id(from: From<'_>) -> String {
    match from {
        From::Data(name) => format!("data_{name}"),
        From::Node(index) => format!("n{index}"),
    }
}

fn label(node: &Node, line_break: &str) -> String {
    let (name, stage) = title(node);
    stage.map_or_else(|| name.to_owned(), |stage| format!("{name}{line_break}{stage}"))
}

/// The graph in Mermaid's language, which Markdown viewers draw.
#[must_use]
pub fn mermaid(pipeline: &Pipeline) -> String {
    let mut text = String::from("flowchart TD\n");
    for name in data_names(pipeline) {
        text.push_str(&format!("    data_{name}[(\"data.{name}\")]\n"));
    }
    for (index, node) in pipeline.nodes.iter().enumerate() {
        text.push_str(&format!("    n{index}[\"{}\"]\n", label(node, "<br/>")));
    }
    for Edge { from, to, roles } in edges(pipeline) {
        let (from, roles) = (id(from), roles.join(", "));
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
        text.push_str(&format!("    \"n{index}\" [label=\"{}\"];\n", label(node, "\\n")));
    }
    for Edge { from, to, roles } in edges(pipeline) {
        let (from, roles) = (id(from), roles.join(", "));
        text.push_str(&format!("    \"{from}\" -> \"n{to}\" [label=\"{roles}\"];\n"));
    }
    text + "}\n"
}

/// The stages of `program` as a Markdown page with a table: stage, what it reads, what it writes, where the paper describes it.
#[must_use]
pub fn stage_table(program: &str, stages: &[Entry]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut table = format!(
        "# Stages\n\nIn the order of the method. This page is the output of\n`{program} stages --markdown`; `{program} stages STAGE` prints the parameters of a stage with their types, defaults and meaning.\n\n"
    );
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

/// The stages of `program`, a line each.
#[must_use]
pub fn stage_list(program: &str, stages: &[Entry]) -> String {
    let rows: Vec<[String; 2]> = stages.iter().map(|stage| [stage.name.to_owned(), stage.about.to_owned()]).collect();
    format!("{}\n`{program} stages STAGE` prints inputs, output, every parameter and an example.\n", columns(&rows))
}
