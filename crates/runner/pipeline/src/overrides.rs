//! What the command line lays over a pipeline file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{ConfigError, Problem};
use crate::layer::{Layer, from_folder};
use crate::merge::merge;
use crate::text::instead;
use crate::yaml;

/// What the command line says on top of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `data:` entries, name and path (relative to the current folder).
    pub data: Vec<(String, PathBuf)>,
    /// The store (relative to the current folder).
    pub store: Option<PathBuf>,
    /// The device: `auto`, `cpu` or `cuda`.
    pub device: Option<String>,
    /// Entries of `slurm:`, name and value in YAML.
    pub slurm: Vec<(String, String)>,
    /// Parameters: node, parameter (dots lead deeper) and value in YAML.
    pub params: Vec<(String, String, String)>,
}

/// Refuses data on the command line that no file knows: a misspelt name would leave the file's in force.
pub(crate) fn check_data(layers: &[Layer], overrides: &Overrides) -> Result<(), ConfigError> {
    let mut known = BTreeSet::new();
    for layer in layers {
        known.extend(layer.value.get("data").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str));
        referenced(layer.value.get("nodes").unwrap_or(&Value::Null), &mut known);
    }
    let known: Vec<&str> = known.into_iter().collect();
    let unknown = |(name, _): &&(String, PathBuf)| !known.contains(&name.as_str());
    let problem = |(name, _): &(String, PathBuf)| {
        let message = format!("there is no `data.{name}`; {}", instead(name, "`data:` has", &known));
        Problem { file: "the command line".into(), line: None, field: format!("--data {name}"), message }
    };
    let problems: Vec<Problem> = overrides.data.iter().filter(unknown).map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
}

/// The names behind references such as `data.dataset/labels`.
fn referenced<'v>(value: &'v Value, names: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => names.extend(text.strip_prefix("data.").map(|name| name.split('/').next().unwrap_or(name))),
        Value::Array(list) => list.iter().for_each(|value| referenced(value, names)),
        Value::Object(map) => map.values().for_each(|value| referenced(value, names)),
        _ => {}
    }
}

/// The layer of the command line.
pub(crate) fn over(overrides: &Overrides) -> Result<Value, ConfigError> {
    let mut value = Value::Object(Map::new());
    let absolute = |path: &Path| {
        let mut place = Value::String(path.display().to_string());
        from_folder(&mut place, Path::new(""));
        place
    };
    for (name, path) in &overrides.data {
        merge(&mut value, &nested(&["data", name], absolute(path)));
    }
    if let Some(store) = &overrides.store {
        merge(&mut value, &nested(&["store"], absolute(store)));
    }
    if let Some(device) = &overrides.device {
        merge(&mut value, &nested(&["device"], device.clone().into()));
    }
    let parsed = |field: String, text: &str| {
        yaml::parse(text).map_err(|error| Problem { file: "the command line".into(), line: None, field, message: error.message })
    };
    for (name, text) in &overrides.slurm {
        set_field(&mut value, &["slurm", name], parsed(format!("--slurm {name}"), text)?);
    }
    for (node, param, text) in &overrides.params {
        let set = parsed(format!("--set {node}.{param}"), text)?;
        let path: Vec<&str> = ["nodes", node, "params"].into_iter().chain(param.split('.')).collect();
        set_field(&mut value, &path, set);
    }
    Ok(value)
}

fn nested(path: &[&str], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, part| Value::Object(Map::from_iter([((*part).to_owned(), inner)])))
}

fn set_field(root: &mut Value, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if !root.is_object() {
        *root = Value::Object(Map::new());
    }
    if let Value::Object(map) = root {
        set_field(map.entry(*first).or_insert(Value::Null), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    #[test]
    fn data_on_the_command_line_must_be_known_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "data: {dataset: x}\nnodes: {a: {inputs: {libraries: data.cuda/lib}}}\n").unwrap();
        let load = |name: &str| Document::load(&path, &Overrides { data: vec![(name.into(), "y".into())], ..Overrides::default() });
        assert!(load("dataset").is_ok() && load("cuda").is_ok());
        let error = load("dataste").err().unwrap().to_string();
        assert!(
            error.contains("--data dataste: there is no `data.dataste`; `data:` has cuda, dataset; did you mean `dataset`?"),
            "{error}"
        );
    }
}
