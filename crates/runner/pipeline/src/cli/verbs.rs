//! What each verb does.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum as _;

use super::args::{Choice, File, GraphArgs, GraphFormat, HowArgs, Place, RunArgs, StageVerb, Trust};
use super::dry::dry_run;
use super::{DONE, FAILED, INTERRUPTED, LOCKED, Program, WRONG};
use crate::cases::Filter;
use crate::display::Display;
use crate::error::Usage;
use crate::executor::{Executor, Local};
use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::{Planner, State};
use crate::run::{Options, Summary};
use crate::store::Store;
use crate::text::{duration, instead, utc};
use crate::{Hasher, Overrides, Slurm, die_with_parent, draw, parent_process};

/// A pipeline with its store.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) store: Store,
    pub(super) hasher: Hasher,
}

impl Opened {
    pub(super) fn new(program: &Program, choice: &Choice, default: &str) -> Result<Self> {
        Self::read(program, choice, &overrides(choice), default)
    }

    /// The same for a verb that changes nothing in the file.
    pub(super) fn of(program: &Program, file: &File) -> Result<Self> {
        Self::new(program, &Choice { file: file.clone(), ..Choice::default() }, DEFAULT_PIPELINE)
    }

    /// The same for a verb that runs nodes.
    pub(super) fn to_run(program: &Program, choice: &Choice, how: &HowArgs, default: &str) -> Result<Self> {
        let device = how.device.and_then(|device| Some(device.to_possible_value()?.get_name().to_owned()));
        let overrides = Overrides { device, slurm: how.slurm.clone(), ..overrides(choice) };
        Ok(Self::read(program, choice, &overrides, default)?.trusting(&how.trust))
    }

    fn read(program: &Program, choice: &Choice, overrides: &Overrides, default: &str) -> Result<Self> {
        let path = choice.file.pipeline.clone().unwrap_or_else(|| default.into());
        let pipeline = Pipeline::load(&path, overrides, program.stages)?;
        let store = Store::new(&pipeline.store, &pipeline.name);
        let hasher = Hasher::open(&store.index(), true);
        Ok(Self { pipeline, store, hasher })
    }

    /// The same, reading every file again if that is asked for.
    pub(super) fn trusting(self, trust: &Trust) -> Self {
        if trust.verify { Self { hasher: Hasher::open(&self.store.index(), false), ..self } } else { self }
    }

    /// The named nodes, or all; and the same with their ancestors.
    pub(super) fn wanted(&self, names: &[String]) -> Result<(BTreeSet<usize>, BTreeSet<usize>)> {
        let all: BTreeSet<usize> = (0..self.pipeline.nodes.len()).collect();
        let named = if names.is_empty() { all } else { self.pipeline.select(names)? };
        let wanted = self.pipeline.with_ancestors(&named);
        Ok((named, wanted))
    }

    /// Keeps what was hashed, for the next time. In a store that cannot be written it is hashed once more then.
    pub(super) fn keep_digests(&self) {
        let _ = self.hasher.save();
    }

    /// The one node of that name.
    pub(super) fn one(&self, name: &str) -> Result<usize> {
        let found = self.pipeline.select(&[name.to_owned()])?;
        let names: Vec<&str> = found.iter().map(|&index| self.pipeline.nodes[index].name.as_str()).collect();
        match found.first() {
            Some(&index) if names.len() == 1 => Ok(index),
            _ => Err(Usage(format!("`{name}` stands for several nodes; name one of {}", names.join(", "))).into()),
        }
    }
}

/// What the command line says on top of the file.
fn overrides(choice: &Choice) -> Overrides {
    let data = choice.data.iter().map(|(name, path)| (name.clone(), PathBuf::from(path))).collect();
    Overrides { data, store: choice.file.store.clone(), params: choice.set.clone(), ..Overrides::default() }
}

pub(super) const DEFAULT_PIPELINE: &str = "pipeline.yaml";
pub(super) const DEMO_PIPELINE: &str = "pipelines/demo.yaml";

/// `run`.
pub(super) fn run(program: &Program, args: &RunArgs) -> Result<u8> {
    let opened = Opened::to_run(program, &args.choice, &args.how, DEFAULT_PIPELINE)?;
    run_opened(program, &opened, args).map(|(code, _)| code)
}

