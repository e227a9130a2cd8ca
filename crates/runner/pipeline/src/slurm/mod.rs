//! Runs jobs on a Slurm cluster.
//!
//! Nodes are submitted by the runner, each as soon as what it reads is there: its key follows from the contents of its
//! inputs, so that there is nothing to submit before. A stage that works case by case goes out as an array of jobs of
//! `batch` cases each, followed by one job that publishes the whole. A job is the hidden verb `work`, which knows the store
//! and its part and nothing of the pipeline.
//!
//! **What is believed.** The record, first of all; then what a job has written about its own end ([`Outcome`]); then, for
//! jobs that died without a word, the state that Slurm remembers. The queue only tells whether a job lives. A command that
//! fails tells nothing: jobs live on until a queue that answers does not show them.
//!
//! **What is lost is submitted again**, so many times: jobs of nodes that failed, preempted ones, and ones whose time was up,
//! all of which go on from their last checkpoint or finished case. What a user has cancelled is not.
//!
//! **What survives the runner.** Jobs do. Each submission stands on disk, and the next run adopts what is still in the queue.
//! Asked to stop, the runner cancels its jobs: waiting ones at once, running ones by a signal upon which they write their
//! checkpoints.

mod commands;
mod course;
mod options;
mod script;
mod submission;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use self::commands::Queue;
use self::course::Course;
pub use self::options::SlurmOptions;
use self::submission::Submission;
pub(crate) use self::submission::{InQueue, Outcome};
use crate::child::Word;
use crate::executor::{Executor, Failure};
use crate::job::Job;
use crate::lock::Lease;
use crate::store::Store;

/// Submits jobs and waits for them.
pub struct Slurm {
    executable: PathBuf,
    options: SlurmOptions,
    queue: Queue,
    /// How many jobs of this run are in the queue.
    in_queue: Mutex<usize>,
}

impl Slurm {
    /// The executor for jobs done by `executable`, which must be seen under the same path on the cluster's nodes.
    ///
    /// # Errors
    /// When Slurm's commands are not there.
    pub fn new(executable: PathBuf, options: SlurmOptions, store: &Store) -> Result<Self> {
        commands::version().map_err(|error| anyhow::anyhow!("there is no Slurm here ({error}); leave out --executor slurm"))?;
        sweep(store);
        Ok(Self { executable, options, queue: Queue::default(), in_queue: Mutex::new(0) })
    }

    fn n_in_queue(&self) -> usize {
        *self.in_queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts up to `n` more jobs in the queue; returns how many there is room for.
    fn enter(&self, n: usize) -> usize {
        let mut in_queue = self.in_queue.lock().unwrap_or_else(PoisonError::into_inner);
        let n = n.min(self.options.queue.saturating_sub(*in_queue));
        *in_queue += n;
        n
    }

    /// Counts jobs that are in the queue already.
    fn found(&self, n: usize) {
        *self.in_queue.lock().unwrap_or_else(PoisonError::into_inner) += n;
    }

    /// Counts jobs that have left the queue.
    fn leave(&self, n: usize) {
        let mut in_queue = self.in_queue.lock().unwrap_or_else(PoisonError::into_inner);
        *in_queue = in_queue.saturating_sub(n);
    }
}

/// Removes what was kept about jobs whose work was finished when no runner was there.
fn sweep(store: &Store) {
    let folders = std::fs::read_dir(submissions(store)).into_iter().flatten().filter_map(Result::ok);
    for folder in folders.filter(|folder| !store.attempt(&folder.file_name().to_string_lossy()).exists()) {
        // What stays is in nobody's way.
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

/// The folder of submissions, with a folder for each key.
pub(crate) fn submissions(store: &Store) -> PathBuf {
    store.root().join("slurm")
}

/// How the jobs for a key stand, by the runner that waits for them.
pub(crate) fn in_queue(store: &Store, key: &str) -> Option<InQueue> {
    InQueue::read(&submissions(store).join(key))
}

/// Slurm's numbers of the arrays that were submitted for a key and that no runner has seen to the end.
pub(crate) fn submitted(store: &Store, key: &str) -> Vec<String> {
    Submission::all(&submissions(store).join(key)).into_iter().filter(|submission| !submission.cancelled).filter_map(|s| s.job).collect()
}

/// The lock of the runner that submits the jobs of a key and waits for them; the jobs take the key's own.
pub(crate) fn lock_name(key: &str) -> String {
    format!("{key}.slurm")
}

impl Executor for Slurm {
    fn execute(&self, store: &Store, job: &Job, tell: &(dyn Fn(Word) + Sync), stop: &AtomicBool) -> Result<(), Failure> {
        // Jobs take the lock of the key where they run; this one is for the submitting.
        let lock = store.lock(&lock_name(&job.key));
        let _lease = match Lease::take(&lock, &job.node)? {
            Ok(lease) => lease,
            Err(holder) => return Err(Failure::Locked(holder)),
        };
        let mut course = Course::new(self, store, job, tell);
        let result = course.run(stop);
        self.leave(course.n_in_queue());
        if result.is_ok() {
            course.forget();
        }
        result
    }

    fn is_local(&self) -> bool {
        false
    }
}
