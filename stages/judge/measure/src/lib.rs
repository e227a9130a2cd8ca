//! Runs a program or a container image case by case, as the challenge does, and measures what each case costs (paper, Table 7).
//!
//! One case at a time and one start for each, so that its time holds the start and its memory is its own.

mod machine;
mod subject;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containers::EngineChoice;
use dataset::{ImageFile, Naming};
use efficiency::{CaseFigures, FILE, Figures, Gpu, MB, Meter, Outcome, Run, curve_svg, samples_csv};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage_kit::{Digested, Role, Stage, StageIo, write_atomic_text};
use volume::nifti;

use subject::Subject;

/// The parameters of `measure`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// After how many seconds a case is ended; it then counts as stuck.
    #[serde(default = "an_hour")]
    pub time_limit_s: f64,
    /// The number of the graphics card whose memory is looked at, and which containers get; none is needed.
    #[serde(default)]
    pub gpu: u32,
    /// More arguments for `program`, after the folders.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What runs a `submission`.
    #[serde(default)]
    pub engine: EngineChoice,
    /// The memory that a container may take, as engines write it: `8G` on the challenge's CPU track, `28G` with a card.
    #[serde(default = "of_the_cpu_track")]
    pub memory: String,
}

fn an_hour() -> f64 {
    efficiency::PENALTY_SECONDS
}

fn of_the_cpu_track() -> String {
    "8G".into()
}

/// The stage `measure`.
pub struct Measure;

impl Stage for Measure {
    const NAME: &'static str = "measure";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Runs a program or an image case by case, as the challenge does, and measures time and memory";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz, or one such file"),
        Role::optional("program", "an executable that is called with a folder of scans and one for label maps"),
        Role::optional(
            "model",
            "with `program`: a file, or the folder of model.safetensors or weights.safetensors, that is given as `--model`",
        ),
        Role::optional("submission", "instead of a program: an image as TEAM.tar.gz, or the folder that it is in"),
    ];
    const WRITES: &'static str =
        "efficiency.{md,csv,json}: Table 7; curves/CASE.{svg,csv}: memory over time; labels/CASE.nii.gz: what came out";
    const PAPER: &'static str = "4.3, Table 7";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        ensure!(config.time_limit_s > 0.0, "time_limit_s is {}, and must be more than 0", config.time_limit_s);
        Duration::try_from_secs_f64(config.time_limit_s).context("time_limit_s")?;
        Ok(())
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let images = dataset::images_at(io.input("images")?)?;
        images.aside.tell_and_keep(io)?;
        let cases = by_slices(images.some(Naming::Images)?);
        let subject = Subject::of(config, io)?;
        let gpu = Gpu::open(config.gpu).map_err(|reason| io.report.note(&format!("{}: RAM alone is measured: {reason}", io.node))).ok();
        let stop = stage_kit::stop_on_signals()?;
        let meter = Meter { gpu: gpu.as_ref(), limit: Duration::from_secs_f64(config.time_limit_s), stop: &stop };
        let progress = io.report.start(&io.node, "cases", cases.len() as u64);
        let kept = kept_figures(config, &subject, io)?;
        let mut figures = Vec::new();
        for (case, size) in &cases {
            let kept = kept.join(kept_name(case)?);
            let of_case = match fs::read_to_string(&kept).ok().and_then(|text| serde_json::from_str(&text).ok()) {
                Some(figures) => figures,
                None => {
                    let figures = measure(io, &subject, &meter, case, *size).with_context(|| format!("case {}", case.id))?;
                    write_atomic_text(&kept, &serde_json::to_string(&figures)?)?;
                    figures
                }
            };
            if let Some(reason) = &of_case.reason {
                progress.note(&format!("{}: case {} {}: {reason}", io.node, case.id, of_case.ended.words()));
            }
            figures.push(of_case);
            progress.step(&case.id);
        }
        let gpu = match gpu {
            Some(gpu) => format!("graphics card {} of {:.0} MB", config.gpu, gpu.total()? as f64 / MB),
            None => "without a graphics card".into(),
        };
        write(&Figures { measured: subject.name(), machine: machine::describe(), gpu, cases: figures }, io)
    }
}

