//! Scores label maps against the ground truth (paper 3.1): DSC and NSD per case and class, in the paper's tables.
//!
//! Every case is scored by both protocols: `official` repeats the challenge's evaluator, `plain` is what a reader would
//! expect of the names. With the scans at hand, some cases are also drawn as in the paper's Fig. 3.

mod pictures;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dataset::ImageFile;
use metrics::table::{Table, cases_to_csv};
use metrics::{CaseScores, Protocol, Summary, evaluate_case};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo, write_atomic_text};
use volume::nifti;

/// The parameters of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many cases are drawn when `images` is given: half of them the best of the last model by name, half the worst.
    #[serde(default = "four")]
    pub pictures: usize,
}

/// As many cases as the paper's Fig. 3 has.
fn four() -> usize {
    4
}

/// The stage `evaluate`.
pub struct Evaluate;

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const REVISION: u32 = 1;
    const ABOUT: &'static str =
        "Scores label maps against the ground truth: DSC and NSD per case and class, by the challenge's rules and plainly";
    const READS: &'static [Role] = &[
        Role::required("truth", "a folder of true label maps, CASE.nii.gz"),
        Role::optional("images", "the folder of CT scans that were segmented; only their cases are scored, and some are drawn"),
        Role::many("predictions", "label maps of one model each: a folder with labels/CASE.nii.gz"),
    ];
    const WRITES: &'static str =
        "official.{md,csv,json} and plain.{md,csv,json}: tables; cases/MODEL.PROTOCOL.csv: every score; pictures/CASE.png";
    const PAPER: &'static str = "3.1, Tables 4 to 6; 4.2, Fig. 3";
    type Config = Config;

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let cases = cases(io)?;
        let jobs: Vec<Job> = io
            .inputs_under("predictions")
            .into_iter()
            .flat_map(|(model, folder)| cases.iter().map(move |case| Job::new(model, folder, case, &io.work)))
            .collect();
        stage_kit::over_cases(io, &jobs, |job| &job.name, |job| stage_kit::finished(&job.scores), Job::run)?;
        for protocol in [Protocol::Official, Protocol::Plain] {
            write_tables(protocol, &jobs, io)?;
        }
        if let Some(images) = io.input_opt("images")? {
            pictures::write(config.pictures, images, &jobs, io)?;
        }
        Ok(())
    }
}

/// The cases with a ground truth, among those that were segmented.
fn cases(io: &StageIo) -> Result<Vec<ImageFile>> {
    let truth = io.input("truth")?;
    let mut cases = dataset::label_files(truth)?;
    if let Some(images) = io.input_opt("images")? {
        let segmented: BTreeSet<String> = dataset::image_files(images)?.into_iter().map(|image| image.id).collect();
        cases.retain(|case| segmented.contains(&case.id));
        let without = segmented.len() - cases.len();
        ensure!(!cases.is_empty(), "none of the {} images in {} has a label map in {}", segmented.len(), images.display(), truth.display());
        if without > 0 {
            io.report.note(&format!("{}: {without} of {} images have no ground truth and are not scored", io.node, segmented.len()));
        }
    }
    Ok(cases)
}

/// One case of one model.
struct Job {
    name: String,
    model: String,
    case: String,
    truth: PathBuf,
    prediction: PathBuf,
    /// Where the scores are kept until the tables are written.
    scores: PathBuf,
}

/// The scores of a case by both protocols.
#[derive(Serialize, Deserialize)]
struct Scores {
    official: CaseScores,
    plain: CaseScores,
}

impl Job {
    fn new(model: &str, folder: &Path, case: &ImageFile, work: &Path) -> Self {
        Self {
            name: format!("{} of {model}", case.id),
            model: model.to_owned(),
            case: case.id.clone(),
            truth: case.path.clone(),
            prediction: folder.join("labels").join(case.label_name()),
            scores: work.join(model).join(format!("{}.json", case.id)),
        }
    }

    fn run(&self) -> Result<()> {
        let (truth, header) = nifti::read_labels(&self.truth)?;
        let (prediction, found) = nifti::read_labels(&self.prediction)?;
        ensure!(
            header.grid().approx_eq(&found.grid()),
            "{} has {:?} voxels and {} has {:?}, or their affines differ; score label maps on the grid of their image",
            self.prediction.display(),
            found.grid().shape,
            self.truth.display(),
            header.grid().shape
        );
        let score = |protocol| {
            evaluate_case(prediction.data.view(), truth.data.view(), header.grid().spacing_mm(), protocol)
                .with_context(|| format!("{} against {}", self.prediction.display(), self.truth.display()))
        };
        let scores = Scores { official: score(Protocol::Official)?, plain: score(Protocol::Plain)? };
        write_atomic_text(&self.scores, &serde_json::to_string(&scores)?)
    }

    fn read(&self, protocol: Protocol) -> Result<(String, CaseScores)> {
        let text = std::fs::read_to_string(&self.scores).with_context(|| format!("cannot read {}", self.scores.display()))?;
        let scores: Scores =
            serde_json::from_str(&text).with_context(|| format!("{} holds no scores; remove it and run again", self.scores.display()))?;
        let scores = match protocol {
            Protocol::Official => scores.official,
            Protocol::Plain => scores.plain,
        };
        Ok((self.case.clone(), scores))
    }
}

fn write_tables(protocol: Protocol, jobs: &[Job], io: &StageIo) -> Result<()> {
    let name = match protocol {
        Protocol::Official => "official",
        Protocol::Plain => "plain",
    };
    let mut summaries = Vec::new();
    for of_model in jobs.chunk_by(|a, b| a.model == b.model) {
        let model = &of_model[0].model;
        let cases = of_model.iter().map(|job| job.read(protocol)).collect::<Result<Vec<_>>>()?;
        write_atomic_text(&io.output.join("cases").join(format!("{model}.{name}.csv")), &cases_to_csv(&cases))?;
        summaries.push(Summary::of(model, &cases)?);
    }
    let table = Table::of(&summaries)?;
    write_atomic_text(&io.output.join(format!("{name}.md")), &table.to_markdown())?;
    write_atomic_text(&io.output.join(format!("{name}.csv")), &table.to_csv())?;
    write_atomic_text(&io.output.join(format!("{name}.json")), &serde_json::to_string_pretty(&summaries)?)
}
