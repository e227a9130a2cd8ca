//! DICOM studies become scans and label maps that every stage takes.
//!
//! Reads:  a tree of DICOM files: series of CT, segmentations and structure sets.
//! Writes: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz` on the grid of its image, `dataset.json`; `about/series.csv`: which series
//! each case is; `about/left_out.{md,json}` if anything is left out.
//!
//! Each series is a case. Images and labels go slice by slice from file to file.

mod ahead;
mod labels;
mod names;
mod segments;
mod tree;
mod write;

use std::collections::BTreeMap;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, LeftOut, Look, Role, Stage, StageIo};

pub use segments::{Label, NamedLabel};
pub use tree::Job;

/// The stage `convert`.
pub struct Convert;

/// The parameters of `convert`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The labels by their names in `dataset.json`: a value from 1 to 255, or a value and further names of the segments and regions of
    /// interest that are meant. Capitals play no part. Where segments overlap, the higher value wins.
    pub segments: BTreeMap<String, Label>,
    /// Names of segments and regions of interest that are left away.
    pub ignore: Vec<String>,
}

impl Stage for Convert {
    const NAME: &'static str = "convert";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "DICOM studies become scans and label maps that every stage takes: each series of CT is a case";
    const READS: &'static [Role] = &[
        Role::required("scans", "a folder of DICOM files in any arrangement: series of CT, segmentations, RT structure sets").by_case(),
        Role::optional("labels", "a folder with segmentations and structure sets of these series that lie elsewhere").by_case(),
    ];
    const WRITES: &'static str = "imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and dataset.json, as nnU-Net has them; about/: series.csv, which series each case is, and left_out.{md,json}";
    const PAPER: &'static str = "none: data from hospitals";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        segments::check(config)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn forecast(_: &Config, ahead: &Ahead) -> Result<Forecast> {
        Ok(ahead::forecast(ahead))
    }

    fn sample(_: &Config, ahead: &Ahead, _: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(ahead, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Convert {
    type Job = Job;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Job>> {
        let (jobs, aside) = tree::jobs(config, io.input("scans")?, io.input_opt("labels")?);
        let rest: Vec<Value> = jobs.iter().flatten().map(|job| json!(job.row())).collect();
        Ok(Look::of(jobs).beside(aside).finished_by(json!(rest)))
    }

    fn case(_: &Config, job: &Job) -> CaseSpec {
        let files: Vec<_> = job.series.files().collect();
        let width = files.len().to_string().len();
        let values: Vec<_> = job.labels.iter().map(|labels| &labels.values).collect();
        let spec = CaseSpec::of(&job.case).writes(job.places()).depends_on(json!({"stack": job.series.name(), "values": values}));
        let spec = (0..).zip(files).fold(spec, |spec, (n, file)| spec.reads(&format!("image.{n:0width$}"), file));
        (0..).zip(&job.labels).fold(spec, |spec, (n, labels)| spec.reads(&format!("labels.{n}"), labels.annotation.path()))
    }

    /// A case holds the values of its own segments.
    fn case_params(_: &Config) -> Result<Value> {
        Ok(json!({}))
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(_: &Config, io: &StageIo, (): &(), job: &Job) -> Result<()> {
        // Labels come first: an image whose labels are bad must not look like one that has none.
        if !job.labels.is_empty() {
            write::labels(job, &io.output.join(job.label_place()))?;
        }
        write::image(&job.series, &io.output.join(job.image_place()))
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<Vec<LeftOut>> {
        write::lists(config, io, jobs)?;
        Ok(Vec::new())
    }
}
