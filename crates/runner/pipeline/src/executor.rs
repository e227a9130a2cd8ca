//! Where work is done: the seam between the runner, which knows the pipeline, and the machines that stages run on.
//!
//! The runner finds out what must be run, prepares a [`Job`] for each piece of work and hands it to an [`Executor`]. A job
//! is complete in itself: the key, the stage with its parameters, the inputs by role with their digests, and what the
//! node asks for ([`Resources`](crate::Resources)). It stands as `job.json` in the folder of its attempt, so that another
//! process, on this machine or another that sees the same store, can do it with [`Attempt`] and nothing else: the hidden
//! verb `work --root STORE KEY` is that process. It takes the lock of the key, runs the stage as its child, takes up what an
//! interrupted attempt has left, publishes the object and writes the record.
//!
//! **The record is the truth.** An executor that comes back well says only that the work has ended; the runner then looks
//! for the record and goes by that. A scheduler's word on a job is used for nothing but to tell whether it still lives:
//! as long as it may, [`Executor::execute`] goes on waiting, and when it is certainly gone without a record, that is a
//! [`Failure`].
//!
//! A stage that works case by case can be cut: `work --cases A..B` does those cases of the list
//! ([`Part::Cases`](crate::Part)), each published as it is finished. Jobs with different cases of one key may run side by
//! side, even ones that overlap. The job without `--cases` ([`Part::Whole`](crate::Part)) comes last: it does what cases are
//! left and publishes the node's result.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::child::Word;
use crate::digest::Hasher;
use crate::job::{Job, Part};
use crate::store::Store;

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The stage failed; its log tells why.
    Stage {
        /// What became of it, in words.
        how: String,
        /// All that it said.
        log: PathBuf,
    },
    /// Another runner does this work: who, in a sentence.
    Locked(String),
    /// It was asked to stop.
    Stopped,
    /// The machinery around the stage could not go on.
    Runner(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runner(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { how, log } => write!(f, "FAILED: the stage {how}; all that it said: {}", log.display()),
            Self::Locked(holder) => write!(f, "locked: {holder}"),
            Self::Stopped => f.write_str("stopped; the next run goes on from its last checkpoint"),
            Self::Runner(error) => write!(f, "FAILED: {error:#}"),
        }
    }
}

/// A way to get jobs done.
pub trait Executor: Sync {
    /// Does the job and comes back when it has ended; the runner calls this from a thread for each job that runs at once.
    /// The store is that of the runner, and the job is saved in it. What is worth telling goes to `tell`. When `stop` is
    /// set, the work is ended in good order (checkpoints stay), and the answer is [`Failure::Stopped`].
    ///
    /// # Errors
    /// Tells why there is no record. That there is none although this came back well is told by the runner.
    fn execute(&self, store: &Store, job: &Job, tell: &(dyn Fn(Word) + Sync), stop: &AtomicBool) -> Result<(), Failure>;

    /// Whether jobs take the resources of this machine, so that the runner must not start more of them than it has.
    fn is_local(&self) -> bool;
}

/// Runs stages as children of this process.
pub struct Local<'a> {
    /// The executable whose hidden verb `stage` runs a stage.
    pub executable: PathBuf,
    /// Threads for a stage whose node does not say how many; all cores without it.
    pub threads: Option<usize>,
    /// Hashes the executable, for the records.
    pub hasher: &'a Hasher,
}

/// How long a stage may take to end after the user asked for it. Training ends after the step that it is at and writes a
/// checkpoint; whoever cannot wait asks twice.
const GRACE: Duration = Duration::from_secs(30);

impl Executor for Local<'_> {
    fn execute(&self, store: &Store, job: &Job, tell: &(dyn Fn(Word) + Sync), stop: &AtomicBool) -> Result<(), Failure> {
        let threads = job.resources.cpus.or_else(|| self.threads.map(|threads| (threads / job.resources.processes).max(1)));
        let Self { executable, hasher, .. } = self;
        Attempt { store, job, part: Part::Whole, executable, threads, hasher, grace: GRACE }.run(tell, stop)
    }

    fn is_local(&self) -> bool {
        true
    }
}
