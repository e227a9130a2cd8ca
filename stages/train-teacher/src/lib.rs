//! Trains a 3-D teacher (paper 2.3, 3.2 and Table 2): M_c on D_c, M_o1 on D_o5, M_o2 on D_o13.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;
use labels::{CANCER_CLASSES, CLASS_KEYS, ORGAN_CLASSES, SubsetName};
use nets::{Network, Params, UNet3d, UNet3dConfig};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use streams::Streams;
use training::{AugmentConfig, Batch, BatchSource, FitConfig, FreezePlan, Run, Sampling, Sources, Tally, Targets, Trainable, Validation};

/// What a teacher learns to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Background and the 13 organs.
    Organs,
    /// Background and cancer.
    Cancer,
}

impl Target {
    fn class_names(self) -> &'static [&'static str] {
        match self {
            Self::Organs => &CLASS_KEYS[..ORGAN_CLASSES],
            Self::Cancer => &["background", "tumor"],
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Organs => ORGAN_CLASSES,
            Self::Cancer => CANCER_CLASSES,
        }
    }
}

/// The parameters of `train-teacher`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases to train on: D_c, D_o5 or D_o13.
    pub subset: SubsetName,
    /// What to learn.
    pub target: Target,
    /// The size of the network.
    pub network: UNet3dConfig,
    /// Voxels of a patch along x, y, z; the paper's are 128³.
    pub patch: [usize; 3],
    /// Random patches of each case in an epoch; the paper's are 2.
    pub patches_per_case: usize,
    /// Random changes of the intensities.
    pub augment: AugmentConfig,
    /// The training protocol.
    pub fit: FitConfig,
    /// The parameters that move; all of them in the paper.
    #[serde(default = "FreezePlan::all_live")]
    pub live: FreezePlan,
    /// At most so many validation patches; `null` for two of each validation case.
    #[serde(default)]
    pub validation_patches: Option<u64>,
}

/// The stage `train-teacher`.
pub struct TrainTeacher;

impl Stage for TrainTeacher {
    const NAME: &'static str = "train-teacher";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Trains a 3-D U-Net on the cases of one subset";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: volume`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "a folder with weights.safetensors to start from instead of random weights"),
    ];
    const WRITES: &'static str =
        "weights.safetensors of the epoch with the lowest validation loss; curve.csv, curves.svg, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, 3.2, Table 2";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        anyhow::ensure!(
            config.patch.iter().all(|&side| side >= 16),
            "patch: {:?}: every side must be at least 16 voxels, because the network halves it four times",
            config.patch
        );
        config.augment.check().map_err(anyhow::Error::msg)?;
        config.fit.check()
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let network = UNet3d::new(&config.network, config.target.classes());
        let mut params = Params::init(&network.parameters(), Streams::new(io.seed), &nets::device(io.device)?)?;
        if let Some(init) = io.input_opt("init")? {
            params.load(&init.join("weights.safetensors"))?;
        }
        config.live.apply(&mut params)?;
        let sampling = Sampling::Patches { per_case: config.patches_per_case, shape: config.patch };
        let targets = Targets { organs: config.target == Target::Organs, cancer: config.target == Target::Cancer };
        let sources = Sources::open(io, config.subset, sampling, targets, config.augment, &config.fit, config.validation_patches)?;
        let teacher = Teacher { network, params, target: config.target, loss: config.fit.loss(), validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let fitted = training::fit(&config.fit, &teacher, sources.training, &run)?;
        let metadata = BTreeMap::from([
            ("network".into(), serde_json::to_string(&config.network)?),
            ("classes".into(), serde_json::to_string(config.target.class_names())?),
            ("best_epoch".into(), fitted.best.epoch.to_string()),
            ("validation_loss".into(), fitted.best.score.to_string()),
        ]);
        Ok(teacher.params.save(&io.output.join("weights.safetensors"), &metadata)?)
    }
}

struct Teacher {
    network: UNet3d,
    params: Params,
    target: Target,
    loss: DiceCe,
    validation: BatchSource,
}

impl Teacher {
    /// Logits and target of a batch.
    fn forward<'b>(&self, batch: &'b Batch) -> Result<(Tensor, &'b Tensor)> {
        let target = match self.target {
            Target::Organs => batch.organs()?,
            Target::Cancer => batch.cancer()?,
        };
        Ok((self.network.forward(&self.params, &batch.image)?, target))
    }
}

impl Trainable for Teacher {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let (logits, target) = self.forward(batch)?;
        Ok(self.loss.loss(&logits, target)?)
    }

    fn validate(&self) -> Result<Validation> {
        let tally = Tally::new(self.target.class_names(), true);
        training::validate(&self.validation, &self.params.device(), vec![tally], |batch| {
            let (logits, target) = self.forward(batch)?;
            Ok(vec![(logits, target.clone())])
        })
    }
}
