//! `predict IN OUT`: label maps of CT scans, as a challenge calls it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use formats::Format;
use inference::{Manner, Model};
use model_card::{MODEL_FILE, ModelCard, model_file};
use nets::Precision;
use predict::{Config, LabelFormat, Predict};
use stage_kit::{DeviceChoice, Entry, ProgressStyle, Report, StageArgs};

/// Labels organs, tumors and whatever else a model has learnt to find in CT scans.
///
/// Scans are NIfTI, NRRD or MetaImage files of any name, or series of DICOM files in a folder and the folders in it. The model says which classes
/// it finds and in which values. Each scan gives a label map CASE on its own grid and in its own format. A scan that cannot be labelled is named,
/// and the others go on; what is there already is not made again. Scans are read, labelled and written slice by slice:
/// memory does not depend on their length.
#[derive(Parser)]
#[command(
    version = version::VERSION,
    after_help = "Exit codes: 0 all scans are labelled, 1 some are not, 2 wrong arguments\n\n\
    Examples:\n  \
    predict scans labels                            every scan of a folder\n  \
    predict a_0000.nii.gz labels --preview          one scan, with a picture\n  \
    predict scan.nii labels/a.nii.gz                one scan of any name, and the file for its labels\n  \
    predict scans labels --exact                    without any shortcut\n  \
    predict series labels --format nrrd             a DICOM series, for 3D Slicer\n  \
    predict scans labels --only liver --statistics  one class, with its volume\n  \
    predict scans labels --model a.safetensors --model b.safetensors --flips\n  \
    predict scans labels --model organs.safetensors --model tumors.safetensors\n  \
    predict --describe model.safetensors            what a model finds and where it comes from\n  \
    predict --install model.safetensors             from now on the model of this program"
)]
struct Cli {
    /// A folder of scans, one scan, or a folder of DICOM series
    #[arg(value_name = "IN", required_unless_present_any = ["install", "describe"])]
    images: Option<PathBuf>,
    /// The folder for label maps; of one scan also the file, such as NAME.nii.gz or NAME.seg.nrrd
    #[arg(value_name = "OUT", required_unless_present_any = ["install", "describe"])]
    output: Option<PathBuf>,
    /// The model; of several that find the same the mean of their probabilities, others add what they find on top [default: model.safetensors beside this program]
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Tells what a model is, which classes it finds and how it was trained, and ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "output", "model", "install"])]
    describe: Option<PathBuf>,
    /// Checks a model, puts it beside this program, and ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "output", "model"])]
    install: Option<PathBuf>,
    /// Turns every shortcut off: single precision, and of the scan what the model was trained to be shown
    #[arg(long)]
    exact: bool,
    /// The numbers to compute with on a CPU: f32, bf16, int8, auto or exact [default: auto; f32 with --exact]
    #[arg(long, value_name = "NUMBERS", value_parser = precision)]
    precision: Option<Precision>,
    /// Takes the mean over what the model is shown and its mirror images: for models trained on such, four or eight times the work
    #[arg(long)]
    flips: bool,
    /// Removes small parts of organs, as the winner of FLARE23 does
    #[arg(long)]
    clean_up: bool,
    /// Writes CASE.png: slices of the scan with the labels on them
    #[arg(long)]
    preview: bool,
    /// Writes CASE.json and CASE.csv: volume, mean and deviation in HU of every class
    #[arg(long)]
    statistics: bool,
    /// The format of label maps [default: that of each scan]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<LabelFormat>,
    /// Writes names and colours of the classes into NIfTI label maps, as TotalSegmentator does
    #[arg(long)]
    names: bool,
    /// Writes CASE.label and CASE.ctbl: names and colours for ITK-SNAP and 3D Slicer
    #[arg(long)]
    tables: bool,
    /// Only these classes, by their keys
    #[arg(long, value_name = "CLASS", num_args = 1..)]
    only: Vec<String>,
    /// Adds a line for each case to OUT/journal.jsonl: made of what, in what time, or why not
    #[arg(long)]
    journal: bool,
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

