//! The nodes of a document as they are written, with `foreach` expanded; references are not looked up yet.

use serde_json::{Map, Value};

use crate::document::Document;
use crate::error::Problem;
use crate::reference::{Reference, is_foreach_value, is_name};
use crate::resources::Resources;
use crate::text::instead;

/// One node.
pub(crate) struct RawNode {
    /// `segment[M_1]`.
    pub(crate) name: String,
    /// `segment`: the name under which it stands in the file.
    pub(crate) written: String,
    pub(crate) stage: String,
    pub(crate) inputs: Vec<RawInput>,
    pub(crate) params: Value,
    /// Where it has one of its own.
    pub(crate) seed: Option<u64>,
    pub(crate) resources: Resources,
}

/// One input of a node.
pub(crate) struct RawInput {
    /// `truth`, or `predictions` for `predictions.M_1`.
    pub(crate) role: String,
    /// `M_1`, when the role is written as a map.
    pub(crate) name: Option<String>,
    pub(crate) reference: Reference,
}

impl RawInput {
    /// The full role, as the stage sees it: `predictions.M_1`.
    pub(crate) fn full_role(&self) -> String {
        self.name.as_ref().map_or_else(|| self.role.clone(), |name| format!("{}.{name}", self.role))
    }

    /// Where it stands in the file.
    pub(crate) fn field<'a>(&'a self, node: &'a RawNode) -> Vec<&'a str> {
        ["nodes", &node.written, "inputs", &self.role].into_iter().chain(self.name.as_deref()).collect()
    }
}

pub(crate) const NODE_KEYS: [&str; 7] = ["stage", "like", "foreach", "inputs", "params", "seed", "resources"];

/// Reads all nodes; what is wrong goes to `problems`, and the node at fault is left out.
pub(crate) fn read_nodes(document: &Document, problems: &mut Vec<Problem>) -> Vec<RawNode> {
    let nodes = match document.value.get("nodes") {
        Some(Value::Object(nodes)) if !nodes.is_empty() => nodes,
        _ => {
            problems.push(document.problem(&["nodes"], "must be a map of at least one node"));
            return Vec::new();
        }
    };
    let mut raw = Vec::new();
    for (name, value) in nodes {
        let mut read = Reader { document, name, problems };
        raw.extend(read.node(value));
    }
    raw
}