pub(super) fn run_opened(program: &Program, opened: &Opened, args: &RunArgs) -> Result<(u8, Summary)> {
    let begun = Instant::now();
    let (named, wanted) = opened.wanted(&args.nodes)?;
    let display = Display::default();
    let note = |text: String| display.note(&text);
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note).limited_to(limit(opened, args, &named, &wanted)?);
    let forced = if args.force { named.clone() } else { BTreeSet::new() };
    if args.dry_run {
        let code = dry_run(program, &planner, &wanted, &forced, args)?;
        opened.keep_digests();
        return Ok((code, Summary::default()));
    }
    opened.pipeline.check_data(&wanted)?;
    opened.store.create()?;
    let Some(_in_use) = opened.store.enter()? else {
        eprintln!("{} is being cleaned up by `gc`; wait until it has ended", opened.store.root().display());
        return Ok((LOCKED, Summary::default()));
    };
    let on_slurm = args.how.executor == Place::Slurm;
    let options = Options {
        forced,
        allowed: if args.only { named } else { wanted.clone() },
        wanted,
        keep_going: args.how.keep_going,
        jobs: args.how.jobs.map_or(if on_slurm { usize::MAX } else { 1 }, usize::from),
        version: program.version.to_owned(),
    };
    check_processes(&planner, &options.wanted, on_slurm)?;
    let stop = stage_kit::stop_on_signals()?;
    let started = utc(SystemTime::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (options.jobs > 1).then(|| (cores / options.jobs).max(1));
    let executor: Box<dyn Executor + '_> = match args.how.executor {
        Place::Local => Box::new(Local { executable: own_file()?, threads, hasher: &opened.hasher }),
        Place::Slurm => Box::new(Slurm::new(own_file()?, opened.pipeline.slurm.clone(), &opened.store)?),
    };
    let result = crate::run(&planner, &options, &*executor, &display, &stop);
    opened.hasher.save()?;
    let summary = result?;
    if let Some(run) = RunNote::of(&args.nodes, started, begun.elapsed().as_secs_f64(), &summary) {
        // Finished work is worth more than a note about it.
        run.keep(&opened.pipeline).unwrap_or_else(|error| display.note(&format!("{error:#}")));
    }
    if summary.failed.len() + summary.locked.len() > 1 || args.how.keep_going {
        for (node, how) in &summary.failed {
            display.note(&format!("{node}: {how}"));
        }
    }
    for (node, left_out) in summary.left_out.iter().filter(|(node, _)| !summary.done.contains(node)) {
        // A node that was done has said so itself.
        display.note(&format!("{node}: {}", stage_kit::left_out_text(left_out)));
    }
    display.note(&summary_line(&summary, opened.store.results(), begun));
    let code = match &summary {
        Summary { interrupted: true, .. } => INTERRUPTED,
        Summary { failed, .. } if !failed.is_empty() => FAILED,
        Summary { locked, .. } if !locked.is_empty() => LOCKED,
        // All that could be done is done, and it is not all that was asked for.
        Summary { left_out, .. } if !left_out.is_empty() => FAILED,
        _ => DONE,
    };
    Ok((code, summary))
}

/// Refuses nodes that are to be run in several processes where that cannot be done, before anything runs.
fn check_processes(planner: &Planner<'_>, wanted: &BTreeSet<usize>, on_slurm: bool) -> Result<()> {
    let several = |index: &&usize| planner.pipeline.nodes[**index].resources.processes > 1;
    // A cluster's machines have a launcher of their own.
    let possible = if on_slurm { ranks::check_built() } else { ranks::check().map(drop) };
    let (Some(_), Err(error)) = (wanted.iter().find(several), possible) else { return Ok(()) };
    let states = planner.survey(wanted)?;
    match wanted.iter().filter(several).find(|index| !matches!(states.get(index), Some(State::Fresh(_)))) {
        Some(&index) => {
            let node = &planner.pipeline.nodes[index];
            Err(Usage(format!("{}: `processes: {}`: {error}", node.name, node.resources.processes)).into())
        }
        None => Ok(()),
    }
}

fn summary_line(summary: &Summary, results: &Path, begun: Instant) -> String {
    let mut parts = Vec::new();
    let mut part = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    part(summary.fresh, "fresh");
    part(summary.done.len(), "done");
    part(summary.failed.len(), "failed");
    part(summary.locked.len(), "locked");
    part(summary.left, "left");
    part(summary.left_out.iter().map(|(_, left_out)| left_out.len()).sum(), "findings left cases out");
    format!("{} in {}; results: {}", parts.join(", "), duration(begun.elapsed()), results.display())
}

/// The nodes that `--case` limits: the named ones, and what they read as far as nobody else reads it. What
/// gathers, such as the partition of a dataset, is always looked at as a whole.
fn limit(opened: &Opened, args: &RunArgs, named: &BTreeSet<usize>, wanted: &BTreeSet<usize>) -> Result<Filter> {
    let nodes = &opened.pipeline.nodes;
    let mut limited = BTreeSet::new();
    if args.case.is_empty() {
        return Ok(Filter::default());
    }
    for &index in wanted.iter().rev() {
        let node = &nodes[index];
        let named = named.contains(&index);
        if named && !node.stage.is_by_case() {
            let text = format!("{}: its stage {} does not work case by case; leave `--case` out", node.name, node.stage.name);
            return Err(Usage(text).into());
        }
        let mut readers = wanted.iter().filter(|&&reader| nodes[reader].parents().contains(&index));
        if named || (node.stage.is_by_case() && !node.stage.gathers() && readers.all(|reader| limited.contains(reader))) {
            limited.insert(index);
        }
    }
    Ok(Filter { names: args.case.iter().cloned().collect(), nodes: limited })
}

/// `graph`.
pub(super) fn graph(program: &Program, args: &GraphArgs) -> Result<u8> {
    let opened = Opened::of(program, &args.file)?;
    say(&match args.format {
        GraphFormat::Mermaid => draw::mermaid(&opened.pipeline),
        GraphFormat::Dot => draw::dot(&opened.pipeline),
        GraphFormat::Svg => draw::svg(&opened.pipeline),
    });
    Ok(DONE)
}

/// `stage`.
pub(super) fn stage(program: &Program, verb: &StageVerb) -> ExitCode {
    // A launcher stands between the runner and the processes that it starts; they die with the launcher, and that with the runner.
    let parent = if ranks::is_launched() { parent_process() } else { verb.parent };
    if let Some(parent) = parent
        && let Err(error) = die_with_parent(parent)
    {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    match program.stage(&verb.name) {
        Some(stage) => stage_kit::run_stage(stage, &verb.args),
        None => {
            eprintln!("error: {}", unknown_stage(program, &verb.name));
            ExitCode::from(WRONG)
        }
    }
}

pub(super) fn unknown_stage(program: &Program, name: &str) -> String {
    let known: Vec<&str> = program.stages.iter().map(|stage| stage.name).collect();
    format!("there is no stage `{name}`; {}", instead(name, "the stages are", &known))
}

pub(super) fn own_file() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// Writes to standard output; a reader that has gone away, such as `head`, is no error.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(stage_kit::shown(text).as_bytes()).and_then(|()| out.flush());
}
