//! A pipeline file with everything that it extends, merged into one value that knows where each field came from.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::classes::CLASSES;
use crate::defaults::{self, DEFAULTS};
use crate::error::{ConfigError, Problem};
use crate::layer::{Layer, gather, read_layer, whole_file};
use crate::like::{self, Likes};
use crate::merge::merge;
use crate::overrides::{Overrides, check_data, over};

/// A merged document.
pub(crate) struct Document {
    pub(crate) value: Map<String, Value>,
    /// From the deepest base to the command line.
    layers: Vec<Layer>,
    likes: Likes,
}

/// The parts of the path of a key of a node: `nodes`, the node's name, the key.
const OF_NODE: usize = 3;

impl Document {
    /// Reads `path` and what it extends, and lays the command line over it.
    pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        gather(path, 0, &mut found)?;
        let mut layers: Vec<Layer> = found.into_iter().map(|(_, layer)| layer).collect();
        check_data(&layers, overrides)?;
        // In the file that others extend, `null` is a value like any other.
        let mut value = layers.first().map_or(Value::Null, |layer| layer.value.clone());
        layers.iter().skip(1).for_each(|layer| merge(&mut value, &layer.value));
        let mut asked = over(overrides)?;
        if let Some(Value::Object(nodes)) = asked.get_mut("nodes") {
            // A node that the files do not have, or have taken away, is not made by a parameter of it.
            nodes.retain(|name, _| value.get("nodes").and_then(|nodes| nodes.get(name)).is_some_and(Value::is_object));
        }
        merge(&mut value, &asked);
        layers.push(Layer { name: "the command line".into(), text: None, value: asked, classes_file: None });
        if value.get(DEFAULTS).is_some() {
            defaults::apply(&mut value, &layers.iter().map(|layer| &layer.value).collect::<Vec<_>>());
        }
        let Value::Object(value) = value else { return Err(whole_file(path, "the file must be a map with `nodes:`".into())) };
        let mut document = Self { value, layers, likes: Likes::new() };
        document.resolve_likes()?;
        Ok(document)
    }

    fn resolve_likes(&mut self) -> Result<(), ConfigError> {
        let overlays: Vec<&Value> = self.layers.iter().skip(1).map(|layer| &layer.value).collect();
        let Some(Value::Object(nodes)) = self.value.get_mut("nodes") else { return Ok(()) };
        match like::resolve(nodes, &overlays) {
            Ok(likes) => {
                self.likes = likes;
                Ok(())
            }
            Err(bad) => Err(ConfigError(bad.iter().map(|bad| self.problem(&["nodes", &bad.node, "like"], bad.message.as_str())).collect())),
        }
    }

    /// What the file at `path` extends; of several files the last, which lies right below it.
    pub(crate) fn base_of(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Ok(read_layer(path)?.1.pop())
    }

    /// A problem with the field at `path`, placed where that field was last set, or else its nearest parent. A field that a node
    /// has from the one that it is like is that one's: nodes that share a mistake share the problem.
    pub(crate) fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let message = message.into();
        let written = self.written(&path, path.len()).or_else(|| self.defaulted(&path)).or_else(|| self.written(&path, OF_NODE));
        self.placed(&written.unwrap_or(path), message)
    }

    /// The field as the node has it that writes the first `length` parts of its path: this one, or one that it is like.
    fn written(&self, path: &[String], length: usize) -> Option<Vec<String>> {
        let mut written = path.to_vec();
        while written.len() >= OF_NODE && written[0] == "nodes" {
            if self.layers.iter().any(|layer| layer.place(&written[..length.min(path.len())]).is_some()) {
                return Some(written);
            }
            let like = self.likes.get(&written[1])?;
            written[1].clone_from(like);
        }
        None
    }

    /// The field of a node as its stage's defaults have it, if they do.
    fn defaulted(&self, path: &[String]) -> Option<Vec<String>> {
        let [nodes, name, rest @ ..] = path else { return None };
        let stage = self.value.get(nodes)?.get(name)?.get("stage")?.as_str()?;
        let defaults: Vec<String> = [DEFAULTS, stage].into_iter().chain(rest.iter().map(String::as_str)).map(str::to_owned).collect();
        self.layers.iter().any(|layer| layer.place(&defaults).is_some()).then_some(defaults)
    }

    fn placed(&self, path: &[String], message: String) -> Problem {
        for length in (0..=path.len()).rev() {
            // A field that nobody sets belongs to the file, not to an option that happens to set its neighbour.
            let asked = length == path.len();
            for layer in self.layers.iter().rev().filter(|layer| asked || layer.text.is_some()) {
                if let Some(line) = layer.place(&path[..length]) {
                    return Problem { file: layer.name.clone(), line, field: path.join("."), message };
                }
            }
        }
        Problem { file: self.file().to_owned(), line: None, field: path.join("."), message }
    }

    /// The file that the classes come from, if they do not stand in a pipeline file.
    pub(crate) fn classes_file(&self) -> Option<&Path> {
        self.layers.iter().rev().find(|layer| layer.value.get(CLASSES).is_some())?.classes_file.as_deref()
    }

    /// The name of the file that was asked for.
    pub(crate) fn file(&self) -> &str {
        // The last layer is the command line, and at least one file lies below it.
        self.layers.iter().rev().nth(1).map_or("", |layer| &layer.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_placed_in_the_file_that_set_them_last() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.yaml");
        let top = folder.path().join("sub/top.yaml");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(&base, "data: {scans: in/scans}\nnodes:\n  a:\n    params: {lr: 1}\n").unwrap();
        std::fs::write(&top, "extends: ../base.yaml\nstore: cache\nnodes:\n  a: {params: {steps: 2}}\n").unwrap();
        let overrides = Overrides { params: vec![("a".into(), "depth.x".into(), "[1, 2]".into())], ..Overrides::default() };
        let document = Document::load(&top, &overrides).unwrap();
        assert_eq!(document.value["nodes"]["a"]["params"], json!({"lr": 1, "steps": 2, "depth": {"x": [1, 2]}}));
        assert_eq!(document.value["store"], json!(folder.path().join("sub/cache")));
        assert_eq!(document.value["data"]["scans"], json!(folder.path().join("in/scans")));
        let place = |path: &[&str]| {
            let problem = document.problem(path, "bad");
            (problem.file, problem.line)
        };
        let (base, top) = (base.display().to_string(), top.display().to_string());
        assert_eq!(place(&["nodes", "a", "params", "lr"]), (base, Some(4)));
        assert_eq!(place(&["nodes", "a", "params", "steps"]), (top.clone(), Some(4)));
        assert_eq!(place(&["nodes", "a", "params", "depth", "x"]), ("the command line".into(), None));
        assert_eq!(place(&["nodes", "a", "params", "missing"]), (top.clone(), Some(4)));
        assert_eq!(place(&["nodes", "z"]), (top, Some(3)));
    }

    #[test]
    fn a_field_of_a_node_that_is_like_another_is_placed_where_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "nodes:\n  a:\n    params:\n      lr: 1\n  b:\n    like: a\n    params:\n      steps: 2\n").unwrap();
        let document = Document::load(&path, &Overrides::default()).unwrap();
        assert_eq!(document.value["nodes"]["b"], json!({"params": {"lr": 1, "steps": 2}}));
        let place = |field: &str| document.problem(&["nodes", "b", "params", field], "bad").to_string();
        assert!(place("lr").contains("p.yaml:4: nodes.a.params.lr"), "{}", place("lr"));
        assert!(place("steps").contains("p.yaml:8: nodes.b.params.steps"), "{}", place("steps"));
        assert!(place("missing").contains("p.yaml:7: nodes.b.params.missing"), "{}", place("missing"));
        std::fs::write(&path, "nodes:\n  a: {like: z}\n").unwrap();
        let error = Document::load(&path, &Overrides::default()).err().unwrap().to_string();
        assert!(error.contains("p.yaml:2: nodes.a.like: there is no node `z`"), "{error}");
    }
}
