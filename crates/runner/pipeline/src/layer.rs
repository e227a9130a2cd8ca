//! One pipeline file, and those that it extends.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::classes::CLASSES;
use crate::error::{ConfigError, Problem};
use crate::yaml;

/// One layer of a merged document.
pub(crate) struct Layer {
    pub(crate) name: String,
    /// The text to find lines in; the command line has none.
    pub(crate) text: Option<String>,
    pub(crate) value: Value,
    /// Where it has its classes from, if it names a file of them.
    pub(crate) classes_file: Option<PathBuf>,
}

/// How deep `extends` may go; more is a mistake.
const MAX_LAYERS: usize = 16;

impl Layer {
    /// `Some(line)` when this layer sets the field.
    pub(crate) fn place(&self, path: &[String]) -> Option<Option<usize>> {
        match &self.text {
            _ if path.is_empty() => None,
            Some(text) => yaml::line_of(text, path).map(Some),
            None => path.iter().try_fold(&self.value, |value, part| value.get(part)).map(|_| None),
        }
    }
}

pub(crate) fn whole_file(path: &Path, message: String) -> ConfigError {
    Problem { file: path.display().to_string(), line: None, field: String::new(), message }.into()
}

/// Adds `path` above what it extends. A file that several others extend lies below all of them, once.
pub(crate) fn gather(path: &Path, depth: usize, layers: &mut Vec<(PathBuf, Layer)>) -> Result<(), ConfigError> {
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
pub(crate) fn read_layer(path: &Path) -> Result<(Layer, Vec<PathBuf>), ConfigError> {
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
pub(crate) fn from_folder(place: &mut Value, folder: &Path) {
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

#[cfg(test)]
mod tests {

    use crate::document::Document;
    use crate::overrides::Overrides;
    use serde_json::json;

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
    fn a_file_that_extends_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "extends: p.yaml\n").unwrap();
        assert!(Document::load(&path, &Overrides::default()).err().unwrap().to_string().contains("extend itself"));
    }
}
