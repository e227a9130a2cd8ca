//! Brings cases onto the model grid and stores them for random access.
//!
//! Reads:  the datasets, their partition, and the labels of teachers if there are any.
//! Writes: `cases/CASE.zarr.zip` and the index `cases.json` (see the crate `prepared`).
//! Paper:  section 2.2 (orientation, window, spacing) and 3.2 (crop to the foreground).
//!
//! Each worker holds one case, and of it one array of the file at a time, in parts where it is large: below 0.6 GB however
//! long the scan is. Planes are read from the files for each array, and once more to find the foreground.

mod ahead;
mod case;
mod maps;

use std::collections::BTreeMap;

use anyhow::Result;
use dataset::{Case, Manifest, Roots};
use prepared::{INDEX_FILE, Index, Layout, PreparedCase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, LeftOut, Look, Role, Stage, StageIo, write_atomic_text};
use volume::ModelGrid;

pub use crate::case::Job;

/// The stage.
pub struct Preprocess;

/// Its parameters.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets and unions to prepare, by name; a case in several is prepared once.
    pub subsets: Vec<String>,
    /// `volume` for 3-D patches, `slices` for 2-D slices.
    pub layout: Layout,
    /// The spacing and the window of the network; orientation is RAS.
    pub grid: ModelGrid,
    /// Whether only the smallest box is kept that holds all voxels above the lower end of the window.
    pub crop_foreground: bool,
}

impl Stage for Preprocess {
    const NAME: &'static str = "preprocess";
    const REVISION: u32 = 5;
    const ABOUT: &'static str = "Resample, window and crop cases onto the model grid, for random access in training";
    const READS: &'static [Role] = &[
        dataset::DATASETS,
        Role::required("partition", "output of `partition`").by_case(),
        Role::optional("pseudo", "output of `pseudo-label`; its labels take the place of the dataset's, with the trust in them").by_case(),
    ];
    const WRITES: &'static str =
        "cases/CASE.zarr.zip with the image, the label map in its dataset's values, and trust in its groups; cases.json";
    const PAPER: &'static str = "section 2.2, section 3.2 (crop foreground)";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        anyhow::ensure!(!config.subsets.is_empty(), "subsets: none given, expected at least one, such as D_o13");
        Ok(config.grid.check()?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, ahead: &Ahead, _: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, ahead, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Preprocess {
    type Job = Job;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Job>> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let (roots, pseudo) = (Roots::of(io), io.input_opt("pseudo")?);
        let job = |case: &Case| Job::new(case, &manifest, roots.root(&case.dataset)?, pseudo);
        let jobs: Vec<Job> = selected(&manifest, config)?.into_iter().map(job).collect::<Result<_>>()?;
        let rest = json!({"classes": manifest.classes, "splits": jobs.iter().map(|job| job.case.split).collect::<Vec<_>>()});
        Ok(Look::of(Ok(jobs)).finished_by(rest))
    }

    fn case(_: &Config, job: &Job) -> CaseSpec {
        let mut spec = CaseSpec::of(&job.case.id).reads("image", &job.image).depends_on(job.facts()).writes([job.place()]);
        for (name, path) in job.label_files() {
            spec = spec.reads(&name, path);
        }
        spec
    }

    /// Which subsets are prepared changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let Config { subsets: _, layout, grid, crop_foreground } = config;
        Ok(json!({"layout": layout, "grid": grid, "crop_foreground": crop_foreground}))
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(config: &Config, io: &StageIo, (): &(), job: &Job) -> Result<()> {
        job.prepare(config, &io.output.join(job.place()))
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<Vec<LeftOut>> {
        write_index(config, io, jobs)?;
        Ok(Vec::new())
    }
}

/// The cases of all subsets, each once, sorted by id.
fn selected<'a>(manifest: &'a Manifest, config: &Config) -> Result<Vec<&'a Case>> {
    let mut cases = BTreeMap::new();
    for subset in &config.subsets {
        cases.extend(manifest.select(subset, None)?.into_iter().map(|case| (case.id.as_str(), case)));
    }
    Ok(cases.into_values().collect())
}

/// Writes the index, by which readers know that all cases are there.
fn write_index(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<()> {
    let classes = Manifest::load(io.input("partition")?)?.classes;
    let mut index = Index {
        layout: config.layout,
        spacing_mm: config.grid.spacing_mm,
        window_hu: config.grid.window_hu,
        crop_foreground: config.crop_foreground,
        classes,
        regions: Vec::new(),
        cases: Vec::new(),
    };
    for job in jobs {
        index.add(&PreparedCase::open(&io.output.join(job.place()))?, job.case.split);
    }
    write_atomic_text(&io.output.join(INDEX_FILE), &(serde_json::to_string_pretty(&index)? + "\n"))
}
