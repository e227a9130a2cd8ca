//! The verb `work`: does a job that a runner, here or elsewhere, has prepared.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::args::WorkArgs;
use super::verbs::own_file;
use super::{DONE, FAILED, INTERRUPTED, LOCKED, Program};
use crate::attempt::Attempt;
use crate::child::Word;
use crate::digest::Hasher;
use crate::executor::Failure;
use crate::job::{Job, Part};
use crate::slurm::Outcome;
use crate::store::Store;

/// How long a stage may take to end after a scheduler has asked for it, which leaves time before it is killed.
const GRACE: Duration = Duration::from_secs(90);

/// `work`.
pub(super) fn work(program: &Program, args: &WorkArgs) -> Result<u8> {
    let result = attempt(program, args);
    match (&args.outcome, &result) {
        // Whoever waits for the outcome tells it to the user.
        (Some(path), _) => Outcome::of(&result).write(path)?,
        (None, Err(failure)) => eprintln!("{}: {failure}", args.key),
        (None, Ok(())) => {}
    }
    Ok(match result {
        Ok(()) => DONE,
        Err(Failure::Stage { .. } | Failure::Runner(_)) => FAILED,
        Err(Failure::Locked(_)) => LOCKED,
        Err(Failure::Stopped) => INTERRUPTED,
    })
}

fn attempt(program: &Program, args: &WorkArgs) -> Result<(), Failure> {
    let stop = stage_kit::stop_on_signals()?;
    let store = Store::at(&args.root);
    let patience = Duration::try_from_secs_f64(args.patience).unwrap_or_default();
    let job = awaited(patience, || Job::load(&store, &args.key))?;
    let known = program.stages.iter().any(|stage| stage.name == job.stage && stage.revision == job.revision);
    if !known {
        let what = format!("{} is not of the version that stage {} was planned with; start the run again", program.version, job.stage);
        return Err(anyhow::Error::msg(what).into());
    }
    let Some(_in_use) = store.enter()? else {
        return Err(Failure::Locked(format!("{} is being cleaned up by `gc`", store.root().display())));
    };
    // That a scheduler has started it does not prove that what it reads is there.
    let inputs = || job.missing_input(&store).map_or(Ok(()), |missing| Err(anyhow::Error::msg(missing)));
    awaited(patience, inputs).context("the job cannot begin")?;
    let part = args.cases.clone().map_or(Part::Whole, Part::Cases);
    let hasher = Hasher::open(&store.index(), true);
    let (executable, threads) = (own_file()?, args.threads.or(job.resources.cpus));
    let attempt = Attempt { store: &store, job: &job, part, executable: &executable, threads, hasher: &hasher, grace: GRACE };
    let tell = |word: Word| {
        if let Word::Line(line) = word {
            eprintln!("{line}");
        }
    };
    attempt.run(&tell, &stop)
}

/// What was written on another machine may take a while until it is seen on this one.
fn awaited<T>(patience: Duration, look: impl Fn() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Err(_) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(200)),
            answer => return answer,
        }
    }
}
