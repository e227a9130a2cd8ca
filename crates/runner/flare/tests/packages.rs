//! What the workspace depends on.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages that this project is to stand on, by the names that code has for them. `nifti` is one too, and not among them: our
/// own reader streams and bounds memory, and is held against it in tests.
const PACKAGES: [&str; 8] = ["candle-core", "candle-nn", "ndarray", "rayon", "clap", "serde_yaml", "indicatif", "walkdir"];

#[test]
fn code_uses_every_package_that_the_project_is_to_stand_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut metadata = Command::new(env!("CARGO"));
    metadata.current_dir(&root).args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in PACKAGES {
        let users = metadata["packages"].as_array().unwrap().iter().filter(|of| depends_on(of, package));
        let folders = users.map(|of| Path::new(of["manifest_path"].as_str().unwrap()).with_file_name("src"));
        let path = format!("{}::", package.replace('-', "_"));
        let found = folders.into_iter().any(|folder| names(&folder, &path));
        assert!(found, "no crate that depends on {package} has code with {path}; use it, or drop it here and in Cargo.toml");
    }
}

/// Whether a package of the workspace has another one as a dependency of its code, and not of tests or build scripts alone.
fn depends_on(of: &Value, package: &str) -> bool {
    of["dependencies"].as_array().unwrap().iter().any(|dependency| {
        let name = dependency["rename"].as_str().or(dependency["name"].as_str());
        dependency["kind"].is_null() && name == Some(package)
    })
}

/// Whether a source file below `folder` holds `path`.
fn names(folder: &Path, path: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|entry| match entry.is_dir() {
        true => names(&entry, path),
        false => std::fs::read_to_string(&entry).is_ok_and(|text| text.contains(path)),
    })
}
