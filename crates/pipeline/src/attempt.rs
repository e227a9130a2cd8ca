//! One attempt at one piece of work: lock, child, publication.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum as _;

use crate::child::{self, Ended, Word};
use crate::graph::Node;
use crate::lock::{Lease, host};
use crate::plan::{Planner, Work};
use crate::store::{InputRecord, MadeBy, Record};
use crate::text::utc;

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The stage failed; its log tells why.
    Stage { how: String, log: PathBuf },
    /// Another runner does this work.
    Locked(String),
    /// It was asked to stop.
    Stopped,
    /// The runner itself could not go on.
    Runner(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { how, log } => write!(f, "FAILED: the stage {how}; all that it said: {}", log.display()),
            Self::Locked(holder) => write!(f, "locked: {holder} is working on it in the same store"),
            Self::Stopped => f.write_str("stopped; the next run goes on from its last checkpoint"),
            Self::Runner(error) => write!(f, "FAILED: {error:#}"),
        }
    }
}

/// The executable whose hidden verb `stage` runs a stage.
pub(crate) struct Program {
    executable: PathBuf,
    version: String,
    /// Threads for each stage, when several run at once.
    threads: Option<usize>,
    digest: OnceLock<String>,
}

impl Program {
    pub(crate) fn new(executable: &Path, version: &str, jobs: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (jobs > 1).then(|| (cores / jobs).max(1));
        Self { executable: executable.to_owned(), version: version.to_owned(), threads, digest: OnceLock::new() }
    }
}

/// One attempt.
pub(crate) struct Attempt<'a> {
    pub(crate) planner: &'a Planner<'a>,
    pub(crate) program: &'a Program,
    pub(crate) node: &'a Node,
    pub(crate) work: &'a Work,
    pub(crate) forced: bool,
    pub(crate) stop: &'a AtomicBool,
}

impl Attempt<'_> {
    /// Does the work and publishes the result, or finds that another runner has done so meanwhile.
    pub(crate) fn run(&self, tell: &(dyn Fn(Word) + Sync)) -> Result<Record, Failure> {
        let note = |text: String| tell(Word::Line(text));
        let lease = match Lease::take(&self.planner.store.lock(&self.work.key)).map_err(Failure::Runner)? {
            Ok(lease) => lease,
            Err(holder) => return Err(Failure::Locked(holder)),
        };
        let before = self.planner.record(&self.node.name, self.work).map_err(Failure::Runner)?;
        if let (Some(record), false) = (&before, self.forced) {
            self.link(&record.key)?;
            return Ok(record.clone());
        }
        let (log, resumes) = self.prepare().map_err(Failure::Runner)?;
        note(format!("{}: {}", self.node.name, if resumes { "goes on where it was interrupted" } else { "started" }));
        let (started, begun) = (SystemTime::now(), Instant::now());
        let stdin = lease.share().map_err(Failure::Runner)?;
        let command = self.command();
        let ended = child::run(command, stdin, log, tell, self.stop).map_err(Failure::Runner)?;
        match ended {
            Ended::Well => {}
            Ended::Stopped => return Err(Failure::Stopped),
            Ended::Badly(status) => {
                let log = self.planner.store.attempt(&self.work.key).join("log.txt");
                return Err(Failure::Stage { how: child::describe(status), log });
            }
        }
        let record = self.publish(started, begun.elapsed().as_secs_f64()).map_err(Failure::Runner)?;
        if let Some(before) = before.filter(|before| before.output != record.output) {
            note(format!("{}: the result differs from the earlier one of the same key ({})", self.node.name, before.output));
        }
        self.link(&record.key)?;
        Ok(record)
    }

    fn link(&self, key: &str) -> Result<(), Failure> {
        self.planner.store.link_result(&self.node.name, key).map_err(Failure::Runner)
    }

    /// Makes the attempt's folder, or takes up the one that an interrupted attempt has left; returns its log and
    /// whether there was one.
    fn prepare(&self) -> Result<(File, bool)> {
        let folder = self.planner.store.attempt(&self.work.key);
        if self.forced && folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let resumes = folder.join("output").exists();
        for sub in ["output", "work"] {
            let sub = folder.join(sub);
            fs::create_dir_all(&sub).with_context(|| format!("cannot make the folder {}", sub.display()))?;
        }
        let params = serde_json::to_string_pretty(&self.node.params)?;
        stage_kit::write_atomic_text(&folder.join("params.json"), &params)?;
        let path = folder.join("log.txt");
        let open = || -> std::io::Result<File> {
            let mut log = File::options().append(true).create(true).open(&path)?;
            let how = if resumes { "goes on" } else { "starts" };
            writeln!(log, "--- {}: {} {how} on {}", utc(SystemTime::now()), self.node.name, host())?;
            Ok(log)
        };
        Ok((open().with_context(|| format!("cannot write {}", path.display()))?, resumes))
    }

    fn command(&self) -> Command {
        let folder = self.planner.store.attempt(&self.work.key);
        let mut command = Command::new(&self.program.executable);
        command.args(["stage", self.node.stage.name, "--parent", &std::process::id().to_string()]);
        command.arg("--params").arg(folder.join("params.json"));
        command.arg("--output").arg(folder.join("output"));
        command.arg("--work").arg(folder.join("work"));
        command.args(["--progress", "json", "--node", &self.node.name]);
        command.args(["--seed", &self.planner.pipeline.seed.to_string()]);
        command.args(["--device", &self.device()]);
        if let Some(threads) = self.program.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        for (role, input) in &self.work.inputs {
            let mut value = std::ffi::OsString::from(format!("{role}="));
            value.push(&input.path);
            command.arg("--input").arg(value);
        }
        command
    }

    fn device(&self) -> String {
        self.planner.pipeline.device.to_possible_value().map_or_else(|| "auto".to_owned(), |value| value.get_name().to_owned())
    }

    fn publish(&self, started: SystemTime, seconds: f64) -> Result<Record> {
        let executable = match self.program.digest.get() {
            Some(digest) => digest.clone(),
            None => {
                let digest = self.planner.hasher.file(&self.program.executable)?;
                self.program.digest.get_or_init(|| digest).clone()
            }
        };
        let made_by = MadeBy { version: self.program.version.clone(), executable, host: host(), device: self.device() };
        let inputs: BTreeMap<_, _> = self
            .work
            .inputs
            .iter()
            .map(|(role, input)| (role.clone(), InputRecord { from: input.from.clone(), digest: input.digest.clone() }))
            .collect();
        let fill = |output, files, bytes| Record {
            key: self.work.key.clone(),
            node: self.node.name.clone(),
            stage: self.node.stage.name.to_owned(),
            revision: self.node.stage.revision,
            params: self.node.params.clone(),
            seed: self.planner.pipeline.seed,
            inputs,
            output,
            files,
            bytes,
            started: utc(started),
            seconds,
            made_by,
        };
        self.planner.store.publish(self.planner.hasher, fill, &self.work.key)
    }
}
