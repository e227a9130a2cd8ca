//! One attempt at one piece of work: lock, child, publication.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use case_store::CaseList;
use clap::ValueEnum as _;
use rustix::process::Signal;

use crate::child::{self, Ended, Patience, Word};
use crate::digest::Hasher;
use crate::executor::Failure;
use crate::job::{Job, Part};
use crate::layout::lay_out;
use crate::lock::{Lease, host};
use crate::progress::ProgressFile;
use crate::publish::Written;
use crate::record::{InputRecord, MadeBy, Record};
use crate::store::{Store, remove_if_there};
use crate::taint;
use crate::text::utc;

/// One attempt at a job. It needs the store and the job alone, so that it can be made wherever the store can be seen.
pub struct Attempt<'a> {
    /// The store.
    pub store: &'a Store,
    /// What to do.
    pub job: &'a Job,
    /// How much of it.
    pub part: Part,
    /// The executable whose hidden verb `stage` runs a stage.
    pub executable: &'a Path,
    /// The stage's threads; all cores without it.
    pub threads: Option<usize>,
    /// Hashes the executable, for the record.
    pub hasher: &'a Hasher,
    /// How long the stage may take to end after it was asked to.
    pub grace: Duration,
}

impl Attempt<'_> {
    /// Does the work and publishes the result, or finds that another runner has done so meanwhile.
    ///
    /// # Errors
    /// Why there is no result.
    pub fn run(&self, tell: &(dyn Fn(Word) + Sync), stop: &AtomicBool) -> Result<(), Failure> {
        let job = self.job;
        let note = |text: String| tell(Word::Line(text));
        let lease = match Lease::take(&self.store.lock(&self.part.name(&job.key)), &job.node)? {
            Ok(lease) => lease,
            Err(holder) => return Err(Failure::Locked(holder)),
        };
        let before = self.store.record(&job.key);
        if before.is_some() && !job.forced {
            if self.part == Part::Whole {
                // Of the preparations nothing is needed; what stays behind is met by the next run.
                let _ = fs::remove_dir_all(self.folder());
            }
            return Ok(());
        }
        taint::check_inputs(self.store, job, self.hasher)?;
        let mut list = self.list();
        if list.is_none() && self.part != Part::Whole {
            return Err(anyhow::anyhow!("the stage {} does not work case by case; do the job as a whole", job.stage).into());
        }
        let (log, resumes) = self.prepare(list.as_mut())?;
        note(format!("{}: {}", job.node, if resumes { "goes on where it was interrupted" } else { "started" }));
        if let Some(done) = list.as_ref().map(|list| list.cases.iter().filter(|case| case.done).count()).filter(|&done| done > 0) {
            note(format!("{}: {done} of {} cases are there already", job.node, list.as_ref().map_or(0, |list| list.cases.len())));
        }
        let (started, begun) = (SystemTime::now(), Instant::now());
        let progress = ProgressFile::new(self.folder());
        let tell = |word: Word| {
            if let Word::Update(update) = &word {
                progress.keep(update);
            }
            tell(word);
        };
        match child::run(self.command(), lease.share()?, log, tell, stop, self.patience())? {
            Ended::Well => {}
            Ended::Stopped => return Err(Failure::Stopped),
            Ended::Badly(status) => return Err(self.failed(&child::describe(status))),
        }
        // What was read may have changed under the stage's hands.
        taint::check_inputs(self.store, job, self.hasher)?;
        if let Part::Cases(_) = self.part {
            return self.finish_part().map_err(Failure::Runner);
        }
        let record = self.publish(list.as_ref(), started, begun.elapsed().as_secs_f64())?;
        if let Some(before) = before.filter(|before| before.output != record.output) {
            note(format!("{}: the result differs from the earlier one of the same key ({})", job.node, before.output));
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        part_folder(self.store, &self.job.key, &self.part)
    }

    /// The cases are published; the log alone is kept of a part.
    fn finish_part(&self) -> Result<()> {
        let folder = self.folder();
        fs::rename(folder.join("log.txt"), kept_log(&folder)).context("cannot keep the log of the part")?;
        fs::remove_dir_all(folder).context("cannot remove the folder of the part")
    }

    /// The cases to do.
    fn list(&self) -> Option<CaseList> {
        let mut list = self.job.cases.clone()?;
        if let Part::Cases(range) = &self.part {
            list.partial = true;
            list.cases.truncate(range.end);
            list.cases.drain(..range.start.min(list.cases.len()));
        }
        Some(list)
    }

    fn failed(&self, how: &str) -> Failure {
        let log = self.folder().join("log.txt");
        // `status` tells failed work from interrupted work by this file; that it cannot be written changes nothing.
        let _ = stage_kit::write_atomic_text(&self.folder().join(FAILED), &format!("{} the stage {how}\n", utc(SystemTime::now())));
        Failure::Stage { how: how.to_owned(), log }
    }

    /// Makes the attempt's folder, or takes up the one that an interrupted attempt has left; returns its log and
    /// whether there was one. Finished cases are put into place, and nothing else of a stage that works by case is kept.
    fn prepare(&self, list: Option<&mut CaseList>) -> Result<(File, bool)> {
        let folder = self.folder();
        let resumes = folder.join("output").exists() && !self.job.forced;
        for sub in ["output", "work"] {
            let sub = folder.join(sub);
            if (self.job.forced || list.is_some()) && sub.exists() {
                fs::remove_dir_all(&sub).with_context(|| format!("cannot remove {}", sub.display()))?;
            }
            fs::create_dir_all(&sub).with_context(|| format!("cannot make the folder {}", sub.display()))?;
        }
        if let Some(list) = list {
            lay_out(&self.store.cases(), list, &folder, self.job.verify)?;
            stage_kit::write_atomic_text(&folder.join(LIST), &serde_json::to_string(list)?)?;
        }
        let params = serde_json::to_string_pretty(&self.job.params)?;
        stage_kit::write_atomic_text(&folder.join("params.json"), &params)?;
        let path = folder.join("log.txt");
        let open = || -> std::io::Result<File> {
            remove_if_there(&folder.join(FAILED))?;
            let mut log = File::options().append(true).create(true).open(&path)?;
            let how = if resumes { "goes on" } else { "starts" };
            writeln!(log, "--- {}: {} {how} on {}", utc(SystemTime::now()), self.job.node, host())?;
            Ok(log)
        };
        Ok((open().with_context(|| format!("cannot write {}", path.display()))?, resumes))
    }

    fn command(&self) -> Command {
        let (job, folder) = (self.job, self.folder());
        let mut command = Command::new(self.executable);
        command.args(["stage", &job.stage, "--parent", &std::process::id().to_string()]);
        command.arg("--params").arg(folder.join("params.json"));
        command.arg("--output").arg(folder.join("output"));
        command.arg("--work").arg(folder.join("work"));
        command.args(["--planned", "--progress", "json", "--node", &job.node]);
        command.args(["--key", &job.key, "--seed", &job.seed.to_string()]);
        command.args(["--device", &self.device()]);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if job.resources.processes > 1 {
            command.args(["--processes", &job.resources.processes.to_string()]);
        }
        if job.cases.is_some() {
            command.arg("--cases").arg(folder.join(LIST));
        }
        if let Some(cards) = &job.cards {
            command.env(CARDS, cards);
        }
        for (role, input) in &job.inputs {
            let mut value = std::ffi::OsString::from(format!("{role}="));
            value.push(&input.path);
            command.arg("--input").arg(value);
            command.arg("--digest").arg(format!("{role}={}", input.digest));
        }
        command
    }

    /// How the stage is asked to end. A launcher of several processes ends them at once upon SIGTERM, and hands SIGUSR1 on to them.
    fn patience(&self) -> Patience {
        let ask = if self.job.resources.processes > 1 { Signal::USR1 } else { Signal::TERM };
        Patience { ask, grace: self.grace }
    }

    fn device(&self) -> String {
        self.job.device.to_possible_value().map_or_else(|| "auto".to_owned(), |value| value.get_name().to_owned())
    }

    fn publish(&self, cases: Option<&CaseList>, started: SystemTime, seconds: f64) -> Result<Record> {
        let job = self.job;
        let executable = self.hasher.file(self.executable)?;
        let made_by = MadeBy { version: job.version.clone(), executable, host: host(), device: self.device() };
        let inputs: BTreeMap<_, _> = job
            .inputs
            .iter()
            .map(|(role, input)| (role.clone(), InputRecord { from: input.from.clone(), digest: input.digest.clone() }))
            .collect();
        let fill = |Written { output, about, files, bytes }| Record {
            key: job.key.clone(),
            node: job.node.clone(),
            stage: job.stage.clone(),
            revision: job.revision,
            params: job.params.clone(),
            seed: job.seed,
            inputs,
            cases: cases.map_or(0, |list| list.cases.len()),
            output,
            about,
            files,
            bytes,
            started: utc(started),
            seconds,
            made_by,
        };
        self.store.publish(fill, &job.key, cases)
    }
}

/// The folder of an attempt at a part.
pub(crate) fn part_folder(store: &Store, key: &str, part: &Part) -> PathBuf {
    let attempt = store.attempt(key);
    match part {
        Part::Whole => attempt,
        Part::Cases(range) => attempt.join(format!("cases-{}-{}", range.start, range.end)),
    }
}

/// Where the log of a finished part stands, whose folder is gone.
pub(crate) fn kept_log(folder: &Path) -> PathBuf {
    folder.with_extension("log")
}

/// By this a process is told which of the machine's graphics cards are its own.
pub(crate) const CARDS: &str = "CUDA_VISIBLE_DEVICES";
/// The list of cases for the stage.
const LIST: &str = "list.json";
/// Written when the stage has failed.
pub(crate) const FAILED: &str = "failed.txt";
