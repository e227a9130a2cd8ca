//! The command line that all stages share.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use ranks::Ranks;

use crate::entry::{Entry, Stage};
use crate::io::{DeviceChoice, Known, StageIo};
use crate::progress::{ProgressStyle, Report};
use crate::sink::Sink;

/// The arguments of one run of a stage.
#[derive(Args, Clone, Debug)]
pub struct StageArgs {
    /// Parameters of the stage: a YAML or JSON file with the fields that stand under `params:` in pipeline.yaml
    #[arg(long, value_name = "FILE")]
    pub params: Option<PathBuf>,
    /// One input, by role; give it once for each role
    #[arg(long = "input", value_name = "ROLE=PATH", value_parser = role_and_path)]
    pub inputs: Vec<(String, PathBuf)>,
    /// The folder to write; cases that were made there from the same inputs and parameters are not made again
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// The folder for checkpoints [default: OUTPUT.work]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// The seed of all random streams
    #[arg(long, default_value_t = 2023)]
    pub seed: u64,
    /// Where networks run
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// The cases to do and the store to publish them to, as a runner writes it
    #[arg(long, value_name = "FILE", hide = true)]
    pub cases: Option<PathBuf>,
    /// The folders belong to this work alone
    #[arg(long, hide = true)]
    pub planned: bool,
    /// The key of this work in the runner's store
    #[arg(long, hide = true)]
    pub key: Option<String>,
    /// The digest of an input, as the runner knows it
    #[arg(long = "digest", value_name = "ROLE=DIGEST", value_parser = role_and_digest, hide = true)]
    pub digests: Vec<(String, String)>,
    /// Processes to train with, which `mpirun` starts [default: one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub processes: Option<u16>,
    /// Threads to compute with, of each process [default: all cores, shared out]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t)]
    pub progress: ProgressStyle,
    /// The name that messages carry [default: the stage's]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

fn role_and_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((role, path)) if !role.is_empty() && !path.is_empty() => Ok((role.to_owned(), path.into())),
        _ => Err(format!("`{text}` is not ROLE=PATH")),
    }
}

fn role_and_digest(text: &str) -> Result<(String, String), String> {
    role_and_path(text).map(|(role, _)| (role.clone(), text[role.len() + 1..].to_owned()))
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: StageArgs,
}

/// The `main` of a stage's own executable. Exit codes: 0 done, 1 the stage failed, 2 wrong arguments or parameters.
#[must_use]
pub fn main<S: Stage>() -> ExitCode {
    let entry = Entry::of::<S>();
    let command = Cli::command().name(S::NAME).about(S::ABOUT).after_help(long_help(&entry));
    let args = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli.args,
        Err(error) => error.exit(),
    };
    run_stage(&entry, &args)
}

/// The part of a stage's help that tells its inputs, its output and its parameters.
fn long_help(entry: &Entry) -> String {
    format!(
        "Each input is given as `--input NAME=PATH`, the parameters as a file: `--params FILE`.\n\n{}\nExit codes: 0 done, 1 the stage failed, 2 wrong arguments or parameters",
        entry.manual()
    )
}

/// Runs one stage from its arguments and says what went wrong, if anything did.
#[must_use]
pub fn run_stage(entry: &Entry, args: &StageArgs) -> ExitCode {
    let params = args.params.as_deref().map_or(Ok(serde_json::Value::Null), read_params);
    run_with(entry, args, params)
}

/// [`run_stage`] for a program that takes the parameters from elsewhere than a file.
#[must_use]
pub fn run_stage_with(entry: &Entry, args: &StageArgs, params: serde_json::Value) -> ExitCode {
    run_with(entry, args, Ok(params))
}

fn run_with(entry: &Entry, args: &StageArgs, params: Result<serde_json::Value>) -> ExitCode {
    let report = Report::new(args.progress);
    let roles = entry.check_roles(args.inputs.iter().map(|(role, _)| role.as_str()));
    let params = match roles.and(params).and_then(|raw| resolve(entry, &raw)) {
        Ok(params) => params,
        Err(error) => {
            report.note(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let ranks = match ranks_of(entry, args, &params) {
        Ok(ranks) => ranks,
        Err(error) => {
            report.note(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let whose = if ranks.size() > 1 { format!(" (rank {} of {})", ranks.rank(), ranks.size()) } else { String::new() };
    match run(entry, args, params, report, &ranks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.note(&format!("error: {}{whose}: {error:#}", args.node.as_deref().unwrap_or(entry.name)));
            // The others wait for this one.
            ranks.abort();
            ExitCode::FAILURE
        }
    }
}

/// This process among those that a launcher has started. One that is to work in several becomes the launcher.
fn ranks_of(entry: &Entry, args: &StageArgs, params: &serde_json::Value) -> Result<Ranks> {
    let asked = args.processes.map(usize::from);
    if let Some(processes) = asked.filter(|&processes| processes > 1 && !ranks::is_launched()) {
        entry.check_processes(params.clone(), processes)?;
        return Err(ranks::launch(processes).into());
    }
    let ranks = ranks::join()?;
    let size = ranks.size();
    ensure!(
        asked.is_none_or(|asked| asked == size),
        "--processes is {}, and the launcher has started {size}; leave one of the two out",
        asked.unwrap_or_default()
    );
    entry.check_processes(params.clone(), size)?;
    Ok(ranks)
}

/// As [`Entry::resolve`]; on failure it lists every wrong parameter.
fn resolve(entry: &Entry, raw: &serde_json::Value) -> Result<serde_json::Value> {
    entry.resolve(raw.clone()).map_err(|error| {
        let mistakes = entry.mistakes(raw);
        if mistakes.is_empty() {
            return error;
        }
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{}: {}", mistake.field.join("."), mistake.message)).collect();
        anyhow::anyhow!("parameters of stage {}:\n  {}", entry.name, lines.join("\n  "))
    })
}

fn read_params(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the parameters {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is neither YAML nor JSON", path.display()))
}

fn run(entry: &Entry, args: &StageArgs, params: serde_json::Value, report: Report, ranks: &Ranks) -> Result<()> {
    let shared_out = || std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / ranks.on_this_machine()).max(1));
    if let Some(threads) = args.threads.or_else(|| (ranks.size() > 1).then(shared_out)) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the worker threads")?;
    }
    let mut beside = args.output.clone().into_os_string();
    beside.push(".work");
    let (node, work) = (args.node.as_deref().unwrap_or(entry.name), args.work.clone().unwrap_or_else(|| beside.into()));
    let mut io = StageIo {
        device: args.device,
        report: if ranks.is_first() { report } else { Report::silent() },
        planned: args.planned,
        known: Known { key: args.key.clone(), digests: args.digests.iter().cloned().collect() },
        ranks: ranks.clone(),
        ..StageIo::new(node, args.inputs.iter().cloned(), &args.output, work, args.seed)
    };
    if let Some(list) = &args.cases {
        io.sink = Some(Sink::open(list, &io.output, &io.work, &io.node)?);
    }
    for folder in [&io.output, &io.work] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    entry.run(params, &io)?;
    if args.work.is_none() && ranks.is_first() {
        // Nobody else looks after the default checkpoint folder.
        std::fs::remove_dir_all(&io.work).with_context(|| format!("cannot remove {}", io.work.display()))?;
    }
    Ok(())
}
