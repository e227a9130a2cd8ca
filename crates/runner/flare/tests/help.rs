//! What the help shows works on the project's own pipeline.

use std::path::Path;
use std::process::Command;

#[test]
fn the_examples_of_runs_at_the_top_of_the_help_are_sound() {
    let flare = |arguments: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        Command::new(env!("CARGO_BIN_EXE_flare")).args(arguments).current_dir(root).output().unwrap()
    };
    let help = String::from_utf8(flare(&["--help"]).stdout).unwrap();
    let store = tempfile::tempdir().unwrap();
    let store = store.path().to_str().unwrap();
    let runs: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  flare run")).collect();
    assert!(runs.len() >= 3, "{help}");
    for run in runs {
        let words = run.split("   ").next().unwrap_or_default().split_whitespace().filter(|word| *word != "--dry-run");
        let arguments: Vec<&str> = ["run"].into_iter().chain(words).chain(["--dry-run", "--store", store]).collect();
        let outcome = flare(&arguments);
        let told = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(3), "{arguments:?}: {told}");
    }
}
