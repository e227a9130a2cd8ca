//! Lets trained models label what nobody labelled (paper 2.3, Fig. 1c): D_u and D_l3 become D_u' and D_l3'.
//!
//! The paper's text names M_c and M_o1 as the teachers and the caption of its Fig. 1 M_c and M_o2; only M_o2 knows the
//! organs that are asked of it (the 3-D U-Net skips the training of M_o1), so M_o2 it is.

mod ahead;
mod found;
mod teachers;
mod trust;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use inference::{ViewParams, WindowParams};
use labels::Classes;
use model_card::KeepParts;
use nets::{Precision, TeacherConfig};
use partial::Rule;
use pseudo_labels::Scan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, LeftOut, Look, Role, Stage, StageIo, write_atomic_text};
use volume::ModelGrid;

use crate::found::Session;
use crate::teachers::Teachers;
use crate::trust::Opinion;
pub use crate::trust::{LabelsFrom, LookParams, TrustConfig};

/// The parameters of `pseudo-label`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to label; the paper's are D_u and D_l3. Not used when a folder of `images` is given.
    #[serde(default)]
    pub subsets: Vec<String>,
    /// Whether only the validation cases of the subsets are labelled, by the models alone, as if nobody had labelled them; their own label
    /// maps are written beside, as `truth/CASE.nii.gz`, for the scores.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
    /// The classes, which must be those of the teachers; needed for weights that do not say them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// By the names of teachers: the kind and the size of 3-D networks whose weights do not say it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, TeacherConfig>,
    /// The grid of 3-D teachers, by default that of their training; the paper's is 1 mm and [−200, 300] HU.
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
    /// Whether every window is also shown mirrored along each axis and each combination of them, eight times in all (DoDNet); in mirror
    /// images from left to right, left and right classes are exchanged. For models that were trained on mirror images.
    #[serde(default)]
    pub flips: bool,
    /// How the outputs of a model of `train-partial` become labels.
    #[serde(default)]
    pub rule: Rule,
    /// Which connected parts of classes are kept, by class or group, besides what the models say: `largest`, `{voxels: 51}` (DoDNet, of
    /// tumors) and so on. All in the paper.
    #[serde(default, skip_serializing_if = "KeepParts::is_empty")]
    pub keep_parts: KeepParts,
    /// How far each label can be trusted, written beside the labels and a table; off in the paper, which takes all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustConfig>,
}

impl Config {
    pub(crate) fn view(&self) -> ViewParams {
        ViewParams { grid: self.grid, crop_foreground: self.crop_foreground, window: self.window }
    }
}

/// The least side of a window.
const LEAST_SIDE: usize = 16;

/// The stage `pseudo-label`.
pub struct PseudoLabel;

impl Stage for PseudoLabel {
    const NAME: &'static str = "pseudo-label";
    const REVISION: u32 = 10;
    const ABOUT: &'static str = "Lets trained models write labels where nobody labelled; true labels win";
    const READS: &'static [Role] = &[
        Role::many(
            "teachers",
            "folders with weights.safetensors of models that together find every group of classes, such as M_o2 and M_c",
        ),
        pseudo_labels::ROLES[0],
        pseudo_labels::ROLES[1],
        pseudo_labels::ROLES[2],
        Role::optional("opinion", "with `trust`: labels of the same scans by others, GROUP/CASE.nii.gz").by_case(),
    ];
    const WRITES: &'static str = "GROUP/CASE.nii.gz for each group of classes, on the grid of the image; with `trust` also \
         GROUP_trust/CASE.nii.gz (0-255), and trust.csv: what was kept of each class and why not; with `held_out` truth/CASE.nii.gz";
    const PAPER: &'static str = "2.3; DoDNet (CVPR 2021), MultiTalent (MICCAI 2023) and others by models of train-partial";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.view().check()?;
        if let Some(patch) = config.window.patch {
            config.networks.values().try_for_each(|network| network.check(patch)).map_err(anyhow::Error::msg)?;
        }
        anyhow::ensure!(!(config.held_out && config.trust.is_some()), "held_out: labels that are scored need no `trust`; leave it out");
        if let (Some(classes), Some(trust)) = (&config.classes, &config.trust) {
            trust.filter.check_classes(classes).context("trust.filter")?;
        }
        // What looks depend on of a window is its overlap.
        config.trust.as_ref().map_or(Ok(()), |trust| trust.check(&config.window.of([LEAST_SIDE; 3])))
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, _: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, chore, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for PseudoLabel {
    type Job = Job;
    type Tools = Teachers;

    fn look(config: &Config, io: &StageIo) -> Result<Look<Job>> {
        Ok(Look::of(jobs(config, io)).beside(pseudo_labels::aside(io)?))
    }

    fn case(config: &Config, Job { scan, classes, opinion }: &Job) -> CaseSpec {
        let spec = if config.trust.is_some() { scan.weighed_spec(classes) } else { scan.spec(classes) };
        let maps = opinion.iter().flat_map(|opinion| &opinion.maps).zip(classes.groups());
        maps.fold(spec, |spec, (path, group)| spec.reads(&format!("opinion_{}", group.key()), path))
    }

    /// Which subsets are labelled changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let mut params = serde_json::to_value(config)?;
        params.as_object_mut().map(|params| params.shift_remove("subsets"));
        Ok(params)
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Teachers> {
        Teachers::load(config, io)
    }

    fn work(config: &Config, io: &StageIo, teachers: &Teachers, Job { scan, classes, opinion }: &Job) -> Result<()> {
        let mut session = Session::new(teachers, config, io, scan)?;
        let header = session.header();
        let Some(trust) = &config.trust else {
            return scan.write(io, &header, classes, |group| session.find(group));
        };
        scan.write_weighed(io, &header, classes, &trust.filter, |group| session.weigh(group, trust, opinion.as_ref()))
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<Vec<LeftOut>> {
        if config.trust.is_none() {
            return Ok(Vec::new());
        }
        let verdicts = |Job { scan, .. }: &Job| Ok((scan.id.clone(), scan.read_verdicts(io)?));
        let cases: Vec<_> = jobs.iter().map(verdicts).collect::<Result<_>>()?;
        write_atomic_text(&io.output.join("trust.csv"), &pseudo_labels::table(&cases))?;
        Ok(Vec::new())
    }
}

/// All scans to label.
fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Job>> {
    let classes = teachers::classes(config, io)?;
    let opinions = trust::opinions(config.trust.as_ref(), io)?;
    let job = |scan: Scan| Job { opinion: opinions.map(|folder| Opinion::on(&scan.id, folder, &classes)), classes: classes.clone(), scan };
    Ok(pseudo_labels::scans(&config.subsets, config.held_out, io)?.into_iter().map(job).collect())
}

/// A scan to label.
pub struct Job {
    scan: Scan,
    classes: Classes,
    opinion: Option<Opinion>,
}
