//! Losses over what is annotated.

use candle_core::{Device, Tensor};
use ops::DiceCe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use training::Batch;

use crate::annotation::{Class, Datasets};
use crate::model::{Model, Output, Row};
use crate::mutual::{self, Difference, Similarity};

/// What the samples of a batch are labelled with.
pub struct Truth<'a> {
    /// `u8 (b, d, h, w)`, 0 to 13.
    pub organs: &'a Tensor,
    /// `u8 (b, d, h, w)`, 0 or 1.
    pub cancer: &'a Tensor,
    /// The dataset of each sample, which says what of this is annotated.
    pub datasets: &'a [usize],
}

impl<'a> Truth<'a> {
    /// The labels of a batch whose samples are of these datasets.
    ///
    /// # Errors
    /// When the batch was assembled without one of the maps.
    pub fn of(batch: &'a Batch, datasets: &'a [usize]) -> candle_core::Result<Self> {
        Ok(Self { organs: batch.organs()?, cancer: batch.cancer()?, datasets })
    }

    /// Where a sample shows each of some classes: `u8 (1, classes, d, h, w)`.
    pub(crate) fn shows(&self, sample: usize, classes: &[Class]) -> candle_core::Result<Tensor> {
        let maps = classes.iter().map(|class| match class.is_tumor() {
            true => self.cancer.narrow(0, sample, 1),
            false => self.organs.narrow(0, sample, 1)?.eq(class.label()),
        });
        Tensor::stack(&maps.collect::<candle_core::Result<Vec<_>>>()?, 1)
    }

    /// Where the samples of `rows` show their channel's class: `u8 (rows, channels, size..)`, for a size that may be lower than
    /// that of the labels (of which the nearest count then). Channels without a class have zeros.
    pub(crate) fn targets(&self, output: &Output) -> candle_core::Result<Tensor> {
        let size = &output.logits.dims()[2..];
        let (organs, cancer) = (at_size(self.organs, size)?, at_size(self.cancer, size)?);
        let nothing = organs.narrow(0, 0, 1)?.zeros_like()?;
        let channel = |sample: usize, class: Option<Class>| match class {
            None => Ok(nothing.clone()),
            Some(class) if class.is_tumor() => cancer.narrow(0, sample, 1),
            Some(class) => organs.narrow(0, sample, 1)?.eq(class.label()),
        };
        let mut rows = Vec::with_capacity(output.rows.len());
        for row in &output.rows {
            let channels = row.channels.iter().map(|about| channel(row.sample, about.map(|about| about.class)));
            rows.push(Tensor::stack(&channels.collect::<candle_core::Result<Vec<_>>>()?, 1)?);
        }
        Tensor::cat(&rows, 0)
    }

    /// Which channels are annotated: a row of truths for each row of the output.
    pub(crate) fn mask(&self, output: &Output, datasets: &Datasets) -> Vec<Vec<bool>> {
        let annotated = |sample: usize, class: Class| datasets.classes(self.datasets[sample]).contains(&class);
        let row = |row: &Row| row.channels.iter().map(|about| about.is_some_and(|about| annotated(row.sample, about.class))).collect();
        output.rows.iter().map(row).collect()
    }
}

/// Labels `(b, d, h, w)` at a size, the nearest ones.
fn at_size(labels: &Tensor, size: &[usize]) -> candle_core::Result<Tensor> {
    let mut labels = labels.clone();
    for (axis, &to) in size.iter().enumerate() {
        let from = labels.dim(axis + 1)?;
        if from != to {
            let nearest = (0..to).map(|i| (i * from / to) as u32);
            labels = labels.index_select(&Tensor::from_iter(nearest, labels.device())?, axis + 1)?;
        }
    }
    Ok(labels)
}

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
    /// DoDNet's (its Eq. 8): for each class one minus the Dice score of a sample, with 1 added to the denominator, and the mean
    /// binary cross-entropy, both averaged over the samples in which the class is annotated; then averaged over the classes.
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
                    let of = if self.by == Objective::Mean { mean } else { summed };
                    of(self.dice, &sums, &mask, voxels)?
                }
            };
            sum = (sum + (loss * output.weight)?)?;
        }
        Ok(sum)
    }
}

