//! Work over many cases, side by side: one bad case is named at the end, and the good ones go on.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::io::StageIo;

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

/// Runs `work` for each case that is not `done` yet, one worker per core, with progress.
///
/// The workers are threads of their own and not tasks of the thread pool: a pool thread that waits for the parallel
/// part of one case would steal a second case meanwhile, and memory would no longer be bounded by one case per worker.
/// A panic inside a case counts as that case's failure.
///
/// # Errors
/// [`CaseFailures`] with every failed case, after all others have ended.
pub fn over_cases<C: Sync>(
    io: &StageIo,
    cases: &[C],
    id: impl Fn(&C) -> &str + Sync,
    done: impl Fn(&C) -> bool + Sync,
    work: impl Fn(&C) -> Result<()> + Sync,
) -> Result<()> {
    let progress = io.report.start(&io.node, "cases", cases.len() as u64);
    let waiting: Vec<(usize, &C)> = cases.iter().enumerate().filter(|(_, case)| !done(case)).collect();
    progress.resume_from((cases.len() - waiting.len()) as u64);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let worker = || {
        while let Some((index, case)) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(reason) = failure(*case, &work) {
                progress.note(&format!("{}: case {} failed: {reason}", io.node, id(case)));
                failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((*index, (id(case).to_owned(), reason)));
            }
            progress.step(id(case));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(waiting.len()) {
            scope.spawn(worker);
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failures.sort_by_key(|(index, _)| *index);
    let failures: Vec<_> = failures.into_iter().map(|(_, failure)| failure).collect();
    if failures.is_empty() { Ok(()) } else { Err(CaseFailures { failures, total: cases.len() }.into()) }
}

fn failure<C>(case: &C, work: &impl Fn(&C) -> Result<()>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| work(case))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => Some(format!("internal error: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
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
        }
    }

    #[test]
    fn all_bad_cases_are_named_and_the_good_ones_go_on() {
        let worked = AtomicUsize::new(0);
        let error = over_cases(
            &io(),
            &["a", "b", "c", "d"],
            |c| c,
            |c| *c == "d",
            |c| {
                worked.fetch_add(1, Ordering::Relaxed);
                match *c {
                    "b" => anyhow::bail!("truncated"),
                    "c" => panic!("unexpected"),
                    _ => Ok(()),
                }
            },
        )
        .unwrap_err()
        .to_string();
        assert_eq!(worked.load(Ordering::Relaxed), 3, "the case that was done is not done again");
        assert_eq!(error, "2 of 4 cases failed; the others are done and kept:\n  case b: truncated\n  case c: internal error: unexpected");
    }
}
