//! The course of one node on the cluster: its jobs are adopted or submitted, and watched until there is a record.

mod cancel;
mod fate;
mod submit;
mod talk;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use stage_kit::Update;

use super::Slurm;
use super::submission::{InQueue, Submission};
use crate::attempt::FAILED;
use crate::child::Word;
use crate::executor::Failure;
use crate::job::{Job, Part};
use crate::lock;
use crate::store::{Store, remove_if_there};

/// A part that is to be done.
struct Due {
    part: Part,
    /// How often the cluster has lost it.
    losses: usize,
}

/// A job in the queue, as far as is known.
struct Task {
    /// `12_3`.
    id: String,
    submission: Submission,
    /// Its place in the array.
    index: usize,
    due: Due,
    /// Queues that were asked before say nothing about it.
    since: Instant,
    /// Since when it is not in the queue.
    gone: Option<Instant>,
    /// Why it waits, as it was told last.
    reason: String,
    /// How much of what it says was told.
    told: u64,
}

/// A submission of which nobody knows whether Slurm has taken it.
struct Unsure {
    submission: Submission,
    dues: Vec<Due>,
    since: Instant,
}

pub(super) struct Course<'a> {
    slurm: &'a Slurm,
    store: &'a Store,
    job: &'a Job,
    tell: &'a (dyn Fn(Word) + Sync),
    /// Where submissions stand.
    folder: PathBuf,
    tasks: Vec<Task>,
    waiting: VecDeque<Due>,
    unsure: Option<Unsure>,
    /// No submission before this moment.
    hold: Instant,
    failure: Option<Failure>,
    /// Trouble that was told, so that it is told once.
    trouble: String,
    /// Whether the jobs for the parts of this node have been through.
    parts_are_done: bool,
    /// Whether the job that publishes has been through.
    is_done: bool,
    /// Cases of ended jobs, and of all.
    cases: (usize, usize),
    /// The progress that was told last.
    shown: Option<Update>,
    /// How the jobs stood when that was written down last.
    noted: Option<InQueue>,
}

/// How often a flag or a file is looked at.
const TICK: Duration = Duration::from_millis(100);

impl<'a> Course<'a> {
    pub(super) fn new(slurm: &'a Slurm, store: &'a Store, job: &'a Job, tell: &'a (dyn Fn(Word) + Sync)) -> Self {
        Self {
            slurm,
            store,
            job,
            tell,
            folder: super::submissions(store).join(&job.key),
            tasks: Vec::new(),
            waiting: VecDeque::new(),
            unsure: None,
            hold: Instant::now(),
            failure: None,
            trouble: String::new(),
            parts_are_done: false,
            is_done: false,
            cases: (0, 0),
            shown: None,
            noted: None,
        }
    }

    /// How many jobs it believes to be in the queue.
    pub(super) fn n_in_queue(&self) -> usize {
        self.tasks.len() + self.unsure.as_ref().map_or(0, |unsure| unsure.dues.len())
    }

    /// Removes what was kept about the jobs, once the record makes it worthless.
    pub(super) fn forget(&self) {
        // What stays is removed by the next run that comes by.
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// From wherever the last run left it to a record.
    pub(super) fn run(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        self.adopt(stop)?;
        loop {
            self.watch(stop)?;
            if let Some(failure) = self.failure.take() {
                self.mark_failed(&failure);
                return Err(failure);
            }
            if self.is_done || (!self.job.forced && self.store.record(&self.job.key).is_some()) {
                self.await_record(stop);
                return Ok(());
            }
            self.plan();
        }
    }

    /// What is to be submitted next: jobs for parts, if there is more than one to make, and then the one that publishes.
    fn plan(&mut self) {
        let batch = self.job.resources.batch.filter(|_| !self.parts_are_done);
        let parts = match (&self.job.cases, batch) {
            (Some(list), Some(batch)) => {
                let cases = self.store.cases();
                let missing = (0..list.cases.len()).filter(|&i| cases.record(&list.cases[i].key).is_none());
                cut(&missing.collect::<Vec<_>>(), batch)
            }
            _ => Vec::new(),
        };
        if parts.len() > 1 {
            self.cases = (0, parts.iter().map(n_cases).sum());
            // What failed before is tried again; that the file cannot be removed changes nothing.
            let _ = remove_if_there(&self.store.attempt(&self.job.key).join(FAILED));
            self.waiting.extend(parts.into_iter().map(|part| Due { part, losses: 0 }));
            self.parts_are_done = true;
        } else {
            self.waiting.push_back(Due { part: Part::Whole, losses: 0 });
        }
    }

    /// Waits until the record of a job that has done its work is seen here; that it never is is told by the runner.
    fn await_record(&self, stop: &AtomicBool) {
        let begun = Instant::now();
        while self.store.record(&self.job.key).is_none() && begun.elapsed() < self.slurm.options.latency && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
        }
    }

    /// Takes the lock from a job that is certainly gone: it may have died on a machine that cannot be asked.
    fn free(&self, id: &str, part: &Part) -> Result<()> {
        lock::free_of_job(&self.store.lock(&part.name(&self.job.key)), id)
    }

    /// Submits what waits and waits for what was submitted, until nothing is left of either.
    fn watch(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let mut looked: Option<Instant> = None;
        loop {
            if stop.load(Ordering::Relaxed) {
                self.cancel()?;
                return Err(Failure::Stopped);
            }
            self.submit()?;
            if self.tasks.is_empty() && self.waiting.is_empty() && self.unsure.is_none() {
                return Ok(());
            }
            let poll = self.slurm.options.poll;
            if looked.is_none_or(|looked| looked.elapsed() >= poll) {
                looked = Some(Instant::now());
                self.look()?;
            }
            std::thread::sleep(TICK.min(poll));
        }
    }

    /// Looks how far the jobs are.
    fn look(&mut self) -> Result<(), Failure> {
        let listing = match self.slurm.queue.look(self.slurm.options.poll) {
            Ok(listing) => Some(listing),
            Err(error) => {
                self.complain(&format!("does not know of its jobs and waits: {error}"));
                None
            }
        };
        if let Some(listing) = &listing
            && let Some(unsure) = self.unsure.take_if(|unsure| listing.asked > unsure.since)
        {
            match submit::by_name(listing, &unsure.submission.name) {
                Some(job) => self.submitted(unsure.submission, unsure.dues, &job)?,
                None => self.not_submitted(&unsure.submission, unsure.dues)?,
            }
        }
        for mut task in std::mem::take(&mut self.tasks) {
            self.relay(&mut task);
            if self.has_ended(&mut task, listing.as_deref())? {
                self.slurm.leave(1);
            } else {
                self.tasks.push(task);
            }
        }
        if let Some(listing) = &listing {
            self.note_queue(listing);
        }
        self.show_progress();
        Ok(())
    }
}

fn n_cases(part: &Part) -> usize {
    if let Part::Cases(range) = part { range.len() } else { 0 }
}

/// Cuts cases, by their places in the list, into ranges with `batch` of them each. What lies between two of a range is done
/// already and costs a look.
fn cut(missing: &[usize], batch: usize) -> Vec<Part> {
    missing.chunks(batch).filter_map(|places| Some(Part::Cases(*places.first()?..places.last()? + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_cut_into_ranges_that_do_not_overlap() {
        assert_eq!(cut(&[], 2), []);
        assert_eq!(cut(&[0, 1, 2, 3, 4], 2), [Part::Cases(0..2), Part::Cases(2..4), Part::Cases(4..5)]);
        assert_eq!(cut(&[1, 7, 8], 2), [Part::Cases(1..8), Part::Cases(8..9)]);
    }
}
