//! The command line of a program with stages: `run`, `status`, `explain`, `graph`, `log`, `report`, `diff`,
//! `schema`, `completions`, `gc`,
//! `verify`, `unlock`, `demo`, `stages`.
//!
//! Exit codes: 0 done or fresh, 1 a stage failed or left cases out, 2 the configuration is wrong, 3 a dry run found work, 4 another runner
//! holds the lock, 130 stopped by a signal.

mod args;
mod care;
mod demo;
mod dry;
mod help;
mod look;
mod show;
mod verbs;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use stage_kit::Entry;

use args::{Cli, Verb};

use crate::Snapshot;
use crate::error::{ConfigError, Usage};

/// What a program brings along.
#[derive(Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its version, which records carry.
    pub version: &'static str,
    /// Its stages, in the order of the method.
    pub stages: &'static [Entry],
    /// Writes the page of the verb `report`, which knows what the stages' results mean.
    pub report: fn(&Snapshot<'_>) -> anyhow::Result<String>,
    /// Writes the pipeline file of the verb `init`.
    pub init: WriteFile,
}

impl Program {
    fn stage(&self, name: &str) -> Option<&'static Entry> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// Writes a pipeline file for folders and the names of their datasets, and for voxels of so many mm if given.
pub type WriteFile = fn(&[(String, PathBuf)], Option<f64>) -> anyhow::Result<String>;

/// Everything went well, or there was nothing to do.
const DONE: u8 = 0;
/// A stage failed.
const FAILED: u8 = 1;
/// The pipeline file or the command line is wrong; nothing was run.
const WRONG: u8 = 2;
/// `--dry-run` found work.
const WORK_FOUND: u8 = 3;
/// Another runner is doing the work.
const LOCKED: u8 = 4;
/// A signal ended it.
const INTERRUPTED: u8 = 130;

fn command(program: &Program) -> clap::Command {
    let command = Cli::command().name(program.name).about(program.about).version(program.version);
    help::with_examples(command, program.name).after_help(args::examples(program.name))
}

/// The stage of `stage NAME --help`, whose parameters clap does not know.
fn asked_for_help(program: &Program) -> Option<&'static Entry> {
    let words: Vec<String> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
    let [verb, name, rest @ ..] = &words[..] else { return None };
    let asks = verb == "stage" && rest.iter().any(|word| word == "--help" || word == "-h");
    program.stage(name).filter(|_| asks)
}

/// Prints what is wrong with a command line, or the help that it asks for, and ends.
fn refuse(program: &Program, error: &clap::Error) -> ! {
    use clap::error::{ContextKind, ContextValue};
    // Nothing can be done about a terminal that is gone.
    let _ = error.print();
    if let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand)
        && program.stage(verb).is_some()
    {
        eprintln!("\n`{verb}` is a stage: `{0} stage {verb} --help`, or `{0} run` with a node of it", program.name);
    }
    std::process::exit(error.exit_code())
}

/// The `main` of a program with stages.
#[must_use]
pub fn main(program: &Program) -> ExitCode {
    if let Some(stage) = asked_for_help(program) {
        verbs::say(&show::manual(stage));
        return ExitCode::SUCCESS;
    }
    let matches = command(program).try_get_matches().unwrap_or_else(|error| refuse(program, &error));
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Verb::Stage(stage) = &cli.verb {
        return verbs::stage(program, stage);
    }
    let code = match &cli.verb {
        Verb::Run(run) => verbs::run(program, run),
        Verb::Status(status) => look::status(program, status),
        Verb::Explain(explain) => look::explain(program, explain),
        Verb::Graph(graph) => verbs::graph(program, graph),
        Verb::Log(log) => look::log(program, log),
        Verb::Report(report) => show::report(program, report),
        Verb::Diff(diff) => show::diff(program, diff),
        Verb::Completions(completions) => show::completions(command(program), completions),
        Verb::Schema => show::schema(program),
        Verb::Init(init) => show::init(program, init),
        Verb::Demo(demo) => demo::demo(program, demo),
        Verb::Gc(gc) => care::gc(program, gc),
        Verb::Verify(file) => care::verify(program, file),
        Verb::Unlock(unlock) => care::unlock(program, unlock),
        Verb::Work(args) => work::work(program, args),
        Verb::Stages(stages) => show::stages(program, stages),
        Verb::Stage(_) => Ok(DONE),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() || error.is::<Usage>() { WRONG } else { FAILED })
        }
    }
}
