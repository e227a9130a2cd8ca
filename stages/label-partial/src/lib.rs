//! Labels CT scans with a model of `train-partial`: all heads from one pass, made into organs and cancer by a declared rule.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use inference::{ShownScan, View, ViewParams, WindowParams};
use labelling::{Found, Scan};
use labels::{CANCER_CLASSES, ORGAN_CLASSES, SubsetName};
use partial::{Clean, Rule, TrainedModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Aside, ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::ModelGrid;

/// The parameters of `label-partial`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to label. Not used when a folder of `images` is given.
    #[serde(default)]
    pub subsets: Vec<SubsetName>,
    /// The grid, by default that of the model's training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<ModelGrid>,
    /// Whether the model is shown the foreground alone, by default as in its training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_foreground: Option<bool>,
    /// How windows are laid over a volume, by default those of the training's patches, which share a half, as in DoDNet.
    #[serde(default)]
    pub window: WindowParams,
    /// Whether every window is also shown mirrored along each axis and each combination of them, eight times in all (DoDNet).
    pub flips: bool,
    /// How outputs become labels.
    pub rule: Rule,
    /// What is done to the labels in the end.
    #[serde(default)]
    pub clean: Clean,
}

impl Config {
    fn view(&self) -> ViewParams {
        ViewParams { grid: self.grid, crop_foreground: self.crop_foreground, window: self.window }
    }
}

/// The stage `label-partial`.
pub struct LabelPartial;

impl Stage for LabelPartial {
    const NAME: &'static str = "label-partial";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Labels organs and cancer with a model that was trained on partial labels; true labels win";
    const READS: &'static [Role] = &[
        Role::required("model", "a folder with weights.safetensors, as train-partial writes it"),
        labelling::ROLES[0],
        labelling::ROLES[1],
        labelling::ROLES[2],
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the grid of the image";
    const PAPER: &'static str = "none: DoDNet (CVPR 2021), MultiTalent (MICCAI 2023), and their baselines";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        Ok(config.view().check()?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for LabelPartial {
    type Job = Scan;
    type Tools = Labeller;

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Scan>> {
        labelling::scans(&config.subsets, io)
    }

    fn aside(_: &Config, io: &StageIo) -> Result<Aside> {
        labelling::aside(io)
    }

    fn case(_: &Config, scan: &Scan) -> CaseSpec {
        scan.spec()
    }

    /// Which subsets are labelled changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let Config { subsets: _, grid, crop_foreground, window, flips, rule, clean } = config;
        Ok(json!({
            "grid": grid,
            "crop_foreground": crop_foreground,
            "window": window,
            "flips": flips,
            "rule": rule,
            "clean": clean,
        }))
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Labeller> {
        Labeller::load(config, io)
    }

    fn work(config: &Config, io: &StageIo, labeller: &Labeller, scan: &Scan) -> Result<()> {
        let View { grid, crop_foreground, window } = &labeller.view;
        let image = volume::Scan::open(&scan.image, grid)?;
        let shown = ShownScan::read(&image, *crop_foreground, &io.work)?;
        io.report.warn(&scan.image, image.doubt());
        let classes = [ORGAN_CLASSES, CANCER_CLASSES];
        let bytes = window.held_bytes(shown.region.shape, ORGAN_CLASSES + CANCER_CLASSES, false);
        stage_kit::note_memory(io, &scan.id, inference::HELD, bytes, inference::LESS);
        let scores = |patch: &Tensor| labeller.scores(config, patch);
        let [mut organs, mut cancer] = inference::segment_heads(&shown, window, classes, &labeller.device, scores)?;
        config.clean.organs(&mut organs);
        config.clean.tumor(&mut cancer);
        let found = |labels| Found::inside(labels, shown.region, shown.grid, 0);
        scan.write(io, image.header(), found(organs), || Ok(found(cancer)))
    }
}

/// A trained model.
pub struct Labeller {
    trained: TrainedModel,
    view: View,
    device: Device,
}

impl Labeller {
    fn load(config: &Config, io: &StageIo) -> Result<Self> {
        let device = nets::device(io.device)?;
        let path = io.input("model")?.join("weights.safetensors");
        let trained = TrainedModel::load(&path, &device)?;
        let (_, view) = config.view().resolve(None, Some(&trained.card), &path)?;
        trained.config.method.check(view.window.patch).context("window")?;
        config.rule.check(&trained.model)?;
        Ok(Self { trained, view, device })
    }

    /// The scores of a window, the mean over its mirror images.
    fn scores(&self, config: &Config, patch: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let TrainedModel { model, params, .. } = &self.trained;
        let all = [(0..model.heads().len()).collect()];
        let mut sum: Option<[Tensor; 2]> = None;
        let flips = if config.flips { 8 } else { 1 };
        for flip in 0..flips {
            let axes: Vec<usize> = (0..3).filter(|axis| flip >> axis & 1 == 1).collect();
            let outputs = model.forward(params, &mirrored(patch, &axes, 2)?, &all, false)?;
            let scores = config.rule.scores(model, &outputs)?;
            let [organs, tumor] = [mirrored(&scores[0], &axes, 1)?, mirrored(&scores[1], &axes, 1)?];
            sum = Some(match sum {
                None => [organs, tumor],
                Some([all_organs, all_tumor]) => [(all_organs + organs)?, (all_tumor + tumor)?],
            });
        }
        // What is the greatest mean is the greatest sum.
        sum.ok_or_else(|| candle_core::Error::Msg("no mirror image".into()))
    }
}

/// `x` mirrored along some of its three spatial axes, of which `first` is the first.
fn mirrored(x: &Tensor, axes: &[usize], first: usize) -> candle_core::Result<Tensor> {
    let mut x = x.clone();
    for axis in axes.iter().map(|axis| axis + first) {
        let length = x.dim(axis)? as u32;
        x = x.index_select(&Tensor::from_iter((0..length).rev(), x.device())?, axis)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_gives_back_what_was_there() {
        let x = Tensor::arange(0f32, 120.0, &Device::Cpu).unwrap().reshape((1, 2, 3, 4, 5)).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let once = mirrored(&x, &[0, 2], 2).unwrap();
        assert_eq!(values(&once)[..5], [44.0, 43.0, 42.0, 41.0, 40.0]);
        assert_eq!(values(&mirrored(&once, &[0, 2], 2).unwrap()), values(&x));
    }
}
