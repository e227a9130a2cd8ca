//! References looked up, roles and parameters checked: from written nodes to sound ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde_json::Value;
use stage_kit::{Entry, Mistake};

use crate::classes::{CLASSES, CLASSES_REMEDY, Declared};
use crate::document::Document;
use crate::error::Problem;
use crate::graph::{Node, Source};
use crate::nodes::{RawInput, RawNode};
use crate::params;
use crate::reference::{ANY, Reference, is_name};
use crate::text::instead;

/// One entry of `data:`.
pub(crate) enum Data {
    Path(PathBuf),
    From(Reference),
}

pub(crate) fn read_data(document: &Document, problems: &mut Vec<Problem>) -> BTreeMap<String, Data> {
    let mut data = BTreeMap::new();
    let entries = match document.value.get("data") {
        None | Some(Value::Null) => return data,
        Some(Value::Object(entries)) => entries,
        Some(_) => {
            problems.push(document.problem(&["data"], "must be a map of names to paths, or to `{from: NODE/FOLDER}`"));
            return data;
        }
    };
    for (name, value) in entries {
        let mut refuse = |message: &str| problems.push(document.problem(&["data", name], message));
        let from = value.get("from").and_then(Value::as_str).filter(|_| value.as_object().is_some_and(|map| map.len() == 1));
        match (value, from) {
            _ if !is_name(name) => refuse("a name is made of letters, digits, `_` and `-`"),
            (Value::String(path), _) => {
                data.insert(name.clone(), Data::Path(path.into()));
            }
            (_, Some(from)) => match Reference::parse(from) {
                Ok(Reference::Each { .. }) => refuse("is one file or folder; `*` stands for many"),
                Ok(reference) => {
                    data.insert(name.clone(), Data::From(reference));
                }
                Err(message) => refuse(&message),
            },
            _ => refuse("must be a path, `{from: NODE/FOLDER}`, or `{from: data.NAME/FOLDER}`"),
        }
    }
    within_others(&data, document, problems)
}

/// Puts the whole way in the place of entries that lie in others.
fn within_others(data: &BTreeMap<String, Data>, document: &Document, problems: &mut Vec<Problem>) -> BTreeMap<String, Data> {
    let mut found = BTreeMap::new();
    for name in data.keys() {
        let (mut at, mut sub, mut steps) = (name, String::new(), 0);
        let place = loop {
            match data.get(at) {
                Some(Data::From(Reference::Data { name, sub: outer })) if steps < data.len() => {
                    (at, sub, steps) = (name, join(outer, &sub), steps + 1);
                }
                Some(Data::From(Reference::Node { name, sub: outer })) => {
                    break Ok(Data::From(Reference::Node { name: name.clone(), sub: join(outer, &sub) }));
                }
                Some(Data::From(_)) => break Err("lies in itself".to_owned()),
                Some(Data::Path(path)) => break Ok(Data::Path(if sub.is_empty() { path.clone() } else { path.join(&sub) })),
                // An unsound entry has been told already.
                None if document.value["data"].get(at).is_some_and(|entry| !entry.is_null()) => break Err(String::new()),
                None => {
                    let known: Vec<&str> = data.keys().map(String::as_str).collect();
                    break Err(format!("there is no `data.{at}`; {}", instead(at, "`data:` has", &known)));
                }
            }
        };
        match place {
            Ok(place) => drop(found.insert(name.clone(), place)),
            Err(message) if message.is_empty() => {}
            Err(message) => problems.push(document.problem(&["data", name], message)),
        }
    }
    found
}

