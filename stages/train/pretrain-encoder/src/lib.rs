//! Trains the transformer of a UNETR or Swin UNETR on images alone (paper 2.3, Fig. 1b): most cubes of a patch are hidden,
//! and it learns to tell what they hold. UNETR's learns as a masked autoencoder, Swin UNETR's as in SimMIM (`nets::Masked`).
//!
//! What is hidden of a sample follows from the seed, its case and its place, so that a training that is killed and resumed ends
//! with the same weights as one that is not.

mod reconstructions;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use nets::{DecoderConfig, Hidden, Masked, Network, Params, TeacherConfig};
use random::{Streams, permutation};
use ranks::Sums;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ranks, Role, Stage, StageIo};
use training::{
    Augment, AugmentConfig, Batch, BatchSource, FitConfig, Normalisation, Run, Sample, Sampling, Select, Sources, Targets, Trainable,
    Trust, Validation,
};

/// The parameters of `pretrain-encoder`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases whose images are learnt from; the paper's are all, D.
    pub subset: String,
    /// The network whose transformer is trained: `unetr` or `swin_unetr`.
    pub network: TeacherConfig,
    /// Voxels of a patch along x, y, z; those of the later trainings. A UNETR hides cubes of 16³, a Swin UNETR of 32³.
    pub patch: [usize; 3],
    /// Random patches of each case in an epoch.
    pub patches_per_case: usize,
    /// The part of the cubes that is hidden.
    #[serde(default = "three_quarters")]
    pub hidden: f64,
    /// The decoder of a UNETR's pre-training.
    #[serde(default)]
    pub decoder: DecoderConfig,
    /// What windowed intensities are made of before the network sees them; the same as that of the teacher.
    #[serde(default, skip_serializing_if = "Normalisation::is_unit")]
    #[schemars(extend("default" = "unit"))]
    pub normalisation: Normalisation,
    /// Random changes of samples.
    pub augment: AugmentConfig,
    /// The training protocol; `select` must be `lowest_loss`, for there is no Dice score.
    pub fit: FitConfig,
    /// At most so many validation patches; `null` for as many of each validation case as in training.
    #[serde(default)]
    pub validation_patches: Option<u64>,
}

/// As He et al. hide.
fn three_quarters() -> f64 {
    0.75
}

/// The stage `pretrain-encoder`.
pub struct PretrainEncoder;

impl Stage for PretrainEncoder {
    const NAME: &'static str = "pretrain-encoder";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Trains the transformer of a UNETR or Swin UNETR to tell what hidden cubes of images hold";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: volume`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "the output of an earlier pre-training, whose encoder to start from instead of random weights"),
    ];
    const WRITES: &'static str = "weights.safetensors: the encoder alone, of the epoch with the lowest validation loss; reconstructions.png; \
         curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, Fig. 1b";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let masked = config.masked()?;
        let (cubes, hidden) = (masked.cubes(), config.hidden_of(masked.cubes()));
        ensure!(
            (0.0..1.0).contains(&config.hidden) && (1..cubes).contains(&hidden),
            "hidden: {} of the {cubes} cubes of {:?} voxels would hide {hidden}; some must be hidden and some must not",
            config.hidden,
            config.patch
        );
        ensure!(config.fit.select == Select::LowestLoss, "fit.select: must be lowest_loss; images without labels have no Dice score");
        config.augment()?;
        config.fit.check()
    }

    fn check_processes(config: &Config, processes: usize) -> Result<()> {
        config.fit.check_processes(processes)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let network = config.masked()?;
        let streams = Streams::new(io.seed);
        let params = config.fit.parameters(&network.parameters(), io)?;
        if let Some(init) = io.input_opt("init")? {
            params.load_part(&init.join("weights.safetensors"), Masked::is_of_encoder)?;
        }
        let targets = Targets { outputs: Vec::new(), trust: Trust::Unused };
        let sources =
            Sources::open(io, &config.subset, config.sampling(), targets, config.augment()?, &config.fit, config.validation_patches)?
                .normalised(config.normalisation, io)?;
        let pretraining =
            Pretraining { hidden: config.hidden_of(network.cubes()), network, params, streams, validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let Some(fitted) = training::fit(&config.fit, &pretraining, sources.training, &run)? else { return Ok(()) };
        reconstructions::draw(&pretraining, &io.output.join("reconstructions.png"))?;
        let metadata = BTreeMap::from([
            ("network".into(), serde_json::to_string(&config.network)?),
            ("part".into(), "encoder".into()),
            ("best_epoch".into(), fitted.best.epoch.to_string()),
            ("validation_loss".into(), fitted.best.score.to_string()),
        ]);
        Ok(pretraining.params.save_part(&io.output.join("weights.safetensors"), &metadata, Masked::is_of_encoder)?)
    }
}

