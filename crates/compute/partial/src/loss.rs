//! Losses over what is annotated.

use candle_core::{DType, Device, Tensor};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::Datasets;
use crate::class::Class;
use crate::model::{Model, Output};
use crate::mutual::{self, Difference, Similarity};
use crate::truth::Truth;
use crate::weights::Weights;
use crate::whole::Whole;

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
    /// DoDNet's (its Eq. 8): for each class of each sample one minus the Dice score, with 1 added to the denominator, and the mean
    /// binary cross-entropy; averaged over what is annotated, group by group (organs and tumors, its authors' two channels).
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

impl Loss {
    /// Whether the loss of a part of a batch depends on what the network says of the other parts: then [`Loss::sums`] of all of
    /// them are needed before it.
    #[must_use]
    pub fn is_of_whole_batches(self) -> bool {
        self.by == Objective::Sum
    }

    /// The loss of the outputs of a model for a batch.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn of(self, model: &Model, outputs: &[Output], truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
        self.of_part(model, outputs, truth, datasets, (&Whole::of(truth.datasets), 0))
    }

    /// The same for a part of a batch, by its place among the parts. The losses of all parts, and their gradients, sum to those of
    /// the batch, however it is cut.
    ///
    /// # Errors
    /// As [`Loss::of`].
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub fn of_part(
        self,
        model: &Model,
        outputs: &[Output],
        truth: &Truth<'_>,
        datasets: &Datasets,
        (whole, part): (&Whole, usize),
    ) -> candle_core::Result<Tensor> {
        let samples = whole.datasets().len() as f64;
        match self.by {
            Objective::Difference(weights) => mutual::difference(weights, self.dice, model, outputs, truth, datasets)? / samples,
            Objective::Similarity(weights) => mutual::similarity(weights, self.dice, model, outputs, truth, datasets)? / samples,
            Objective::Merged => sum(outputs, |_, output| merged(self.dice, output, truth, datasets)? / samples),
            Objective::Mean => {
                let weights = Weights::of(model, datasets, whole.datasets());
                sum(outputs, |_, output| self.mean_of(&weights, output, truth, datasets))
            }
            Objective::Sum => sum(outputs, |place, output| {
                let (own, others) = (of_batch(output, truth, datasets)?, whole.others(part, place)?);
                summed(self.dice, &own, others.as_ref(), truth.datasets.len() as f64 / samples, output.voxels())
            }),
        }
    }

    /// For each output what the loss of the other parts of a batch takes from a part, without its graph.
    ///
    /// # Errors
    /// As [`Loss::of`].
    pub fn sums(self, outputs: &[Output], truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Vec<Tensor>> {
        outputs.iter().map(|output| Ok(of_batch(output, truth, datasets)?.detach())).collect()
    }

    fn mean_of(self, weights: &Weights, output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
        let of_row = |(row, mask): (&crate::Row, Vec<bool>)| -> Vec<f64> {
            let weight = |class: Class| weights.weight(truth.datasets[row.sample], class);
            row.channels.iter().zip(mask).map(|(about, on)| about.filter(|_| on).map_or(0.0, |about| weight(about.class))).collect()
        };
        let weights: Vec<Vec<f64>> = output.rows.iter().zip(truth.mask(output, datasets)).map(of_row).collect();
        mean(self.dice, &truth.sums(output)?, &weights, output.voxels())
    }
}

/// The losses of all outputs, each as far as its level counts.
fn sum(outputs: &[Output], loss: impl Fn(usize, &Output) -> candle_core::Result<Tensor>) -> candle_core::Result<Tensor> {
    let mut sum = Tensor::zeros((), DType::F32, outputs[0].logits.device())?;
    for (place, output) in outputs.iter().enumerate() {
        sum = (sum + (loss(place, output)? * output.weight)?)?;
    }
    Ok(sum)
}

