//! Trains one model on several datasets of which each has other classes annotated: DoDNet, MultiTalent, and the methods that
//! they are compared with.

mod ahead;
mod cases;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use candle_core::Tensor;
use dataset::Manifest;
use model_card::Kind;
use nets::{Network as _, Params};
use partial::{Dataset, Datasets, Dice, Loss, Model, ModelConfig, Output, PartialTally, Truth, Whole};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ahead, Chore, Cost, Forecast, Ranks, Role, Stage, StageIo};
use training::{
    Augment, AugmentConfig, Batch, Cut, FitConfig, FreezePlan, Normalisation, Parts, Run, Sample, Sampling, Trainable, Trust, Validation,
};

use crate::cases::{Cases, Labelled};

/// How often cases are drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseSampling {
    /// Every case once in an epoch (DoDNet).
    #[default]
    EachOnce,
    /// With a chance of one by the root of the number of cases of its dataset, as many draws as there are cases (MultiTalent).
    InverseRoot,
    /// With such a chance that this share of the draws falls to each dataset, by name; the shares are taken in proportion to
    /// their sum. What few cases have annotated comes up sooner if these come more often.
    Shares(BTreeMap<String, f64>),
}

impl CaseSampling {
    fn check(&self) -> Result<()> {
        let Self::Shares(shares) = self else { return Ok(()) };
        for (name, share) in shares {
            ensure!(share.is_finite() && *share > 0.0, "sampling.shares.{name} is {share}; it must be above 0");
        }
        Ok(())
    }

    /// Refuses shares of other datasets than there are.
    fn check_names(&self, datasets: &[Dataset]) -> Result<()> {
        let Self::Shares(shares) = self else { return Ok(()) };
        let given: BTreeSet<&str> = shares.keys().map(String::as_str).collect();
        let names: BTreeSet<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
        ensure!(given == names, "sampling.shares has shares of {}; the datasets are {}", list(&given), list(&names));
        Ok(())
    }
}

/// How often patches are placed among what is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForegroundConfig {
    /// The chance of it; 0.8 in DoDNet.
    pub probability: f64,
    /// Voxels around the annotated ones that count as well; 32 in DoDNet.
    pub margin: usize,
}

/// The parameters of `train-partial`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The method, the datasets and the tasks.
    pub model: ModelConfig,
    /// How often cases are drawn.
    #[serde(default)]
    pub sampling: CaseSampling,
    /// Voxels of a patch along x, y, z; multiples of what the network divides them by.
    pub patch: [usize; 3],
    /// Random patches of each case that is drawn.
    pub patches_per_case: usize,
    /// Places patches among what is annotated more often than elsewhere; off unless given. Every case is read once for it when
    /// training starts.
    #[serde(default)]
    pub foreground: Option<ForegroundConfig>,
    /// How intensities are shown to the network.
    #[serde(default, skip_serializing_if = "Normalisation::is_unit")]
    #[schemars(extend("default" = "unit"))]
    pub normalisation: Normalisation,
    /// Random changes of samples.
    pub augment: AugmentConfig,
    /// The Dice score in the method's loss.
    #[serde(default)]
    pub dice: Dice,
    /// How likely a network without knowledge finds each class in a voxel; about one half in the papers. Near the part of a
    /// patch that a small class fills, such as 0.01, small classes come up in fewer steps.
    #[serde(default = "one_half")]
    pub prior: f64,
    /// What is made of the trust that `pseudo-label` has put into labels: `unused`, or `hard`, which ignores labels without any.
    #[serde(default, skip_serializing_if = "Trust::is_unused")]
    pub trust: Trust,
    /// The training protocol. The loss is the method's, so that `batch_dice` has no place here. A `micro_batch` never changes it; that
    /// of `multitalent`, whose Dice score is that of the whole batch, is then computed forward twice.
    pub fit: FitConfig,
    /// The parameters that move.
    #[serde(default = "FreezePlan::all_live")]
    pub live: FreezePlan,
    /// At most so many validation patches; `null` for all of each validation case.
    #[serde(default)]
    pub validation_patches: Option<u64>,
}

impl Config {
    fn boxes(&self) -> Sampling {
        Sampling::Patches { per_case: self.patches_per_case, shape: self.patch }
    }

    fn augment(&self) -> Result<Augment> {
        self.augment.for_boxes(self.boxes(), self.normalisation).map_err(anyhow::Error::msg)
    }
}

fn one_half() -> f64 {
    0.5
}

/// The stage `train-partial`.
pub struct TrainPartial;

