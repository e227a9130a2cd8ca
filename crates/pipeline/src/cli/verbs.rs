//! What each verb does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum as _;

use super::args::{Choice, DemoArgs, ExplainArgs, GraphArgs, GraphFormat, LogArgs, RunArgs, StageVerb, StatusArgs};
use super::{DONE, FAILED, INTERRUPTED, LOCKED, Program, WORK_FOUND, WRONG};
use crate::display::Display;
use crate::explain::differences;
use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::{Planner, State, records};
use crate::run::{Options, Summary, stop_on_signals};
use crate::store::Store;
use crate::text::{columns, duration, size, utc};
use crate::{Hasher, Overrides, die_with_parent, draw};

/// A pipeline with its store.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) store: Store,
    pub(super) hasher: Hasher,
}

impl Opened {
    pub(super) fn new(program: &Program, choice: &Choice, default: &str) -> Result<Self> {
        let path = choice.pipeline.clone().unwrap_or_else(|| default.into());
        let pipeline = Pipeline::load(&path, &overrides(choice), program.stages)?;
        let store = Store::new(&pipeline.store, &pipeline.name);
        let hasher = Hasher::open(&store.index(), !choice.verify);
        Ok(Self { pipeline, store, hasher })
    }

    /// The named nodes with their ancestors, or all; the data that they read must be there.
    pub(super) fn wanted(&self, names: &[String]) -> Result<(BTreeSet<usize>, BTreeSet<usize>)> {
        let all: BTreeSet<usize> = (0..self.pipeline.nodes.len()).collect();
        let named = if names.is_empty() { all } else { self.pipeline.select(names)? };
        let wanted = self.pipeline.with_ancestors(&named);
        self.pipeline.check_data(&wanted)?;
        self.store.create()?;
        Ok((named, wanted))
    }

    /// The one node of that name.
    fn one(&self, name: &str) -> Result<usize> {
        let found = self.pipeline.select(&[name.to_owned()])?;
        let names: Vec<&str> = found.iter().map(|&index| self.pipeline.nodes[index].name.as_str()).collect();
        anyhow::ensure!(names.len() == 1, "`{name}` stands for several nodes; name one of {}", names.join(", "));
        found.first().copied().context("no node")
    }
}

/// What the command line says on top of the file.
pub(super) fn overrides(choice: &Choice) -> Overrides {
    let device = choice.device.and_then(|device| Some(device.to_possible_value()?.get_name().to_owned()));
    let data = choice.data.iter().map(|(name, path)| (name.clone(), PathBuf::from(path))).collect();
    Overrides { data, store: choice.store.clone(), device, params: choice.set.clone() }
}

pub(super) const DEFAULT_PIPELINE: &str = "pipeline.yaml";
const DEMO_PIPELINE: &str = "pipelines/demo.yaml";

/// `run`.
pub(super) fn run(program: &Program, choice: &Choice, args: &RunArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    run_opened(program, &opened, args).map(|(code, _)| code)
}

fn run_opened(program: &Program, opened: &Opened, args: &RunArgs) -> Result<(u8, Summary)> {
    let begun = Instant::now();
    let (named, wanted) = opened.wanted(&args.nodes)?;
    let display = Display::default();
    let note = |text: String| display.note(&text);
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let forced = if args.force { named.clone() } else { BTreeSet::new() };
    if args.dry_run {
        return Ok((dry_run(&planner, &wanted, &forced)?, Summary::default()));
    }
    let options = Options {
        forced,
        allowed: if args.only { named } else { wanted.clone() },
        wanted,
        keep_going: args.how.keep_going,
        jobs: usize::from(args.how.jobs),
        executable: std::env::current_exe().context("cannot find this program's own file")?,
        version: program.version.to_owned(),
    };
    let stop = stop_on_signals()?;
    let started = utc(SystemTime::now());
    let result = crate::run(&planner, &options, &display, &stop);
    opened.hasher.save()?;
    let summary = result?;
    if let Some(run) = RunNote::of(&args.nodes, started, begun.elapsed().as_secs_f64(), &summary) {
        // Finished work is worth more than a note about it.
        run.keep(&opened.pipeline).unwrap_or_else(|error| display.note(&format!("{error:#}")));
    }
    display.note(&summary_line(&summary, opened.store.results(), begun));
    let code = match &summary {
        Summary { interrupted: true, .. } => INTERRUPTED,
        Summary { failed, .. } if !failed.is_empty() => FAILED,
        Summary { locked, .. } if !locked.is_empty() => LOCKED,
        _ => DONE,
    };
    Ok((code, summary))
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
    format!("{} in {}; results: {}", parts.join(", "), duration(begun.elapsed()), results.display())
}

