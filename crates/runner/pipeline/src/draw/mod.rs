//! Pipelines drawn: for Markdown viewers, for Graphviz, and as SVG with a layout of our own.

mod layout;
mod svg;
mod text;

pub use svg::{STYLE, svg, svg_for_page};
pub use text::{dot, mermaid, stage_list, stage_table};

use crate::graph::{Node, Pipeline, Source};

/// What an arrow begins at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From<'a> {
    /// An entry of `data:`.
    Data(&'a str),
    /// The node of this index.
    Node(usize),
}

/// An arrow, which stands for all inputs between the same two.
struct Edge<'a> {
    from: From<'a>,
    to: usize,
    /// The inputs' roles.
    roles: Vec<&'a str>,
}

/// The arrows of a pipeline, in the order of the nodes that they lead to.
fn edges(pipeline: &Pipeline) -> Vec<Edge<'_>> {
    let mut edges: Vec<Edge<'_>> = Vec::new();
    for (to, node) in pipeline.nodes.iter().enumerate() {
        for (role, source) in &node.inputs {
            let from = match source {
                Source::Node { index, .. } => From::Node(*index),
                Source::Data { name, .. } => From::Data(name),
            };
            match edges.iter_mut().rfind(|edge| edge.from == from && edge.to == to) {
                Some(edge) => edge.roles.push(role),
                None => edges.push(Edge { from, to, roles: vec![role] }),
            }
        }
    }
    edges
}

/// The entries of `data:` that are read, by name.
fn data_names(pipeline: &Pipeline) -> Vec<&str> {
    let inputs = pipeline.nodes.iter().flat_map(|node| node.inputs.values());
    let mut names: Vec<&str> =
        inputs.filter_map(|source| if let Source::Data { name, .. } = source { Some(name.as_str()) } else { None }).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A node's name, and its stage where that is another word.
fn title(node: &Node) -> (&str, Option<&str>) {
    (&node.name, (node.name != node.stage.name).then_some(node.stage.name))
}
