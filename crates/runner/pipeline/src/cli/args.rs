//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use stage_kit::{DeviceChoice, Lot, StageArgs};

use crate::forecast::supposed;

/// The whole command line.
#[derive(Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which pipeline, and where its results lie.
#[derive(Args, Clone, Default)]
pub(crate) struct File {
    /// The pipeline file [default: pipeline.yaml; of `demo`: pipelines/demo.yaml]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) pipeline: Option<PathBuf>,
    /// The folder for results, instead of the file's `store:`
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
}

/// Which pipeline, and what to change in it.
#[derive(Args, Clone, Default)]
pub(crate) struct Choice {
    #[command(flatten)]
    pub(crate) file: File,
    /// Where data lie, instead of the file's `data:`; may be given more than once
    #[arg(long, value_name = "NAME=PATH", value_parser = pair)]
    pub(crate) data: Vec<(String, String)>,
    /// A parameter of a node, instead of the file's; may be given more than once
    #[arg(long, value_name = "NODE.PARAM=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String, String)>,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run the nodes whose results are missing or outdated
    Run(RunArgs),
    /// Print the state of every node, and why it would run
    Status(StatusArgs),
    /// Explain field by field why a node would run
    Explain(ExplainArgs),
    /// Draw the pipeline
    Graph(GraphArgs),
    /// Print what a node's stage said
    Log(LogArgs),
    /// Write one page with everything: states, times, curves, scores, pictures, failures, provenance
    Report(ReportArgs),
    /// Compare two pipeline files, and list the results that they share
    Diff(DiffArgs),
    /// Print the JSON schema of pipeline files, for editors
    Schema,
    /// Print what a shell needs to complete commands
    Completions(CompletionsArgs),
    /// Remove results that no pipeline file reaches any more
    Gc(GcArgs),
    /// Read the whole store again and report what is damaged; the next run recomputes it
    Verify(File),
    /// List the locks and remove those that dead processes have left
    Unlock(UnlockArgs),
    /// Look at folders of scans, and write a pipeline file that trains on all of them
    Init(InitArgs),
    /// Run the demonstration: the same pipeline on a small synthetic dataset, without a GPU
    Demo(DemoArgs),
    /// List the stages; of one, print inputs, outputs, every parameter, and an example
    Stages(StagesArgs),
    /// Do a job that a runner has prepared
    #[command(hide = true)]
    Work(WorkArgs),
    /// Run one stage alone, on folders that you name
    Stage(Box<StageVerb>),
}

/// How to run.
#[derive(Args, Clone, Default)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The nodes to bring up to date, with everything that they read [default: all]
    #[arg(value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    /// Only this case of the named nodes, and of what they alone read; may be given more than once. The result stands
    /// beside the node's as `NODE:CASE`
    #[arg(long, value_name = "CASE", requires = "nodes")]
    pub(crate) case: Vec<String>,
    /// Run the named nodes and no others; what they read must be fresh
    #[arg(long, requires = "nodes")]
    pub(crate) only: bool,
    /// Run the named nodes (or all) afresh even if nothing has changed
    #[arg(long)]
    pub(crate) force: bool,
    /// Only print what would run, how long it takes and how much disk; the exit code is 3 if there is work
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: measure what is not known, by doing a little of each kind of work
    #[arg(long, requires = "dry_run")]
    pub(crate) measure: bool,
    /// With --dry-run: what to assume of data that are not here, such as `FLARE23=4000,512x512x240,0.8x0.8x2.5`; may be given more
    /// than once
    #[arg(long, value_name = "NAME=CASES,SHAPE,SPACING_MM", requires = "dry_run", value_parser = supposed)]
    pub(crate) suppose: Vec<(String, Lot)>,
}

/// What `run` and `demo` share.
#[derive(Args, Clone, Default)]
pub(crate) struct HowArgs {
    /// After a failure go on with what does not depend on it
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// How many nodes may run at once; on this machine they share the cores [default: 1; of slurm: all]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Where nodes run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) executor: Place,
    /// An entry of the file's `slurm:`, such as `partition=gpu`; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) slurm: Vec<(String, String)>,
    /// Where networks run, instead of the file's `device:`
    #[arg(long, value_enum)]
    pub(crate) device: Option<DeviceChoice>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// Whether files are read again.
#[derive(Args, Clone, Default)]
pub(crate) struct Trust {
    /// Read every file again instead of trusting sizes and times, and check the results in the store
    #[arg(long)]
    pub(crate) verify: bool,
}

/// Where nodes run.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// On this machine
    #[default]
    Local,
    /// As jobs of the cluster's Slurm
    Slurm,
}

/// Which nodes to report.
#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// The nodes, with everything that they read [default: all]
    #[arg(value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// As JSON, with counts, sizes and times
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which node to explain.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// The node, or one of its cases
    #[arg(value_name = "NODE[:CASE]")]
    pub(crate) node: String,
}