/// Tells what would be run.
fn dry_run(planner: &Planner<'_>, wanted: &BTreeSet<usize>, forced: &BTreeSet<usize>) -> Result<u8> {
    let states = planner.survey(wanted)?;
    let mut found = false;
    for (index, state) in &states {
        let reason = match state {
            State::Fresh(_) if forced.contains(index) => "would be run again (--force)".to_owned(),
            State::Fresh(_) => continue,
            State::Stale(_) => format!("would be run: {}", reasons(planner, *index, &states)?.join("; ")),
            State::Waits(parents) => format!("depends on what {} will write", names(planner.pipeline, parents)),
        };
        found = true;
        say(&format!("{}: {reason}\n", planner.pipeline.nodes[*index].name));
    }
    planner.hasher.save()?;
    Ok(if found { WORK_FOUND } else { DONE })
}

fn names(pipeline: &Pipeline, indices: &[usize]) -> String {
    indices.iter().map(|&index| pipeline.nodes[index].name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Why a node is not fresh.
pub(super) fn reasons(planner: &Planner<'_>, index: usize, states: &BTreeMap<usize, State>) -> Result<Vec<String>> {
    let node = &planner.pipeline.nodes[index];
    let Some(old) = planner.store.latest_key(&node.name).and_then(|key| planner.store.record(&key)) else {
        return Ok(vec!["it has no result yet".into()]);
    };
    let inputs = planner.inputs(index, &records(states, planner.pipeline.nodes.len()))?;
    let mut lines = differences(planner.store, node, planner.pipeline.seed, &inputs, &old);
    if let Some(State::Stale(_)) = states.get(&index)
        && lines.is_empty()
    {
        lines.push("its result is damaged".into());
    }
    if let Some(State::Waits(parents)) = states.get(&index) {
        lines.push(format!("what {} will write may differ", names(planner.pipeline, parents)));
    }
    Ok(lines)
}

/// `status`.
pub(super) fn status(program: &Program, choice: &Choice, args: &StatusArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    let (_, wanted) = opened.wanted(&args.nodes)?;
    let note = |text: String| eprintln!("{text}");
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let states = planner.survey(&wanted)?;
    opened.hasher.save()?;
    let mut rows = vec![["node", "stage", "state", "about"].map(str::to_owned)];
    for (index, state) in &states {
        let node = &opened.pipeline.nodes[*index];
        let (state, about) = match state {
            State::Fresh(record) => {
                let took = duration(std::time::Duration::from_secs_f64(record.seconds));
                let by = format!("{} on {}", record.made_by.version, record.made_by.host);
                ("fresh", format!("{}, {took}, {} files, {}, by {by}", record.started, record.files, size(record.bytes)))
            }
            State::Stale(work) if opened.store.attempt(&work.key).exists() => {
                ("begun", format!("interrupted or failed; see `{} log {}`", program.name, node.name))
            }
            State::Stale(_) => ("stale", reasons(&planner, *index, &states)?.join("; ")),
            State::Waits(parents) => ("waits", format!("for {}", names(&opened.pipeline, parents))),
        };
        rows.push([node.name.clone(), node.stage.name.to_owned(), state.to_owned(), about]);
    }
    say(&columns(&rows));
    Ok(DONE)
}

/// `explain`.
pub(super) fn explain(program: &Program, choice: &Choice, args: &ExplainArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    let index = opened.one(&args.node)?;
    let (_, wanted) = opened.wanted(std::slice::from_ref(&args.node))?;
    let note = |text: String| eprintln!("{text}");
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let states = planner.survey(&wanted)?;
    opened.hasher.save()?;
    let name = &opened.pipeline.nodes[index].name;
    if let Some(State::Fresh(record)) = states.get(&index) {
        say(&format!("{name} is fresh: nothing differs from the work of {} (key {})\n", record.started, record.key));
        return Ok(DONE);
    }
    let waits = matches!(states.get(&index), Some(State::Waits(_)));
    say(&format!("{name} {} be run:\n", if waits { "may have to" } else { "must" }));
    for line in reasons(&planner, index, &states)? {
        say(&format!("  {line}\n"));
    }
    // What a waiting node waits for is, in the end, one or more nodes that are known to be stale.
    for (&ancestor, _) in states.iter().filter(|(other, state)| waits && **other != index && matches!(state, State::Stale(_))) {
        say(&format!("because {} must be run:\n", opened.pipeline.nodes[ancestor].name));
        for line in reasons(&planner, ancestor, &states)? {
            say(&format!("  {line}\n"));
        }
    }
    Ok(DONE)
}

/// `graph`.
pub(super) fn graph(program: &Program, choice: &Choice, args: &GraphArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    say(&match args.format {
        GraphFormat::Mermaid => draw::mermaid(&opened.pipeline),
        GraphFormat::Dot => draw::dot(&opened.pipeline),
        GraphFormat::Svg => draw::svg(&opened.pipeline),
    });
    Ok(DONE)
}

/// `log`.
pub(super) fn log(program: &Program, choice: &Choice, args: &LogArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    let index = opened.one(&args.node)?;
    let (_, wanted) = opened.wanted(std::slice::from_ref(&args.node))?;
    let note = |text: String| eprintln!("{text}");
    let states = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note).survey(&wanted)?;
    opened.hasher.save()?;
    let name = &opened.pipeline.nodes[index].name;
    let key = match states.get(&index) {
        Some(State::Fresh(record)) => Some(record.key.clone()),
        // An attempt is newer than the latest result.
        Some(State::Stale(work)) if opened.store.log(&work.key).is_some() => Some(work.key.clone()),
        _ => opened.store.latest_key(name),
    };
    match key.and_then(|key| opened.store.log(&key)) {
        Some(path) => say(&std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?),
        None => say(&format!("{name} has not been run yet\n")),
    }
    Ok(DONE)
}

/// `demo`.
pub(super) fn demo(program: &Program, choice: &Choice, args: &DemoArgs) -> Result<u8> {
    if choice.pipeline.is_none() && !Path::new(DEMO_PIPELINE).is_file() {
        eprintln!(
            "error: there is no {DEMO_PIPELINE} here; run the demonstration in the project's folder, or name the file with --pipeline"
        );
        return Ok(WRONG);
    }
    let opened = Opened::new(program, choice, DEMO_PIPELINE)?;
    let run = RunArgs { nodes: Vec::new(), how: args.how.clone(), only: false, force: false, dry_run: false };
    let (code, summary) = run_opened(program, &opened, &run)?;
    if code != DONE {
        return Ok(code);
    }
    if let Some(last) = opened.pipeline.nodes.iter().rfind(|node| node.stage.name == "evaluate") {
        let folder = opened.store.result(&last.name);
        for table in markdown_files(&folder)? {
            let text = std::fs::read_to_string(&table).with_context(|| format!("cannot read {}", table.display()))?;
            let name = table.file_stem().unwrap_or_default().to_string_lossy();
            say(&format!("\n{}, {name}:\n\n{text}", last.name));
        }
        say(&format!("\nTables and results: {}\n", folder.display()));
    }
    if summary.done.is_empty() {
        say("Nothing had changed, so nothing was run.\n");
    } else {
        say(&format!("Run `{} demo` once more: nothing has changed, and nothing will be run.\n", program.name));
    }
    Ok(DONE)
}

/// The Markdown files right in a folder, by name.
fn markdown_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        list.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    files.sort();
    Ok(files)
}

/// `stages`.
pub(super) fn stages(program: &Program) -> Result<u8> {
    say(&draw::stage_table(program.name, program.stages));
    Ok(DONE)
}

/// `stage`.
pub(super) fn stage(program: &Program, verb: &StageVerb) -> ExitCode {
    if let Some(parent) = verb.parent
        && let Err(error) = die_with_parent(parent)
    {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    match program.stages.iter().find(|stage| stage.name == verb.name) {
        Some(stage) => stage_kit::run_stage(stage, &verb.args),
        None => {
            eprintln!("error: there is no stage `{}`; `{} stages` lists them", verb.name, program.name);
            ExitCode::from(WRONG)
        }
    }
}

/// Writes to standard output; a reader that has gone away, such as `head`, is no error.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
