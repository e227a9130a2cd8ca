//! What differs between two pipelines, and which results they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::explain::compare_params;
use crate::graph::{Node, Pipeline, Source};
use crate::key::key;

/// What differs from one pipeline to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The seed, the device and the store, a line each.
    pub settings: Vec<String>,
    /// Nodes that only the second has.
    pub added: Vec<String>,
    /// Nodes that only the first has.
    pub removed: Vec<String>,
    /// Nodes that are written differently, with a line for each difference.
    pub changed: Vec<(String, Vec<String>)>,
    /// Nodes of which only what they read differs, with the nodes above at which that begins.
    pub through: Vec<(String, Vec<String>)>,
    /// Nodes of the second whose result the first makes too, with the first's name where that is another.
    pub shared: Vec<(String, Option<String>)>,
}

/// Compares two pipelines. No data are looked at: equal paths are taken for equal data, and what a node writes for
/// equal if it does the same work on the same inputs. So nodes that are shared have the same key whatever the data are.
#[must_use]
pub fn compare(a: &Pipeline, b: &Pipeline) -> Comparison {
    let mut comparison = Comparison { settings: settings(a, b), ..Comparison::default() };
    let (recipes_a, recipes_b) = (recipes(a), recipes(b));
    let makers: HashMap<&str, usize> = recipes_a.iter().enumerate().rev().map(|(index, recipe)| (recipe.as_str(), index)).collect();
    // For each node of `b` that is not shared, the nodes at which the difference begins.
    let mut causes: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (index, node) in b.nodes.iter().enumerate() {
        let twin = a.find(&node.name);
        if let Some(&maker) = makers.get(recipes_b[index].as_str()) {
            let same_name = twin.is_some_and(|twin| recipes_a[twin] == recipes_b[index]);
            comparison.shared.push((node.name.clone(), (!same_name).then(|| a.nodes[maker].name.clone())));
            continue;
        }
        let lines = twin.map(|twin| differences(a, &a.nodes[twin], b, node));
        let inherited: BTreeSet<usize> = node.parents().iter().filter_map(|parent| causes.get(parent)).flatten().copied().collect();
        match lines {
            None => {
                comparison.added.push(node.name.clone());
                causes.insert(index, [index].into());
            }
            Some(lines) if !lines.is_empty() => {
                comparison.changed.push((node.name.clone(), lines));
                causes.insert(index, [index].into());
            }
            Some(_) => {
                let names = inherited.iter().map(|&cause| b.nodes[cause].name.clone()).collect();
                comparison.through.push((node.name.clone(), names));
                causes.insert(index, inherited);
            }
        }
    }
    comparison.removed = a.nodes.iter().filter(|node| b.find(&node.name).is_none()).map(|node| node.name.clone()).collect();
    comparison
}

impl Comparison {
    /// Whether both make the same results under the same names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let renamed = self.shared.iter().any(|(_, other)| other.is_some());
        let Self { settings, added, removed, changed, through, .. } = self;
        settings.is_empty() && added.is_empty() && removed.is_empty() && changed.is_empty() && through.is_empty() && !renamed
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut part = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                out.push_str(&format!("{title}:\n  {}\n", lines.join("\n  ")));
            }
        };
        part("settings", &self.settings);
        part("nodes that are gone", &self.removed);
        part("new nodes", &self.added);
        part("nodes that are written differently", &together(&self.changed));
        part("nodes that differ by what they read", &grouped(&self.through));
        let shared = self.shared.iter().map(|(name, other)| match other {
            Some(other) => format!("{name} (there {other})"),
            None => name.clone(),
        });
        let shared: Vec<String> = shared.collect();
        part("shared results", &wrapped(&shared));
        out
    }
}

/// Nodes, and below them what differs; those of one `foreach` mostly differ alike.
fn together(changed: &[(String, Vec<String>)]) -> Vec<String> {
    groups(changed)
        .into_iter()
        .flat_map(|(lines, names)| wrapped(&names).into_iter().chain(lines.iter().map(|line| format!("  {line}"))))
        .collect()
}

