//! Labels CT scans with a model of `train-partial`: all heads from one pass, made into organs and cancer by a declared rule.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use inference::SlidingWindow;
use labelling::Scan;
use labels::{CANCER_CLASSES, ORGAN_CLASSES, SubsetName};
use partial::{Clean, Rule, TrainedModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::{LabelVolume, ModelGrid, nifti};

/// The parameters of `label-partial`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to label. Not used when a folder of `images` is given.
    #[serde(default)]
    pub subsets: Vec<SubsetName>,
    /// The grid of the model's training.
    pub grid: ModelGrid,
    /// Whether the model is shown the foreground alone, as in its training.
    pub crop_foreground: bool,
    /// How windows are laid over a volume; DoDNet's patch is that of its training, and its overlap one half.
    pub window: SlidingWindow,
    /// Whether every window is also shown mirrored along each axis and each combination of them, eight times in all (DoDNet).
    pub flips: bool,
    /// How outputs become labels.
    pub rule: Rule,
    /// What is done to the labels in the end.
    #[serde(default)]
    pub clean: Clean,
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
        config.grid.check()?;
        Ok(config.window.check()?)
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
        let (image, header) = nifti::read_scalar(&scan.image)?;
        if let Some(doubt) = volume::Intensities::of(&image).doubt() {
            io.report.warn(&scan.image, &doubt);
        }
        let image = config.grid.prepare(image).with_context(|| format!("{}", scan.image.display()))?;
        let shown = config.grid.shown(&image, config.crop_foreground).with_context(|| format!("{}", scan.image.display()))?;
        let classes = [ORGAN_CLASSES, CANCER_CLASSES];
        let scores = |patch: &Tensor| labeller.scores(config, patch);
        let [mut organs, mut cancer] = inference::segment_heads(&shown.of(&image.data), &config.window, classes, &labeller.device, scores)?;
        config.clean.organs(&mut organs);
        config.clean.tumor(&mut cancer);
        let on_image = |data| {
            let data = shown.embed(&data, image.grid().shape);
            volume::resample_nearest(&LabelVolume { data, affine: image.affine }, &header.grid())
        };
        scan.write(io, &header, on_image(organs), || Ok(on_image(cancer)))
    }
}

/// A trained model.
pub struct Labeller {
    trained: TrainedModel,
    device: Device,
}

impl Labeller {
    fn load(config: &Config, io: &StageIo) -> Result<Self> {
        let device = nets::device(io.device)?;
        let trained = TrainedModel::load(&io.input("model")?.join("weights.safetensors"), &device)?;
        trained.config.method.check(config.window.patch).context("window")?;
        config.rule.check(&trained.model)?;
        Ok(Self { trained, device })
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
