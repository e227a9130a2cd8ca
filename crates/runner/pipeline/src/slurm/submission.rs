//! What was submitted, on disk: a runner that comes back after a kill finds the jobs of the one before it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::executor::Failure;
use crate::job::Part;

/// One array. It stands in a folder of its own with its script and with what its jobs say, before `sbatch` is called: the
/// jobs of a runner that dies in that very moment are found by their name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Submission {
    /// The seconds of its time, or more when there were others: it is in the name, which must be new.
    pub(super) number: u64,
    /// The name of the jobs.
    pub(super) name: String,
    /// What each job does.
    pub(super) parts: Vec<Part>,
    /// Slurm's number of the array, once it is known.
    pub(super) job: Option<String>,
    /// Whether a runner has cancelled it when it was asked to stop.
    pub(super) cancelled: bool,
}

const FILE: &str = "submission.json";
const SCRIPT: &str = "script.sh";

impl Submission {
    pub(super) fn folder(&self, of_key: &Path) -> PathBuf {
        of_key.join(self.number.to_string())
    }

    pub(super) fn script(&self, of_key: &Path) -> PathBuf {
        self.folder(of_key).join(SCRIPT)
    }

    pub(super) fn save(&self, of_key: &Path) -> Result<()> {
        stage_kit::write_atomic_text(&self.folder(of_key).join(FILE), &serde_json::to_string(self)?)
    }

    /// All submissions of a key, the oldest first. What cannot be read was never submitted.
    pub(super) fn all(of_key: &Path) -> Vec<Self> {
        let folders = fs::read_dir(of_key).into_iter().flatten().filter_map(Result::ok);
        let read = |folder: fs::DirEntry| serde_json::from_str(&fs::read_to_string(folder.path().join(FILE)).ok()?).ok();
        let mut all: Vec<Self> = folders.filter_map(read).collect();
        all.sort_by_key(|submission| submission.number);
        all
    }

    pub(super) fn remove(&self, of_key: &Path) -> Result<()> {
        let folder = self.folder(of_key);
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }
}

/// How the jobs of a key stood when the runner that waits for them looked at the queue last: `status` asks no scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InQueue {
    /// Jobs that wait.
    pub(crate) pending: usize,
    /// Jobs that run.
    pub(crate) running: usize,
    /// Why the first of those that wait does so, in Slurm's words.
    pub(crate) reason: String,
}

const QUEUE_FILE: &str = "queue.json";

impl InQueue {
    pub(super) fn save(&self, of_key: &Path) -> Result<()> {
        stage_kit::write_atomic_text(&of_key.join(QUEUE_FILE), &serde_json::to_string(self)?)
    }

    pub(super) fn read(of_key: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(of_key.join(QUEUE_FILE)).ok()?).ok()
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        let jobs = |n: usize| if n == 1 { "1 job".to_owned() } else { format!("{n} jobs") };
        let because = if self.reason.is_empty() || self.reason == "None" { String::new() } else { format!(" ({})", self.reason) };
        match (self.running, self.pending) {
            (0, pending) => format!("{} in the queue{because}", jobs(pending)),
            (running, 0) => format!("{} at work", jobs(running)),
            (running, pending) => format!("{} at work, {pending} in the queue{because}", jobs(running)),
        }
    }
}

/// What a job tells of its own end. Unlike a scheduler's word this is certain, and it comes with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The result, or the part of it, is published.
    Done,
    /// The stage failed.
    Failed { how: String, log: PathBuf },
    /// Somebody else does this work.
    Locked { holder: String },
    /// It was asked to end: its time was up, or it was cancelled.
    Stopped,
    /// The machinery around the stage could not go on.
    Broken { error: String },
}

impl Outcome {
    pub(crate) fn of(result: &Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(Failure::Stage { how, log }) => Self::Failed { how: how.clone(), log: log.clone() },
            Err(Failure::Locked(holder)) => Self::Locked { holder: holder.clone() },
            Err(Failure::Stopped) => Self::Stopped,
            Err(Failure::Runner(error)) => Self::Broken { error: format!("{error:#}") },
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        stage_kit::write_atomic_text(path, &serde_json::to_string(self)?)
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_come_back_in_their_order_and_what_is_torn_was_never_one() {
        let folder = tempfile::tempdir().unwrap();
        let submission = |number| Submission {
            number,
            name: format!("n.{number}"),
            parts: vec![Part::Cases(0..5), Part::Whole],
            job: (number == 9).then(|| "12".to_owned()),
            cancelled: false,
        };
        for number in [10, 9] {
            submission(number).save(folder.path()).unwrap();
        }
        fs::create_dir(folder.path().join("11")).unwrap();
        fs::write(folder.path().join("11/submission.json"), "{").unwrap();
        assert_eq!(Submission::all(folder.path()), [submission(9), submission(10)]);
        submission(9).remove(folder.path()).unwrap();
        assert_eq!(Submission::all(folder.path()), [submission(10)]);
    }

    #[test]
    fn the_queue_is_told_in_words() {
        let told = |running, pending, reason: &str| InQueue { pending, running, reason: reason.into() }.words();
        assert_eq!(told(0, 1, "Resources"), "1 job in the queue (Resources)");
        assert_eq!(told(2, 3, "Priority"), "2 jobs at work, 3 in the queue (Priority)");
        assert_eq!(told(1, 0, ""), "1 job at work");
    }

    #[test]
    fn every_end_can_be_told_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.json");
        assert_eq!(Outcome::read(&path), None);
        let failed = Failure::Stage { how: "ended with code 1".into(), log: "log.txt".into() };
        for result in [Ok(()), Err(failed), Err(Failure::Locked("x".into())), Err(Failure::Stopped), Err(anyhow::anyhow!("full").into())] {
            Outcome::of(&result).write(&path).unwrap();
            assert_eq!(Outcome::read(&path), Some(Outcome::of(&result)));
        }
    }
}
