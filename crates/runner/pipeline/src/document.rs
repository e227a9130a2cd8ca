//! A pipeline file with everything that it extends, merged into one value that knows where each field came from.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::classes::CLASSES;
use crate::error::{ConfigError, Problem};
use crate::like::{self, Likes};
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

/// One layer of a merged document.
struct Layer {
    name: String,
    /// The text to find lines in; the command line has none.
    text: Option<String>,
    value: Value,
    /// Where it has its classes from, if it names a file of them.
    classes_file: Option<PathBuf>,
}

/// A merged document.
pub(crate) struct Document {
    pub(crate) value: Map<String, Value>,
    /// From the deepest base to the command line.
    layers: Vec<Layer>,
    likes: Likes,
}

/// How deep `extends` may go; more is a mistake.
const MAX_LAYERS: usize = 16;

impl Document {
    /// Reads `path` and what it extends, and lays the command line over it.
    pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        gather(path, 0, &mut found)?;
        let mut layers: Vec<Layer> = found.into_iter().map(|(_, layer)| layer).collect();
        check_data(&layers, overrides)?;
        layers.push(Layer { name: "the command line".into(), text: None, value: over(overrides)?, classes_file: None });
        let mut value = Value::Object(Map::new());
        for (index, layer) in layers.iter().enumerate() {
            if index == 0 {
                // In the file that others extend, `null` is a value like any other.
                value = layer.value.clone();
            } else {
                merge(&mut value, &layer.value);
            }
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
        let mut written = path.clone();
        while let ["nodes", name, _, ..] = written.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            if self.layers.iter().any(|layer| layer.place(&written).is_some()) {
                return self.placed(&written, message);
            }
            let Some(like) = self.likes.get(name) else { break };
            written[1].clone_from(like);
        }
        self.placed(&path, message)
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

impl Layer {
    /// `Some(line)` when this layer sets the field.
    fn place(&self, path: &[String]) -> Option<Option<usize>> {
        match &self.text {
            _ if path.is_empty() => None,
            Some(text) => yaml::line_of(text, path).map(Some),
            None => path.iter().try_fold(&self.value, |value, part| value.get(part)).map(|_| None),
        }
    }
}

fn whole_file(path: &Path, message: String) -> ConfigError {
    Problem { file: path.display().to_string(), line: None, field: String::new(), message }.into()
}

/// Adds `path` above what it extends. A file that several others extend lies below all of them, once.
fn gather(path: &Path, depth: usize, layers: &mut Vec<(PathBuf, Layer)>) -> Result<(), ConfigError> {
    if depth == MAX_LAYERS {
        return Err(whole_file(path, format!("`extends` goes on for more than {MAX_LAYERS} files; does a file extend itself?")));
    }
    if layers.iter().any(|(known, _)| known == path) {
        return Ok(());
    }
    let (layer, bases) = read_layer(path)?;
    for base in bases {
        gather(&base, depth + 1, layers)?;
    }
    layers.push((path.to_owned(), layer));
    Ok(())
}

/// Reads one file; its relative paths become absolute. Also returns what it extends, the lowest first.
fn read_layer(path: &Path) -> Result<(Layer, Vec<PathBuf>), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| whole_file(path, format!("cannot read the pipeline file: {error}")))?;
    let name = path.display().to_string();
    // Editors of Windows write a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    let parsed = yaml::parse(&text);
    let mut value =
        parsed.map_err(|error| Problem { file: name.clone(), line: error.line, field: String::new(), message: error.message })?;
    let Value::Object(map) = &mut value else { return Err(whole_file(path, "the file must be a map with `nodes:`".into())) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let bases = match map.shift_remove("extends") {
        None => {
            // One store for a file and its overlays, wherever these lie.
            map.entry("store").or_insert_with(|| DEFAULT_STORE.into());
            Vec::new()
        }
        Some(value) => {
            let files = if let Value::Array(files) = value { files } else { vec![value] };
            let base = |file: &Value| Some(tidy(&folder.join(file.as_str()?)));
            let Some(bases) = files.iter().map(base).collect::<Option<Vec<_>>>().filter(|bases| !bases.is_empty()) else {
                let line = yaml::line_of(&text, &["extends".to_owned()]);
                let message = "must be the path of a file, or a list of them, each laid over those before it".into();
                return Err(Problem { file: name, line, field: "extends".into(), message }.into());
            };
            bases
        }
    };
    let paths = map.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for place in paths {
        from_folder(place, folder);
    }
    if let Some(store) = map.get_mut("store") {
        from_folder(store, folder);
    }
    let classes_file = read_classes(map, folder, |message| {
        let line = yaml::line_of(&text, &[CLASSES.to_owned()]);
        Problem { file: name.clone(), line, field: CLASSES.into(), message }
    })?;
    Ok((Layer { name, text: Some(text), value, classes_file }, bases))
}

