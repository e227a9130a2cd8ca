//! The protocol of a training: how long, how fast, by which optimizer, and which epoch is kept (paper 3.2, Tables 2 and 3).

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Best;
use crate::curves::Validation;
use crate::optim::OptimizerConfig;
use crate::precision::TrainingPrecision;
use crate::schedule::LrSchedule;
use crate::standstill::UntilStill;

/// By what the best epoch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The lowest validation loss (paper 3.2: the 3-D networks, by their Dice loss).
    LowestLoss,
    /// The highest validation Dice score (paper 3.2: the 2-D networks).
    HighestDice,
    /// The last epoch, whatever its scores (DoDNet, MultiTalent).
    LastEpoch,
}

impl Select {
    pub(crate) fn score(self, validation: &Validation) -> f64 {
        match self {
            Self::LowestLoss | Self::LastEpoch => validation.loss,
            Self::HighestDice => validation.dice,
        }
    }

    /// Of equal epochs the earlier one is kept. A score that is no number is never better.
    pub(crate) fn is_better(self, score: f64, best: Option<Best>) -> bool {
        match (self, best) {
            (Self::LastEpoch, _) => true,
            (_, None) => !score.is_nan(),
            (Self::LowestLoss | Self::HighestDice, Some(best)) => self.gain(score, best.score) > 0.0,
        }
    }

    /// How much better a score is than another.
    pub(crate) fn gain(self, score: f64, other: f64) -> f64 {
        match self {
            Self::LowestLoss | Self::LastEpoch => other - score,
            Self::HighestDice => score - other,
        }
    }
}

/// The protocol of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Passes over the training cases.
    pub epochs: u64,
    /// Ends the training once its validation stands still. Off in the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_still: Option<UntilStill>,
    /// Samples that make one step of the optimizer.
    pub batch_size: usize,
    /// Samples that are on the device at once; gradients are summed over the parts of a batch. Changes rounding and
    /// nothing else; has no place beside `batch_dice`. Off: the whole batch at once.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Whether a class's Dice score is that of the whole batch, which then is not taken in parts, and not the mean
    /// over the samples. Of the slices of a torso most lack most organs, and by the loss of such a slice alone a class can
    /// only shrink; small organs come up sooner by the score of a batch. Equation 1 of the paper leaves open which, and
    /// MONAI's default, which the paper most likely used, is the sample: off.
    #[serde(default)]
    pub batch_dice: bool,
    /// Ends epochs early, after this many steps. Off in the paper.
    #[serde(default)]
    pub max_steps_per_epoch: Option<u64>,
    /// Initial learning rate.
    pub learning_rate: f64,
    /// The course of the learning rate.
    pub schedule: LrSchedule,
    /// How gradients move parameters; AdamW in the paper.
    #[serde(default, skip_serializing_if = "OptimizerConfig::is_default")]
    #[schemars(extend("default" = "adam_w"))]
    pub optimizer: OptimizerConfig,
    /// The greatest length of the gradient of a step, over all parameters; longer ones are shortened. Off in the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_gradient: Option<f64>,
    /// Weight decay: decoupled with AdamW, a part of the gradient with `sgd`.
    pub weight_decay: f64,
    /// By what the best epoch is told.
    pub select: Select,
    /// What the large convolutions multiply; single precision in the paper.
    #[serde(default, skip_serializing_if = "TrainingPrecision::is_default")]
    #[schemars(extend("default" = "f32"))]
    pub precision: TrainingPrecision,
}

impl FitConfig {
    /// Refuses more processes than a batch has parts.
    ///
    /// # Errors
    /// Says how many it has, and what to do.
    pub fn check_processes(&self, processes: usize) -> Result<()> {
        let parts = self.batch_size.div_ceil(self.micro_batch.unwrap_or(self.batch_size).max(1));
        anyhow::ensure!(
            processes <= parts,
            "processes is {processes}, and a batch of {} samples has {parts} part{} to share out; take at most {parts}, or a smaller \
             `fit.micro_batch`, which is the size of a part (and changes rounding)",
            self.batch_size,
            if parts == 1 { "" } else { "s" }
        );
        Ok(())
    }

    /// The loss of the trainings.
    #[must_use]
    pub fn loss(&self) -> ops::DiceCe {
        ops::DiceCe { squared: true, batch: self.batch_dice }
    }

    /// Why the parameters make no sense, if they do not.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size as u64),
            ("micro_batch", self.micro_batch.map_or(1, |n| n as u64)),
            ("max_steps_per_epoch", self.max_steps_per_epoch.unwrap_or(1)),
        ];
        for (name, value) in positive {
            anyhow::ensure!(value > 0, "{name} is 0; it must be at least 1");
        }
        anyhow::ensure!(
            !self.batch_dice || self.micro_batch.is_none_or(|size| size >= self.batch_size),
            "micro_batch: `batch_dice` takes the Dice score of the whole batch, which parts of it do not have; leave one of the two out"
        );
        let rate = self.learning_rate;
        anyhow::ensure!(rate.is_finite() && rate > 0.0, "learning_rate is {rate}; it must be above 0");
        let decay = self.weight_decay;
        anyhow::ensure!(decay.is_finite() && decay >= 0.0, "weight_decay is {decay}; it must be 0 or more");
        let longest = self.clip_gradient.unwrap_or(1.0);
        anyhow::ensure!(longest.is_finite() && longest > 0.0, "clip_gradient is {longest}; it must be above 0");
        self.until_still.map_or(Ok(()), |still| still.check(self.epochs, self.schedule))?;
        self.optimizer.check().map_err(anyhow::Error::msg)?;
        self.schedule.check(self.epochs).map_err(anyhow::Error::msg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_that_is_kept_is_the_best_or_the_last() {
        let kept = |select: Select, scores: &[f64]| {
            let mut best: Option<Best> = None;
            for (epoch, &score) in (1..).zip(scores) {
                if select.is_better(score, best) {
                    best = Some(Best { epoch, score });
                }
            }
            best.map(|best| best.epoch)
        };
        let scores = [f64::NAN, 0.5, 0.2, 0.9, 0.3, f64::NAN];
        assert_eq!(
            [Select::LowestLoss, Select::HighestDice, Select::LastEpoch].map(|select| kept(select, &scores)),
            [Some(3), Some(4), Some(6)]
        );
    }
}
