//! Brings cases onto the model grid and stores them for random access.
//!
//! Reads:  the dataset, its partition, and the labels of teachers if there are any.
//! Writes: `cases/CASE.safetensors` and the index `cases.json` (see the crate `prepared`).
//! Paper:  section 2.2 (orientation, window, spacing) and 3.2 (crop to the foreground).
//!
//! Each worker holds one case: at most two `f32` volumes at a time, of the image's own grid or of the model grid, and
//! while labels are made one `f32` volume and four of one byte. For 512×512×134 voxels of 0.8×0.8×2.5 mm on 1 mm
//! that is below 0.5 GB a worker.

mod case;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use dataset::{Case, Manifest};
use labels::SubsetName;
use prepared::{INDEX_FILE, Index, IndexEntry, LabelSource, Layout, PreparedCase, case_path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo, over_cases, write_atomic_text};
use volume::ModelGrid;

use crate::case::Sources;

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
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Resample, window and crop cases onto the model grid, for random access in training";
    const READS: &'static [Role] = &[
        Role::required("dataset", "folder with the folders of images and label maps"),
        Role::required("partition", "output of `partition`"),
        Role::optional("pseudo", "output of `pseudo-label`; its labels take the place of the dataset's"),
    ];
    const WRITES: &'static str = "cases/CASE.safetensors with image, organs and cancer; cases.json";
    const PAPER: &'static str = "section 2.2, section 3.2 (crop foreground)";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        anyhow::ensure!(!config.subsets.is_empty(), "subsets: none given, expected at least one, such as D_o13");
        Ok(config.grid.check()?)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let cases = selected(&manifest, config)?;
        let sources = Sources { dataset: io.input("dataset")?, pseudo: io.input_opt("pseudo")? };
        over_cases(
            io,
            &cases,
            |case| &case.id,
            |case| done(config, &sources, case, &case_path(&io.output, &case.id)),
            |case| case::prepare(config, &sources, case, &case_path(&io.output, &case.id)),
        )?;
        write_index(config, io, &cases)
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

/// Whether an earlier attempt left a whole file that was made with the same parameters.
fn done(config: &Config, sources: &Sources<'_>, case: &Case, output: &Path) -> bool {
    let Ok(prepared) = PreparedCase::open(output) else { return false };
    let info = prepared.info();
    let near = |(wanted, found): (&Option<f64>, f64)| wanted.is_none_or(|wanted| (wanted - found).abs() < 2e-3);
    info.layout == config.layout
        && info.subset == case.subset
        && info.window_hu == config.grid.window_hu
        && config.grid.spacing_mm.iter().zip(info.spacing_mm).all(near)
        && (info.organs_source == Some(LabelSource::Pseudo)) == sources.pseudo.is_some()
}

/// Writes the index, by which readers know that all cases are there.
fn write_index(config: &Config, io: &StageIo, cases: &[&Case]) -> Result<()> {
    let entry = |case: &&Case| Ok(IndexEntry::of(&PreparedCase::open(&case_path(&io.output, &case.id))?, case.split));
    let index = Index {
        layout: config.layout,
        spacing_mm: config.grid.spacing_mm,
        window_hu: config.grid.window_hu,
        cases: cases.iter().map(entry).collect::<Result<_>>()?,
    };
    write_atomic_text(&io.output.join(INDEX_FILE), &(serde_json::to_string_pretty(&index)? + "\n"))
}
