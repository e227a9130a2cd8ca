//! Stage `phantom`: seeded synthetic CT of the trunk, in FLARE23's folders and with all its label patterns.
//!
//! Reads: nothing. Writes: `FLARE/` as the challenge hands it out, `collection/` with datasets in nnU-Net's layout, `truth/` with
//! every case's full label map in FLARE23's values, and `cases.json`. Paper: none; it serves the demonstration and the tests.
//!
//! A patient is a scene of solid shapes (13 organs, tumors, bones, muscles, bowel, lungs) of a standard trunk, bent by
//! a smooth random displacement and placed in a scanner. The scanner samples tissue and label at every voxel, so that
//! organs cannot overlap, and adds blur, noise, padding and a table. Training cases without tumor labels have no
//! tumors; unlabelled and validation cases may, and all of the collection.
//!
//! ```yaml
//! cases: {D_u: 4, D_l1: 6, D_l2: 4, D_l3: 6, D_l4: 4}
//! validation: 5
//! corrected: 1
//! body_width_mm: [310, 370]
//! variation: 1
//! spacing_in_plane_mm: [2.5, 3.5]
//! spacing_through_plane_mm: [3, 5]
//! margin_mm: [12, 30]
//! noise_hu: [10, 20]
//! orientations: [LPS, RAS, LAS, PIR]
//! oblique_fraction: 0.15
//! cropped_fraction: 0.2
//! table_fraction: 0.4
//! padded_fraction: 0.3
//! scaled_storage_fraction: 0.1
//! tumor_fraction: 0.8
//! collection: {organs: 4, kidneys: 4, kidney_tumors: 4, spleen: 4}
//! ```

mod acquire;
mod anatomy;
mod body;
mod case;
mod collection;
mod deform;
mod draw;
mod geometry;
mod scene;
mod shape;
mod subset;
mod tumor;
mod write;

use anyhow::{Context, Result, ensure};
use random::Streams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_kit::{ByCase, CaseSpec, CaseStage, LeftOut, Look, Role, Stage, StageIo, write_atomic_text};
use volume::Orientation;

pub use case::Case;
pub use collection::Collection;

use crate::subset::Subset;

/// How many training cases of each subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// `D_u`: no labels.
    #[serde(rename = "D_u", default)]
    pub unlabeled: usize,
    /// `D_l1`: 13 organs.
    #[serde(rename = "D_l1", default)]
    pub organs: usize,
    /// `D_l2`: five organs.
    #[serde(rename = "D_l2", default)]
    pub five_organs: usize,
    /// `D_l3`: five organs and tumor.
    #[serde(rename = "D_l3", default)]
    pub five_organs_and_tumor: usize,
    /// `D_l4`: tumor alone.
    #[serde(rename = "D_l4", default)]
    pub tumor: usize,
    /// `D_other`: 13 organs and tumor, which FLARE23 does not have.
    #[serde(rename = "D_other", default, skip_serializing_if = "is_zero")]
    pub organs_and_tumor: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Counts {
    fn of(&self, subset: Subset) -> usize {
        match subset {
            Subset::Unlabeled => self.unlabeled,
            Subset::Organs => self.organs,
            Subset::FiveOrgans => self.five_organs,
            Subset::FiveOrgansAndTumor => self.five_organs_and_tumor,
            Subset::Tumor => self.tumor,
            Subset::OrgansAndTumor => self.organs_and_tumor,
        }
    }

    fn labelled(&self) -> usize {
        Subset::LABELLED.iter().map(|&subset| self.of(subset)).sum()
    }
}

/// Parameters of the stage. Ranges are `[least, most]`, fractions the probability of each case by itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Training cases of each subset.
    pub cases: Counts,
    /// Cases in `validation/`, whose truth no training sees.
    pub validation: usize,
    /// How many label files are wrong (mirrored) and have their correction in `20230507-fix/`.
    #[serde(default)]
    pub corrected: usize,
    /// Width of the trunk, in mm.
    pub body_width_mm: [f32; 2],
    /// How much patients differ in shape, place and contrast: 1 is a plausible population, 0 makes all alike.
    pub variation: f32,
    /// Voxel size within a slice, in mm.
    pub spacing_in_plane_mm: [f32; 2],
    /// Distance of slices, in mm.
    pub spacing_through_plane_mm: [f32; 2],
    /// Air around the patient within the scan, in mm.
    pub margin_mm: [f32; 2],
    /// Standard deviation of the noise, in HU.
    pub noise_hu: [f32; 2],
    /// Orders of the voxel axes to choose from, such as `LPS`.
    pub orientations: Vec<String>,
    /// Cases whose slices are tilted by 3 to 8 degrees.
    #[serde(default)]
    pub oblique_fraction: f32,
    /// Cases whose scan ends amid the organs, above or below.
    #[serde(default)]
    pub cropped_fraction: f32,
    /// Cases with a table in the picture.
    #[serde(default)]
    pub table_fraction: f32,
    /// Cases with padding (−1024 or −3024) outside the round field of the scanner.
    #[serde(default)]
    pub padded_fraction: f32,
    /// Cases whose image is stored with a slope and an intercept.
    #[serde(default)]
    pub scaled_storage_fraction: f32,
    /// Unlabelled and validation cases, and those of the collection, that have tumors.
    pub tumor_fraction: f32,
    /// Cases of other datasets, each of which labels something else by values of its own.
    #[serde(default, skip_serializing_if = "Collection::is_empty")]
    pub collection: Collection,
}