/// Puts the classes in the place of the path of the file that has them, and returns the path. `problem` is one with that path.
fn read_classes(map: &mut Map<String, Value>, folder: &Path, problem: impl Fn(String) -> Problem) -> Result<Option<PathBuf>, ConfigError> {
    let Some(place) = map.get_mut(CLASSES) else { return Ok(None) };
    let Value::String(path) = place else { return Ok(None) };
    let path = tidy(&folder.join(path));
    let text = std::fs::read_to_string(&path).map_err(|error| problem(format!("cannot read the file {}: {error}", path.display())))?;
    let parsed = yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(&text));
    *place = parsed.map_err(|error| Problem {
        file: path.display().to_string(),
        line: error.line,
        field: String::new(),
        message: error.message,
    })?;
    Ok(Some(path))
}

/// The store of a file that names none.
const DEFAULT_STORE: &str = "work";

/// Makes a path in a file that lies in `folder` absolute; other values are left for the checks to come.
fn from_folder(place: &mut Value, folder: &Path) {
    if let Value::String(path) = place {
        let joined = folder.join(&*path);
        *path = tidy(&std::path::absolute(&joined).unwrap_or(joined)).display().to_string();
    }
}

/// The path without the detours of `folder/..`.
fn tidy(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut tidied, part| {
        match (part, tidied.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                tidied.pop();
            }
            _ => tidied.push(part),
        }
        tidied
    })
}

/// Refuses data on the command line that no file knows: a misspelt name would leave the file's in force.
fn check_data(layers: &[Layer], overrides: &Overrides) -> Result<(), ConfigError> {
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
fn over(overrides: &Overrides) -> Result<Value, ConfigError> {
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

/// Lays `over` on `base`: maps merge key by key, `null` removes, everything else replaces (RFC 7386).
pub(crate) fn merge(base: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        *base = over.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(base) = base else { return };
    for (key, value) in over {
        if value.is_null() {
            base.shift_remove(key);
        } else {
            merge(base.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_overlay_changes_adds_and_removes() {
        let mut base = json!({"seed": 1, "nodes": {"a": {"params": {"lr": 1, "steps": 2}}, "b": {}}});
        merge(&mut base, &json!({"nodes": {"a": {"params": {"lr": 3, "steps": null}}, "b": null, "c": {"stage": "x"}}}));
        assert_eq!(base, json!({"seed": 1, "nodes": {"a": {"params": {"lr": 3}}, "c": {"stage": "x"}}}));
    }

    #[test]
    fn a_list_replaces_a_list() {
        let mut base = json!({"steps": [1, 2, 3]});
        merge(&mut base, &json!({"steps": [4]}));
        assert_eq!(base, json!({"steps": [4]}));
    }

    #[test]
    fn an_empty_overlay_changes_nothing() {
        let base = json!({"a": {"b": null}, "c": [1]});
        let mut merged = base.clone();
        merge(&mut merged, &json!({}));
        assert_eq!(merged, base);
    }

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

    #[test]
    fn a_file_and_its_overlays_share_a_store_unless_they_say_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("base.yaml"), "seed: 1\n").unwrap();
        let top = folder.path().join("sub/top.yaml");
        std::fs::write(&top, "extends: ../base.yaml\n").unwrap();
        let store = |overrides: &Overrides| Document::load(&top, overrides).unwrap().value["store"].clone();
        assert_eq!(store(&Overrides::default()), json!(folder.path().join("work")));
        let elsewhere = Overrides { store: Some(folder.path().join("x/../cache")), ..Overrides::default() };
        assert_eq!(store(&elsewhere), json!(folder.path().join("cache")));
    }

    #[test]
    fn several_files_lie_over_each_other_and_what_they_share_below_both() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("base.yaml", "seed: 1\nnodes:\n  a: {params: {x: 1, y: 1, z: 1}}\n");
        write("left.yaml", "extends: base.yaml\nnodes:\n  a: {params: {x: 2, y: 2}}\n");
        write("right.yaml", "extends: ./base.yaml\nnodes:\n  a: {params: {y: 3}}\n");
        write("top.yaml", "extends: [left.yaml, right.yaml]\nseed: 4\n");
        let top = folder.path().join("top.yaml");
        let document = Document::load(&top, &Overrides::default()).unwrap();
        assert_eq!(document.value["nodes"]["a"]["params"], json!({"x": 2, "y": 3, "z": 1}));
        assert_eq!(document.value["seed"], 4);
        assert_eq!(Document::base_of(&top).unwrap(), Some(folder.path().join("right.yaml")));
        for (extends, line) in [("[]", 1), ("[left.yaml, 3]", 1)] {
            write("top.yaml", &format!("extends: {extends}\n"));
            let error = Document::load(&top, &Overrides::default()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("must be the path of a file, or a list of them") && error.contains(&format!(":{line}")), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "\u{feff}seed: 1\nnodes: {}\n").unwrap();
        assert_eq!(Document::load(&path, &Overrides::default()).unwrap().value["seed"], 1);
    }

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

    #[test]
    fn a_file_that_extends_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "extends: p.yaml\n").unwrap();
        assert!(Document::load(&path, &Overrides::default()).err().unwrap().to_string().contains("extend itself"));
    }
}
