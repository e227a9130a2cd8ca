//! How jobs come into the queue, or are found there.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::{Course, Due, TICK, Task, Unsure, n_cases};
use crate::executor::Failure;
use crate::job::Part;
use crate::slurm::commands::{self, Listing, Refused};
use crate::slurm::script::{Program, arguments, script};
use crate::slurm::submission::Submission;

impl Course<'_> {
    /// Finds the jobs that a runner before this one has left in the queue, and clears up after those that have ended.
    pub(super) fn adopt(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let left = Submission::all(&self.folder);
        if left.is_empty() {
            return Ok(());
        }
        // The runner before this one may have ended this very moment: what was seen earlier does not count.
        let mut age = Duration::ZERO;
        let listing = loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            match self.slurm.queue.look(age) {
                Ok(listing) => break listing,
                Err(error) => self.complain(&format!("waits to hear of the jobs of an earlier run: {error}")),
            }
            age = self.slurm.options.poll;
            std::thread::sleep(TICK);
        };
        for submission in left {
            let job = submission.job.clone().or_else(|| by_name(&listing, &submission.name));
            let mut n_alive = 0;
            for (index, part) in submission.parts.iter().enumerate() {
                let Some(id) = job.as_ref().map(|job| format!("{job}_{index}")) else { continue };
                if listing.jobs.contains_key(&id) {
                    n_alive += 1;
                    self.cases.1 += n_cases(part);
                    let due = Due { part: part.clone(), losses: 0 };
                    let mut task = task(id, &submission, index, due);
                    task.told = fs::metadata(self.output(&task)).map_or(0, |meta| meta.len());
                    self.tasks.push(task);
                } else {
                    self.free(&id, part)?;
                    self.gather(part);
                }
            }
            if n_alive == 0 {
                submission.remove(&self.folder)?;
            }
        }
        if !self.tasks.is_empty() {
            self.slurm.found(self.tasks.len());
            let plural = if self.tasks.len() == 1 { "" } else { "s" };
            self.say(&format!("{} job{plural} of an earlier run adopted: {}", self.tasks.len(), self.ids()));
        }
        Ok(())
    }

    /// Submits an array of what waits, if there is room for a good part of it.
    pub(super) fn submit(&mut self) -> Result<(), Failure> {
        let due = self.waiting.len().min(self.slurm.options.array);
        if due == 0 || self.unsure.is_some() || Instant::now() < self.hold {
            return Ok(());
        }
        let room = self.slurm.enter(due);
        // One array for each job that comes to an end would be many arrays.
        if room < due.min(self.slurm.options.queue.div_ceil(4)) {
            self.slurm.leave(room);
            return Ok(());
        }
        let dues: Vec<Due> = self.waiting.drain(..room).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let number = Submission::all(&self.folder).last().map_or(now, |last| now.max(last.number + 1));
        let name = format!("{}.{}.{number}", self.job.node, self.job.key.get(..16).unwrap_or(&self.job.key));
        let parts: Vec<Part> = dues.iter().map(|due| due.part.clone()).collect();
        let submission = Submission { number, name, parts, job: None, cancelled: false };
        submission.save(&self.folder)?;
        let (folder, path) = (submission.folder(&self.folder), submission.script(&self.folder));
        let program = Program { executable: &self.slurm.executable, root: self.store.root(), patience: self.slurm.options.latency };
        stage_kit::write_atomic_text(&path, &script(&program, self.job, &submission.parts, &folder))?;
        let arguments = arguments(&self.slurm.options, self.job, &submission.name, dues.len(), &folder);
        match commands::submit(&arguments, &path) {
            Ok(job) => self.submitted(submission, dues, &job),
            Err(refused) => self.refused(submission, dues, refused),
        }
    }

    /// Slurm has taken a submission, under this number.
    pub(super) fn submitted(&mut self, submission: Submission, dues: Vec<Due>, job: &str) -> Result<(), Failure> {
        let submission = Submission { job: Some(job.to_owned()), ..submission };
        submission.save(&self.folder)?;
        self.trouble.clear();
        match dues.len() {
            1 => self.say(&format!("job {job}_0 is in the queue")),
            n => self.say(&format!("{n} jobs are in the queue, as array {job}")),
        }
        self.tasks.extend(dues.into_iter().enumerate().map(|(index, due)| task(format!("{job}_{index}"), &submission, index, due)));
        Ok(())
    }

    fn refused(&mut self, submission: Submission, dues: Vec<Due>, refused: Refused) -> Result<(), Failure> {
        self.hold = Instant::now() + self.slurm.options.poll;
        match refused {
            Refused::ForNow(text) => {
                self.complain(&format!("waits to submit: {text}"));
                self.unsure = Some(Unsure { submission, dues, since: Instant::now() });
                return Ok(());
            }
            // When no job of this run is there, waiting would not make room.
            Refused::Full(text) if self.slurm.n_in_queue() > dues.len() => self.complain(&format!("waits to submit: {text}")),
            Refused::Full(text) | Refused::ForGood(text) => {
                self.failure = Some(Failure::Runner(anyhow::anyhow!("the job was not taken: {text}")));
            }
        }
        self.not_submitted(&submission, dues)
    }

    /// Nothing came of a submission: its parts wait again, unless there is no point.
    pub(super) fn not_submitted(&mut self, submission: &Submission, dues: Vec<Due>) -> Result<(), Failure> {
        self.slurm.leave(dues.len());
        submission.remove(&self.folder)?;
        if self.failure.is_none() {
            dues.into_iter().rev().for_each(|due| self.waiting.push_front(due));
        } else {
            self.waiting.clear();
        }
        Ok(())
    }
}

fn task(id: String, submission: &Submission, index: usize, due: Due) -> Task {
    Task { id, submission: submission.clone(), index, due, since: Instant::now(), gone: None, reason: String::new(), told: 0 }
}

/// The number of the array under that name.
pub(super) fn by_name(listing: &Listing, name: &str) -> Option<String> {
    let (id, _) = listing.jobs.iter().find(|(_, listed)| listed.name == name)?;
    Some(id.split('_').next()?.to_owned())
}
