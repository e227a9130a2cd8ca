//! `predict IN OUT`: label maps of CT scans, as a challenge calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use stage_kit::{DeviceChoice, Entry, ProgressStyle, StageArgs};

/// Labels 13 abdominal organs (1-13) and tumors (14) in CT scans.
///
/// Every scan CASE_0000.nii.gz gives a label map CASE.nii.gz on its own grid. A scan that cannot be labelled is named,
/// and the others go on; what is there already is not made again.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 all scans are labelled, 1 some are not, 2 wrong arguments")]
struct Cli {
    /// A folder of scans, or one scan
    #[arg(value_name = "IN")]
    images: PathBuf,
    /// The folder for label maps
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The model [default: model.safetensors beside this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where the network runs
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressStyle,
}

fn main() -> ExitCode {
    ops::tune_process();
    let cli = Cli::parse();
    let beside = || std::env::current_exe().unwrap_or_default().with_file_name(inference::MODEL_FILE);
    let args = StageArgs {
        params: None,
        inputs: vec![("images".into(), cli.images), ("model".into(), cli.model.unwrap_or_else(beside))],
        // There are no checkpoints, and the folder beside the output may be read-only.
        work: Some(cli.output.clone()),
        output: cli.output,
        seed: 0,
        device: cli.device,
        threads: cli.threads,
        progress: cli.progress,
        node: None,
        cases: None,
    };
    stage_kit::run_stage(&Entry::of::<predict::Predict>(), &args)
}