impl Stage for TrainPartial {
    const NAME: &'static str = "train-partial";
    const REVISION: u32 = 8;
    const ABOUT: &'static str = "Trains one model on datasets of which each has other classes annotated (DoDNet, MultiTalent, baselines)";
    const READS: &'static [Role] = &[
        Role::required("prepared", "the output of preprocess with `layout: volume`"),
        Role::required("partition", "the output of partition"),
        Role::optional("init", "a folder with weights.safetensors of a model that shares some parameters; what fits is taken, and told"),
    ];
    const WRITES: &'static str = "weights.safetensors of the best epoch, with the model in its metadata; curve.csv, curves.svg; about/: times.csv, events.out.tfevents.*";
    const PAPER: &'static str = "none: DoDNet (CVPR 2021), MultiTalent (MICCAI 2023), and their baselines";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.model.check()?;
        config.model.method.check(config.patch)?;
        config.sampling.check()?;
        if !config.model.datasets.is_empty() {
            config.sampling.check_names(&config.model.datasets)?;
        }
        ensure!(config.trust != Trust::Soft, "trust: `soft` has no meaning here, where labels count or do not; take `hard`");
        ensure!(config.patches_per_case > 0, "patches_per_case is 0; it must be at least 1");
        ensure!(!config.fit.batch_dice, "fit.batch_dice has no effect here: the method says how its Dice score is taken; leave it out");
        let chance = config.foreground.map_or(0.0, |foreground| foreground.probability);
        ensure!((0.0..=1.0).contains(&chance), "foreground.probability is {chance}; it must be in 0..1");
        ensure!(config.prior > 0.0 && config.prior < 1.0, "prior is {}; it must be between 0 and 1", config.prior);
        config.augment()?;
        config.fit.check()
    }

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, ahead, chore, io)
    }

    fn check_processes(config: &Config, processes: usize) -> Result<()> {
        config.fit.check_processes(processes)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let manifest = Manifest::load(io.input("partition")?)?;
        let declared = config.model.resolved(&manifest)?;
        config.sampling.check_names(&declared.datasets)?;
        let datasets = Datasets::new(&declared.datasets, &manifest.classes)?.labelled_by(manifest.regions.values());
        let model = Model::new(&declared, &datasets, &manifest.classes)?;
        let loss = Loss { by: declared.method.objective(), dice: config.dice };
        let mut params = config.fit.parameters(&model.parameters(), io)?;
        model.start_near(&params, config.prior)?;
        if let Some(init) = io.input_opt("init")? {
            let left = params.load_matching(&init.join("weights.safetensors"))?;
            io.report.note(&format!("{}: {}", io.node, matched(&params, &left)));
        }
        config.live.apply(&mut params)?;
        let Cases { training, validation } = Cases::open(config, &manifest, &model, &datasets, io)?;
        let input = training.source.model_input();
        let trainee = Trainee { model, params, loss, datasets, cases: training.datasets, validation, part: config.fit.micro_batch };
        let run = Run::of(io, serde_json::to_string(&(config, io.seed))?)?;
        let Some(fitted) = training::fit(&config.fit, &trainee, training.source, &run)? else { return Ok(()) };
        let cases = declared.datasets.iter().map(|dataset| dataset.subset.clone()).collect::<Vec<_>>().join(", ");
        let classes = manifest.classes.only(trainee.model.pattern());
        let network = serde_json::to_value(declared.about(&classes))?;
        let origin = fitted.origin(cases, io.seed, config.fit.select, &run);
        let card = training::card(Kind::Partial, network, &classes, Vec::new(), input, origin);
        Ok(trainee.params.save(&io.output.join("weights.safetensors"), &card.to_metadata()?)?)
    }
}

/// What of the parameters came from another model.
fn matched(params: &Params, left: &[String]) -> String {
    let all = params.names().count();
    let begun_anew = match left {
        [] => String::new(),
        [first, .., last] if left.len() > 4 => format!("; anew: {first} to {last}"),
        few => format!("; anew: {}", few.join(", ")),
    };
    format!("{} of {all} parameters are from `init`{begun_anew}", all - left.len())
}

/// A model in training.
struct Trainee {
    model: Model,
    params: Params,
    loss: Loss,
    datasets: Datasets,
    /// The dataset of each training case.
    cases: Vec<usize>,
    validation: Labelled,
    /// Samples that are on the device at once, if not all of a batch.
    part: Option<usize>,
}