/// The stage.
pub struct Phantom;

impl Stage for Phantom {
    const NAME: &'static str = "phantom";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Makes synthetic CT of the trunk with 13 organs and tumors, in FLARE23's folders and label patterns";
    const READS: &'static [Role] = &[];
    const WRITES: &'static str = "FLARE/{imagesTr2200,labelsTr2200,unlabeledTr1800,validation}/, collection/DATASET/{imagesTr,labelsTr,dataset.json}, truth/CASE.nii.gz, cases.json";
    const PAPER: &'static str = "none: data for the demonstration and the tests";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let ranges = [
            ("body_width_mm", config.body_width_mm, 200.0, 500.0),
            ("spacing_in_plane_mm", config.spacing_in_plane_mm, 0.4, 20.0),
            ("spacing_through_plane_mm", config.spacing_through_plane_mm, 0.4, 20.0),
            ("margin_mm", config.margin_mm, 0.0, 200.0),
            ("noise_hu", config.noise_hu, 0.0, 200.0),
        ];
        for (name, [low, high], least, most) in ranges {
            ensure!(least <= low && low <= high && high <= most, "{name}: [{low}, {high}] is not a range within {least} to {most}");
        }
        let fractions = [
            ("oblique_fraction", config.oblique_fraction),
            ("cropped_fraction", config.cropped_fraction),
            ("table_fraction", config.table_fraction),
            ("padded_fraction", config.padded_fraction),
            ("scaled_storage_fraction", config.scaled_storage_fraction),
            ("tumor_fraction", config.tumor_fraction),
        ];
        for (name, fraction) in fractions {
            ensure!((0.0..=1.0).contains(&fraction), "{name}: {fraction} is not a fraction from 0 to 1");
        }
        ensure!((0.0..=1.5).contains(&config.variation), "variation: {} is not within 0 to 1.5", config.variation);
        ensure!(!config.orientations.is_empty(), "orientations: the list is empty; name at least one, such as LPS");
        for letters in &config.orientations {
            letters.parse::<Orientation>().context("orientations")?;
        }
        ensure!(
            config.corrected <= config.cases.labelled(),
            "corrected: {} of {} labelled cases cannot be corrected",
            config.corrected,
            config.cases.labelled()
        );
        Ok(())
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Phantom {
    type Job = Case;
    type Tools = Streams;

    fn look(config: &Config, io: &StageIo) -> Result<Look<Case>> {
        Ok(Look::of(Ok(case::plan(config, &Streams::new(io.seed)))))
    }

    fn case(_: &Config, case: &Case) -> CaseSpec {
        CaseSpec::of(&case.id).depends_on(case.facts()).writes(case.files()).keeps([write::description(&case.id)])
    }

    /// How many cases there are changes none of them.
    fn case_params(config: &Config) -> Result<Value> {
        let none = Config { cases: Counts::default(), validation: 0, corrected: 0, collection: Collection::default(), ..config.clone() };
        Ok(serde_json::to_value(none)?)
    }

    fn tools(_: &Config, io: &StageIo) -> Result<Streams> {
        Ok(Streams::new(io.seed))
    }

    fn work(config: &Config, io: &StageIo, streams: &Streams, case: &Case) -> Result<()> {
        write::write(config, streams, io, case)
    }

    fn finish(config: &Config, io: &StageIo, cases: &[Case]) -> Result<Vec<LeftOut>> {
        collection::describe(&config.collection, io)?;
        let described = cases.iter().map(|case| write::read_description(io, case)).collect::<Result<Vec<_>>>()?;
        write_atomic_text(&io.output.join("cases.json"), &serde_json::to_string_pretty(&described)?)?;
        Ok(Vec::new())
    }
}
