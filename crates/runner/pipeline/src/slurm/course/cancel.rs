//! The end in good order, when the user asks for it.

use std::time::{Duration, Instant};

use super::{Course, TICK, Task};
use crate::executor::Failure;
use crate::slurm::commands;

/// How long running jobs may take to end after they were asked to, before they are cancelled outright.
const GRACE: Duration = Duration::from_secs(100);
/// How long a job that was cancelled outright may take, or a queue that says nothing.
const PATIENCE: Duration = Duration::from_secs(30);

impl Course<'_> {
    /// Cancels what waits, and asks what runs to end, so that it can write a checkpoint; comes back when all is gone.
    pub(super) fn cancel(&mut self) -> Result<(), Failure> {
        if let Some(unsure) = self.unsure.take() {
            // Should it have been taken after all, the next run finds it by its name.
            self.slurm.leave(unsure.dues.len());
        }
        if self.tasks.is_empty() {
            return Ok(());
        }
        for task in &mut self.tasks {
            if !task.submission.cancelled {
                task.submission.cancelled = true;
                task.submission.save(&self.folder)?;
            }
        }
        self.say(&format!("cancels its jobs: {}", self.ids()));
        let begun = Instant::now();
        let listing = self.slurm.queue.look(Duration::ZERO).ok();
        let runs = |task: &&Task| {
            let listed = listing.as_ref().and_then(|listing| listing.jobs.get(&task.id));
            listed.is_some_and(|listed| !listed.is_pending)
        };
        let (running, waiting): (Vec<&Task>, Vec<&Task>) = self.tasks.iter().partition(runs);
        commands::cancel(&ids(waiting), &[]);
        commands::cancel(&ids(running), &["--batch", "--signal=TERM"]);
        self.await_end(begun)
    }

    fn await_end(&mut self, begun: Instant) -> Result<(), Failure> {
        let mut outright = None;
        let mut heard = begun;
        while !self.tasks.is_empty() {
            if let Ok(listing) = self.slurm.queue.look(self.slurm.options.poll.min(Duration::from_secs(1))) {
                heard = Instant::now();
                if listing.asked > begun {
                    self.let_go(&listing)?;
                }
            }
            if begun.elapsed() > GRACE && outright.is_none() {
                outright = Some(Instant::now());
                commands::cancel(&ids(self.tasks.iter()), &[]);
            }
            if heard.elapsed() > PATIENCE || outright.is_some_and(|outright| outright.elapsed() > PATIENCE) {
                self.say(&format!("is told nothing of the end of its jobs {}; the next run will look for them", self.ids()));
                break;
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Lets go of the jobs that are not in the queue any more.
    fn let_go(&mut self, listing: &commands::Listing) -> Result<(), Failure> {
        for mut task in std::mem::take(&mut self.tasks) {
            if listing.jobs.contains_key(&task.id) {
                self.tasks.push(task);
                continue;
            }
            self.relay(&mut task);
            self.gather(&task.due.part);
            self.free(&task.id, &task.due.part)?;
            self.slurm.leave(1);
        }
        Ok(())
    }
}

fn ids<'t>(tasks: impl IntoIterator<Item = &'t Task>) -> Vec<String> {
    tasks.into_iter().map(|task| task.id.clone()).collect()
}
