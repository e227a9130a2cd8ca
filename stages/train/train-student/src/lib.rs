//! Trains the dual-decoding student, one step of the four (paper 2.3, 3.2 and Table 3).

mod ahead;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::Tensor;
use dataset::Manifest;
use labels::Classes;
use model_card::{Kind, Output};
use nets::{DualUNet2d, DualUNet2dConfig, Learning, Network, Params};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ahead, Chore, Cost, Forecast, Ranks, Role, Stage, StageIo};
use training::{
    Augment, AugmentConfig, Batch, BatchSource, FitConfig, FreezePlan, Normalisation, Run, Sampling, Sources, Tally, Targets, Trainable,
    Trust, Truth, Validation,
};

/// The parameters of `train-student`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cases to train on: D_u, D_l3, D_l1 and D_l4 in the paper's steps.
    pub subset: String,
    /// The groups with a decoder each, `GROUP_decoder`; all groups of the classes unless said otherwise. Groups in a list of their own
    /// share a decoder but for its last layer: `[organ, [cysts, tumors]]` has `organ_decoder` and `cysts_tumors_decoder`. Classes that do
    /// not exclude each other are groups of one class, whose two channels under softmax are one under the logistic function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoders: Option<Vec<DecoderGroups>>,
    /// The groups whose decoders' losses are summed: both in steps 1 and 2, one in steps 3 and 4.
    pub targets: Vec<String>,
    /// The parameters that move: `*` in steps 1 and 2, `organ_decoder.*` in step 3, `cancer_decoder.*` in step 4.
    pub live: FreezePlan,
    /// The size of the network.
    pub network: DualUNet2dConfig,
    /// Pixels of a crop along x, y; the paper's are 224².
    pub crop: [usize; 2],
    /// What windowed intensities are made of before the network sees them.
    #[serde(default, skip_serializing_if = "Normalisation::is_unit")]
    #[schemars(extend("default" = "unit"))]
    pub normalisation: Normalisation,
    /// Random changes of samples.
    pub augment: AugmentConfig,
    /// The training protocol.
    pub fit: FitConfig,
    /// What is made of the trust that `pseudo-label` has put into labels; `unused` in the paper, which takes all labels alike.
    #[serde(default, skip_serializing_if = "Trust::is_unused")]
    #[schemars(extend("default" = "unused"))]
    pub trust: Trust,
    /// At most so many validation slices; `null` for all.
    #[serde(default)]
    pub validation_slices: Option<u64>,
}

/// The groups that a decoder tells apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DecoderGroups {
    /// One.
    One(String),
    /// Several, each by a last layer of its own.
    Shared(Vec<String>),
}

impl DecoderGroups {
    fn keys(&self) -> &[String] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Shared(keys) => keys,
        }
    }

    /// The output for each group with the group's place.
    fn outputs(&self, classes: &Classes) -> Result<Vec<(usize, Output)>> {
        let decoder = (self.keys().len() > 1).then(|| format!("{}_decoder", self.keys().join("_")));
        let output = |key: &String| {
            let group = classes.group(key).context("decoders")?;
            Ok((group, Output { decoder: decoder.clone(), ..Output::of_group(classes, group) }))
        };
        self.keys().iter().map(output).collect()
    }
}

/// The stage `train-student`.
pub struct TrainStudent;

