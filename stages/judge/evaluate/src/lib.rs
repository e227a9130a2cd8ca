//! Scores label maps against the ground truth (paper 3.1): DSC and NSD per case and class, in the paper's tables.
//!
//! Every case is scored by both protocols: `official` repeats the challenge's evaluator, `plain` is what a reader would
//! expect of the names. With the scans at hand, some cases are also drawn as in the paper's Fig. 3.
//!
//! The true label maps may be those of another dataset: the parameters say what their values mean, which of them count as
//! background, and which of the models' classes they do not tell apart.

mod ahead;
mod pictures;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};
use dataset::{ImageFile, Naming};
use labels::Classes;
use metrics::table::{Table, cases_to_csv};
use metrics::{CaseScores, Declared, MapKind, MetricsError, Protocol, Scoring, SlicePairs, SliceSink, Summary, evaluate_slices};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, LeftOut, Look, Role, Stage, StageIo, write_atomic_text};
use volume::nifti::{self, LabelReader};

/// The parameters of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The classes that the models find; they write their output values.
    pub classes: Classes,
    /// What the values of the true label maps mean: those of each class that they have, such as `{kidney: [1, 2], tumor: [2]}`. Other
    /// classes are not scored. If nothing is said, they hold the output values.
    #[serde(default)]
    pub truth: BTreeMap<String, Vec<u8>>,
    /// Values of the true label maps that count as background.
    #[serde(default)]
    pub ignore: Vec<u8>,
    /// Classes that are scored as the union of others, such as `{kidneys: [left_kidney, right_kidney]}`; members are classes or groups.
    /// In the true label maps a union has the values that `truth` gives it, else those of its members.
    #[serde(default)]
    pub unions: BTreeMap<String, Vec<String>>,
    /// The tolerance of the NSD in mm, by class: for classes that FLARE23 does not have, where it is 2 mm otherwise, and by the plain
    /// rules for any.
    #[serde(default)]
    pub nsd_tolerance_mm: BTreeMap<String, f64>,
    /// How many cases are drawn when `images` is given: half of them the best of the last model by name, half the worst.
    #[serde(default = "four")]
    pub pictures: usize,
}

impl Config {
    fn scoring(&self) -> Result<Scoring> {
        let Self { classes, truth, ignore, unions, nsd_tolerance_mm, .. } = self;
        Ok(Scoring::declared(classes, Declared { truth, unions, ignored: ignore, nsd_tolerance_mm })?)
    }
}

/// As many cases as the paper's Fig. 3 has.
fn four() -> usize {
    4
}