/// A folder in a folder; each may be empty.
fn join(outer: &str, inner: &str) -> String {
    [outer, inner].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

pub(crate) struct Builder<'a> {
    pub(crate) document: &'a Document,
    pub(crate) stages: &'a [Entry],
    pub(crate) classes: &'a Declared,
    pub(crate) data: &'a BTreeMap<String, Data>,
    /// That of the nodes without one of their own.
    pub(crate) seed: u64,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl Builder<'_> {
    /// Nodes in the order of the file, as far as they are sound.
    pub(crate) fn build(&mut self, raw: &[RawNode]) -> Vec<Node> {
        let index: HashMap<&str, usize> = raw.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
        for (name, entry) in self.data {
            if let Data::From(Reference::Node { name: node, sub }) = entry {
                self.node_source(&["data", name], node, sub.clone(), raw, &index);
            }
        }
        raw.iter().filter_map(|node| self.node(node, raw, &index)).collect()
    }

    fn problem(&mut self, path: &[&str], message: String) {
        let problem = self.document.problem(path, message);
        // The nodes of one `foreach` share their mistakes.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn node(&mut self, raw: &RawNode, all: &[RawNode], index: &HashMap<&str, usize>) -> Option<Node> {
        let Some(stage) = self.stages.iter().find(|stage| stage.name == raw.stage) else {
            let known: Vec<&str> = self.stages.iter().map(|stage| stage.name).collect();
            let message = format!("there is no stage `{}`; {}", raw.stage, instead(&raw.stage, "the stages are", &known));
            self.problem(&["nodes", &raw.written, "stage"], message);
            return None;
        };
        self.check_roles(raw, stage);
        let mut inputs = BTreeMap::new();
        for input in &raw.inputs {
            if let Reference::Each { family, values, sub } = &input.reference {
                inputs.extend(self.each(&input.field(raw), &input.role, (family, values), sub, all));
            } else if let Some(source) = self.source(raw, input, all, index) {
                inputs.insert(input.full_role(), source);
            }
        }
        let params = self.params(raw, stage)?;
        if let Err(error) = stage.check_processes(params.clone(), raw.resources.processes) {
            self.problem(&["nodes", &raw.written, "resources", "processes"], format!("{}: {error:#}", raw.name));
            return None;
        }
        let seed = raw.seed.unwrap_or(self.seed);
        Some(Node { name: raw.name.clone(), stage: *stage, params, seed, inputs, resources: raw.resources })
    }

    /// The parameters of a node, complete.
    fn params(&mut self, raw: &RawNode, stage: &Entry) -> Option<Value> {
        let own = raw.params.get(CLASSES).is_some();
        let given = if own { Cow::Borrowed(&raw.params) } else { self.classes.given_to(stage, &raw.params)? };
        match params::resolve(stage, &given) {
            Ok(params) => Some(params),
            Err(mistakes) => {
                for Mistake { field, message } in mistakes {
                    let field: Vec<&str> = field.iter().map(String::as_str).collect();
                    let missing = field == [CLASSES] && given.get(CLASSES).is_none();
                    let path = match field[..] {
                        [CLASSES, ..] if !own && !missing => vec![CLASSES],
                        _ => ["nodes", &raw.written, "params"].into_iter().chain(field).collect(),
                    };
                    self.problem(&path, if missing { message + CLASSES_REMEDY } else { message });
                }
                None
            }
        }
    }

    fn check_roles(&mut self, raw: &RawNode, stage: &Entry) {
        for input in &raw.inputs {
            let field = input.field(raw);
            let each = matches!(input.reference, Reference::Each { .. });
            match stage.reads.iter().find(|role| role.name == input.role) {
                None => {
                    let known: Vec<&str> = stage.reads.iter().map(|role| role.name).collect();
                    let message =
                        format!("stage {} has no input `{}`; {}", stage.name, input.role, instead(&input.role, "it reads", &known));
                    self.problem(&field[..4], message);
                }
                Some(role) if role.many && input.name.is_none() && !each => {
                    let message = format!("needs names for its many inputs: `{0}: {{NAME: NODE, …}}`, or `{0}: NODE[*]`", role.name);
                    self.problem(&field, message);
                }
                Some(role) if role.many && input.name.is_some() && each => {
                    self.problem(&field, format!("`*` gives names of its own: write `{}: NODE[*]`", role.name));
                }
                Some(role) if !role.many && (input.name.is_some() || each) => {
                    self.problem(&field[..4], format!("stage {} reads one `{}`, not many", stage.name, role.name));
                }
                Some(_) => {}
            }
        }
        for role in stage.reads.iter().filter(|role| role.required) {
            if !raw.inputs.iter().any(|input| input.role == role.name) {
                let message = format!("stage {} needs the input `{}` ({})", stage.name, role.name, role.about);
                self.problem(&["nodes", &raw.written, "inputs", role.name], message);
            }
        }
    }

    /// Looks a reference up, through `data:` if need be.
    fn source(&mut self, raw: &RawNode, input: &RawInput, all: &[RawNode], index: &HashMap<&str, usize>) -> Option<Source> {
        let field = input.field(raw);
        match &input.reference {
            Reference::Node { name, sub } => self.node_source(&field, name, sub.clone(), all, index),
            Reference::Data { name, sub } => match self.data.get(name) {
                None => {
                    let known: Vec<&str> = self.data.keys().map(String::as_str).collect();
                    self.problem(&field, format!("there is no `data.{name}`; {}", instead(name, "`data:` has", &known)));
                    None
                }
                Some(Data::Path(path)) => {
                    let path = if sub.is_empty() { path.clone() } else { path.join(sub) };
                    Some(Source::Data { name: name.clone(), path })
                }
                Some(Data::From(Reference::Node { name: node, sub: outer })) => {
                    self.node_source(&["data", name], node, join(outer, sub), all, index)
                }
                // Each leads to a path or a node by now.
                Some(Data::From(Reference::Data { .. } | Reference::Each { .. })) => None,
            },
            Reference::Each { .. } => None,
        }
    }

    /// The nodes of a family whose values fit a pattern, by full role: the value that stands for `*` is the name.
    fn each(
        &mut self,
        field: &[&str],
        role: &str,
        (family, pattern): (&str, &[String]),
        sub: &str,
        all: &[RawNode],
    ) -> Vec<(String, Source)> {
        let fitting: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(_, node)| node.written == family)
            .filter_map(|(index, node)| {
                let value = free_value(&node.name, pattern)?;
                Some((format!("{role}.{value}"), Source::Node { index, sub: sub.to_owned() }))
            })
            .collect();
        if fitting.is_empty() {
            let instead = match &family_of(all, family)[..] {
                [] => instead(family, "the nodes are", &names(all)),
                nodes => format!("the nodes are {}", nodes.join(", ")),
            };
            self.problem(field, format!("no node fits `{family}[{}]`; {instead}", pattern.join(",")));
        }
        fitting
    }

    fn node_source(&mut self, field: &[&str], name: &str, sub: String, all: &[RawNode], index: &HashMap<&str, usize>) -> Option<Source> {
        if let Some(&index) = index.get(name) {
            return Some(Source::Node { index, sub });
        }
        let family = family_of(all, name);
        if !family.is_empty() {
            self.problem(field, format!("`{name}` stands for {} nodes; name one of {}", family.len(), family.join(", ")));
        } else if self.document.value.get("nodes").and_then(|nodes| nodes.get(name)).is_none() {
            // A node that is written but unsound has been told already.
            self.problem(field, format!("there is no node `{name}`; {}", instead(name, "the nodes are", &names(all))));
        }
        None
    }
}

/// The names of the nodes that are written as one.
fn family_of<'a>(all: &'a [RawNode], written: &str) -> Vec<&'a str> {
    all.iter().filter(|node| node.written == written).map(|node| node.name.as_str()).collect()
}

fn names(all: &[RawNode]) -> Vec<&str> {
    all.iter().map(|node| node.name.as_str()).collect()
}

/// The value in the brackets of a node's name for which `*` stands, if the others are those of the pattern.
fn free_value<'n>(name: &'n str, pattern: &[String]) -> Option<&'n str> {
    let values: Vec<&str> = name.split_once('[')?.1.strip_suffix(']')?.split(',').collect();
    let fits = values.len() == pattern.len() && values.iter().zip(pattern).all(|(value, wanted)| wanted == ANY || value == wanted);
    let free = pattern.iter().position(|wanted| wanted == ANY).filter(|_| fits)?;
    Some(values[free])
}