struct Reader<'a> {
    document: &'a Document,
    name: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, field: &[&str], message: impl Into<String>) {
        let path: Vec<&str> = ["nodes", self.name].into_iter().chain(field.iter().copied()).collect();
        let problem = self.document.problem(&path, message);
        // Nodes that are alike share their mistakes.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn node(&mut self, value: &Value) -> Vec<RawNode> {
        if !is_name(self.name) {
            self.problem(&[], "a node's name is made of letters, digits, `_` and `-`");
            return Vec::new();
        }
        let Value::Object(node) = value else {
            self.problem(&[], "must be a map with `stage:`");
            return Vec::new();
        };
        let mut sound = true;
        for key in node.keys().filter(|key| !NODE_KEYS.contains(&key.as_str())) {
            self.problem(&[key], format!("a node has no `{key}`; {}", instead(key, "it has", &NODE_KEYS)));
            sound = false;
        }
        let Some(Value::String(stage)) = node.get("stage") else {
            self.problem(&["stage"], "must be the name of a stage; the verb `stages` lists them");
            return Vec::new();
        };
        let combinations = self.combinations(node.get("foreach"));
        let mut expanded = Vec::new();
        for variables in combinations {
            let name = if variables.is_empty() { self.name.to_owned() } else { format!("{}[{}]", self.name, variables.label()) };
            let params = variables.fill(node.get("params").unwrap_or(&Value::Null));
            if !matches!(params, Value::Null | Value::Object(_)) {
                self.problem(&["params"], "must be a map");
                return Vec::new();
            }
            let seed = variables.fill(node.get("seed").unwrap_or(&Value::Null));
            if !seed.is_null() && !seed.is_u64() {
                self.problem(&["seed"], format!("must be a whole number, but is {seed}"));
                return Vec::new();
            }
            let resources = Resources::parse(&variables.fill(node.get("resources").unwrap_or(&Value::Null)));
            let resources = match resources {
                Ok(resources) => resources,
                Err((key, message)) => {
                    let field: Vec<&str> = ["resources"].into_iter().chain(key.as_deref()).collect();
                    self.problem(&field, message);
                    return Vec::new();
                }
            };
            let Some(inputs) = self.inputs(&variables.fill(node.get("inputs").unwrap_or(&Value::Null))) else { return Vec::new() };
            expanded.push(RawNode {
                name,
                written: self.name.to_owned(),
                stage: stage.clone(),
                inputs,
                params,
                seed: seed.as_u64(),
                resources,
            });
        }
        if sound { expanded } else { Vec::new() }
    }

    fn inputs(&mut self, value: &Value) -> Option<Vec<RawInput>> {
        let roles = match value {
            Value::Null => return Some(Vec::new()),
            Value::Object(roles) => roles,
            _ => {
                self.problem(&["inputs"], "must be a map of roles to references");
                return None;
            }
        };
        let mut inputs = Vec::new();
        let mut sound = true;
        for (role, value) in roles {
            match value {
                // An overlay that takes an optional input away.
                Value::Null => {}
                Value::Object(many) => {
                    for (name, value) in many {
                        if !is_foreach_value(name) {
                            self.problem(&["inputs", role, name], "a name is made of letters, digits, `.`, `_` and `-`");
                            sound = false;
                            continue;
                        }
                        match self.reference(&["inputs", role, name], value) {
                            Some(reference) => inputs.push(RawInput { role: role.clone(), name: Some(name.clone()), reference }),
                            None => sound = false,
                        }
                    }
                }
                value => match self.reference(&["inputs", role], value) {
                    Some(reference) => inputs.push(RawInput { role: role.clone(), name: None, reference }),
                    None => sound = false,
                },
            }
        }
        sound.then_some(inputs)
    }

    fn reference(&mut self, field: &[&str], value: &Value) -> Option<Reference> {
        let read = value.as_str().ok_or_else(|| format!("{value} is no reference")).and_then(Reference::parse);
        read.map_err(|message| self.problem(field, message)).ok()
    }

    /// All combinations of the variables of `foreach`; one without variables when there is none.
    fn combinations(&mut self, foreach: Option<&Value>) -> Vec<Variables> {
        let variables = match foreach {
            None | Some(Value::Null) => return vec![Variables::default()],
            Some(Value::Object(variables)) if !variables.is_empty() => variables,
            Some(_) => {
                self.problem(&["foreach"], "must be a map of a name to a list, such as `{step: [M_1, M_2]}`");
                return Vec::new();
            }
        };
        let mut combinations = vec![Variables::default()];
        for (name, values) in variables {
            let Some(values) = self.foreach_values(name, values) else { return Vec::new() };
            combinations = combinations.iter().flat_map(|variables| values.iter().map(|value| variables.with(name, value))).collect();
        }
        combinations
    }

    fn foreach_values<'v>(&mut self, name: &str, values: &'v Value) -> Option<&'v [Value]> {
        let list = values.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut labels: Vec<String> = list.iter().map(label).collect();
        let sound = is_name(name) && !list.is_empty() && labels.iter().all(|label| is_foreach_value(label));
        labels.sort();
        labels.dedup();
        if !sound || labels.len() != list.len() {
            self.problem(&["foreach", name], "must be a list of different numbers or names, made of letters, digits, `.`, `_` and `-`");
            return None;
        }
        Some(list)
    }
}

/// One value for each variable of a `foreach`.
#[derive(Clone, Default)]
struct Variables(Vec<(String, Value)>);

/// A scalar as it stands in brackets and inside texts; maps and lists give an empty label, which is no value.
fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => String::new(),
    }
}

impl Variables {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, name: &str, value: &Value) -> Self {
        let mut all = self.clone();
        all.0.push((name.to_owned(), value.clone()));
        all
    }

    fn label(&self) -> String {
        self.0.iter().map(|(_, value)| label(value)).collect::<Vec<_>>().join(",")
    }

    /// Replaces `$name` and `${name}`. A text that is nothing but the variable takes its value with its type.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill_text(text),
            Value::Array(list) => list.iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), self.fill(item))).collect::<Map<_, _>>().into(),
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> Value {
        let whole = text.strip_prefix('$').map(|rest| rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest));
        if let Some((_, value)) = self.0.iter().find(|(name, _)| whole == Some(name)) {
            return value.clone();
        }
        // Longer names first, so that `$step` does not eat the head of `$steps`.
        let mut variables: Vec<_> = self.0.iter().collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let filled = variables.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), &label(value)).replace(&format!("${name}"), &label(value))
        });
        filled.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variable_keeps_its_type_alone_and_becomes_text_within_text() {
        let variables = Variables::default().with("step", &json!("M_1")).with("steps", &json!(3));
        assert_eq!(variables.label(), "M_1,3");
        let filled = variables.fill(&json!({"a": "$step", "b": ["$steps", "x${step}y", "$steps/$step"], "c": "$other", "d": 1}));
        assert_eq!(filled, json!({"a": "M_1", "b": [3, "xM_1y", "3/M_1"], "c": "$other", "d": 1}));
    }
}