/// The folder for the figures of cases until all are there, without those of another subject.
fn kept_figures(config: &Config, subject: &Subject, io: &StageIo) -> Result<PathBuf> {
    let (folder, of) = (io.work.join("figures"), io.work.join("figures-of.json"));
    let now = json!({"subject": subject.identity()?, "config": config}).to_string();
    if fs::read_to_string(&of).ok().as_ref() != Some(&now) {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        write_atomic_text(&of, &now)?;
    }
    Ok(folder)
}

/// The file of a case's figures: another scan of that name has others.
fn kept_name(case: &ImageFile) -> Result<String> {
    let digest = Digested::of(&case.path)?.digest;
    Ok(format!("{}.{}.json", case.id, digest.trim_start_matches("file:")))
}

/// The cases with their sizes, the flattest first as in the paper, and last those whose header cannot be read.
fn by_slices(cases: Vec<ImageFile>) -> Vec<(ImageFile, Option<[usize; 3]>)> {
    let size = |case: &ImageFile| nifti::read_header(&case.path).ok().map(|header| header.grid().shape);
    let mut cases: Vec<_> = cases.into_iter().map(|case| (size(&case), case)).map(|(size, case)| (case, size)).collect();
    cases.sort_by_key(|(_, size)| size.map_or(usize::MAX, |[_, _, slices]| slices));
    cases
}

/// Runs one case in folders of its own.
fn measure(io: &StageIo, subject: &Subject, meter: &Meter<'_>, case: &ImageFile, size: Option<[usize; 3]>) -> Result<CaseFigures> {
    let folder = io.work.join("case");
    let (inputs, outputs) = (folder.join("inputs"), folder.join("outputs"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    for folder in [&inputs, &outputs] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    // Whoever a container runs as must be able to write there.
    fs::set_permissions(&outputs, fs::Permissions::from_mode(0o777)).context("cannot open the folder for label maps to all")?;
    let scan = inputs.join(case.path.file_name().context("a scan without a name")?);
    // A link would lead nowhere within a container.
    fs::copy(&case.path, &scan).with_context(|| format!("cannot copy {}", case.path.display()))?;

    let run = subject.run(meter, &std::path::absolute(&inputs)?, &std::path::absolute(&outputs)?)?;
    let labels = outputs.join(case.label_name());
    let trouble = trouble(&run, &labels, meter.limit);
    let curves = io.output_folder("curves")?;
    write_atomic_text(&curves.join(format!("{}.csv", case.id)), &samples_csv(&run))?;
    write_atomic_text(&curves.join(format!("{}.svg", case.id)), &curve_svg(&case.id, &run))?;
    let kept = io.output.join("labels").join(case.label_name());
    if labels.is_file() {
        io.output_folder("labels")?;
        fs::copy(&labels, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    } else if kept.exists() {
        // It came out of another program.
        fs::remove_file(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(CaseFigures::of(&case.id, size, &run, trouble))
}

/// Why a run came to nothing, if it did.
fn trouble(run: &Run, labels: &Path, limit: Duration) -> Option<String> {
    let said = if run.said.is_empty() { String::new() } else { format!("; it said: {}", run.said) };
    match run.outcome {
        Outcome::TimedOut => Some(format!("it was ended after {} s{said}", limit.as_secs_f64())),
        Outcome::Ended(Some(0)) if labels.is_file() => None,
        Outcome::Ended(Some(0)) => Some(format!("it left no {}{said}", labels.file_name().unwrap_or_default().display())),
        Outcome::Ended(Some(code)) => Some(format!("it ended with code {code}{said}")),
        Outcome::Ended(None) => Some(format!("it was ended by a signal; was memory short?{said}")),
    }
}

fn write(figures: &Figures, io: &StageIo) -> Result<()> {
    let path = io.output.join(FILE);
    write_atomic_text(&path.with_extension("md"), &figures.to_markdown())?;
    write_atomic_text(&path.with_extension("csv"), &figures.to_csv())?;
    write_atomic_text(&path, &(serde_json::to_string_pretty(figures)? + "\n"))
}
