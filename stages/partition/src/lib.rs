//! Sorts a dataset into the subsets of the paper by the labels that are there, and splits each by case.
//!
//! Reads:  the dataset's folders of images and label maps.
//! Writes: `manifest.json`; `D_u.txt` … `D_c.txt`, a case a line, and the same under `training/` and `validation/`;
//! `patterns.{md,csv,json}`; `bad_cases.{md,json}`.
//! Paper:  sections 2.1 and 3.2.
//!
//! Label maps are read whole, images by their header. A bad case is no failure: it is left out, and all bad cases are
//! named together, because a dataset of 4,000 scans from thirty hospitals always has some.

mod check;
mod gather;
mod split;
mod tables;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use dataset::{Case, MANIFEST_FILE, Manifest};
use labels::SubsetName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{ByCase, CaseSpec, CaseStage, Role, Stage, StageIo, write_atomic_text};

pub use check::BadCase;
pub use gather::Candidate;
pub use tables::{BAD_CASES_FILE, PATTERNS_FILE};

/// The stage.
pub struct Partition;

/// Its parameters. Folders are relative to the dataset.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folders of images `CASE_0000.nii.gz`, labelled and unlabelled ones.
    pub images: Vec<PathBuf>,
    /// The folder of label maps `CASE.nii.gz`; none when nothing is labelled.
    pub labels: Option<PathBuf>,
    /// A folder of corrected label maps, which take precedence. It may be empty, but must be there.
    pub corrected_labels: Option<PathBuf>,
    /// The part of each subset that goes to the validation side, from 0 to below 1.
    pub validation_fraction: f64,
    /// The least and the largest voxel edge in mm that a CT scan can have; others are headers gone wrong.
    #[serde(default = "plausible_spacing_mm")]
    pub spacing_mm_range: [f64; 2],
    /// Whether images are decoded too, so that damage beyond their headers and scans without a body are found now
    /// and not by `preprocess`. Takes about a second for each case.
    #[serde(default)]
    pub check_images: bool,
}

/// Clinical CT has voxel edges from 0.2 to 10 mm; twice that is left for phantoms and oddities.
fn plausible_spacing_mm() -> [f64; 2] {
    [0.1, 20.0]
}

impl Stage for Partition {
    const NAME: &'static str = "partition";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Sort a dataset into subsets by the labels that are there, and split it by case";
    const READS: &'static [Role] = &[Role::required("dataset", "folder with the folders of images and label maps").by_case()];
    const WRITES: &'static str =
        "manifest.json, case lists D_*.txt, training/D_*.txt, validation/D_*.txt, patterns.{md,csv,json}, bad_cases.{md,json}";
    const PAPER: &'static str = "section 2.1 (subsets), section 3.2 (split by case)";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        ensure!(!config.images.is_empty(), "images: no folder given, expected at least one");
        let fraction = config.validation_fraction;
        ensure!((0.0..1.0).contains(&fraction), "validation_fraction: {fraction}, expected a number from 0 to below 1");
        let [least, most] = config.spacing_mm_range;
        ensure!(
            0.0 < least && least < most && most.is_finite(),
            "spacing_mm_range: [{least}, {most}], expected two lengths in mm, 0 < least < most"
        );
        Ok(())
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>().gathering());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Partition {
    type Job = Candidate;
    type Tools = ();

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Candidate>> {
        Ok(gather::gather(io.input("dataset")?, config)?.0)
    }

    fn case(_: &Config, candidate: &Candidate) -> CaseSpec {
        let Candidate { id, root, image, label } = candidate;
        let spec = CaseSpec::of(id).reads("image", &root.join(image)).keeps([candidate.findings()]);
        let spec = spec.depends_on(json!({"image": image, "label": label}));
        label.iter().fold(spec, |spec, label| spec.reads("label", &root.join(label)))
    }

    /// What does not look into a case changes none.
    fn case_params(config: &Config) -> Result<Value> {
        Ok(json!({"spacing_mm_range": config.spacing_mm_range, "check_images": config.check_images}))
    }

    /// The cases that are bad by their files' names.
    fn rest(config: &Config, io: &StageIo, _: &[Candidate]) -> Result<Value> {
        Ok(serde_json::to_value(gather::gather(io.input("dataset")?, config)?.1)?)
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    /// A check costs little, and by the file alone nobody knows what was checked.
    fn is_done(_: &Config, _: &StageIo, _: &Candidate) -> bool {
        false
    }

    fn work(config: &Config, io: &StageIo, (): &(), candidate: &Candidate) -> Result<()> {
        let found = check::check(candidate, config);
        write_atomic_text(&io.work.join(candidate.findings()), &serde_json::to_string(&found)?)
    }

    fn finish(config: &Config, io: &StageIo, candidates: &[Candidate]) -> Result<()> {
        let (_, mut bad) = gather::gather(io.input("dataset")?, config)?;
        let mut good = Vec::new();
        for candidate in candidates {
            match candidate.read_findings(&io.work)? {
                Ok(facts) => good.push(facts),
                Err(findings) => bad.extend(findings),
            }
        }
        bad.sort_by(|a, b| (&a.case, &a.file).cmp(&(&b.case, &b.file)));
        let cases = split::split(good, config.validation_fraction, io.seed);
        write(io, &Manifest { cases }, &bad)
    }
}

fn write(io: &StageIo, manifest: &Manifest, bad: &[BadCase]) -> Result<()> {
    tables::write_bad_cases(&io.output, bad)?;
    let listing = tables::bad_cases_text(bad);
    ensure!(!manifest.cases.is_empty(), "no case can be used{}", if bad.is_empty() { ": there are none".into() } else { listing });
    for name in SubsetName::ALL {
        let members = || manifest.cases.iter().filter(|case| name.contains(case.subset));
        write_list(io, &format!("{name}.txt"), members())?;
        for (folder, split) in [("training", dataset::Split::Training), ("validation", dataset::Split::Validation)] {
            write_list(io, &format!("{folder}/{name}.txt"), members().filter(|case| case.split == split))?;
        }
    }
    tables::write_patterns(&io.output, manifest)?;
    // The manifest comes last: where it is, everything else is.
    write_atomic_text(&io.output.join(MANIFEST_FILE), &(serde_json::to_string_pretty(manifest)? + "\n"))?;
    io.report.note(&format!("{}: {} cases: {}", io.node, manifest.cases.len(), manifest.counts()));
    if !bad.is_empty() {
        io.report.note(&format!("{}: left out{listing}", io.node));
    }
    Ok(())
}

fn write_list<'a>(io: &StageIo, name: &str, cases: impl Iterator<Item = &'a Case>) -> Result<()> {
    let text: String = cases.map(|case| format!("{}\n", case.id)).collect();
    write_atomic_text(&io.output.join(name), &text)
}
