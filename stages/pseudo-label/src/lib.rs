//! Lets the teachers label what nobody labelled (paper 2.3, Fig. 1c): D_u and D_l3 become D_u' and D_l3'.
//!
//! The paper's text names M_c and M_o1 as the teachers and the caption of its Fig. 1 M_c and M_o2; only M_o2 knows the
//! organs that are asked of it (the 3-D U-Net skips the training of M_o1), so M_o2 it is.

mod teacher;
mod trust;

use anyhow::Result;
use inference::{ShownScan, View, ViewParams, WindowParams};
use labelling::Scan;
use labels::{CANCER_KEYS, CLASS_KEYS, ORGAN_CLASSES, SubsetName};
use nets::{Precision, TeacherConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Aside, ByCase, CaseSpec, CaseStage, Role, Stage, StageIo, write_atomic_text};
use volume::ModelGrid;

use crate::teacher::{Shown, Teacher};
use crate::trust::Opinion;
pub use crate::trust::{LabelsFrom, Look, TrustConfig};

/// The parameters of `pseudo-label`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to label; the paper's are D_u and D_l3. Not used when a folder of `images` is given.
    pub subsets: Vec<SubsetName>,
    /// The kind and the size of the organ teacher; needed for weights that do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organ_network: Option<TeacherConfig>,
    /// The same of the cancer teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancer_network: Option<TeacherConfig>,
    /// The grid of the teachers, by default that of their training; the paper's is 1 mm and [−200, 300] HU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<ModelGrid>,
    /// Whether the networks are shown the foreground alone, by default as in their training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_foreground: Option<bool>,
    /// How windows are laid over a volume, by default those of the training's patches, which share a half.
    #[serde(default)]
    pub window: WindowParams,
    /// The numbers that the networks compute with on a CPU.
    #[serde(default)]
    pub precision: Precision,
    /// How far each label can be trusted, written beside the labels and a table; off in the paper, which takes all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustConfig>,
}

impl Config {
    fn view(&self) -> ViewParams {
        ViewParams { grid: self.grid, crop_foreground: self.crop_foreground, window: self.window }
    }
}

/// The least side of a window.
const LEAST_SIDE: usize = 16;

/// The stage `pseudo-label`.
pub struct PseudoLabel;

impl Stage for PseudoLabel {
    const NAME: &'static str = "pseudo-label";
    const REVISION: u32 = 6;
    const ABOUT: &'static str = "Lets the teachers write organ and cancer labels where nobody labelled; true labels win";
    const READS: &'static [Role] = &[
        Role::required("organ_teacher", "a folder with weights.safetensors of M_o2"),
        Role::required("cancer_teacher", "a folder with weights.safetensors of M_c"),
        labelling::ROLES[0],
        labelling::ROLES[1],
        labelling::ROLES[2],
        Role::optional("opinion", "with `trust`: labels of the same scans by others, organs/CASE.nii.gz and cancer/CASE.nii.gz").by_case(),
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the grid of the image; with `trust` also \
         organs_trust/ and cancer_trust/ (0-255), and trust.csv: what was kept of each class and why not";
    const PAPER: &'static str = "2.3";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.view().check()?;
        if let Some(patch) = config.window.patch {
            for network in [&config.organ_network, &config.cancer_network].into_iter().flatten() {
                network.check(patch).map_err(anyhow::Error::msg)?;
            }
        }
        // What looks depend on of a window is its overlap.
        config.trust.as_ref().map_or(Ok(()), |trust| trust.check(&config.window.of([LEAST_SIDE; 3])))
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for PseudoLabel {
    type Job = Job;
    type Tools = Teachers;

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Job>> {
        let opinions = trust::opinions(config.trust.as_ref(), io)?;
        let job = |scan: Scan| Job { opinion: opinions.map(|folder| Opinion::on(&scan.id, folder)), scan };
        Ok(labelling::scans(&config.subsets, io)?.into_iter().map(job).collect())
    }

    fn aside(_: &Config, io: &StageIo) -> Result<Aside> {
        labelling::aside(io)
    }

    fn case(config: &Config, Job { scan, opinion }: &Job) -> CaseSpec {
        let spec = if config.trust.is_some() { scan.weighed_spec() } else { scan.spec() };
        match opinion {
            Some(opinion) => spec.reads("opinion_organs", &opinion.organs).reads("opinion_cancer", &opinion.cancer),
            None => spec,
        }
    }

    /// Which subsets are labelled changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let Config { subsets: _, organ_network, cancer_network, grid, crop_foreground, window, precision, trust } = config;
        let params = json!({
            "organ_network": organ_network,
            "cancer_network": cancer_network,
            "grid": grid,
            "crop_foreground": crop_foreground,
            "window": window,
            "precision": precision,
            "trust": trust,
        });
        Ok(params)
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Teachers> {
        let device = nets::device(io.device)?;
        let load = |role: &str, network, classes: &[&str]| {
            let path = io.input(role)?.join("weights.safetensors");
            let (teacher, view) = Teacher::load(&path, network, classes, config, &device)?;
            anyhow::Ok((teacher, view, path))
        };
        let (organs, view, organs_path) = load("organ_teacher", config.organ_network.as_ref(), &CLASS_KEYS[..ORGAN_CLASSES])?;
        let (cancer, other, cancer_path) = load("cancer_teacher", config.cancer_network.as_ref(), &CANCER_KEYS)?;
        view.must_be(&other, &organs_path, &cancer_path)?;
        Ok(Teachers { organs, cancer, view })
    }

    fn work(config: &Config, io: &StageIo, teachers: &Teachers, Job { scan, opinion }: &Job) -> Result<()> {
        let View { grid, crop_foreground, window } = &teachers.view;
        let image = volume::Scan::open(&scan.image, grid)?;
        let header = image.header();
        let shown_scan = ShownScan::read(&image, *crop_foreground, &io.work)?;
        io.report.warn(&scan.image, image.doubt());
        let shown = Shown { scan: &shown_scan, window };
        let bytes = window.held_bytes(shown_scan.region.shape, ORGAN_CLASSES, config.trust.is_some());
        stage_kit::note_memory(io, &scan.id, inference::HELD, bytes, inference::LESS);
        let Some(trust) = &config.trust else {
            return scan.write(io, header, teachers.organs.label(&shown)?, || teachers.cancer.label(&shown));
        };
        let opinion = opinion.as_ref();
        let organs = trust.weigh(&teachers.organs, &shown, opinion.map(|opinion| opinion.organs.as_path()))?;
        let cancer = || trust.weigh(&teachers.cancer, &shown, opinion.map(|opinion| opinion.cancer.as_path()));
        scan.write_weighed(io, header, &trust.filter, organs, cancer)
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<()> {
        if config.trust.is_none() {
            return Ok(());
        }
        let verdicts = |Job { scan, .. }: &Job| Ok((scan.id.clone(), scan.read_verdicts(io)?));
        let cases: Vec<_> = jobs.iter().map(verdicts).collect::<Result<_>>()?;
        write_atomic_text(&io.output.join("trust.csv"), &labelling::table(&cases))
    }
}

/// A scan to label.
pub struct Job {
    scan: Scan,
    opinion: Option<Opinion>,
}

/// Both teachers.
pub struct Teachers {
    organs: Teacher,
    cancer: Teacher,
    view: View,
}