/// Nodes with the same causes on one line.
fn grouped(through: &[(String, Vec<String>)]) -> Vec<String> {
    let line = |(causes, names): (&[String], Vec<String>)| {
        let mut lines = wrapped(&names);
        if let (Some(last), false) = (lines.last_mut(), causes.is_empty()) {
            last.push_str(&format!(" (because of {})", causes.join(", ")));
        }
        lines
    };
    groups(through).into_iter().flat_map(line).collect()
}

/// Names with the same list behind them, in the order of the first of each.
fn groups(pairs: &[(String, Vec<String>)]) -> Vec<(&[String], Vec<String>)> {
    let mut groups: Vec<(&[String], Vec<String>)> = Vec::new();
    for (name, list) in pairs {
        match groups.iter_mut().find(|(other, _)| *other == list.as_slice()) {
            Some((_, names)) => names.push(name.clone()),
            None => groups.push((list, vec![name.clone()])),
        }
    }
    groups
}

/// A list in lines of a readable length.
fn wrapped(names: &[String]) -> Vec<String> {
    const WIDTH: usize = 100;
    let mut lines: Vec<String> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let name = if index + 1 < names.len() { format!("{name},") } else { name.clone() };
        match lines.last_mut().filter(|line| line.len() + name.len() < WIDTH) {
            Some(line) => line.push_str(&format!(" {name}")),
            None => lines.push(name),
        }
    }
    lines
}

/// For each node what it makes: its key, with the recipes of its inputs in place of their digests.
fn recipes(pipeline: &Pipeline) -> Vec<String> {
    let mut recipes: Vec<String> = Vec::with_capacity(pipeline.nodes.len());
    for node in &pipeline.nodes {
        let input = |source: &Source| match source {
            Source::Data { path, .. } => format!("data:{}", path.display()),
            Source::Node { index, sub } => format!("{}/{sub}", recipes[*index]),
        };
        let inputs = node.inputs.iter().map(|(role, source)| (role.clone(), input(source))).collect();
        recipes.push(key(node, &inputs));
    }
    recipes
}

fn settings(a: &Pipeline, b: &Pipeline) -> Vec<String> {
    let mut lines = Vec::new();
    if a.seed != b.seed {
        lines.push(format!("seed {} → {}, of which the keys are made", a.seed, b.seed));
    }
    if a.device != b.device {
        lines.push(format!("device {:?} → {:?}, which is no part of keys", a.device, b.device).to_lowercase());
    }
    if a.store != b.store {
        lines.push(format!("store {} → {}, so that each makes even what is shared", a.store.display(), b.store.display()));
    }
    lines
}

/// What is written differently in two nodes of the same name.
fn differences(in_a: &Pipeline, a: &Node, in_b: &Pipeline, b: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    if a.stage.name != b.stage.name {
        lines.push(format!("stage {} → {}", a.stage.name, b.stage.name));
    }
    // Between two nodes without seeds of their own the settings tell the difference.
    if a.seed != b.seed && (a.seed, b.seed) != (in_a.seed, in_b.seed) {
        lines.push(format!("seed {} → {}", a.seed, b.seed));
    }
    compare_params("", &a.params, &b.params, &mut lines);
    for role in a.inputs.keys().chain(b.inputs.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (a.inputs.get(role).map(|source| told(in_a, source)), b.inputs.get(role).map(|source| told(in_b, source)));
        match (old, new) {
            (Some(old), Some(new)) if old != new => lines.push(format!("input {role} {old} → {new}")),
            (None, Some(new)) => lines.push(format!("input {role} is new: {new}")),
            (Some(old), None) => lines.push(format!("input {role} is gone; it was {old}")),
            _ => {}
        }
    }
    lines
}

/// A source for people, such that equal ones read equal.
fn told(pipeline: &Pipeline, source: &Source) -> String {
    match source {
        Source::Data { name, path } => format!("data.{name} ({})", path.display()),
        Source::Node { index, sub } if sub.is_empty() => pipeline.nodes[*index].name.clone(),
        Source::Node { index, sub } => format!("{}/{sub}", pipeline.nodes[*index].name),
    }
}