/// `values` by row and channel, as a tensor `(rows, channels)`.
fn by_channel(mask: &[Vec<bool>], device: &Device, value: impl Fn(usize) -> f32) -> candle_core::Result<Tensor> {
    let channels = mask.first().map_or(0, Vec::len);
    let values = mask.iter().flat_map(|row| row.iter().enumerate().map(|(k, &on)| if on { value(k) } else { 0.0 }));
    Tensor::from_iter(values.collect::<Vec<_>>(), device)?.reshape((mask.len(), channels))
}

pub(crate) fn part(sums: &Tensor, which: usize) -> candle_core::Result<Tensor> {
    sums.narrow(2, which, 1)?.squeeze(2)
}

#[expect(clippy::cast_precision_loss, reason = "voxels of a patch and samples of a batch are far below 2^24")]
pub(crate) fn mean(dice: Dice, sums: &Tensor, mask: &[Vec<bool>], voxels: usize) -> candle_core::Result<Tensor> {
    let channels = mask.first().map_or(0, Vec::len);
    let samples: Vec<usize> = (0..channels).map(|k| mask.iter().filter(|row| row[k]).count()).collect();
    let classes = samples.iter().filter(|&&n| n > 0).count();
    let weights = by_channel(mask, sums.device(), |k| 1.0 / (samples[k] * classes) as f32)?;
    let score = ((part(sums, 0)? * 2.0)? / ((part(sums, dice.predicted())? + part(sums, 2)?)? + 1.0)?)?;
    let each = ((1.0 - score)? + (part(sums, 3)? / voxels as f64)?)?;
    (each * weights)?.sum_all()
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn summed(dice: Dice, sums: &Tensor, mask: &[Vec<bool>], voxels: usize) -> candle_core::Result<Tensor> {
    const SMOOTH: f64 = 1e-5;
    let on = by_channel(mask, sums.device(), |_| 1.0)?;
    let of_batch = |which: usize| (part(sums, which)? * &on)?.sum(0);
    let annotated = on.max(0)?;
    let score = (((of_batch(0)? * 2.0)? + SMOOTH)? / ((of_batch(dice.predicted())? + of_batch(2)?)? + SMOOTH)?)?;
    let entropy = (of_batch(3)?.sum_all()? / voxels as f64)?;
    entropy - (score * annotated)?.sum_all()?
}

/// The mean over the samples of the loss of their annotated classes and of a background that holds all others.
#[expect(clippy::cast_precision_loss, reason = "batches are small")]
fn merged(dice: Dice, output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let loss = DiceCe { squared: dice == Dice::Squared, batch: false };
    let mut sum = Tensor::zeros((), candle_core::DType::F32, output.logits.device())?;
    for row in &output.rows {
        let logits = output.logits.narrow(0, row.sample, 1)?;
        let annotated = datasets.classes(truth.datasets[row.sample]);
        let others: Vec<Tensor> = (0..logits.dim(1)?)
            .filter(|&channel| !annotated.iter().any(|class| usize::from(class.label()) == channel))
            .map(|channel| logits.narrow(1, channel, 1))
            .collect::<candle_core::Result<_>>()?;
        // The softmax of the logarithm of a sum of exponentials is the sum of the probabilities.
        let mut channels = vec![Tensor::cat(&others, 1)?.log_sum_exp(1)?.unsqueeze(1)?];
        let mut target = truth.organs.narrow(0, row.sample, 1)?.zeros_like()?;
        for (place, class) in annotated.iter().enumerate() {
            channels.push(logits.narrow(1, usize::from(class.label()), 1)?);
            let here = match class.is_tumor() {
                true => truth.cancer.narrow(0, row.sample, 1)?,
                false => truth.organs.narrow(0, row.sample, 1)?.eq(class.label())?,
            };
            // The classes are in the order of labels: the tumor, the last, wins over an organ in the same voxel.
            let place = Tensor::full(place as u8 + 1, here.shape(), here.device())?;
            target = here.where_cond(&place, &target)?;
        }
        sum = (sum + loss.loss(&Tensor::cat(&channels, 1)?, &target)?)?;
    }
    sum / output.rows.len() as f64
}

/// Probabilities `(1, classes, ..)` of a sigmoid.
pub(crate) fn sigmoid(logits: &Tensor) -> candle_core::Result<Tensor> {
    (((logits * 0.5)?.tanh()? + 1.0)? * 0.5)?.contiguous()
}
