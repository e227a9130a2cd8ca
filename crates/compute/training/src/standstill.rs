//! An end that the validation decides: each method gets as many steps as it takes until it gains no more.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::curves::CurveRow;
use crate::protocol::Select;
use crate::schedule::{AfterWarmup, LrSchedule};

/// Ends a training once its validation stands still. `epochs` then is the most that it takes. The learning rate stays until the
/// standstill and falls to zero along half a cosine after it, so that a training need not know its end beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UntilStill {
    /// The validation stands still after this many epochs without a gain.
    pub patience: u64,
    /// The least difference to the best score so far that counts as a gain, in the unit of `select`: loss, or Dice score.
    pub gain: f64,
    /// The epochs after the standstill, in which the rate falls.
    pub cool_down: u64,
}

impl UntilStill {
    /// After how many epochs the learning rate begins to fall, if it is known by now: at the standstill, or so that the training ends
    /// with epoch `most`.
    pub(crate) fn cools_from(self, select: Select, curve: &[CurveRow], most: u64) -> Option<u64> {
        let mut best: Option<(u64, f64)> = None;
        curve.iter().find_map(|row| {
            let score = select.score(&row.validation);
            let gains = best.map_or(!score.is_nan(), |(_, best)| select.gain(score, best) > self.gain);
            if gains {
                best = Some((row.epoch, score));
            }
            let waited = row.epoch - best.map_or(0, |(epoch, _)| epoch);
            (waited >= self.patience || row.epoch + self.cool_down >= most).then_some(row.epoch)
        })
    }

    /// The factor on the learning rate, at an iteration that is counted from the beginning of the fall.
    #[expect(clippy::cast_precision_loss, reason = "iteration counts are far below 2^52")]
    pub(crate) fn factor(self, iteration: u64, iterations_per_epoch: u64) -> f64 {
        AfterWarmup::cosine(iteration as f64 / (self.cool_down * iterations_per_epoch) as f64)
    }

    pub(crate) fn check(self, epochs: u64, schedule: LrSchedule) -> Result<()> {
        let Self { patience, gain, cool_down } = self;
        anyhow::ensure!(
            patience > 0 && cool_down > 0,
            "until_still: `patience` is {patience} and `cool_down` {cool_down}; both must be at least 1"
        );
        anyhow::ensure!(gain.is_finite() && gain >= 0.0, "until_still.gain is {gain}; it must be 0 or more");
        anyhow::ensure!(
            cool_down < epochs,
            "until_still.cool_down is {cool_down}, and the training has at most {epochs} epochs; raise `epochs`"
        );
        anyhow::ensure!(
            matches!(schedule, LrSchedule::Warmup { then: AfterWarmup::Constant, .. }),
            "until_still: this schedule falls towards an end that it knows beforehand; write `schedule: {{warmup: {{epochs: N}}}}`, whose rate stays"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::Validation;

    fn cools_from(still: UntilStill, dice: &[f64], most: u64) -> Option<u64> {
        let row = |(epoch, &dice): (u64, &f64)| CurveRow {
            epoch,
            learning_rate: 0.1,
            training_loss: 1.0,
            validation: Validation { loss: 1.0 - dice, dice, details: Vec::new() },
            seconds: 1.0,
            peak_mib: None,
        };
        let curve: Vec<CurveRow> = (1..).zip(dice).map(row).collect();
        let by_dice = still.cools_from(Select::HighestDice, &curve, most);
        assert_eq!(still.cools_from(Select::LowestLoss, &curve, most), by_dice, "a loss that mirrors the score");
        by_dice
    }

    #[test]
    fn small_gains_are_a_standstill_and_large_ones_begin_the_wait_anew() {
        let still = UntilStill { patience: 3, gain: 0.05, cool_down: 2 };
        assert_eq!(cools_from(still, &[0.1, 0.3, 0.31, 0.32], 100), None);
        assert_eq!(cools_from(still, &[0.1, 0.3, 0.31, 0.32, 0.33, 0.9], 100), Some(5), "three epochs after the second");
        assert_eq!(cools_from(still, &[0.1, 0.3, 0.31, 0.32, 0.4, 0.41], 100), None, "the fifth gains 0.1 on the second");
    }

    #[test]
    fn slow_gains_add_up() {
        let still = UntilStill { patience: 3, gain: 0.05, cool_down: 2 };
        let slow: Vec<f64> = (0..40).map(|epoch| 0.02 * f64::from(epoch)).collect();
        assert_eq!(cools_from(still, &slow, 100), None);
    }

    #[test]
    fn scores_that_are_no_numbers_are_no_gains() {
        let still = UntilStill { patience: 2, gain: 0.0, cool_down: 1 };
        assert_eq!(cools_from(still, &[f64::NAN], 100), None);
        assert_eq!(cools_from(still, &[f64::NAN, f64::NAN], 100), Some(2));
        assert_eq!(cools_from(still, &[f64::NAN, 0.1, f64::NAN, 0.2], 100), None);
    }

    #[test]
    fn the_last_epochs_are_those_of_the_fall() {
        let still = UntilStill { patience: 3, gain: 0.0, cool_down: 2 };
        let rising: Vec<f64> = (0..10).map(|epoch| 0.1 * f64::from(epoch)).collect();
        assert_eq!(cools_from(still, &rising, 10), Some(8));
        assert_eq!([0, 10, 20].map(|iteration| (still.factor(iteration, 10) * 1e9).round() / 1e9), [1.0, 0.5, 0.0]);
    }
}
