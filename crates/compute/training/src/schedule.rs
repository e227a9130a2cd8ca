//! How the learning rate goes over the course of training (paper, Tables 2 and 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The course of the learning rate, as a pure function of the iteration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LrSchedule {
    /// Polynomial decay to zero, for each iteration: `lr · (1 − iteration / total)^power` (Table 3, power 0.9).
    Polynomial {
        /// The exponent.
        power: f64,
    },
    /// The same, with one rate for all steps of an epoch: `lr · (1 − epoch / epochs)^power` (DoDNet, MultiTalent: power 0.9).
    PolynomialByEpoch {
        /// The exponent.
        power: f64,
    },
    /// A linear rise over the first epochs (Table 2: 5 epochs for M_c, 10 for M_o2), up to the full rate at the last
    /// iteration of the warm-up.
    Warmup {
        /// The length of the rise.
        epochs: u64,
        /// What follows. The paper tells of the warm-up alone; a constant rate adds nothing to what it says.
        #[serde(default)]
        then: AfterWarmup,
    },
}

/// The rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterWarmup {
    /// It stays.
    #[default]
    Constant,
    /// It falls to zero along half a cosine.
    Cosine,
}

impl AfterWarmup {
    /// Half a cosine, from 1 to 0, at a part of the way.
    pub(crate) fn cosine(way: f64) -> f64 {
        0.5 * (1.0 + (std::f64::consts::PI * way.clamp(0.0, 1.0)).cos())
    }
}

impl LrSchedule {
    /// The factor, in 0..=1, on the initial learning rate at an `iteration` counted from 0 over all epochs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "iteration counts are far below 2^52")]
    pub fn factor(self, iteration: u64, iterations_per_epoch: u64, total_epochs: u64) -> f64 {
        let total = (iterations_per_epoch * total_epochs) as f64;
        let now = iteration as f64;
        match self {
            Self::Polynomial { power } => (1.0 - now / total).max(0.0).powf(power),
            Self::PolynomialByEpoch { power } => {
                let epoch = (iteration / iterations_per_epoch.max(1)) as f64;
                (1.0 - epoch / total_epochs as f64).max(0.0).powf(power)
            }
            Self::Warmup { epochs, then } => {
                let rise = (epochs * iterations_per_epoch) as f64;
                match then {
                    _ if now < rise => (now + 1.0) / rise,
                    AfterWarmup::Constant => 1.0,
                    AfterWarmup::Cosine => AfterWarmup::cosine((now - rise) / (total - rise)),
                }
            }
        }
    }

    /// Why the schedule makes no sense, if it does not.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(self, total_epochs: u64) -> Result<(), String> {
        match self {
            Self::Polynomial { power } | Self::PolynomialByEpoch { power } if !(power.is_finite() && power >= 0.0) => {
                Err(format!("schedule: the power of the polynomial is {power}; it must be 0 or more"))
            }
            Self::Warmup { epochs, .. } if epochs > total_epochs => {
                Err(format!("schedule.warmup.epochs is {epochs}, more than the {total_epochs} epochs of the training"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomial_decay_starts_full_and_ends_at_zero() {
        let poly = LrSchedule::Polynomial { power: 0.9 };
        // PyTorch: PolynomialLR(total_iters=30, power=0.9) at lr 5e-4 gives these rates at steps 0, 1, 15, 29.
        for (step, rate) in [(0, 5e-4), (1, 4.849_746_889_841_331e-4), (15, 2.679_433_656_340_734e-4), (29, 2.341_859_710_806_079e-5)] {
            assert!((5e-4 * poly.factor(step, 10, 3) - rate).abs() < 1e-15, "step {step}: {}", 5e-4 * poly.factor(step, 10, 3));
        }
        assert_eq!(poly.factor(30, 10, 3), 0.0);
    }

    #[test]
    fn decay_by_epoch_stays_within_an_epoch() {
        // DoDNet's lr_poly(0.01, epoch, 1000, 0.9) at epochs 0, 1, 500 and 999.
        let poly = LrSchedule::PolynomialByEpoch { power: 0.9 };
        for (epoch, rate) in [(0, 0.01), (1, 0.009_990_999_549_834_914), (500, 0.005_358_867_312_681_466), (999, 1.995_262_314_968_881e-5)]
        {
            for step in [0, 249] {
                assert!((0.01 * poly.factor(epoch * 250 + step, 250, 1000) - rate).abs() < 1e-15, "epoch {epoch}");
            }
        }
    }

    #[test]
    fn warm_up_rises_in_equal_steps_and_then_stays() {
        let warm = LrSchedule::Warmup { epochs: 5, then: AfterWarmup::Constant };
        assert_eq!(warm.factor(0, 4, 60), 1.0 / 20.0);
        assert_eq!(warm.factor(9, 4, 60), 0.5);
        assert_eq!(warm.factor(19, 4, 60), 1.0);
        assert_eq!(warm.factor(239, 4, 60), 1.0);
    }

    #[test]
    fn the_cosine_after_warm_up_meets_one_half_midway() {
        let warm = LrSchedule::Warmup { epochs: 10, then: AfterWarmup::Cosine };
        assert_eq!(warm.factor(10, 1, 30), 1.0);
        assert!((warm.factor(20, 1, 30) - 0.5).abs() < 1e-12);
        assert!(warm.factor(30, 1, 30).abs() < 1e-12);
    }

    #[test]
    fn no_warm_up_is_a_constant_rate() {
        assert_eq!(LrSchedule::Warmup { epochs: 0, then: AfterWarmup::Constant }.factor(0, 4, 60), 1.0);
    }

    #[test]
    fn a_schedule_reads_as_in_the_pipeline_file() {
        let read = |text| serde_json::from_str::<LrSchedule>(text);
        assert_eq!(read(r#"{"polynomial": {"power": 0.9}}"#).unwrap(), LrSchedule::Polynomial { power: 0.9 });
        assert_eq!(read(r#"{"warmup": {"epochs": 5}}"#).unwrap(), LrSchedule::Warmup { epochs: 5, then: AfterWarmup::Constant });
        assert!(read(r#"{"warmup": {"epochs": 5, "power": 1}}"#).is_err());
        assert!(LrSchedule::Warmup { epochs: 9, then: AfterWarmup::Cosine }.check(5).unwrap_err().contains("9, more than the 5"));
    }
}
