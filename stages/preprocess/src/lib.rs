//! Brings cases onto the model grid and stores them for random access.
//!
//! Reads:  the dataset, its partition, and the labels of teachers if there are any.
//! Writes: `cases/CASE.safetensors` and the index `cases.json` (see the crate `prepared`).
//! Paper:  section 2.2 (orientation, window, spacing) and 3.2 (crop to the foreground).
//!
//! Each worker holds one case, and of it one tensor of the file at a time, in parts where it is large: below 0.6 GB however
//! long the scan is. Planes are read from the files for each tensor, and once more to find the foreground.

mod case;

use std::collections::BTreeMap;

use anyhow::Result;
use dataset::{Case, Manifest};
use labels::SubsetName;
use prepared::{INDEX_FILE, Index, IndexEntry, Layout, PreparedCase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{ByCase, CaseSpec, CaseStage, Role, Stage, StageIo, write_atomic_text};
use volume::ModelGrid;

pub use crate::case::{Job, Labels};

/// The stage.
pub struct Preprocess;

/// Its parameters.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to prepare, by name; a case in several is prepared once.
    pub subsets: Vec<SubsetName>,
    /// `volume` for 3-D patches, `slices` for 2-D slices.
    pub layout: Layout,
    /// The spacing and the window of the network; orientation is RAS.
    pub grid: ModelGrid,
    /// Whether only the smallest box is kept that holds all voxels above the lower end of the window.
    pub crop_foreground: bool,
}

impl Stage for Preprocess {
    const NAME: &'static str = "preprocess";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Resample, window and crop cases onto the model grid, for random access in training";
    const READS: &'static [Role] = &[
        Role::required("dataset", "folder with the folders of images and label maps").by_case(),
        Role::required("partition", "output of `partition`").by_case(),
        Role::optional("pseudo", "output of `pseudo-label`; its labels take the place of the dataset's, with the trust in them").by_case(),
    ];
    const WRITES: &'static str = "cases/CASE.safetensors with image, organs, cancer and trust in both; cases.json";
    const PAPER: &'static str = "section 2.2, section 3.2 (crop foreground)";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        anyhow::ensure!(!config.subsets.is_empty(), "subsets: none given, expected at least one, such as D_o13");
        Ok(config.grid.check()?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Preprocess {
    type Job = Job;
    type Tools = ();

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Job>> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let (dataset, pseudo) = (io.input("dataset")?, io.input_opt("pseudo")?);
        Ok(selected(&manifest, config)?.into_iter().map(|case| Job::new(case, dataset, pseudo)).collect())
    }

    fn case(_: &Config, job: &Job) -> CaseSpec {
        let mut spec = CaseSpec::of(&job.case.id).reads("image", &job.image).depends_on(job.facts()).writes([job.place()]);
        for (name, path) in job.labels.files() {
            spec = spec.reads(name, path);
        }
        spec
    }

    /// Which subsets are prepared changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let Config { subsets: _, layout, grid, crop_foreground } = config;
        Ok(json!({"layout": layout, "grid": grid, "crop_foreground": crop_foreground}))
    }

    fn rest(_: &Config, _: &StageIo, jobs: &[Job]) -> Result<Value> {
        Ok(serde_json::to_value(jobs.iter().map(|job| job.case.split).collect::<Vec<_>>())?)
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(config: &Config, io: &StageIo, (): &(), job: &Job) -> Result<()> {
        job.prepare(config, &io.output.join(job.place()))
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<()> {
        write_index(config, io, jobs)
    }
}

/// The cases of all subsets, each once, sorted by id.
fn selected<'a>(manifest: &'a Manifest, config: &Config) -> Result<Vec<&'a Case>> {
    let mut cases = BTreeMap::new();
    for &subset in &config.subsets {
        cases.extend(manifest.select(subset, None)?.into_iter().map(|case| (case.id.as_str(), case)));
    }
    Ok(cases.into_values().collect())
}

/// Writes the index, by which readers know that all cases are there.
fn write_index(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<()> {
    let entry = |job: &Job| Ok(IndexEntry::of(&PreparedCase::open(&io.output.join(job.place()))?, job.case.split));
    let index = Index {
        layout: config.layout,
        spacing_mm: config.grid.spacing_mm,
        window_hu: config.grid.window_hu,
        crop_foreground: config.crop_foreground,
        cases: jobs.iter().map(entry).collect::<Result<_>>()?,
    };
    write_atomic_text(&io.output.join(INDEX_FILE), &(serde_json::to_string_pretty(&index)? + "\n"))
}
