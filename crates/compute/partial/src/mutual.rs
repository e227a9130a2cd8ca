//! Deep mutual learning among partially labelled datasets (Liu et al.), of which only the abstract is to be had: each dataset has
//! a network, and the networks learn from each other by what they predict and by their features. What the abstract leaves open is
//! decided here:
//!
//! - *Prediction difference*: most classes exclude each other. A network is charged the mean probability that it gives its classes
//!   where another dataset's true labels show one that excludes them. The declaration of the classes says what may lie in what (a tumor
//!   in an organ), and does not exclude it there; nor do classes exclude each other that a voxel of some label map shows together (a
//!   kidney that is labelled with its tumor). It is a mean over those voxels, and not a score of overlap, so that large organs do not hide small
//!   ones; true labels alone count, because wrong ones would teach errors. The charge is strong where the other class is small: with
//!   a weight of 1 a network of `tests/it/learning.rs` never finds the organ that looks like a tumor, with 0.1 it does.
//! - *Feature difference*: networks of different organs should look at different places. Channels of two networks do not
//!   correspond, so what is compared is where the features are strong: the mean square over the channels of the last decoder
//!   map. The cosine of two such maps is charged, in proportion to the classes that the two datasets do not share.
//! - *Prediction similarity*: every full-organ network learns the true labels of every dataset, and beside them the labels that
//!   complete those of its own.
//! - *Dynamic feature similarity*: for each sample, the network with the least loss against its true labels is right most likely;
//!   the others are charged how far their maps are from its map, one minus the cosine, which does not move that network.

use candle_core::{DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::Datasets;
use crate::class::Class;
use crate::loss::{Dice, mean, part};
use crate::model::{Model, Output};
use crate::truth::Truth;
use crate::weights;

/// How much networks of single datasets learn from each other. A weight of 0 turns a part off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The weight of the prediction difference.
    pub prediction: f64,
    /// The weight of the feature difference.
    pub features: f64,
}

/// How much full-organ networks learn from each other. A weight of 0 turns a part off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Similarity {
    /// The weight of the prediction similarity.
    pub prediction: f64,
    /// The weight of the dynamic feature similarity.
    pub features: f64,
}

/// One sample's row of one network's output.
struct Answer<'a> {
    output: &'a Output,
    row: usize,
    /// The network's dataset.
    own: usize,
}

impl Answer<'_> {
    fn classes(&self) -> Vec<Class> {
        self.output.rows[self.row].channels.iter().flatten().map(|about| about.class).collect()
    }

    fn logits(&self) -> candle_core::Result<Tensor> {
        self.output.logits.narrow(0, self.row, 1)
    }

    /// Where the features are strong: `(voxels)`, of length 1.
    fn attention(&self) -> candle_core::Result<Tensor> {
        let Some(features) = &self.output.features else { candle_core::bail!("mutual learning needs the features of every network") };
        let strength = features.narrow(0, self.row, 1)?.sqr()?.mean(1)?.flatten_all()?;
        let length = (strength.sqr()?.sum_all()? + 1e-12)?.sqrt()?;
        strength.broadcast_div(&length)
    }
}

/// The answers of all networks, sample by sample.
fn answers<'a>(model: &Model, outputs: &'a [Output], samples: usize) -> Vec<Vec<Answer<'a>>> {
    let mut of_samples: Vec<Vec<Answer<'a>>> = (0..samples).map(|_| Vec::new()).collect();
    for output in outputs {
        for (row, about) in output.rows.iter().enumerate() {
            let head = about.channels.iter().flatten().next().map(|channel| channel.head);
            if let Some(own) = head.and_then(|head| model.heads()[head].dataset) {
                of_samples[about.sample].push(Answer { output, row, own });
            }
        }
    }
    of_samples
}

/// Stage one: each network learns its own dataset, and what it cannot be from the others. The sum over the samples.
#[expect(clippy::cast_precision_loss, reason = "batches are small")]
pub(crate) fn difference(
    weights: Difference,
    dice: Dice,
    model: &Model,
    outputs: &[Output],
    truth: &Truth<'_>,
    datasets: &Datasets,
) -> candle_core::Result<Tensor> {
    let samples = truth.datasets.len();
    let mut sum = Sum::default();
    for (sample, answers) in answers(model, outputs, samples).iter().enumerate() {
        let dataset = truth.datasets[sample];
        let Some(own) = answers.iter().find(|answer| answer.own == dataset) else { continue };
        sum.add(1.0, supervised(dice, model, own, truth, &own.classes())?)?;
        let others = answers.iter().filter(|answer| answer.own != dataset);
        for other in others {
            let share = 1.0 / (answers.len() - 1) as f64;
            if weights.prediction > 0.0 {
                sum.add(weights.prediction * share, impossible(other, sample, truth, datasets)?)?;
            }
            let apart = unshared(datasets, dataset, other.own);
            if weights.features > 0.0 && apart > 0.0 {
                let cosine = (own.attention()? * other.attention()?)?.sum_all()?;
                sum.add(weights.features * share * apart, cosine)?;
            }
        }
    }
    sum.whole()
}