impl Stage for TrainStudent {
    const NAME: &'static str = "train-student";
    const REVISION: u32 = 9;
    const ABOUT: &'static str = "Trains one step of the 2-D U-Net with a decoder for each group of classes, parts of it frozen";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: slices`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "the output of the step before; random weights without it"),
    ];
    const WRITES: &'static str =
        "weights.safetensors of the epoch with the best validation Dice; curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "2.3, 3.2, Table 3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.network.check().map_err(|reason| anyhow::anyhow!("network.{reason}"))?;
        ensure!(
            config.crop.iter().all(|&side| side >= 16),
            "crop: {:?}: every side must be at least 16 pixels, because the network halves it four times",
            config.crop
        );
        ensure!(!config.targets.is_empty(), "targets: name a group, such as `organ`, or several; without a target there is no loss");
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
        let outputs = config.outputs(&classes)?;
        let places = config.places(&outputs)?;
        let network = DualUNet2d::new(&config.network, &outputs.iter().map(Output::decoder).collect::<Vec<_>>());
        let mut params = config.fit.parameters(&network.parameters(), io)?;
        if let Some(init) = io.input_opt("init")? {
            params.load(&init.join("weights.safetensors"))?;
        }
        config.live.apply(&mut params)?;
        let learned: Vec<Output> = places.iter().map(|&place| outputs[place].clone()).collect();
        let names = learned.iter().map(|output| output.keys(&classes)).collect();
        let targets = Targets { outputs: learned, trust: config.trust };
        let sources =
            Sources::open(io, &config.subset, config.sampling(), targets, config.augment()?, &config.fit, config.validation_slices)?
                .normalised(config.normalisation, io)?;
        let input = sources.training.model_input();
        let (weights, loss) = (Learning::new(params), config.fit.loss());
        let student = Student { network, weights, targets: places, names, loss, validation: sources.validation };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let Some(fitted) = training::fit(&config.fit, &student, sources.training, &run)? else { return Ok(()) };
        let network = serde_json::to_value(&config.network)?;
        let origin = fitted.origin(config.subset.clone(), io.seed, config.fit.select, &run);
        let card = training::card(Kind::Student, network, &classes, outputs, input, origin);
        Ok(student.weights.params().save(&io.output.join("weights.safetensors"), &card.to_metadata()?)?)
    }
}

impl Config {
    fn sampling(&self) -> Sampling {
        Sampling::Slices { shape: self.crop }
    }

    fn augment(&self) -> Result<Augment> {
        self.augment.for_boxes(self.sampling(), self.normalisation).map_err(anyhow::Error::msg)
    }

    /// What the decoders tell apart, in the order of the groups.
    fn outputs(&self, classes: &Classes) -> Result<Vec<Output>> {
        let each = || classes.groups().iter().map(|group| DecoderGroups::One(group.key().to_owned())).collect();
        let decoders = self.decoders.clone().unwrap_or_else(each);
        let outputs = decoders.iter().map(|decoder| decoder.outputs(classes)).collect::<Result<Vec<_>>>()?;
        let mut outputs: Vec<(usize, Output)> = outputs.into_iter().flatten().collect();
        ensure!(!outputs.is_empty(), "decoders: names no group; name one at least, or leave it out for all");
        outputs.sort_by_key(|(group, _)| *group);
        if let Some(twice) = outputs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            bail!("decoders: names `{}` twice; a group has one decoder", twice[0].1.group);
        }
        Ok(outputs.into_iter().map(|(_, output)| output).collect())
    }

    /// The places of the targets among the decoders.
    fn places(&self, outputs: &[Output]) -> Result<Vec<usize>> {
        let place = |target: &String| {
            let known = || outputs.iter().map(|output| output.group.as_str()).collect::<Vec<_>>().join(", ");
            let place = outputs.iter().position(|output| output.group == *target);
            place.with_context(|| format!("targets: there is no decoder for `{target}`; the decoders are those of {}", known()))
        };
        self.targets.iter().map(place).collect()
    }
}

struct Student {
    network: DualUNet2d,
    weights: Learning,
    /// The decoders whose losses count, by place, and the names of their channels.
    targets: Vec<usize>,
    names: Vec<Vec<String>>,
    loss: DiceCe,
    validation: BatchSource,
}

/// Logits and truth of each decoder whose loss counts.
fn decoded(network: &DualUNet2d, weights: &Learning, targets: &[usize], batch: &Batch) -> Result<Vec<(Tensor, Truth)>> {
    let logits = weights.student(network, &batch.image, targets)?;
    logits.into_iter().enumerate().map(|(k, logits)| Ok((logits, batch.truth(k)?))).collect()
}

