//! Losses over what is annotated.

use candle_core::{Device, Tensor};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::Datasets;
use crate::class::Class;
use crate::error::PartialError;
use crate::model::{Model, Output};
use crate::mutual::{self, Difference, Similarity};
use crate::truth::Truth;

/// What twice the overlap of probabilities `p` and truth `t` is divided by in a Dice score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dice {
    /// The sum of `p` and of `t`, as in the papers. A class of few voxels among many hardly moves it while all probabilities are
    /// still alike, and can be lost before it comes up.
    #[default]
    Linear,
    /// The sum of `p²` and of `t`, as in the losses of the teachers and the student: small classes come up sooner.
    Squared,
}

impl Dice {
    /// The part of [`ops::binary_sums`] that says how much is predicted.
    fn predicted(self) -> usize {
        match self {
            Self::Linear => 1,
            Self::Squared => 4,
        }
    }
}

/// How a method learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// What it charges.
    pub by: Objective,
    /// The Dice score of it.
    pub dice: Dice,
}

/// What a method charges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// DoDNet's (its Eq. 8): for each channel one minus the Dice score of a row, with 1 added to the denominator, and the mean
    /// binary cross-entropy, both averaged over the rows that have it annotated; then averaged over the channels. Samples count alike,
    /// whatever the number of their rows: an average over rows is one over samples of that over the rows of each.
    Mean,
    /// MultiTalent's (its Eq. 2): the sum over classes of the binary cross-entropy of each sample, minus the Dice score of the
    /// whole batch. nnU-Net's term 1e-5 keeps the score of a class that nothing shows defined.
    Sum,
    /// Classes that are not annotated in a sample count as background: their probabilities are added to its. Dice and
    /// cross-entropy of what is left.
    Merged,
    /// Networks of single datasets that learn from each other's difference.
    Difference(Difference),
    /// Full-organ networks that learn from each other's similarity.
    Similarity(Similarity),
}

impl Objective {
    /// Whether a batch can never be taken in parts, because scores are those of the whole batch.
    #[must_use]
    pub fn is_of_whole_batches(self) -> bool {
        self == Self::Sum
    }

    /// Refuses a batch in parts whose loss is not the mean of those of its parts.
    ///
    /// `Sum` never is. `Mean` is one over channels of averages over what has each annotated: it is one over samples too where all
    /// datasets have the same part of each annotated. All others are means over samples.
    ///
    /// # Errors
    /// Names what is annotated unevenly.
    pub fn check_parts(self, model: &Model, datasets: &Datasets) -> Result<(), PartialError> {
        match self {
            Self::Sum => Err(PartialError::WholeBatches),
            Self::Mean => model.heads_of_outputs().iter().try_for_each(|heads| check_even(model, datasets, heads)),
            Self::Merged | Self::Difference(_) | Self::Similarity(_) => Ok(()),
        }
    }
}

/// Refuses datasets that have different parts of a channel annotated, of those that train some of the heads that share it.
#[expect(clippy::cast_precision_loss, reason = "few heads")]
fn check_even(model: &Model, datasets: &Datasets, heads: &[usize]) -> Result<(), PartialError> {
    let channels = heads.iter().map(|&head| model.heads()[head].classes.len()).max().unwrap_or(0);
    for channel in 0..channels {
        let mut first: Option<(usize, f64)> = None;
        for dataset in 0..datasets.len() {
            let trained: Vec<usize> = model.trained_by(datasets, dataset).into_iter().filter(|head| heads.contains(head)).collect();
            let has = |class: &Class| datasets.classes(dataset).contains(class);
            let annotated = trained.iter().filter(|&&head| model.heads()[head].classes.get(channel).is_some_and(has)).count();
            let part = annotated as f64 / trained.len() as f64;
            match first {
                _ if trained.is_empty() => {}
                None => first = Some((dataset, part)),
                Some((_, same)) if same == part => {}
                Some((other, _)) => {
                    let of = match heads {
                        [head] => format!("`{}`", model.heads()[*head].name),
                        _ => format!("the classes in place {} of the tasks", channel + 1),
                    };
                    let [first, second] = [other, dataset].map(|d| datasets.declared()[d].name.clone());
                    return Err(PartialError::Parts { of, first, second });
                }
            }
        }
    }
    Ok(())
}

impl Loss {
    /// The loss of the outputs of a model for a batch.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn of(self, model: &Model, outputs: &[Output], truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
        match self.by {
            Objective::Difference(weights) => return mutual::difference(weights, self.dice, model, outputs, truth, datasets),
            Objective::Similarity(weights) => return mutual::similarity(weights, self.dice, model, outputs, truth, datasets),
            Objective::Mean | Objective::Sum | Objective::Merged => {}
        }
        let device = outputs[0].logits.device();
        let mut sum = Tensor::zeros((), candle_core::DType::F32, device)?;
        for output in outputs {
            let loss = match self.by {
                Objective::Merged => merged(self.dice, output, truth, datasets)?,
                _ => {
                    let mask = truth.mask(output, datasets);
                    let sums = ops::binary_sums(&output.logits, &truth.targets(output)?)?;
                    let voxels: usize = output.logits.dims()[2..].iter().product();
                    let shares: Vec<f64> = output.rows.iter().map(|row| row.share).collect();
                    if self.by == Objective::Mean {
                        mean(self.dice, &sums, &mask, &shares, voxels)?
                    } else {
                        summed(self.dice, &sums, &mask, voxels)?
                    }
                }
            };
            sum = (sum + (loss * output.weight)?)?;
        }
        Ok(sum)
    }
}