/// Stage two: each network learns the completed labels of its dataset and the true labels of the others. The sum over the samples.
#[expect(clippy::cast_precision_loss, reason = "batches are small")]
pub(crate) fn similarity(
    weights: Similarity,
    dice: Dice,
    model: &Model,
    outputs: &[Output],
    truth: &Truth<'_>,
    datasets: &Datasets,
) -> candle_core::Result<Tensor> {
    let samples = truth.datasets.len();
    let mut sum = Sum::default();
    for (sample, answers) in answers(model, outputs, samples).iter().enumerate() {
        let dataset = truth.datasets[sample];
        let share = 1.0 / (answers.len().max(2) - 1) as f64;
        let mut losses = Vec::with_capacity(answers.len());
        for answer in answers {
            let on_true = supervised(dice, model, answer, truth, datasets.classes(dataset))?;
            losses.push(on_true.detach().to_dtype(DType::F32)?.to_scalar::<f32>()?);
            if answer.own == dataset {
                sum.add(1.0, supervised(dice, model, answer, truth, &answer.classes())?)?;
            } else if weights.prediction > 0.0 {
                sum.add(weights.prediction * share, on_true)?;
            }
        }
        let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        if let Some(best) = best.filter(|_| weights.features > 0.0) {
            let teacher = answers[best].attention()?.detach();
            for (_, answer) in answers.iter().enumerate().filter(|(k, _)| *k != best) {
                let cosine = (answer.attention()? * &teacher)?.sum_all()?;
                sum.add(weights.features * share, (1.0 - cosine)?)?;
            }
        }
    }
    sum.whole()
}

/// DoDNet's loss of an answer, over some of its classes.
fn supervised(dice: Dice, model: &Model, answer: &Answer<'_>, truth: &Truth<'_>, classes: &[Class]) -> candle_core::Result<Tensor> {
    let weights = weights::of_answer(model, &answer.classes(), classes);
    mean(dice, &truth.sums_of(answer.output, answer.row)?, &[weights], answer.output.voxels())
}

/// The mean probability of each class of an answer where the sample truly shows one that excludes it, over its classes.
#[expect(clippy::cast_precision_loss, reason = "few classes")]
fn impossible(answer: &Answer<'_>, sample: usize, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let classes = answer.classes();
    let annotated = datasets.classes(truth.datasets[sample]);
    let mut elsewhere = Vec::with_capacity(classes.len());
    for class in &classes {
        let others: Vec<Class> = annotated.iter().copied().filter(|&other| datasets.excludes(other, *class)).collect();
        elsewhere.push(match others.is_empty() {
            true => truth.shows(sample, &[*class])?.zeros_like()?,
            false => truth.shows(sample, &others)?.max_keepdim(1)?,
        });
    }
    let sums = ops::binary_sums(&answer.logits()?, &Tensor::cat(&elsewhere, 1)?)?;
    (part(&sums, 0)? / (part(&sums, 2)? + 1.0)?)?.sum_all()? / classes.len() as f64
}

/// The part of the classes of two datasets that they do not share.
#[expect(clippy::cast_precision_loss, reason = "few classes")]
fn unshared(datasets: &Datasets, a: usize, b: usize) -> f64 {
    let (a, b) = (datasets.classes(a), datasets.classes(b));
    let shared = a.iter().filter(|class| b.contains(class)).count();
    1.0 - shared as f64 / (a.len() + b.len() - shared) as f64
}

/// A weighted sum of scalars.
#[derive(Default)]
struct Sum(Option<Tensor>);

impl Sum {
    fn add(&mut self, weight: f64, value: Tensor) -> candle_core::Result<()> {
        let value = (value * weight)?;
        self.0 = Some(match self.0.take() {
            None => value,
            Some(sum) => (sum + value)?,
        });
        Ok(())
    }

    fn whole(self) -> candle_core::Result<Tensor> {
        match self.0 {
            Some(sum) => Ok(sum),
            None => candle_core::bail!("no network of the batch's datasets gave an answer"),
        }
    }
}
