//! Stages whose work falls into cases: the result of a case depends on the case's own files and on what all share.
//!
//! Such a stage says which cases there are and what each reads and writes. The runner then keeps the result of every case
//! for itself: a changed scan costs the work of one case, and a killed run loses the case in work. Without a runner the files
//! tell what they were made from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::alone;
use crate::cases::{Case, over_cases};
use crate::entry::Stage;
use crate::io::StageIo;
use crate::left_out::{self, Aside, LeftOut};
use crate::sink::Sink;

/// One piece of work, as its stage declares it.
#[derive(Clone, Debug)]
pub struct CaseSpec {
    /// The name of the piece of work, unlike any other of the node.
    pub id: String,
    /// The case of the dataset that it is about; often the same as `id`.
    pub case: String,
    /// The files that it reads of the inputs that are read [by case](crate::Role::by_case), by a name each. Where in the
    /// input they lie does not matter to the key, only the name and the content.
    pub reads: Vec<(String, PathBuf)>,
    /// Whatever else of those inputs its result depends on.
    pub facts: Value,
    /// The files that it writes, relative to the output folder.
    pub output: Vec<String>,
    /// The files that it writes for [`CaseStage::finish`] alone, relative to the folder `work`.
    pub work: Vec<String>,
}

/// A stage that works case by case.
///
/// The runner calls [`look`](Self::look) and [`case`](Self::case) each time it plans; they read lists and small files alone. The inputs that are not marked [`by_case`](crate::Role::by_case) belong to every case as a whole.
pub trait CaseStage: Stage<Config: Sync> {
    /// One piece of work.
    type Job: Sync;
    /// What all pieces of work need and is dear to make, such as a network with its weights.
    type Tools: Sync;

    /// Looks at the inputs, once: all pieces of work, and what else lies there.
    ///
    /// # Errors
    /// As [`Stage::run`]; the runner leaves it to the run to tell.
    fn look(config: &Self::Config, io: &StageIo) -> Result<Look<Self::Job>>;

    /// Whether the output of the stage, when it runs alone, holds the list of what it left out. A folder of label maps for others
    /// holds label maps alone.
    const KEEPS_LEFT_OUT: bool = true;

    /// What a piece of work is made from and what it writes.
    fn case(config: &Self::Config, job: &Self::Job) -> CaseSpec;

    /// The parameters that matter to a single case.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    fn case_params(config: &Self::Config) -> Result<Value> {
        Ok(serde_json::to_value(config)?)
    }

    /// Makes the tools; called only if there is work.
    ///
    /// # Errors
    /// As [`Stage::run`].
    fn tools(config: &Self::Config, io: &StageIo) -> Result<Self::Tools>;

    /// Does one piece of work.
    ///
    /// # Errors
    /// As [`Stage::run`]; the other pieces go on.
    fn work(config: &Self::Config, io: &StageIo, tools: &Self::Tools, job: &Self::Job) -> Result<()>;

    /// Makes what needs all cases, such as a table, after the last of them. Returns the cases that the work has found to be bad, and that
    /// the result therefore leaves out; it has [told](LeftOut::tell) them.
    ///
    /// # Errors
    /// As [`Stage::run`].
    fn finish(config: &Self::Config, io: &StageIo, jobs: &[Self::Job]) -> Result<Vec<LeftOut>> {
        let _ = (config, io, jobs);
        Ok(Vec::new())
    }
}

/// What a stage that works case by case finds in its inputs.
#[derive(Debug)]
pub struct Look<J> {
    jobs: Result<Vec<J>>,
    aside: Aside,
    rest: Value,
}

impl<J> Look<J> {
    /// These pieces of work, or why they cannot be told.
    pub fn of(jobs: Result<Vec<J>>) -> Self {
        Self { jobs, aside: Aside::default(), rest: Value::Null }
    }

    /// What else lies in the folders that were listed: every entry of an input is taken, or is here. It is told even where the pieces of
    /// work cannot be.
    #[must_use]
    pub fn beside(self, aside: Aside) -> Self {
        Self { aside, ..self }
    }

    /// Whatever [`finish`](CaseStage::finish) goes by that is neither a parameter nor part of a case.
    #[must_use]
    pub fn finished_by(self, rest: Value) -> Self {
        Self { rest, ..self }
    }
}

/// The [`Stage::run`] of a stage that works case by case.
///
/// Names the cases that it leaves out, and does the others. A runner finds those that are left out in a list beside the result. A
/// stage that runs alone ends with an error if there are any.
///
/// # Errors
/// [`CaseFailures`](crate::CaseFailures) with every case that failed, and those of the stage's own functions.
pub fn run_cases<S: CaseStage>(config: &S::Config, io: &StageIo) -> Result<()> {
    let whole = io.sink.as_ref().is_none_or(|sink| !sink.is_partial());
    let Look { jobs, aside, .. } = S::look(config, io)?;
    if whole {
        aside.tell(io);
    }
    let jobs = do_jobs::<S>(config, io, jobs?)?;
    if !whole {
        return Ok(());
    }
    let mut left_out = S::finish(config, io, &jobs)?;
    left_out.extend(aside.left_out);
    left_out.sort();
    if io.sink.is_some() {
        return left_out::write(io, &left_out);
    }
    if S::KEEPS_LEFT_OUT {
        left_out::write(io, &left_out)?;
    }
    left_out::none(&left_out)
}

