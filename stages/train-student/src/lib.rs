//! Trains the dual-decoding student, one step of the four (paper 2.3, 3.2 and Table 3).

use anyhow::{Result, ensure};
use candle_core::Tensor;
use labels::{CANCER_KEYS, CLASS_KEYS, ORGAN_CLASSES, SubsetName};
use model_card::Kind;
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use training::{
    AugmentConfig, Batch, BatchSource, FitConfig, FreezePlan, Run, Sampling, Sources, Tally, Targets, Trainable, Trust, Truth, Validation,
};

/// A decoder whose loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// The organ decoder.
    Organs,
    /// The cancer decoder.
    Cancer,
}

/// The parameters of `train-student`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases to train on: D_u, D_l3, D_l1 and D_l4 in the paper's steps.
    pub subset: SubsetName,
    /// The decoders whose losses are summed: both in steps 1 and 2, one in steps 3 and 4.
    pub targets: Vec<Decoder>,
    /// The parameters that move: `*` in steps 1 and 2, `organ_decoder.*` in step 3, `cancer_decoder.*` in step 4.
    pub live: FreezePlan,
    /// The size of the network.
    pub network: DualUNet2dConfig,
    /// Pixels of a crop along x, y; the paper's are 224².
    pub crop: [usize; 2],
    /// Random changes of the intensities.
    pub augment: AugmentConfig,
    /// The training protocol.
    pub fit: FitConfig,
    /// What is made of the trust that `pseudo-label` has put into labels; `unused` in the paper, which takes all labels alike.
    #[serde(default, skip_serializing_if = "Trust::is_unused")]
    pub trust: Trust,
    /// At most so many validation slices; `null` for all.
    #[serde(default)]
    pub validation_slices: Option<u64>,
}

/// The stage `train-student`.
pub struct TrainStudent;

impl Stage for TrainStudent {
    const NAME: &'static str = "train-student";
    const REVISION: u32 = 5;
    const ABOUT: &'static str = "Trains one step of the dual-decoding 2-D U-Net, parts of it frozen";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: slices`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "the output of the step before; random weights without it"),
    ];
    const WRITES: &'static str =
        "weights.safetensors of the epoch with the best validation Dice; curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, 3.2, Table 3";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.network.check().map_err(|reason| anyhow::anyhow!("network.{reason}"))?;
        ensure!(
            config.crop.iter().all(|&side| side >= 16),
            "crop: {:?}: every side must be at least 16 pixels, because the network halves it four times",
            config.crop
        );
        ensure!(!config.targets.is_empty(), "targets: name `organs`, `cancer` or both; without a target there is no loss");
        config.augment.check().map_err(anyhow::Error::msg)?;
        config.fit.check()
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let network = DualUNet2d::new(&config.network);
        let mut params = config.fit.parameters(&network.parameters(), io)?;
        if let Some(init) = io.input_opt("init")? {
            params.load(&init.join("weights.safetensors"))?;
        }
        config.live.apply(&mut params)?;
        let sampling = Sampling::Slices { shape: config.crop };
        let [organs, cancer] = [Decoder::Organs, Decoder::Cancer].map(|decoder| config.targets.contains(&decoder));
        let targets = Targets { organs, cancer, trust: config.trust };
        let sources = Sources::open(io, config.subset, sampling, targets, config.augment, &config.fit, config.validation_slices)?;
        let input = sources.training.model_input();
        let student = Student { network, params, targets: config.targets.clone(), loss: config.fit.loss(), validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let fitted = training::fit(&config.fit, &student, sources.training, &run)?;
        let network = serde_json::to_value(&config.network)?;
        let card = fitted.card(Kind::Student, network, &CLASS_KEYS, input, config.subset.to_string(), io.seed);
        Ok(student.params.save(&io.output.join("weights.safetensors"), &card.to_metadata()?)?)
    }
}

struct Student {
    network: DualUNet2d,
    params: Params,
    targets: Vec<Decoder>,
    loss: DiceCe,
    validation: BatchSource,
}

impl Student {
    /// Logits and truth of each decoder whose loss counts.
    fn forward(&self, batch: &Batch) -> Result<Vec<(Tensor, Truth)>> {
        let features = self.network.features(&self.params, &batch.image)?;
        let decode = |decoder: &Decoder| -> Result<(Tensor, Truth)> {
            Ok(match decoder {
                Decoder::Organs => (self.network.organs(&self.params, &features)?, batch.organ_truth()?),
                Decoder::Cancer => (self.network.cancer(&self.params, &features)?, batch.cancer_truth()?),
            })
        };
        self.targets.iter().map(decode).collect()
    }
}

impl Trainable for Student {
    fn params(&self) -> &Params {
        &self.params
    }

    /// The sum over the decoders, as in the paper's joint steps.
    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (logits, truth) in self.forward(batch)? {
            let loss = self.loss.loss(&logits, truth.target())?;
            sum = Some(match sum {
                None => loss,
                Some(sum) => (sum + loss)?,
            });
        }
        sum.ok_or_else(|| anyhow::anyhow!("there is no target"))
    }

    fn validate(&self) -> Result<Validation> {
        let tally = |decoder: &Decoder| match decoder {
            Decoder::Organs => Tally::new(&CLASS_KEYS[..ORGAN_CLASSES], false),
            Decoder::Cancer => Tally::new(&CANCER_KEYS, false),
        };
        let tallies = self.targets.iter().map(tally).collect();
        training::validate(&self.validation, &self.params.device(), tallies, |batch| self.forward(batch))
    }
}