/// What the loss of a part takes from all parts, from what this rank knows of its own.
fn gathered(parts: &Parts<'_>, own: Vec<Vec<Tensor>>) -> Result<Vec<Vec<Tensor>>> {
    if parts.ranks().size() == 1 {
        return Ok(own);
    }
    let values = |sums: &Vec<Tensor>| -> Result<Vec<f32>> {
        let each = sums.iter().map(|sum| sum.flatten_all()?.to_vec1::<f32>()).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(each.concat())
    };
    let all = parts.gather(&own.iter().map(values).collect::<Result<Vec<_>>>()?)?;
    // A rank without a part has nothing to compute with them.
    let Some(shapes) = own.first() else { return Ok(Vec::new()) };
    let of_part = |values: Vec<f32>| {
        let mut rest = values.as_slice();
        let sums = shapes.iter().map(|sum| {
            let (own, others) = rest.split_at(sum.elem_count());
            rest = others;
            Tensor::from_slice(own, sum.dims(), sum.device())
        });
        Ok(sums.collect::<candle_core::Result<_>>()?)
    };
    all.into_iter().map(of_part).collect()
}

/// A part of a batch, its datasets, what the model says of it, and its loss.
type Told<'a> = (&'a Batch, &'a [usize], &'a [Output], Tensor);

impl Trainee {
    /// What the model says of the samples of these datasets. Where no gradient is wanted, the graph is let go, which would stay in
    /// memory otherwise.
    fn outputs(&self, batch: &Batch, datasets: &[usize], learning: bool) -> Result<Vec<Output>> {
        let wanted: Vec<Vec<usize>> = datasets.iter().map(|&dataset| self.model.trained_by(&self.datasets, dataset)).collect();
        let outputs = self.model.forward(&self.params, &batch.image, &wanted, learning)?;
        Ok(if learning { outputs } else { outputs.into_iter().map(Output::detached).collect() })
    }

    /// The losses of this rank's parts of a batch, whose cases have these datasets; those of all parts sum to that of the batch.
    fn in_parts(&self, parts: &Parts<'_>, of_case: &[usize], learning: bool, take: &mut dyn FnMut(Told<'_>) -> Result<()>) -> Result<()> {
        let datasets_of = |samples: &[Sample]| samples.iter().map(|sample| of_case[sample.case]).collect::<Vec<_>>();
        let datasets: Vec<Vec<usize>> = parts.own().iter().map(|part| datasets_of(&part.samples)).collect();
        let mut whole = Whole::of(&datasets_of(parts.samples()));
        if parts.all() > 1 && self.loss.is_of_whole_batches() {
            let sums = parts.own().iter().zip(&datasets).map(|(part, datasets)| {
                let outputs = self.outputs(part, datasets, learning)?;
                Ok(self.loss.sums(&outputs, &Truth::of(part, datasets), &self.datasets)?)
            });
            whole = whole.with_sums(gathered(parts, sums.collect::<Result<_>>()?)?);
        }
        for (own, (part, datasets)) in parts.own().iter().zip(&datasets).enumerate() {
            let outputs = self.outputs(part, datasets, learning)?;
            let about_whole = (&whole, parts.place(own));
            let loss = self.loss.of_part(&self.model, &outputs, &Truth::of(part, datasets), &self.datasets, about_whole)?;
            take((part, datasets, &outputs, loss))?;
        }
        Ok(())
    }
}

impl Trainable for Trainee {
    fn params(&self) -> &Params {
        &self.params
    }

    fn may_leave_parameters_out(&self) -> bool {
        self.model.has_separate_parts()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let mut whole = None;
        self.losses(&Parts::whole(batch), &mut |loss, _| {
            whole = Some(loss.clone());
            Ok(())
        })?;
        whole.context("a batch without samples has no loss")
    }

    fn losses(&self, parts: &Parts<'_>, take: &mut dyn FnMut(&Tensor, f64) -> Result<()>) -> Result<()> {
        self.in_parts(parts, &self.cases, true, &mut |(_, _, _, loss)| take(&loss, 1.0))
    }

    fn validate(&self, ranks: &Ranks) -> Result<Validation> {
        let Labelled { source, datasets: of_case } = &self.validation;
        let epoch = source.sampler().epoch(0);
        let mut tally = PartialTally::new(&self.model);
        for step in 0..source.sampler().steps_per_epoch() {
            let parts = source.draw(&epoch, 0, step, Cut::new(self.part, ranks))?.into_parts(&self.params.device(), ranks)?;
            let (samples, mut rounds) = (parts.samples().len(), 0..parts.rounds());
            self.in_parts(&parts, of_case, false, &mut |(part, datasets, outputs, loss)| {
                rounds.next();
                let add = |tally: &mut PartialTally| -> Result<()> {
                    Ok(tally.add(&self.model, outputs, &Truth::of(part, datasets), &self.datasets, (&loss, samples))?)
                };
                ranks.in_turn(&mut tally, Some(add))
            })?;
            rounds.try_for_each(|_| ranks.pass_turn(&mut tally))?;
        }
        Ok(tally.validation(&self.model))
    }
}