fn precision(text: &str) -> Result<Precision, String> {
    serde_json::from_value(text.into()).map_err(|_| "expected f32, bf16, int8, auto or exact".into())
}

fn main() -> ExitCode {
    ops::tune_process();
    let cli = Cli::parse();
    let answer = match (&cli.describe, &cli.install) {
        (Some(model), _) => Some(describe(model)),
        (None, Some(model)) => Some(install(model).map(|place| format!("{}\n", place.display()))),
        (None, None) => None,
    };
    if let Some(answer) = answer {
        return match answer {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        };
    }
    match arguments(cli).and_then(|(config, args)| Ok((serde_json::to_value(config)?, args))) {
        Ok((config, args)) => stage_kit::run_stage_with(&Entry::of::<Predict>(), &args, config),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    Report::default().note(&format!("error: {error:#}"));
    ExitCode::FAILURE
}

/// Where this program looks for a model of its own.
fn own_model() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(MODEL_FILE)
}

/// What a model says of itself.
fn describe(model: &Path) -> Result<String> {
    let model = model_file(model);
    let card = ModelCard::of(&nets::metadata(&model)?, &model)?;
    card.map(|card| card.page()).with_context(|| {
        format!("{} does not say how it was trained, because its weights come from elsewhere or from an earlier version", model.display())
    })
}

/// Puts a model that can be opened beside this program.
fn install(model: &PathBuf) -> Result<PathBuf> {
    let manner = Manner { partial: Some(partial::open), ..Manner::default() };
    Model::open(std::slice::from_ref(model), &manner, &nets::device(DeviceChoice::Cpu)?)?;
    let (bytes, place) = (std::fs::read(model)?, own_model());
    stage_kit::write_atomic(&place, |file| Ok(std::io::Write::write_all(file, &bytes)?))
        .with_context(|| format!("cannot install {}", place.display()))?;
    Ok(place)
}

fn arguments(cli: Cli) -> Result<(Config, StageArgs)> {
    let Cli { exact, precision, flips, clean_up, preview, statistics, format, names, tables, only, journal, .. } = cli;
    let images = cli.images.unwrap_or_default();
    let (output, label) = folder_and_name(cli.output.unwrap_or_default());
    let config = Config { exact, precision, flips, clean_up, preview, statistics, format, names, tables, only, journal, label };
    let mut models = cli.model.into_iter();
    let model = models.next().map_or_else(installed_model, Ok)?;
    let mut inputs = vec![("images".into(), images), ("model".into(), model)];
    inputs.extend(models.enumerate().map(|(n, model)| (format!("also.{n}"), model)));
    let args = StageArgs {
        params: None,
        inputs,
        // There are no checkpoints, and the folder beside the output may be read-only.
        work: Some(output.clone()),
        output,
        seed: 0,
        device: cli.device,
        processes: None,
        threads: cli.threads,
        progress: cli.progress,
        node: None,
        cases: None,
        planned: false,
        key: None,
        digests: Vec::new(),
    };
    Ok((config, args))
}

/// The folder that label maps go to, and the name of the one that is asked for by name.
fn folder_and_name(output: PathBuf) -> (PathBuf, Option<String>) {
    let name = output.file_name().and_then(|name| name.to_str()).filter(|name| Format::of_name(name).is_some());
    match name.map(str::to_owned) {
        Some(name) if !output.is_dir() => (output.parent().filter(|parent| *parent != "").unwrap_or(".".as_ref()).to_owned(), Some(name)),
        _ => (output, None),
    }
}

/// The program's own model, if there is one.
fn installed_model() -> Result<PathBuf> {
    let model = own_model();
    ensure!(
        model.is_file(),
        "there is no model {}; name one by --model FILE, or make one this program's own by `predict --install FILE`. `flare run model` makes \
         such a file, and every training writes one: weights.safetensors",
        model.display()
    );
    Ok(model)
}
