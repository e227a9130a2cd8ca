//! A folder with a pipeline file, and the program that runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a call of the program came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The nodes whose stage was started, sorted.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self.stderr.lines().filter_map(|line| line.strip_suffix(": started").map(str::to_owned)).collect();
        nodes.sort();
        nodes
    }

    pub(crate) fn must_succeed(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

/// `a` and `b` are words, `j` joins them, `m` measures what `j` has joined, and `c` measures how `a` was counted.
pub(crate) const PIPELINE: &str = r#"
seed: 1
store: work
data:
  more: more.txt
nodes:
  a:
    stage: words
    inputs: {more: data.more}
    params: {text: one two}
  b:
    stage: words
    params: {text: three}
  j:
    stage: join
    inputs: {parts: {a: a/words, b: b/words}}
    params: {glue: "+"}
  m:
    stage: measure
    inputs: {what: j}
  c:
    stage: measure
    inputs: {what: a/count.txt}
"#;

impl Lab {
    pub(crate) fn new(pipeline: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        lab.write("pipeline.yaml", pipeline);
        lab.write("more.txt", " four");
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(toy());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Outcome {
        Self::outcome(self.command(arguments))
    }

    pub(crate) fn outcome(mut command: Command) -> Outcome {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.call(&[&["run"], arguments].concat())
    }

    /// Starts a run and returns while it is on its way.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[&["run"], arguments].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until the only attempt has a checkpoint with `word`; returns the attempt's folder.
    pub(crate) fn await_checkpoint(&self, word: &str) -> PathBuf {
        let attempts = self.path("work/attempts");
        await_that(&format!("checkpoint with {word}"), || {
            let folders: Vec<_> = fs::read_dir(&attempts).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
            folders
                .into_iter()
                .find(|folder| fs::read_to_string(folder.join("work/joined-so-far.txt")).is_ok_and(|text| text.contains(word)))
        })
    }
}

/// What a command shows on a terminal of its own, by util-linux's `script`, where that is installed.
pub(crate) fn on_a_terminal(lab: &Lab, arguments: &[&str], code: i32) -> Option<String> {
    let program = lab.command(arguments);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let line: String = words.map(|word| format!(" '{}'", word.display())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qfec", &format!("stty cols 120 rows 30; exec{line}"), "/dev/null"]).current_dir(lab.path("")).stdin(Stdio::null());
    match terminal.output() {
        Ok(output) => {
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            references::skipped(&format!("nobody has looked at a terminal, there is no `script`: {error}"));
            None
        }
    }
}

/// Every file below a folder, by its path in it; links are followed.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).follow_links(true) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            files.insert(entry.path().strip_prefix(folder).unwrap().to_owned(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// The processes whose command line has `needle`.
pub(crate) fn processes(needle: &Path) -> Vec<u32> {
    let needle = needle.display().to_string();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| String::from_utf8_lossy(&line(pid)).contains(&needle)).collect()
}

/// Sends a signal; that the process has ended this moment is no mistake of the test.
pub(crate) fn send(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Polls until `found` gives something, and fails after half a minute.
pub(crate) fn await_that<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The example program. Cargo builds it along with `cargo test -p pipeline`, but not with `--test it` alone.
fn toy() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let toy = own.parent().and_then(Path::parent).unwrap().join("examples/toy");
    assert!(toy.is_file(), "{} is missing; build it with `cargo build -p pipeline --example toy`", toy.display());
    toy
}
