//! Work over many cases, side by side: one bad case is named at the end, and the good ones go on.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use case_store::{Claim, Finished, Publisher};
use whole_files::durable_later;

use crate::io::StageIo;
use crate::sink::{BUSY, Sink, Turn};

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
/// A panic inside a case counts as that case's failure. Under a runner every case is published as it is finished, by a thread
/// of its own, so that no worker waits for the disk; a case that another process is doing is waited for at the end.
///
/// # Errors
/// [`CaseFailures`] with every failed case, after all others have ended.
pub fn over_cases<C: Sync>(io: &StageIo, cases: &[Case<'_, C>], work: impl Fn(&C) -> Result<()> + Sync) -> Result<()> {
    let progress = io.report.start(&io.node, "cases", cases.len() as u64);
    let waiting: VecDeque<usize> = (0..cases.len()).filter(|&index| !cases[index].done).collect();
    progress.resume_from((cases.len() - waiting.len()) as u64);
    let publisher = io.sink.as_ref().map(Sink::publisher).transpose()?;
    let workers = rayon::current_num_threads().min(waiting.len());
    let queue = Mutex::new(waiting);
    let failures = Mutex::new(BTreeMap::new());
    let ended = |index: usize, result: Result<()>| {
        let id: &str = cases[index].id;
        if let Err(error) = result {
            let reason = format!("{error:#}");
            progress.note(&format!("{}: case {id} failed: {reason}", io.node));
            lock(&failures).insert(index, (id.to_owned(), reason));
        }
        progress.step(id);
    };
    let worker = |published: SyncSender<ToPublish>| {
        loop {
            // Not in the head of a `while let`, which would hold the lock during the work.
            let next = lock(&queue).pop_front();
            let Some(index) = next else { break };
            match attempt(io, cases[index].id, cases[index].what, &work) {
                Ok(Done::Busy) => {
                    std::thread::sleep(BUSY);
                    lock(&queue).push_back(index);
                }
                Ok(Done::Whole) => ended(index, Ok(())),
                // The thread that publishes ends after the last worker.
                Ok(Done::Publish(case, claim)) => drop(published.send(ToPublish { index, case, _claim: claim })),
                Err(error) => ended(index, Err(error)),
            }
        }
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(MOST_UNPUBLISHED);
        for _ in 0..workers {
            let sender = sender.clone();
            let worker = &worker;
            scope.spawn(move || worker(sender));
        }
        drop(sender);
        if let Some(publisher) = &publisher {
            publish(publisher, &receiver, ended);
        }
    });
    let failures: Vec<_> = failures.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    if failures.is_empty() { Ok(()) } else { Err(CaseFailures { failures, total: cases.len() }.into()) }
}

/// A case on its way into the store.
struct ToPublish {
    index: usize,
    case: Box<Finished>,
    /// Nobody else does the case before it is published.
    _claim: Claim,
}

/// So many finished cases wait for the disk at most; then the workers wait too.
const MOST_UNPUBLISHED: usize = 128;

/// Publishes what comes: all that has come while the group before was on its way goes together, so that short cases share
/// the time that a disk takes to write for good, and a long one is published at once.
fn publish(publisher: &Publisher, finished: &Receiver<ToPublish>, ended: impl Fn(usize, Result<()>)) {
    while let Ok(first) = finished.recv() {
        let group: Vec<ToPublish> = std::iter::once(first).chain(finished.try_iter().take(MOST_UNPUBLISHED)).collect();
        let results = publisher.publish(&group.iter().map(|one| &*one.case).collect::<Vec<_>>());
        for (one, result) in group.iter().zip(results) {
            ended(one.index, result);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The work's panics are caught; a queue or a list of failures is never left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Done {
    /// With nothing left to do.
    Whole,
    /// And is to be published under this claim.
    Publish(Box<Finished>, Claim),
    /// Not at all: another process is doing it.
    Busy,
}

fn attempt<C>(io: &StageIo, id: &str, what: &C, work: &impl Fn(&C) -> Result<()>) -> Result<Done> {
    let turn = match &io.sink {
        Some(sink) => sink.turn(id)?.map(|turn| (sink, turn)),
        None => None,
    };
    let (sink, claim) = match turn {
        Some((_, Turn::Busy)) => return Ok(Done::Busy),
        Some((_, Turn::Done)) => return Ok(Done::Whole),
        Some((sink, Turn::Ours(claim))) => (sink, claim),
        // No runner, or a case that nobody has asked for on its own, such as a picture.
        None => return whole(|| work(what)).map(|()| Done::Whole),
    };
    let begun = Instant::now();
    whole(|| durable_later(|| work(what)))?;
    Ok(Done::Publish(Box::new(sink.finish(id, begun.elapsed())?), claim))
}

/// A panic as an error.
fn whole(work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(anyhow::anyhow!("internal error: {}", panic_text(&*panic))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn io() -> StageIo {
        StageIo::new("test", std::collections::BTreeMap::<String, std::path::PathBuf>::new(), "out", "work", 0)
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
