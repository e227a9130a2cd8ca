//! Trains a 3-D teacher (paper 2.3, 3.2 and Table 2): M_c on D_c, M_o1 on D_o5, M_o2 on D_o13. A transformer teacher begins
//! with an encoder that `pretrain-encoder` made and `live` leaves frozen, and goes from M_o1 to M_o2.

mod ahead;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::Tensor;
use dataset::Manifest;
use labels::Classes;
use model_card::{Kind, Output};
use nets::{Learning, Network, Params, Teacher, TeacherConfig};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ahead, Chore, Cost, Forecast, Ranks, Role, Stage, StageIo};
use training::{
    Augment, AugmentConfig, Batch, BatchSource, FitConfig, FreezePlan, Normalisation, Run, Sampling, Sources, Tally, Targets, Trainable,
    Trust, Truth, Validation,
};

/// What a teacher learns to see, beside background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Target {
    /// The classes of a group, such as `organ`.
    Group(String),
    /// Some classes of one group, such as the five organs that D_o5 has in all its cases; M_o1 of the transformers learns them first.
    Classes(Vec<String>),
}

impl Target {
    /// What the network's output stands for.
    fn output(&self, classes: &Classes) -> Result<Output> {
        match self {
            Self::Group(group) => Ok(Output::of_group(classes, classes.group(group).context("target")?)),
            Self::Classes(keys) => {
                ensure!(!keys.is_empty(), "target: names no class; name a group such as `organ`, or some classes of one");
                let pattern = classes.pattern_of(keys).context("target")?;
                let groups: Vec<_> = classes.groups().iter().filter(|group| group.pattern().meets(pattern)).collect();
                let [group] = groups[..] else {
                    let names: Vec<&str> = groups.iter().map(|group| group.key()).collect();
                    bail!(
                        "target: its classes are of the groups {}, and a teacher learns those of one group; train one for each",
                        names.join(", ")
                    );
                };
                Ok(Output { group: group.key().to_owned(), values: pattern.iter().collect(), decoder: None })
            }
        }
    }
}

/// The parameters of `train-teacher`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases to train on, such as the paper's D_c, D_o5 or D_o13.
    pub subset: String,
    /// What to learn: a group such as `organ`, or a list of classes.
    pub target: Target,
    /// The kind and the size of the network.
    pub network: TeacherConfig,
    /// Voxels of a patch along x, y, z; the paper's are 128³. A UNETR takes its `img_size` alone, a Swin UNETR multiples of 32.
    pub patch: [usize; 3],
    /// Random patches of each case in an epoch; the paper's are 2.
    pub patches_per_case: usize,
    /// What windowed intensities are made of before the network sees them.
    #[serde(default, skip_serializing_if = "Normalisation::is_unit")]
    #[schemars(extend("default" = "unit"))]
    pub normalisation: Normalisation,
    /// Random changes of samples.
    pub augment: AugmentConfig,
    /// The training protocol.
    pub fit: FitConfig,
    /// The parameters that move; all of them in the paper.
    #[serde(default = "FreezePlan::all_live")]
    pub live: FreezePlan,
    /// The parameters that are taken from `init`, all of them unless said otherwise; the others start at random. A pre-trained
    /// encoder has those of `vit.*` or `swinViT.*`, and M_o1 has no head for 13 organs.
    #[serde(default = "FreezePlan::all_live", skip_serializing_if = "FreezePlan::is_all_live")]
    #[schemars(extend("default" = ["*"]))]
    pub take: FreezePlan,
    /// What is made of the trust that `pseudo-label` has put into labels, for a teacher of the next round.
    #[serde(default, skip_serializing_if = "Trust::is_unused")]
    #[schemars(extend("default" = "unused"))]
    pub trust: Trust,
    /// At most so many validation patches; `null` for two of each validation case.
    #[serde(default)]
    pub validation_patches: Option<u64>,
}

/// The stage `train-teacher`.
pub struct TrainTeacher;

