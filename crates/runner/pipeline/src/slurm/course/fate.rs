//! What became of a job.

use std::time::Instant;

use super::{Course, Due, Task, n_cases};
use crate::executor::Failure;
use crate::job::Part;
use crate::slurm::commands::{self, Listing};
use crate::slurm::submission::Outcome;

impl Course<'_> {
    /// Whether a job has come to an end, of which all that follows is seen to.
    pub(super) fn has_ended(&mut self, task: &mut Task, listing: Option<&Listing>) -> Result<bool, Failure> {
        let outcome = Outcome::read(&self.told_by(task, "json"));
        if let Some(outcome) = outcome.as_ref().filter(|outcome| **outcome != Outcome::Stopped) {
            self.conclude(task, outcome.clone());
            return Ok(true);
        }
        let Some(listing) = listing.filter(|listing| listing.asked > task.since) else { return Ok(false) };
        if let Some(listed) = listing.jobs.get(&task.id) {
            task.gone = None;
            let reason = if listed.is_pending { listed.reason.as_str() } else { "" };
            if task.reason != reason && task.submission.parts.len() == 1 {
                self.say(&if reason.is_empty() { format!("job {} runs", task.id) } else { format!("job {} waits: {reason}", task.id) });
            }
            reason.clone_into(&mut task.reason);
            return Ok(false);
        }
        // What it has written may be on its way still.
        let gone = *task.gone.get_or_insert_with(Instant::now);
        if outcome.is_none() && gone.elapsed() < self.slurm.options.latency {
            return Ok(false);
        }
        self.judge(task, outcome.is_some())?;
        Ok(true)
    }

    /// A job has told how it ended.
    fn conclude(&mut self, task: &mut Task, outcome: Outcome) {
        self.relay(task);
        let is_part = matches!(task.due.part, Part::Cases(_));
        self.gather(&task.due.part);
        let failure = match outcome {
            Outcome::Done => {
                self.cases.0 += n_cases(&task.due.part);
                self.is_done |= !is_part;
                return;
            }
            Outcome::Failed { how, log } => {
                let log = if is_part { self.log() } else { log };
                Failure::Stage { how: format!("{how} (job {})", task.id), log }
            }
            Outcome::Locked { holder } => Failure::Locked(holder),
            Outcome::Broken { error } => Failure::Runner(anyhow::anyhow!("job {}: {error}", task.id)),
            Outcome::Stopped => Failure::Stopped,
        };
        if is_part {
            self.say_end_of(task);
        }
        self.fail(failure);
    }

    /// Other cases are not kept from being done by a bad one; other failures would only come again.
    fn fail(&mut self, failure: Failure) {
        if !matches!(failure, Failure::Stage { .. }) {
            self.waiting.clear();
        }
        self.failure.get_or_insert(failure);
    }

    /// A job is gone without a result. `was_asked`: it was asked to end, and told so.
    fn judge(&mut self, task: &mut Task, was_asked: bool) -> Result<(), Failure> {
        self.relay(task);
        self.gather(&task.due.part);
        self.free(&task.id, &task.due.part)?;
        let (state, code) = commands::final_state(&task.id).unwrap_or_default();
        let how = match state.as_str() {
            _ if task.submission.cancelled => {
                self.waiting.push_back(Due { part: task.due.part.clone(), losses: task.due.losses });
                return Ok(());
            }
            "COMPLETED" => {
                self.is_done |= !matches!(task.due.part, Part::Cases(_));
                return Ok(());
            }
            "CANCELLED" => "was cancelled by somebody (scancel); run again to submit it anew".to_owned(),
            "OUT_OF_MEMORY" => "took more memory than `resources` asks for; ask for more".to_owned(),
            "DEADLINE" => "missed its deadline".to_owned(),
            "FAILED" if !was_asked => format!("ended with code {code} before it could tell why"),
            _ if task.due.losses >= self.slurm.options.resubmit => {
                format!("was lost, {}, more often than `resubmit` allows", lost(&state, was_asked))
            }
            _ => {
                self.say(&format!("job {} was lost, {}; it is submitted again", task.id, lost(&state, was_asked)));
                self.waiting.push_back(Due { part: task.due.part.clone(), losses: task.due.losses + 1 });
                return Ok(());
            }
        };
        self.say_end_of(task);
        let log = if self.log().is_file() { self.log() } else { self.output(task) };
        let failure = Failure::Stage { how: format!("{how} (job {})", task.id), log };
        if state == "CANCELLED" {
            self.waiting.clear();
        }
        self.fail(failure);
        Ok(())
    }
}

/// Why a job was lost, in words.
fn lost(state: &str, was_asked: bool) -> String {
    match state {
        "TIMEOUT" => "its time was up; `resources` may ask for more".into(),
        "NODE_FAIL" => "its machine failed".into(),
        "PREEMPTED" => "others came first".into(),
        _ if was_asked => "it was asked to end, as it is when its time is up".into(),
        "" => "and Slurm does not say why".into(),
        other => format!("Slurm says {other}"),
    }
}
