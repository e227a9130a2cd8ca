//! The order of the nodes: each after what it reads.

use crate::document::Document;
use crate::error::Problem;
use crate::graph::{Node, Source};
use crate::nodes::RawNode;

/// A stable topological order, or the indices along a cycle (the first one not repeated).
pub(crate) fn order(nodes: &[Node]) -> Result<Vec<usize>, Vec<usize>> {
    fn visit(nodes: &[Node], index: usize, path: &mut Vec<usize>, done: &mut [bool], order: &mut Vec<usize>) -> Result<(), Vec<usize>> {
        if done[index] {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|&on_path| on_path == index) {
            return Err(path[start..].to_vec());
        }
        path.push(index);
        for parent in nodes[index].parents() {
            visit(nodes, parent, path, done, order)?;
        }
        path.pop();
        done[index] = true;
        order.push(index);
        Ok(())
    }
    let mut done = vec![false; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    for index in 0..nodes.len() {
        visit(nodes, index, &mut Vec::new(), &mut done, &mut order)?;
    }
    Ok(order)
}

pub(crate) fn cycle_problem(document: &Document, nodes: &[Node], raw: &[RawNode], cycle: &[usize]) -> Problem {
    // `a` reads `b` reads `a`: told in the direction in which data would flow.
    let mut names: Vec<&str> = cycle.iter().rev().map(|&index| nodes[index].name.as_str()).collect();
    names.insert(0, &nodes[cycle[0]].name);
    let written = &raw[cycle[0]].written;
    document.problem(&["nodes", written, "inputs"], format!("the nodes feed each other in a circle: {}", names.join(" → ")))
}

pub(crate) fn reordered(nodes: &[Node], order: &[usize]) -> Vec<Node> {
    let mut place = vec![0; nodes.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let renumber = |source: &Source| match source {
        Source::Node { index, sub } => Source::Node { index: place[*index], sub: sub.clone() },
        data @ Source::Data { .. } => data.clone(),
    };
    let moved = |&old: &usize| {
        let node = &nodes[old];
        Node { inputs: node.inputs.iter().map(|(role, source)| (role.clone(), renumber(source))).collect(), ..node.clone() }
    };
    order.iter().map(moved).collect()
}