impl Stage for TrainTeacher {
    const NAME: &'static str = "train-teacher";
    const REVISION: u32 = 9;
    const ABOUT: &'static str = "Trains a 3-D teacher (U-Net, UNETR or Swin UNETR) on the cases of one subset";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: volume`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "a folder with weights.safetensors to start from instead of random weights: of a teacher or of an encoder"),
    ];
    const WRITES: &'static str =
        "weights.safetensors of the epoch with the lowest validation loss; curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, 3.2, Fig. 1b, Table 2";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.network.check(config.patch).map_err(anyhow::Error::msg)?;
        config.augment()?;
        config.fit.check()
    }

    fn check_processes(config: &Config, processes: usize) -> Result<()> {
        config.fit.check_processes(processes)
    }

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, ahead, chore, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let classes = Manifest::load(io.input("partition")?)?.classes;
        let output = config.target.output(&classes)?;
        let network = Teacher::new(&config.network, output.channels());
        let mut params = config.fit.parameters(&network.parameters(), io)?;
        if let Some(init) = io.input_opt("init")? {
            take(&params, &config.take, init, io)?;
        }
        config.live.apply(&mut params)?;
        let targets = Targets { outputs: vec![output.clone()], trust: config.trust };
        let sources =
            Sources::open(io, &config.subset, config.sampling(), targets, config.augment()?, &config.fit, config.validation_patches)?
                .normalised(config.normalisation, io)?;
        let input = sources.training.model_input();
        let names = output.keys(&classes);
        let (weights, loss) = (Learning::new(params), config.fit.loss());
        let teacher = Training { network, weights, names, loss, validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let Some(fitted) = training::fit(&config.fit, &teacher, sources.training, &run)? else { return Ok(()) };
        let network = serde_json::to_value(&config.network)?;
        let origin = fitted.origin(config.subset.clone(), io.seed, config.fit.select, &run);
        let card = training::card(Kind::Teacher, network, &classes, vec![output], input, origin);
        Ok(teacher.weights.params().save(&io.output.join("weights.safetensors"), &card.to_metadata()?)?)
    }
}

impl Config {
    fn sampling(&self) -> Sampling {
        Sampling::Patches { per_case: self.patches_per_case, shape: self.patch }
    }

    fn augment(&self) -> Result<Augment> {
        self.augment.for_boxes(self.sampling(), self.normalisation).map_err(anyhow::Error::msg)
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
    weights: Learning,
    /// Of its channels.
    names: Vec<String>,
    loss: DiceCe,
    validation: BatchSource,
}

impl Training {
    /// Logits and truth of a batch.
    fn forward(&self, batch: &Batch) -> Result<(Tensor, Truth)> {
        Ok((self.weights.run(&self.network, &batch.image)?, batch.truth(0)?))
    }
}

impl Trainable for Training {
    fn params(&self) -> &Params {
        self.weights.params()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let (logits, truth) = self.forward(batch)?;
        Ok(self.loss.loss(&logits, truth.target())?)
    }

    fn validate(&self, ranks: &Ranks) -> Result<Validation> {
        let tally = Tally::new(&self.names, true);
        training::validate(&self.validation, &self.params().device(), ranks, vec![tally], |batch| Ok(vec![self.forward(batch)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use labels::flare23;

    fn output(json: &str) -> Result<Output> {
        serde_json::from_str::<Target>(json)?.output(&flare23::classes())
    }

    #[test]
    fn a_target_is_a_group_or_some_classes_of_one() {
        assert_eq!(output("\"organ\"").unwrap().values, (1..=13).collect::<Vec<u8>>());
        let five = output(r#"["left_kidney", "liver", "right_kidney", "spleen", "pancreas"]"#).unwrap();
        assert_eq!((five.group.as_str(), &five.values[..]), ("organ", &[1, 2, 3, 4, 13][..]));
        assert_eq!(five.keys(&flare23::classes()), ["background", "liver", "right_kidney", "spleen", "pancreas", "left_kidney"]);
        let error = |json: &str| format!("{:#}", output(json).unwrap_err());
        assert_eq!(error("\"organs\""), "target: there is no group `organs`; the groups are organ, cancer");
        assert!(error(r#"["liver", "tumor"]"#).contains("of the groups organ, cancer"));
        assert!(error(r#"["lung"]"#).contains("there is no class `lung`"));
        assert!(error("[]").contains("names no class"));
    }
}