/// Does the jobs that are not done yet, and returns all.
fn do_jobs<S: CaseStage>(config: &S::Config, io: &StageIo, jobs: Vec<S::Job>) -> Result<Vec<S::Job>> {
    let with_spec = |job| {
        let spec = S::case(config, &job);
        (job, spec)
    };
    let mut jobs: Vec<(S::Job, CaseSpec)> = jobs.into_iter().map(with_spec).collect();
    match &io.sink {
        None => alone::do_cases::<S>(config, io, &jobs)?,
        Some(sink) => {
            jobs.retain(|(_, spec)| sink.has(&spec.id));
            anyhow::ensure!(jobs.len() == sink.len(), "the inputs have changed since the run was planned; run again");
            do_planned_cases::<S>(config, io, sink, &jobs)?;
        }
    }
    Ok(jobs.into_iter().map(|(job, _)| job).collect())
}

/// Does the cases that the runner has found no result of.
fn do_planned_cases<S: CaseStage>(config: &S::Config, io: &StageIo, sink: &Sink, jobs: &[(S::Job, CaseSpec)]) -> Result<()> {
    let cases: Vec<Case<'_, S::Job>> =
        jobs.iter().map(|(job, spec)| Case { id: &spec.id, done: sink.is_done(&spec.id), what: job }).collect();
    if cases.iter().all(|case| case.done) {
        return Ok(());
    }
    make_folders(&folders(jobs, io))?;
    let tools = S::tools(config, io)?;
    over_cases(io, &cases, |job| S::work(config, io, &tools, job))
}

/// The folders that jobs write into.
pub(crate) fn folders<J>(jobs: &[(J, CaseSpec)], io: &StageIo) -> BTreeSet<PathBuf> {
    jobs.iter().flat_map(|(_, spec)| spec.paths(io)).filter_map(|(_, path)| Some(path.parent()?.into())).collect()
}

pub(crate) fn make_folders(folders: &BTreeSet<PathBuf>) -> Result<()> {
    let make = |folder: &PathBuf| std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()));
    folders.iter().try_for_each(make)
}

impl CaseSpec {
    /// A piece of work that is one case, which reads and writes nothing yet.
    #[must_use]
    pub fn of(case: &str) -> Self {
        Self::named(case, case)
    }

    /// A piece of work named `id` that is about `case`.
    #[must_use]
    pub fn named(id: &str, case: &str) -> Self {
        let (id, case) = (id.to_owned(), case.to_owned());
        Self { id, case, reads: Vec::new(), facts: Value::Null, output: Vec::new(), work: Vec::new() }
    }

    /// One more file of its own, under a name.
    #[must_use]
    pub fn reads(mut self, name: &str, path: &Path) -> Self {
        self.reads.push((name.to_owned(), path.to_owned()));
        self
    }

    /// What else it depends on.
    #[must_use]
    pub fn depends_on(self, facts: Value) -> Self {
        Self { facts, ..self }
    }

    /// The files that it writes into the output folder.
    #[must_use]
    pub fn writes(self, output: impl Into<Vec<String>>) -> Self {
        Self { output: output.into(), ..self }
    }

    /// The files that it writes into the folder `work`.
    #[must_use]
    pub fn keeps(self, work: impl Into<Vec<String>>) -> Self {
        Self { work: work.into(), ..self }
    }

    /// All that it writes: the place in the attempt, and the path.
    pub(crate) fn paths(&self, io: &StageIo) -> impl Iterator<Item = (String, PathBuf)> {
        let output = self.output.iter().map(|file| (format!("output/{file}"), io.output.join(file)));
        let work = self.work.iter().map(|file| (format!("work/{file}"), io.work.join(file)));
        output.chain(work)
    }

    /// The places of all that it writes, as `output/…` and `work/…`.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        self.output.iter().map(|file| format!("output/{file}")).chain(self.work.iter().map(|file| format!("work/{file}"))).collect()
    }
}

/// What the runner must know of a stage's cases, for a set of parameters and inputs.
#[derive(Clone, Debug)]
pub struct CasePlan {
    /// The parameters that matter to a single case.
    pub params: Value,
    /// What the whole depends on beside its parameters and cases.
    pub rest: Value,
    /// The cases.
    pub cases: Vec<CaseSpec>,
}

/// The planning functions of a [`CaseStage`], without its types.
#[derive(Clone, Copy, Debug)]
pub struct ByCase {
    pub(crate) plan: fn(Value, &StageIo) -> Result<CasePlan>,
    pub(crate) gathers: bool,
}

impl ByCase {
    /// Those of `S`.
    #[must_use]
    pub const fn of<S: CaseStage>() -> Self {
        Self { plan: plan::<S>, gathers: false }
    }

    /// The same, of a stage whose result tells of all cases together, such as a list: a few of its cases are of no use to
    /// whoever reads it.
    #[must_use]
    pub const fn gathering(self) -> Self {
        Self { gathers: true, ..self }
    }
}

fn plan<S: CaseStage>(params: Value, io: &StageIo) -> Result<CasePlan> {
    let config: S::Config = serde_json::from_value(params)?;
    let Look { jobs, aside, rest } = S::look(&config, io)?;
    let cases = jobs?.iter().map(|job| S::case(&config, job)).collect();
    let left_out = aside.left_out;
    // What is left out belongs to what a node says, so that a file that comes or goes makes it say something else.
    let rest = if left_out.is_empty() { rest } else { serde_json::json!({ "left_out": left_out, "rest": rest }) };
    Ok(CasePlan { params: S::case_params(&config)?, rest, cases })
}
