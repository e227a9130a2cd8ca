//! Trains a 3-D teacher (paper 2.3, 3.2 and Table 2): M_c on D_c, M_o1 on D_o5, M_o2 on D_o13. A transformer teacher begins
//! with an encoder that `pretrain-encoder` made and `live` leaves frozen, and goes from M_o1 to M_o2.

use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use labels::{CANCER_CLASSES, CANCER_KEYS, CLASS_KEYS, FIVE_ORGANS, ORGAN_CLASSES, SubsetName};
use model_card::Kind;
use nets::{Network, Params, Teacher, TeacherConfig};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use training::{
    AugmentConfig, Batch, BatchSource, FitConfig, FreezePlan, Run, Sampling, Sources, Tally, Targets, Trainable, Trust, Truth, Validation,
};

/// What a teacher learns to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Background and the 13 organs.
    Organs,
    /// Background and the five organs that D_o5 has in all its cases; M_o1 of the transformers learns them first.
    FiveOrgans,
    /// Background and cancer.
    Cancer,
}

impl Target {
    fn class_names(self) -> Vec<&'static str> {
        match self {
            Self::Organs => CLASS_KEYS[..ORGAN_CLASSES].to_vec(),
            Self::FiveOrgans => [0].iter().chain(&FIVE_ORGANS).map(|&label| CLASS_KEYS[usize::from(label)]).collect(),
            Self::Cancer => CANCER_KEYS.to_vec(),
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Organs => ORGAN_CLASSES,
            Self::FiveOrgans => 1 + FIVE_ORGANS.len(),
            Self::Cancer => CANCER_CLASSES,
        }
    }

    /// The classes of a batch.
    fn of(self, batch: &Batch) -> Result<Truth> {
        Ok(match self {
            Self::Organs => batch.organ_truth()?,
            Self::FiveOrgans => Truth { labels: five_organs(batch.organs()?)?, ..batch.organ_truth()? },
            Self::Cancer => batch.cancer_truth()?,
        })
    }
}

/// Organs as numbers of the five, others as background: where they are not annotated they are background already.
fn five_organs(organs: &Tensor) -> Result<Tensor> {
    let mut classes = vec![0u8; ORGAN_CLASSES];
    for (class, &label) in (1..).zip(&FIVE_ORGANS) {
        classes[usize::from(label)] = class;
    }
    let classes = Tensor::from_vec(classes, ORGAN_CLASSES, &Device::Cpu)?.to_device(organs.device())?;
    Ok(classes.index_select(&organs.flatten_all()?, 0)?.reshape(organs.shape())?)
}

/// The parameters of `train-teacher`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases to train on: D_c, D_o5 or D_o13.
    pub subset: SubsetName,
    /// What to learn.
    pub target: Target,
    /// The kind and the size of the network.
    pub network: TeacherConfig,
    /// Voxels of a patch along x, y, z; the paper's are 128³. A UNETR takes its `img_size` alone, a Swin UNETR multiples of 32.
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
    /// The parameters that are taken from `init`, all of them unless said otherwise; the others start at random. A pre-trained
    /// encoder has those of `vit.*` or `swinViT.*`, and M_o1 has no head for 13 organs.
    #[serde(default = "FreezePlan::all_live", skip_serializing_if = "FreezePlan::is_all_live")]
    pub take: FreezePlan,
    /// What is made of the trust that `pseudo-label` has put into labels, for a teacher of the next round.
    #[serde(default, skip_serializing_if = "Trust::is_unused")]
    pub trust: Trust,
    /// At most so many validation patches; `null` for two of each validation case.
    #[serde(default)]
    pub validation_patches: Option<u64>,
}

/// The stage `train-teacher`.
pub struct TrainTeacher;

impl Stage for TrainTeacher {
    const NAME: &'static str = "train-teacher";
    const REVISION: u32 = 5;
    const ABOUT: &'static str = "Trains a 3-D teacher (U-Net, UNETR or Swin UNETR) on the cases of one subset";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: volume`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "a folder with weights.safetensors to start from instead of random weights: of a teacher or of an encoder"),
    ];
    const WRITES: &'static str =
        "weights.safetensors of the epoch with the lowest validation loss; curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, 3.2, Fig. 1b, Table 2";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.network.check(config.patch).map_err(anyhow::Error::msg)?;
        config.augment.check().map_err(anyhow::Error::msg)?;
        config.fit.check()
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let network = Teacher::new(&config.network, config.target.classes());
        let mut params = config.fit.parameters(&network.parameters(), io)?;
        if let Some(init) = io.input_opt("init")? {
            take(&params, &config.take, init, io)?;
        }
        config.live.apply(&mut params)?;
        let sampling = Sampling::Patches { per_case: config.patches_per_case, shape: config.patch };
        let cancer = config.target == Target::Cancer;
        let targets = Targets { organs: !cancer, cancer, trust: config.trust };
        let sources = Sources::open(io, config.subset, sampling, targets, config.augment, &config.fit, config.validation_patches)?;
        let input = sources.training.model_input();
        let teacher = Training { network, params, target: config.target, loss: config.fit.loss(), validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let fitted = training::fit(&config.fit, &teacher, sources.training, &run)?;
        let network = serde_json::to_value(&config.network)?;
        let card = fitted.card(Kind::Teacher, network, &config.target.class_names(), input, config.subset.to_string(), io.seed);
        Ok(teacher.params.save(&io.output.join("weights.safetensors"), &card.to_metadata()?)?)
    }
}

/// Starts from the weights in the folder `init`, those that `plan` names.
fn take(params: &Params, plan: &FreezePlan, init: &Path, io: &StageIo) -> Result<()> {
    let path = init.join("weights.safetensors");
    if plan.is_all_live() {
        return Ok(params.load(&path)?);
    }
    let wanted = plan.select(params.names())?;
    let taken = params.load_part(&path, |name| wanted.contains(name))?;
    io.report.note(&format!(
        "{}: {} parameters come from {}, {} start at random; {} of the file are not used",
        io.node,
        taken.taken,
        path.display(),
        taken.fresh,
        taken.unused
    ));
    Ok(())
}

struct Training {
    network: Teacher,
    params: Params,
    target: Target,
    loss: DiceCe,
    validation: BatchSource,
}

impl Training {
    /// Logits and truth of a batch.
    fn forward(&self, batch: &Batch) -> Result<(Tensor, Truth)> {
        Ok((self.network.forward(&self.params, &batch.image)?, self.target.of(batch)?))
    }
}

impl Trainable for Training {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let (logits, truth) = self.forward(batch)?;
        Ok(self.loss.loss(&logits, truth.target())?)
    }

    fn validate(&self) -> Result<Validation> {
        let tally = Tally::new(&self.target.class_names(), true);
        training::validate(&self.validation, &self.params.device(), vec![tally], |batch| Ok(vec![self.forward(batch)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_organs_are_numbered_and_the_others_background() {
        let organs = Tensor::from_vec((0..14u8).collect(), (1, 7, 2, 1), &Device::Cpu).unwrap();
        let found = five_organs(&organs).unwrap();
        assert_eq!(found.dims(), organs.dims());
        assert_eq!(found.flatten_all().unwrap().to_vec1::<u8>().unwrap(), [0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(Target::FiveOrgans.class_names(), ["background", "liver", "right_kidney", "spleen", "pancreas", "left_kidney"]);
    }
}
