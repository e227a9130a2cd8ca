//! What the workspace depends on.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The packages that this project is to stand on, by the names that code has for them.
const PACKAGES: [&str; 9] = ["candle-core", "candle-nn", "nifti", "ndarray", "rayon", "clap", "serde_yaml", "indicatif", "walkdir"];

/// Dependencies that no code names, with the reason.
const UNNAMED: [(&str, &str); 0] = [];

#[test]
fn code_uses_every_package_that_the_project_is_to_stand_on() {
    let packages = workspace();
    for package in PACKAGES {
        let users = packages.iter().filter(|of| dependencies(of).any(|(name, kind)| name == package && kind == Kind::Code));
        let found = users.into_iter().any(|of| names(&[folder(of).join("src")], package));
        assert!(found, "no crate that depends on {package} has code that names it; use it, or drop it here and in Cargo.toml");
    }
}

#[test]
fn every_dependency_is_named_where_it_is_declared() {
    let mut unused = Vec::new();
    for of in &workspace() {
        let folder = folder(of);
        let code = vec![folder.join("src"), folder.join("main.rs")];
        let tests = targets(of).into_iter().chain(["tests", "benches", "examples"].map(|name| folder.join(name)));
        let tests: Vec<PathBuf> = code.iter().cloned().chain(tests).collect();
        for (name, kind) in dependencies(of) {
            let sources = match kind {
                Kind::Code => &code,
                Kind::Tests => &tests,
                Kind::Build => &vec![folder.join("build.rs")],
            };
            if !names(sources, &name) && UNNAMED.iter().all(|(unnamed, _)| *unnamed != name) {
                unused.push(format!("{} does not use {name}", of["name"].as_str().unwrap()));
            }
        }
    }
    assert!(unused.is_empty(), "drop what is not used from Cargo.toml: {}", unused.join("; "));
}

/// A target that is tested is compiled once more and linked, and one with examples in its documentation is read by rustdoc: minutes
/// for all that have none.
#[test]
fn what_has_tests_is_built_for_them_and_nothing_else_is() {
    let mut wrong = Vec::new();
    for of in &workspace() {
        let has_library = of["targets"].as_array().unwrap().iter().any(|target| is(target, "lib"));
        for target in of["targets"].as_array().unwrap().iter().filter(|target| is(target, "lib") || is(target, "bin")) {
            let root = PathBuf::from(target["src_path"].as_str().unwrap());
            let sources = if is(target, "bin") && has_library { vec![root] } else { files(root.parent().unwrap()) };
            let texts: Vec<String> = sources.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
            let has_tests = texts.iter().any(|text| text.lines().any(|line| line.trim() == "#[test]"));
            let has_examples = is(target, "lib") && texts.iter().any(|text| has_examples(text));
            for (key, has) in [("test", has_tests), ("doctest", has_examples)] {
                if target[key] != has {
                    wrong.push(format!("{}: {key} = {has} for {}", of["manifest_path"].as_str().unwrap(), target["kind"][0]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "say in Cargo.toml what has tests (the default is that all has):\n{}", wrong.join("\n"));
}

/// Whether a target is of a kind.
fn is(target: &Value, kind: &str) -> bool {
    target["kind"].as_array().unwrap().iter().any(|of| of == kind || (kind == "lib" && of == "cdylib"))
}

/// Whether the documentation in a source file has code that rustdoc tests.
fn has_examples(text: &str) -> bool {
    let doc = text.lines().map(str::trim_start).filter_map(|line| line.strip_prefix("///").or(line.strip_prefix("//!")));
    let fences: Vec<&str> = doc.filter_map(|line| line.trim_start().strip_prefix("```")).collect();
    fences.iter().step_by(2).any(|language| ["", "rust", "no_run", "should_panic", "compile_fail"].contains(&language.trim()))
}

/// The packages of the workspace.
fn workspace() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut metadata = Command::new(env!("CARGO"));
    metadata.current_dir(&root).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Tests,
    Build,
}

/// What a package declares, under the names that its code has for them.
fn dependencies(of: &Value) -> impl Iterator<Item = (String, Kind)> {
    of["dependencies"].as_array().unwrap().iter().map(|dependency| {
        let name = dependency["rename"].as_str().or(dependency["name"].as_str()).unwrap();
        let kind = match dependency["kind"].as_str() {
            None => Kind::Code,
            Some("dev") => Kind::Tests,
            Some(_) => Kind::Build,
        };
        (name.to_owned(), kind)
    })
}

fn folder(of: &Value) -> PathBuf {
    Path::new(of["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// The folders of a package's targets, which may lie elsewhere.
fn targets(of: &Value) -> Vec<PathBuf> {
    let path = |target: &Value| Path::new(target["src_path"].as_str().unwrap()).parent().unwrap().to_owned();
    of["targets"].as_array().unwrap().iter().map(path).collect()
}

/// Whether a source file among `places` or below them names a crate: in a path that begins with it, or in a `use` of it.
fn names(places: &[PathBuf], package: &str) -> bool {
    let name = package.replace('-', "_");
    let has_module = places.iter().any(|place| place.join(&name).is_dir() || place.join(format!("{name}.rs")).is_file());
    let mut files = places.iter().flat_map(|place| files(place));
    files.any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line_names(line, &name, has_module))))
}

/// The files below a place, which may be one itself.
fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place) else { return vec![place.to_owned()] };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// Whether code names a crate, and not a module within a path. Where the package has a module of that name too, the crate is the
/// one with colons before it.
fn line_names(line: &str, name: &str, has_module: bool) -> bool {
    if line.trim_start().starts_with("//") {
        return false;
    }
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let starts = !is_word(before.chars().next_back()) && !["crate::", "self::", "super::"].iter().any(|path| before.ends_with(path));
        let within = before.strip_suffix("::").is_some_and(|path| is_word(path.chars().next_back()));
        let is_use = before.trim_end().ends_with("use") && (after.starts_with(';') || after.starts_with(" as "));
        let is_crate = before.ends_with("::") || !has_module;
        starts && !within && is_crate && (after.starts_with("::") || is_use)
    })
}

#[test]
fn a_module_of_the_same_name_is_not_the_crate() {
    for named in ["use ::nifti::Unit;", "    let x = nifti::read();", "pub use nifti;", "use nifti as other;", "#[derive(nifti::Error)]"] {
        assert!(line_names(named, "nifti", false), "{named}");
    }
    for other in ["use crate::nifti::Header;", "use volume::nifti::Header;", "// nifti::x", "mynifti::x", "mod nifti;", "super::nifti::y"] {
        assert!(!line_names(other, "nifti", false), "{other}");
    }
    assert!(line_names("use ::nifti::Unit;", "nifti", true) && !line_names("use nifti::Header;", "nifti", true));
}