/// How to draw.
#[derive(Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) file: File,
    /// The language
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: GraphFormat,
}

/// A language of graphs.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum GraphFormat {
    /// For Markdown viewers
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
    /// A picture, laid out without Graphviz
    Svg,
}

/// Whose log.
#[derive(Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The node; with a case only the lines that name it
    #[arg(value_name = "NODE[:CASE]")]
    pub(crate) node: String,
}

/// Where the page goes.
#[derive(Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The page: one HTML file that needs no other and no network
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
}

/// Which files to compare.
#[derive(Args)]
pub(crate) struct DiffArgs {
    /// A pipeline file
    #[arg(value_name = "A")]
    pub(crate) first: PathBuf,
    /// Another one; left out, A is compared with the file that it extends
    #[arg(value_name = "B")]
    pub(crate) second: Option<PathBuf>,
}

/// Which stage.
#[derive(Args)]
pub(crate) struct StagesArgs {
    /// The stage to tell all about [default: a line for each]
    #[arg(value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    /// The list as a page in Markdown
    #[arg(long, conflicts_with = "stage")]
    pub(crate) markdown: bool,
}

/// Which shell.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// How to clean up.
#[derive(Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Only tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Which locks to remove.
#[derive(Args)]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    pub(crate) file: File,
    /// Remove the locks of other machines too, which cannot be asked; never that of a process that lives on this one
    #[arg(long)]
    pub(crate) force: bool,
}

/// Which folders, and where the file goes.
#[derive(Args)]
pub(crate) struct InitArgs {
    /// The folders, each with the name that its dataset shall have: nnU-Net's layout, FLARE's, or `images` and `labels`
    #[arg(value_name = "NAME=DIR", required = true, value_parser = pair)]
    pub(crate) folders: Vec<(String, String)>,
    /// The file to write; one that is there already stays, and is an error
    #[arg(long, short, value_name = "FILE", default_value = "pipeline.yaml")]
    pub(crate) output: PathBuf,
    /// The voxel size of the networks, in place of the scans' median: a coarse one, such as 3, for a machine without a GPU
    #[arg(long, value_name = "MM", value_parser = spacing)]
    pub(crate) spacing: Option<f64>,
}

/// A voxel size in mm.
fn spacing(text: &str) -> Result<f64, String> {
    let mm: f64 = text.parse().map_err(|_| "it must be a number of mm, such as 3".to_owned())?;
    if (0.1..=20.0).contains(&mm) { Ok(mm) } else { Err("it must be from 0.1 to 20 mm".to_owned()) }
}

/// How to run the demonstration.
#[derive(Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// One job.
#[derive(Args)]
pub(crate) struct WorkArgs {
    /// The store
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// The key of the job
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The cases to do, by their place in the job's list; without it everything that is left
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub(crate) cases: Option<std::ops::Range<usize>>,
    /// Where to tell how it ended
    #[arg(long, value_name = "FILE")]
    pub(crate) outcome: Option<PathBuf>,
    /// How many seconds the records of what it reads may take until they are seen on this machine
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(crate) patience: f64,
    /// The stage's threads [default: what the node asks for, else all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// One run of one stage.
#[derive(Args)]
pub(crate) struct StageVerb {
    /// The stage
    #[arg(value_name = "STAGE")]
    pub(crate) name: String,
    /// The process with which this one dies
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,
    #[command(flatten)]
    pub(crate) args: StageArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=PATH, such as `Liver=/data/liver`")),
    }
}

fn range(text: &str) -> Result<std::ops::Range<usize>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    ends.filter(|range| !range.is_empty()).ok_or_else(|| format!("`{text}` is not FROM..TO"))
}

fn setting(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once('=').and_then(|(field, value)| Some((field.split_once('.')?, value)));
    match parts {
        Some(((node, param), value)) if !node.is_empty() && !param.is_empty() => Ok((node.to_owned(), param.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NODE.PARAM=VALUE")),
    }
}

/// The end of the help.
pub(crate) fn examples(name: &str) -> String {
    format!(
        "Examples:
  {name} demo                                  the whole pipeline on a small synthetic dataset
  {name} run --data FLARE23=/data/FLARE23      everything that is not fresh
  {name} run M_c                               node M_c and what it reads
  {name} run M_c --set M_c.fit.epochs=30       with another parameter
  {name} run --dry-run                         only tell what would be run, how long it takes and how much disk
  {name} stages preprocess                     what a stage reads, writes and can be told
  {name} explain M_c                           why it would be run
  {name} explain segment[M_4]:FLARE23Ts_0001   why one case would be
  {name} status; {name} log M_c; {name} graph
  {name} report                                everything on one page, report.html

Each verb has examples of its own: {name} VERB --help.

A run that was interrupted, even by a power failure, goes on with the next `{name} run`.

Exit codes: 0 done or fresh, 1 a stage failed or left cases out, 2 wrong configuration, 3 a dry run found work,
4 another runner is doing the work, 130 stopped by a signal"
    )
}