/// The sum of the losses.
fn summed(loss: DiceCe, decoded: &[(Tensor, Truth)]) -> Result<Tensor> {
    let mut losses = decoded.iter().map(|(logits, truth)| loss.loss(logits, truth.target()));
    let first = losses.next().ok_or_else(|| anyhow::anyhow!("there is no target"))??;
    losses.try_fold(first, |sum, loss| Ok((sum + loss?)?))
}

impl Student {
    fn forward(&self, batch: &Batch) -> Result<Vec<(Tensor, Truth)>> {
        decoded(&self.network, &self.weights, &self.targets, batch)
    }
}

impl Trainable for Student {
    fn params(&self) -> &Params {
        self.weights.params()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        summed(self.loss, &self.forward(batch)?)
    }

    fn validate(&self, ranks: &Ranks) -> Result<Validation> {
        let tallies = self.names.iter().map(|names| Tally::new(names, false)).collect();
        training::validate(&self.validation, &self.params().device(), ranks, tallies, |batch| self.forward(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use labels::flare23;

    fn config(decoders: Option<&[&str]>, targets: &[&str]) -> Config {
        let text = serde_json::json!({
            "subset": "D_u", "decoders": decoders, "targets": targets, "live": ["*"], "crop": [16, 16],
            "network": {"features": [2, 2, 2, 2, 2, 2]},
            "augment": {"noise": {"probability": 0, "std": 0}, "scale": {"probability": 0, "range": 0}, "shift": {"probability": 0, "range": 0}},
            "fit": {"batch_size": 1, "epochs": 1, "learning_rate": 0.1, "schedule": {"polynomial": {"power": 0.9}}, "weight_decay": 0, "select": "highest_dice"},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn every_group_has_a_decoder_unless_some_are_named() {
        let classes = flare23::classes();
        let all = config(None, &["cancer"]);
        let outputs = all.outputs(&classes).unwrap();
        assert_eq!(outputs.iter().map(|output| output.channels()).collect::<Vec<_>>(), [14, 2]);
        assert_eq!(all.places(&outputs).unwrap(), [1]);
        let one = config(Some(&["cancer"]), &["organ"]);
        let outputs = one.outputs(&classes).unwrap();
        assert_eq!(outputs.len(), 1);
        let error = one.places(&outputs).unwrap_err().to_string();
        assert_eq!(error, "targets: there is no decoder for `organ`; the decoders are those of cancer");
        assert!(config(Some(&["lung"]), &[]).outputs(&classes).is_err());
        let twice = config(Some(&["organ", "organ"]), &[]).outputs(&classes).unwrap_err().to_string();
        assert_eq!(twice, "decoders: names `organ` twice; a group has one decoder");
        assert!(config(Some(&[]), &[]).outputs(&classes).is_err());
    }

    #[test]
    fn groups_in_a_list_share_a_decoder() {
        let classes: Classes = serde_json::from_value(serde_json::json!([
            {"group": "organ", "classes": {"liver": 1, "kidney": 2}},
            {"group": "cysts", "classes": {"cyst": 3}},
            {"group": "tumors", "classes": {"tumor": 4}},
        ]))
        .unwrap();
        let shared = Config {
            decoders: Some(vec![DecoderGroups::Shared(vec!["tumors".into(), "cysts".into()]), DecoderGroups::One("organ".into())]),
            ..config(None, &["cysts", "tumors"])
        };
        let outputs = shared.outputs(&classes).unwrap();
        let decoders: Vec<(String, usize)> = outputs.iter().map(Output::decoder).collect();
        let names = [("organ_decoder", 3), ("tumors_cysts_decoder", 2), ("tumors_cysts_decoder", 2)];
        assert_eq!(decoders, names.map(|(name, channels)| (name.to_owned(), channels)));
        assert_eq!(shared.places(&outputs).unwrap(), [1, 2]);
        assert_eq!(serde_json::to_value(&shared).unwrap()["decoders"], serde_json::json!([["tumors", "cysts"], "organ"]));
    }
}
