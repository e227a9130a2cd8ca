//! What all nodes of a stage have unless they say otherwise: the lowest layer of a document.

use serde_json::{Map, Value};

use crate::document::Document;
use crate::error::Problem;
use crate::merge::merge;
use crate::text::instead;

/// The key of pipeline files.
pub(crate) const DEFAULTS: &str = "defaults";

/// What can be given to all nodes of a stage.
const KEYS: [&str; 3] = ["inputs", "params", "resources"];

/// Puts the defaults below the nodes that name their stage; one that is like another has what that one has. `layers` are laid over the
/// defaults one by one, so that what any of them sets to `null` stays away.
pub(crate) fn apply(merged: &mut Value, layers: &[&Value]) {
    let defaults = merged[DEFAULTS].clone();
    for (name, node) in merged.get_mut("nodes").and_then(Value::as_object_mut).into_iter().flatten() {
        let given = node["stage"].as_str().and_then(|stage| defaults.get(stage)).filter(|given| given.is_object());
        if let (Some(given), None) = (given, node.get("like")) {
            let mut whole = given.clone();
            layers.iter().filter_map(|layer| layer["nodes"].get(name)).for_each(|written| merge(&mut whole, written));
            *node = whole;
        }
    }
}

/// Refuses defaults of stages that there are not, and what is none.
pub(crate) fn check(document: &Document, stages: &[&str], problems: &mut Vec<Problem>) {
    let defaults = match document.value.get(DEFAULTS) {
        None | Some(Value::Null) => return,
        Some(Value::Object(defaults)) => defaults,
        Some(_) => {
            problems.push(
                document.problem(&[DEFAULTS], "must be a map of stages to what their nodes have, such as `{preprocess: {params: {…}}}`"),
            );
            return;
        }
    };
    for (stage, given) in defaults {
        if !stages.contains(&stage.as_str()) {
            let message = format!("there is no stage `{stage}`; {}", instead(stage, "the stages are", stages));
            problems.push(document.problem(&[DEFAULTS, stage], message));
        }
        for key in given.as_object().into_iter().flat_map(Map::keys).filter(|key| !KEYS.contains(&key.as_str())) {
            let message = format!("nodes get no `{key}` by default; {}", instead(key, "they may get", &KEYS));
            problems.push(document.problem(&[DEFAULTS, stage, key], message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::document::Document;
    use crate::overrides::Overrides;

    #[test]
    fn nodes_have_the_defaults_of_their_stage_below_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let base = "defaults:\n  x: {inputs: {p: p, q: q}, params: {lr: 1, depth: {a: 1, b: 2}}}\nnodes:\n  a: {stage: x, params: {lr: 2}}\n  b: {like: a, inputs: {p: null}}\n  c: {stage: y}\n";
        write("base.yaml", &base.replace("\\\n", "\n"));
        write("top.yaml", "extends: base.yaml\ndefaults: {x: {params: {depth: {b: 3}}}}\nnodes: {a: {inputs: {q: null}}, d: {stage: x}}\n");
        let load = |name: &str| Document::load(&folder.path().join(name), &Overrides::default()).unwrap();
        let nodes = load("base.yaml").value["nodes"].clone();
        assert_eq!(nodes["a"], json!({"inputs": {"p": "p", "q": "q"}, "params": {"lr": 2, "depth": {"a": 1, "b": 2}}, "stage": "x"}));
        assert_eq!((&nodes["b"]["inputs"], &nodes["b"]["params"]), (&json!({"q": "q"}), &nodes["a"]["params"]));
        assert_eq!(nodes["c"], json!({"stage": "y"}));
        let over = load("top.yaml").value["nodes"].clone();
        assert_eq!(
            (&over["a"]["inputs"], &over["a"]["params"]["depth"]),
            (&json!({"p": "p"}), &json!({"a": 1, "b": 3})),
            "null stays away"
        );
        assert_eq!(over["d"]["params"], json!({"lr": 1, "depth": {"a": 1, "b": 3}}));
    }

    #[test]
    fn a_mistake_in_defaults_is_told_where_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "nodes:\n  a: {stage: x}\ndefaults:\n  x:\n    params: {lr: 1}\n").unwrap();
        let document = Document::load(&path, &Overrides::default()).unwrap();
        let problem = document.problem(&["nodes", "a", "params", "lr"], "bad");
        assert!(problem.to_string().ends_with("p.yaml:5: defaults.x.params.lr: bad"), "{problem}");
    }
}