/// The stage `evaluate`.
pub struct Evaluate;

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const REVISION: u32 = 3;
    const ABOUT: &'static str =
        "Scores label maps against the ground truth: DSC and NSD per case and class, by the challenge's rules and plainly";
    const READS: &'static [Role] = &[
        Role::required("truth", "a folder of true label maps, CASE.nii.gz").by_case(),
        Role::optional("images", "the folder of CT scans that were segmented; only their cases are scored, and some are drawn").by_case(),
        Role::many(
            "predictions",
            "label maps of one model each: a folder with labels/CASE.nii.gz, or with CASE.nii.gz as `predict` writes it",
        )
        .by_case(),
    ];
    const WRITES: &'static str =
        "official.{md,csv,json} and plain.{md,csv,json}: tables; cases/MODEL.PROTOCOL.csv: every score; pictures/CASE.png";
    const PAPER: &'static str = "3.1, Tables 4 to 6; 4.2, Fig. 3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>().gathering());

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, _: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, chore, io)
    }

    fn check(config: &Config) -> Result<()> {
        config.scoring().map(drop)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Evaluate {
    type Job = Job;
    type Tools = Scoring;

    fn look(_: &Config, io: &StageIo) -> Result<Look<Job>> {
        let jobs = || {
            let cases = cases(io)?;
            let of_model = |(model, folder)| cases.iter().map(move |(case, image)| Job::new(model, folder, case, image.as_ref()));
            io.inputs_under("predictions").into_iter().flat_map(of_model).collect()
        };
        let mut aside = dataset::list(io.input("truth")?, Naming::Labels)?.aside;
        if let Some(images) = io.input_opt("images")? {
            aside.extend(dataset::list(images, Naming::Images)?.aside);
        }
        Ok(Look::of(jobs()).beside(aside))
    }

    fn case(_: &Config, job: &Job) -> CaseSpec {
        let spec = CaseSpec::named(&job.name, &job.case).keeps([job.scores.clone()]);
        let spec = spec.reads("truth", &job.truth).reads("prediction", &job.prediction);
        // The scores do not look at the scan, the pictures do.
        job.image.iter().fold(spec, |spec, image| spec.reads("image", image))
    }

    /// How many are drawn, and in which colours, changes no score.
    fn case_params(config: &Config) -> Result<Value> {
        Ok(serde_json::to_value(config.scoring()?)?)
    }

    fn tools(config: &Config, _: &StageIo) -> Result<Scoring> {
        config.scoring()
    }

    fn work(_: &Config, io: &StageIo, scoring: &Scoring, job: &Job) -> Result<()> {
        job.run(scoring, &io.work)
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<Vec<LeftOut>> {
        for protocol in [Protocol::Official, Protocol::Plain] {
            write_tables(protocol, jobs, io)?;
        }
        if let Some(images) = io.input_opt("images")? {
            let images = dataset::image_files(images)?.len();
            let scored = jobs.iter().map(|job| &job.case).collect::<BTreeSet<_>>().len();
            if scored < images {
                io.report.note(&format!("{}: {} of {images} images have no ground truth and are not scored", io.node, images - scored));
            }
            pictures::write(config, jobs, io)?;
        }
        Ok(Vec::new())
    }
}

/// The cases with a ground truth, among those that were segmented, with their scans if these are given.
fn cases(io: &StageIo) -> Result<Vec<(ImageFile, Option<PathBuf>)>> {
    let truth = io.input("truth")?;
    let cases = dataset::label_files(truth)?;
    let Some(images) = io.input_opt("images")? else { return Ok(cases.into_iter().map(|case| (case, None)).collect()) };
    let mut segmented: BTreeMap<String, PathBuf> = dataset::image_files(images)?.into_iter().map(|image| (image.id, image.path)).collect();
    let n_segmented = segmented.len();
    let with_scan = |case: ImageFile| segmented.remove(&case.id).map(|image| (case, Some(image)));
    let cases: Vec<_> = cases.into_iter().filter_map(with_scan).collect();
    ensure!(!cases.is_empty(), "none of the {n_segmented} images in {} has a label map in {}", images.display(), truth.display());
    Ok(cases)
}

/// One case of one model.
pub struct Job {
    name: String,
    model: String,
    case: String,
    /// The scan, for the pictures.
    image: Option<PathBuf>,
    truth: PathBuf,
    prediction: PathBuf,
    /// Where the scores are kept until the tables are written, in the folder `work`.
    scores: String,
}

/// The scores of a case by both protocols.
#[derive(Serialize, Deserialize)]
struct Scores {
    official: CaseScores,
    plain: CaseScores,
}

impl Job {
    fn new(model: &str, folder: &Path, case: &ImageFile, image: Option<&PathBuf>) -> Result<Self> {
        let of_stage = folder.join("labels");
        let labels = if of_stage.is_dir() { &of_stage } else { folder };
        Ok(Self {
            name: format!("{} of {model}", case.id),
            model: model.to_owned(),
            case: case.id.clone(),
            image: image.cloned(),
            truth: case.path.clone(),
            prediction: dataset::label_in(labels, &case.id)?,
            scores: format!("{model}/{}.json", case.id),
        })
    }

    fn run(&self, scoring: &Scoring, work: &Path) -> Result<()> {
        let [truth, prediction] = [&self.truth, &self.prediction].map(|path| nifti::read_header(path).map(|header| header.grid()));
        let (truth, prediction) = (truth?, prediction?);
        ensure!(
            truth.approx_eq(&prediction),
            "{} has {:?} voxels and {} has {:?}, or their affines differ; score label maps on the grid of their image",
            self.prediction.display(),
            prediction.shape,
            self.truth.display(),
            truth.shape
        );
        let maps = Maps { truth: &self.truth, prediction: &self.prediction, shape: truth.shape };
        let protocols = [Protocol::Official, Protocol::Plain];
        let [official, plain] = evaluate_slices(&maps, truth.spacing_mm(), scoring, protocols).map_err(|error| self.told(error))?;
        write_atomic_text(&work.join(&self.scores), &serde_json::to_string(&Scores { official, plain })?)
    }

    /// An error with the files that it is about, and what helps against values that mean nothing.
    fn told(&self, error: Error) -> Error {
        match error.downcast_ref::<MetricsError>() {
            Some(MetricsError::BadValues { map: MapKind::Truth, reason }) => anyhow!(
                "{}: {reason}; say in `truth` which class they show, or in `ignore` that they count as background",
                self.truth.display()
            ),
            Some(MetricsError::BadValues { map: MapKind::Prediction, reason }) => {
                anyhow!("{}: {reason}; declare their classes, or give the label maps of a model of these", self.prediction.display())
            }
            _ => error.context(format!("{} against {}", self.prediction.display(), self.truth.display())),
        }
    }

    fn read(&self, protocol: Protocol, work: &Path) -> Result<(String, CaseScores)> {
        let path = work.join(&self.scores);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let scores: Scores =
            serde_json::from_str(&text).with_context(|| format!("{} holds no scores; remove it and run again", path.display()))?;
        let scores = match protocol {
            Protocol::Official => scores.official,
            Protocol::Plain => scores.plain,
        };
        Ok((self.case.clone(), scores))
    }
}

/// Both label maps of a case, read slice by slice.
struct Maps<'a> {
    truth: &'a Path,
    prediction: &'a Path,
    shape: [usize; 3],
}

impl SlicePairs for Maps<'_> {
    type Error = anyhow::Error;

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn each(&self, sink: &mut SliceSink<'_>) -> Result<()> {
        let (mut truth, mut prediction) = (LabelReader::open(self.truth)?, LabelReader::open(self.prediction)?);
        let mut slices = [Vec::new(), Vec::new()];
        let mut z = 0;
        while prediction.next_slice(&mut slices[0])? && truth.next_slice(&mut slices[1])? {
            sink(z, &slices[0], &slices[1]);
            z += 1;
        }
        Ok(())
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
        let cases = of_model.iter().map(|job| job.read(protocol, &io.work)).collect::<Result<Vec<_>>>()?;
        write_atomic_text(&io.output.join("cases").join(format!("{model}.{name}.csv")), &cases_to_csv(&cases))?;
        summaries.push(Summary::of(model, &cases)?);
    }
    let table = Table::of(&summaries)?;
    write_atomic_text(&io.output.join(format!("{name}.md")), &table.to_markdown())?;
    if protocol == Protocol::Plain {
        write_atomic_text(&io.output.join("short.md"), &metrics::table::short(&summaries)?)?;
    }
    write_atomic_text(&io.output.join(format!("{name}.csv")), &table.to_csv())?;
    write_atomic_text(&io.output.join(format!("{name}.json")), &serde_json::to_string_pretty(&summaries)?)
}
