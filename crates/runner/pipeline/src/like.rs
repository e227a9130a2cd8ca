//! Nodes that are written as what differs from another one: `like: M_1`.
//!
//! The node takes everything of the other node, and what it says itself is laid over that as an overlay is laid over the file
//! below it: maps merge key by key, `null` takes away, everything else replaces. Only the other node's name says where the rest
//! comes from, so that a change of one node reaches all that are like it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::merge::merge;
use crate::text::instead;

/// What is wrong with the `like` of a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLike {
    /// The node.
    pub(crate) node: String,
    pub(crate) message: String,
}

/// Which node each node is like, by the names under which they stand in the file.
pub(crate) type Likes = BTreeMap<String, String>;

/// Replaces every node that is like another by what that comes to. `overlays` are the files (and the command line) that were
/// merged into `nodes`, without the lowest one: a `null` of theirs takes away what a node has from the one that it is like, too.
///
/// # Errors
/// Every node whose `like` leads nowhere or in a circle.
pub(crate) fn resolve(nodes: &mut Map<String, Value>, overlays: &[&Value]) -> Result<Likes, Vec<BadLike>> {
    let written = nodes.clone();
    let mut bad = Vec::new();
    let mut likes = Likes::new();
    for (name, node) in &mut *nodes {
        match chain(&written, name) {
            Ok(chain) => {
                if let Some(base) = chain.get(1) {
                    likes.insert(name.clone(), (*base).to_owned());
                    *node = along(&written, &chain, overlays);
                }
            }
            Err(message) => bad.push(BadLike { node: name.clone(), message }),
        }
    }
    if bad.is_empty() { Ok(likes) } else { Err(bad) }
}

/// The node, the one that it is like, the one that this is like, and so on.
fn chain<'n>(nodes: &'n Map<String, Value>, name: &'n str) -> Result<Vec<&'n str>, String> {
    let mut chain = vec![name];
    while let Some(like) = nodes.get(chain[chain.len() - 1]).and_then(|node| node.get("like")) {
        let next = like.as_str().ok_or_else(|| format!("must be the name of a node, but is {like}"))?;
        if !nodes.contains_key(next) {
            let known: Vec<&str> = nodes.keys().map(String::as_str).filter(|known| *known != name).collect();
            return Err(format!("there is no node `{next}`; {}", instead(next, "the nodes are", &known)));
        }
        if chain.contains(&next) {
            return Err(format!("goes in a circle: {} is like {next}", chain.join(" is like ")));
        }
        chain.push(next);
    }
    Ok(chain)
}

/// What the first node of a chain comes to.
fn along(written: &Map<String, Value>, chain: &[&str], overlays: &[&Value]) -> Value {
    let mut whole = Value::Null;
    for name in chain.iter().rev() {
        for overlay in overlays {
            if let Some(over) = overlay.get("nodes").and_then(|nodes| nodes.get(name)) {
                take_away(&mut whole, over);
            }
        }
        merge(&mut whole, &written[*name]);
    }
    if let Value::Object(node) = &mut whole {
        node.shift_remove("like");
    }
    whole
}

/// Takes every field away that is `null` in `over`.
fn take_away(value: &mut Value, over: &Value) {
    let (Value::Object(map), Value::Object(over)) = (value, over) else { return };
    for (key, over) in over {
        if over.is_null() {
            map.shift_remove(key);
        } else if let Some(inner) = map.get_mut(key) {
            take_away(inner, over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolved(nodes: &Value, overlays: &[&Value]) -> Result<Value, Vec<BadLike>> {
        let mut nodes = nodes.as_object().unwrap().clone();
        resolve(&mut nodes, overlays)?;
        Ok(nodes.into())
    }

    #[test]
    fn a_node_takes_what_it_does_not_say_from_the_one_that_it_is_like() {
        let nodes = json!({
            "c": {"like": "b", "params": {"lr": 3}},
            "a": {"stage": "train", "inputs": {"data": "d", "init": "x"}, "params": {"lr": 1, "list": [1, 2], "trust": {"soft": 1}}},
            "b": {"like": "a", "inputs": {"init": null}, "params": {"list": [3], "trust": {"soft": null, "hard": 2}}},
        });
        let found = resolved(&nodes, &[]).unwrap();
        assert_eq!(found["a"], nodes["a"]);
        assert_eq!(found["b"], json!({"stage": "train", "inputs": {"data": "d"}, "params": {"lr": 1, "list": [3], "trust": {"hard": 2}}}));
        assert_eq!(found["c"], json!({"stage": "train", "inputs": {"data": "d"}, "params": {"lr": 3, "list": [3], "trust": {"hard": 2}}}));
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["c", "a", "b"], "the order of the file stays");
    }

    #[test]
    fn an_overlay_takes_away_what_comes_from_the_other_node() {
        // As a file without `init` of `b` is merged: nothing is left of the null.
        let nodes = json!({"a": {"stage": "train", "inputs": {"init": "x"}}, "b": {"like": "a"}});
        let overlay = json!({"nodes": {"b": {"inputs": {"init": null}}}});
        let found = resolved(&nodes, &[&overlay]).unwrap();
        assert_eq!(found, json!({"a": {"stage": "train", "inputs": {"init": "x"}}, "b": {"stage": "train", "inputs": {}}}));
        let back = json!({"nodes": {"b": {"inputs": {"init": "y"}}}});
        let nodes = json!({"a": {"stage": "train", "inputs": {"init": "x"}}, "b": {"like": "a", "inputs": {"init": "y"}}});
        assert_eq!(resolved(&nodes, &[&overlay, &back]).unwrap()["b"]["inputs"], json!({"init": "y"}));
    }

    #[test]
    fn likes_that_lead_nowhere_or_in_a_circle_are_all_named() {
        let nodes = json!({"a": {"like": "b"}, "b": {"like": "a"}, "c": {"like": "d"}, "e": {"like": 3}});
        let bad: Vec<String> = resolved(&nodes, &[]).unwrap_err().iter().map(|bad| format!("{}: {}", bad.node, bad.message)).collect();
        assert_eq!(
            bad,
            [
                "a: goes in a circle: a is like b is like a",
                "b: goes in a circle: b is like a is like b",
                "c: there is no node `d`; the nodes are a, b, e; did you mean `a`?",
                "e: must be the name of a node, but is 3",
            ]
        );
    }
}