/// `value` by row and channel where that is annotated, as a tensor `(rows, channels)`.
fn by_channel(mask: &[Vec<bool>], device: &Device, value: impl Fn(usize, usize) -> f32) -> candle_core::Result<Tensor> {
    let channels = mask.first().map_or(0, Vec::len);
    let of_row = |(row, mask): (usize, &Vec<bool>)| mask.iter().enumerate().map(|(k, &on)| if on { value(row, k) } else { 0.0 }).collect();
    let values: Vec<Vec<f32>> = mask.iter().enumerate().map(of_row).collect();
    Tensor::from_vec(values.concat(), (mask.len(), channels), device)
}

pub(crate) fn part(sums: &Tensor, which: usize) -> candle_core::Result<Tensor> {
    sums.narrow(2, which, 1)?.squeeze(2)
}

/// DoDNet's loss of rows that have these shares of the batch.
#[expect(clippy::cast_precision_loss, reason = "voxels of a patch and channels are far below 2^24")]
pub(crate) fn mean(dice: Dice, sums: &Tensor, mask: &[Vec<bool>], shares: &[f64], voxels: usize) -> candle_core::Result<Tensor> {
    let channels = mask.first().map_or(0, Vec::len);
    let of_channel = |k: usize| mask.iter().zip(shares).filter(|(row, _)| row[k]).map(|(_, share)| share).sum::<f64>();
    let annotated: Vec<f64> = (0..channels).map(of_channel).collect();
    let counted = annotated.iter().filter(|&&share| share > 0.0).count() as f64;
    let all: f64 = shares.iter().sum();
    let weights = by_channel(mask, sums.device(), |row, k| (all * shares[row] / (annotated[k] * counted)) as f32)?;
    let score = ((part(sums, 0)? * 2.0)? / ((part(sums, dice.predicted())? + part(sums, 2)?)? + 1.0)?)?;
    let each = ((1.0 - score)? + (part(sums, 3)? / voxels as f64)?)?;
    (each * weights)?.sum_all()
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn summed(dice: Dice, sums: &Tensor, mask: &[Vec<bool>], voxels: usize) -> candle_core::Result<Tensor> {
    const SMOOTH: f64 = 1e-5;
    let on = by_channel(mask, sums.device(), |_, _| 1.0)?;
    let of_batch = |which: usize| (part(sums, which)? * &on)?.sum(0);
    let annotated = on.max(0)?;
    let score = (((of_batch(0)? * 2.0)? + SMOOTH)? / ((of_batch(dice.predicted())? + of_batch(2)?)? + SMOOTH)?)?;
    let entropy = (of_batch(3)?.sum_all()? / voxels as f64)?;
    entropy - (score * annotated)?.sum_all()?
}

/// The mean over the samples of the loss of their annotated classes and of a background that holds all others.
fn merged(dice: Dice, output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let loss = DiceCe { squared: dice == Dice::Squared, batch: false };
    let mut sum = Tensor::zeros((), candle_core::DType::F32, output.logits.device())?;
    for (k, row) in output.rows.iter().enumerate() {
        let logits = output.logits.narrow(0, k, 1)?;
        let mask = truth.mask_of_row(row, datasets);
        let (annotated, others): (Vec<usize>, Vec<usize>) = (0..mask.len()).partition(|&channel| mask[channel]);
        let of = |&channel: &usize| logits.narrow(1, channel, 1);
        let others = others.iter().map(of).collect::<candle_core::Result<Vec<_>>>()?;
        // The softmax of the logarithm of a sum of exponentials is the sum of the probabilities.
        let mut merged = vec![Tensor::cat(&others, 1)?.log_sum_exp(1)?.unsqueeze(1)?];
        merged.extend(annotated.iter().map(of).collect::<candle_core::Result<Vec<_>>>()?);
        let classes: Vec<Class> = annotated.iter().filter_map(|&channel| row.channels[channel]).map(|about| about.class).collect();
        let loss = loss.loss(&Tensor::cat(&merged, 1)?, &truth.exclusive(row.sample, &classes)?)?;
        sum = (sum + (loss * row.share)?)?;
    }
    Ok(sum)
}

/// Probabilities `(1, classes, ..)` of a sigmoid.
pub(crate) fn sigmoid(logits: &Tensor) -> candle_core::Result<Tensor> {
    (((logits * 0.5)?.tanh()? + 1.0)? * 0.5)?.contiguous()
}
