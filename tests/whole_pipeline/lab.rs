//! A folder with a pipeline file, and the program that runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a call of the program came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The nodes whose stage was started or resumed, sorted.
    pub(crate) fn ran(&self) -> Vec<&str> {
        let begun = [": started", ": goes on where it was interrupted"];
        let mut nodes: Vec<&str> = self.stderr.lines().filter_map(|line| begun.iter().find_map(|end| line.strip_suffix(end))).collect();
        nodes.sort_unstable();
        nodes
    }

    #[track_caller]
    pub(crate) fn must_succeed(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts the exit code, and that the program has said all of `parts` in one line.
    #[track_caller]
    pub(crate) fn must_fail(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let told = self.stderr.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(told, "no line has all of {parts:?}:\n{}", self.stderr);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("internal error"), "{}", self.stderr);
    }
}

/// A folder of its own for each test, with results in `store`.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

/// The seconds that a run may take before a test gives up waiting for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The dataset lies beside the pipeline file instead of coming from a node, so that tests can change it.
const OWN_DATA: &str = "data: {FLARE23: FLARE, test_images: FLARE/validation, test_truth: truth}\nnodes:\n  phantom: null\n";

impl Lab {
    /// A lab whose pipeline is `tiny.yaml` and `more`, laid over it.
    pub(crate) fn new(more: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        lab.write_pipeline("lab.yaml", more);
        lab
    }

    /// A lab with a dataset of its own, and `nodes` (lines of YAML below `nodes:`) laid over `tiny.yaml`.
    pub(crate) fn with_own_data(nodes: &str) -> Self {
        let lab = Self::new("");
        lab.run(&["phantom"]).must_succeed();
        for part in ["FLARE", "truth"] {
            copy_folder(&lab.result("phantom").join(part), &lab.path(part));
        }
        fs::remove_dir_all(lab.path("store")).unwrap();
        lab.write_pipeline("lab.yaml", &format!("{OWN_DATA}{nodes}"));
        lab
    }

    /// Writes a pipeline file that extends `tiny.yaml`.
    pub(crate) fn write_pipeline(&self, name: &str, more: &str) {
        let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/whole_pipeline/tiny.yaml");
        fs::write(self.path(name), format!("extends: {tiny}\nstore: store\n{more}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The latest result of a node of `lab.yaml`.
    pub(crate) fn result(&self, node: &str) -> PathBuf {
        self.path("store/results/lab").join(node)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flare"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        if matches!(arguments, ["run" | "demo" | "stage", ..]) {
            command.args(["--device", "cpu"]);
        }
        if !arguments.contains(&"--pipeline") && !matches!(arguments, ["stage" | "init", ..]) {
            command.args(["--pipeline", "lab.yaml"]);
        }
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.call(&[&["run"], arguments].concat())
    }

    /// The folder of the attempt at `node` that is going on or was interrupted, once it is there.
    pub(crate) fn attempt(&self, node: &str) -> PathBuf {
        await_that(&format!("an attempt at {node}"), || {
            let begins = |log: String| log.contains(&format!(": {node} starts on "));
            let folders = fs::read_dir(self.path("store/attempts")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
            folders.into_iter().find(|folder| fs::read_to_string(folder.join("log.txt")).is_ok_and(begins))
        })
    }

    /// Every file below `name` with its bytes.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        gather(&self.path(name), &mut files);
        files
    }
}

pub(crate) fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Polls until `found` gives something, and fails when that takes too long.
#[track_caller]
pub(crate) fn await_that<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn gather(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            gather(&entry.unwrap().path(), files);
        }
    } else {
        files.insert(path.to_owned(), fs::read(path).unwrap());
    }
}

/// Copies a folder; the copies may be written, unlike results in a store.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (source, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            fs::write(target, fs::read(source).unwrap()).unwrap();
        }
    }
}
