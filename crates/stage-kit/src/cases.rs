//! Work over many cases, side by side: one bad case is named at the end, and the good ones go on.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;

use crate::io::StageIo;
use crate::sink::{BUSY, Turn};

/// Every case that failed, with its reason.
#[derive(Debug)]
pub struct CaseFailures {
    /// Case and reason, in case order.
    pub failures: Vec<(String, String)>,
    /// How many cases there were.
    pub total: usize,
}

impl fmt::Display for CaseFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.failures.len(), self.total) {
            (failed, total) if failed == total => write!(f, "all of the {total} cases failed:")?,
            (failed, total) => write!(f, "{failed} of {total} cases failed; the others are done and kept:")?,
        }
        self.failures.iter().try_for_each(|(case, reason)| write!(f, "\n  case {case}: {reason}"))
    }
}

impl std::error::Error for CaseFailures {}

/// One case of [`over_cases`].
#[derive(Clone, Copy, Debug)]
pub struct Case<'a, C> {
    /// Its name.
    pub id: &'a str,
    /// Whether there is nothing left to do.
    pub done: bool,
    /// What the work is about.
    pub what: &'a C,
}

/// Runs `work` for each case that is not done yet, one worker per core, with progress.
///
/// The workers are threads of their own and not tasks of the thread pool: a pool thread that waits for the parallel
/// part of one case would steal a second case meanwhile, and memory would no longer be bounded by one case per worker.
/// A panic inside a case counts as that case's failure. Under a runner every case is published as it is finished; a case
/// that another process is doing is waited for at the end.
///
/// # Errors
/// [`CaseFailures`] with every failed case, after all others have ended.
pub fn over_cases<C: Sync>(io: &StageIo, cases: &[Case<'_, C>], work: impl Fn(&C) -> Result<()> + Sync) -> Result<()> {
    let progress = io.report.start(&io.node, "cases", cases.len() as u64);
    let waiting: VecDeque<usize> = (0..cases.len()).filter(|&index| !cases[index].done).collect();
    progress.resume_from((cases.len() - waiting.len()) as u64);
    let workers = rayon::current_num_threads().min(waiting.len());
    let queue = Mutex::new(waiting);
    let failures = Mutex::new(BTreeMap::new());
    let worker = || {
        loop {
            // Not in the head of a `while let`, which would hold the lock during the work.
            let next = lock(&queue).pop_front();
            let Some(index) = next else { break };
            let Case { id, what, .. } = cases[index];
            match attempt(io, id, what, &work) {
                Outcome::Busy => {
                    std::thread::sleep(BUSY);
                    lock(&queue).push_back(index);
                    continue;
                }
                Outcome::Done => {}
                Outcome::Failed(reason) => {
                    progress.note(&format!("{}: case {id} failed: {reason}", io.node));
                    lock(&failures).insert(index, (id.to_owned(), reason));
                }
            }
            progress.step(id);
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    let failures: Vec<_> = failures.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    if failures.is_empty() { Ok(()) } else { Err(CaseFailures { failures, total: cases.len() }.into()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The work's panics are caught; a queue or a list of failures is never left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Outcome {
    Done,
    Failed(String),
    /// Another process is doing it.
    Busy,
}

fn attempt<C>(io: &StageIo, id: &str, what: &C, work: &impl Fn(&C) -> Result<()>) -> Outcome {
    let claimed = match &io.sink {
        Some(sink) => sink.turn(id),
        None => Ok(None),
    };
    let claim = match claimed {
        Err(error) => return Outcome::Failed(format!("{error:#}")),
        Ok(Some(Turn::Busy)) => return Outcome::Busy,
        Ok(Some(Turn::Done)) => return Outcome::Done,
        Ok(Some(Turn::Ours(claim))) => Some(claim),
        // A case that nobody has asked for on its own, such as a picture.
        Ok(None) => None,
    };
    let begun = Instant::now();
    let worked = match catch_unwind(AssertUnwindSafe(|| work(what))) {
        Ok(result) => result,
        Err(panic) => Err(anyhow::anyhow!("internal error: {}", panic_text(&*panic))),
    };
    let published = worked.and_then(|()| match (&io.sink, &claim) {
        (Some(sink), Some(_)) => sink.publish(id, begun.elapsed()),
        _ => Ok(()),
    });
    published.map_or_else(|error| Outcome::Failed(format!("{error:#}")), |()| Outcome::Done)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn io() -> StageIo {
        StageIo {
            node: "test".into(),
            inputs: Default::default(),
            output: "out".into(),
            work: "work".into(),
            seed: 0,
            device: Default::default(),
            report: Default::default(),
            sink: None,
        }
    }

    #[test]
    fn all_bad_cases_are_named_and_the_good_ones_go_on() {
        let worked = AtomicUsize::new(0);
        let names = ["a", "b", "c", "d"];
        let cases = names.each_ref().map(|name| Case { id: name, done: *name == "d", what: name });
        let error = over_cases(&io(), &cases, |name| {
            worked.fetch_add(1, Ordering::Relaxed);
            match *name {
                "b" => anyhow::bail!("truncated"),
                "c" => panic!("unexpected"),
                _ => Ok(()),
            }
        })
        .unwrap_err()
        .to_string();
        assert_eq!(worked.load(Ordering::Relaxed), 3, "the case that was done is not done again");
        assert_eq!(error, "2 of 4 cases failed; the others are done and kept:\n  case b: truncated\n  case c: internal error: unexpected");
    }
}