impl Config {
    fn sampling(&self) -> Sampling {
        Sampling::Patches { per_case: self.patches_per_case, shape: self.patch }
    }

    fn augment(&self) -> Result<Augment> {
        self.augment.for_boxes(self.sampling(), self.normalisation).map_err(anyhow::Error::msg)
    }

    fn masked(&self) -> Result<Masked> {
        self.network.check(self.patch).map_err(anyhow::Error::msg)?;
        Masked::new(&self.network, self.patch, &self.decoder).map_err(anyhow::Error::msg)
    }

    /// How many of so many cubes are hidden.
    fn hidden_of(&self, cubes: usize) -> usize {
        (self.hidden * cubes as f64).round() as usize
    }
}

struct Pretraining {
    network: Masked,
    params: Params,
    streams: Streams,
    /// Hidden cubes of a patch.
    hidden: usize,
    validation: BatchSource,
}

impl Pretraining {
    /// The cubes to hide: those of a sample are always the same.
    fn hide(&self, samples: &[Sample]) -> candle_core::Result<Hidden> {
        let of_sample = |sample: &Sample| {
            let place = sample.start.map(|start| start as u64);
            let mut stream = self.streams.stream("hidden cubes", &[sample.case as u64, place[0], place[1], place[2], sample.number]);
            let mut flags = vec![false; self.network.cubes()];
            permutation(&mut stream, flags.len()).into_iter().take(self.hidden).for_each(|cube| flags[cube] = true);
            flags
        };
        Hidden::new(&samples.iter().map(of_sample).collect::<Vec<_>>())
    }

    /// The batches of the validation.
    fn validation_batches(&self) -> impl Iterator<Item = Result<Batch>> {
        let sampler = self.validation.sampler();
        let epoch = sampler.epoch(0);
        let device = self.params.device();
        (0..sampler.steps_per_epoch()).map(move |step| Ok(self.validation.assemble(&epoch, 0, step)?.into_tensors(&device)?))
    }
}

/// Those of a validation, summed over its samples.
struct Losses {
    sum: f64,
    samples: f64,
}

impl Sums for Losses {
    fn sums(&mut self) -> Vec<&mut f64> {
        vec![&mut self.sum, &mut self.samples]
    }
}

impl Trainable for Pretraining {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.network.loss(&self.params, &batch.image, &self.hide(&batch.samples)?)?)
    }

    fn validate(&self, ranks: &Ranks) -> Result<Validation> {
        let mut losses = Losses { sum: 0.0, samples: 0.0 };
        let look = |batch: &Batch| Ok(self.loss(batch)?.detach().to_scalar::<f32>()?);
        training::over_batches(&self.validation, &self.params.device(), ranks, &mut losses, look, |losses, batch, loss| {
            losses.sum += f64::from(loss) * batch.len() as f64;
            losses.samples += batch.len() as f64;
            Ok(())
        })?;
        Ok(Validation { loss: losses.sum / losses.samples, dice: f64::NAN, details: Vec::new() })
    }
}