/// Values by row and channel as a tensor `(rows, channels)`.
#[expect(clippy::cast_possible_truncation, reason = "losses are single precision")]
fn by_channel(values: &[Vec<f64>], device: &Device) -> candle_core::Result<Tensor> {
    let channels = values.first().map_or(0, Vec::len);
    Tensor::from_iter(values.iter().flatten().map(|&value| value as f32), device)?.reshape((values.len(), channels))
}

pub(crate) fn part(sums: &Tensor, which: usize) -> candle_core::Result<Tensor> {
    sums.narrow(candle_core::D::Minus1, which, 1)?.squeeze(candle_core::D::Minus1)
}

/// DoDNet's loss of rows whose channels have these weights, 0 where they are not annotated.
#[expect(clippy::cast_precision_loss, reason = "voxels of a patch are far below 2^52")]
pub(crate) fn mean(dice: Dice, sums: &Tensor, weights: &[Vec<f64>], voxels: usize) -> candle_core::Result<Tensor> {
    let score = ((part(sums, 0)? * 2.0)? / ((part(sums, dice.predicted())? + part(sums, 2)?)? + 1.0)?)?;
    let each = ((1.0 - score)? + (part(sums, 3)? / voxels as f64)?)?;
    (each * by_channel(weights, sums.device())?)?.sum_all()
}

/// The place of the number of samples that have a class annotated, behind the sums.
const ANNOTATED: usize = 5;

/// For each channel the sums over the samples that have it annotated, and their number: `(channels, 6)`.
fn of_batch(output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let mask = truth.mask(output, datasets);
    let on: Vec<Vec<f64>> = mask.iter().map(|row| row.iter().map(|&on| f64::from(u8::from(on))).collect()).collect();
    let on = by_channel(&on, output.logits.device())?.unsqueeze(2)?;
    let sums = truth.sums(output)?.broadcast_mul(&on)?;
    Tensor::cat(&[sums, on], 2)?.sum(0)
}

/// MultiTalent's loss of a part that holds this `share` of the batch's samples, beside others.
#[expect(clippy::cast_precision_loss, reason = "voxels of a patch are far below 2^52")]
fn summed(dice: Dice, own: &Tensor, others: Option<&Tensor>, share: f64, voxels: usize) -> candle_core::Result<Tensor> {
    const SMOOTH: f64 = 1e-5;
    let all = others.map_or_else(|| Ok(own.clone()), |others| own + others)?;
    let score = (((part(&all, 0)? * 2.0)? + SMOOTH)? / ((part(&all, dice.predicted())? + part(&all, 2)?)? + SMOOTH)?)?;
    let mut scores = (score * part(&all, ANNOTATED)?.gt(0.0)?.to_dtype(DType::F32)?)?.sum_all()?;
    if others.is_some() {
        // Each part knows the score of the batch: its whole slope by what is in the part, and of its value the part's share.
        scores = (&scores - (scores.detach() * (1.0 - share))?)?;
    }
    (part(own, 3)?.sum_all()? / voxels as f64)? - scores
}

/// The sum over the samples of the loss of their annotated classes and of a background that holds all others.
fn merged(dice: Dice, output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let loss = DiceCe { squared: dice == Dice::Squared, batch: false };
    let mut sum = Tensor::zeros((), DType::F32, output.logits.device())?;
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
        let (labels, weights) = (truth.exclusive(row.sample, &classes)?, truth.least_weights(row.sample)?);
        let target = ops::Target { labels: &labels, weights: weights.as_ref() };
        sum = (sum + loss.loss(&Tensor::cat(&merged, 1)?, target)?)?;
    }
    Ok(sum)
}

/// Probabilities `(1, classes, ..)` of a sigmoid.
pub(crate) fn sigmoid(logits: &Tensor) -> candle_core::Result<Tensor> {
    (((logits * 0.5)?.tanh()? + 1.0)? * 0.5)?.contiguous()
}
