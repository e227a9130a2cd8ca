//! Random changes of the image intensities during training (paper 3.2).
//!
//! What is drawn ([`Augmentation`]) is kept apart from what it does to a patch ([`Augmentation::apply`]), so that a
//! sample can be reproduced from its numbers alone.

use rand_distr::{Distribution as _, StandardNormal};
use random::rand::RngExt as _;
use random::{Stream, Streams};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ranges and probabilities of the intensity changes. Intensities are windowed to 0..1 before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Gaussian noise on every voxel.
    pub noise: NoiseConfig,
    /// Intensities are multiplied by `1 + f`, `f` uniform in ±`range` (MONAI's `RandScaleIntensity`).
    pub scale: RangeConfig,
    /// `f` uniform in ±`range` is added to all intensities (MONAI's `RandShiftIntensity`).
    pub shift: RangeConfig,
}

/// Gaussian noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// The chance that a sample gets noise.
    pub probability: f64,
    /// The standard deviation; by default its upper limit, as below.
    pub std: f64,
    /// Whether every sample gets exactly `std`. Off, the deviation is drawn uniformly from 0..`std`, which is what
    /// MONAI's `RandGaussianNoise` does by default.
    #[serde(default)]
    pub fixed_std: bool,
}

/// A uniform change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The largest change, up or down.
    pub range: f64,
}

impl AugmentConfig {
    /// Why the parameters make no sense, if they do not.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let parts = [
            ("noise", self.noise.probability, self.noise.std),
            ("scale", self.scale.probability, self.scale.range),
            ("shift", self.shift.probability, self.shift.range),
        ];
        for (name, probability, range) in parts {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!("augment.{name}.probability is {probability}; it must be in 0..1"));
            }
            if !(range.is_finite() && range >= 0.0) {
                return Err(format!("augment.{name}: the size {range} must be 0 or more"));
            }
        }
        Ok(())
    }

    /// Draws what happens to one sample. Every number is drawn whether it is used or not, so that a change of one
    /// probability leaves the other draws as they were.
    pub fn draw(&self, stream: &mut Stream) -> Augmentation {
        let mut chance = |probability: f64| stream.random::<f64>() < probability;
        let (noisy, scaled, shifted) = (chance(self.noise.probability), chance(self.scale.probability), chance(self.shift.probability));
        let mut symmetric = |range: f64| range * (2.0 * stream.random::<f64>() - 1.0);
        let (scale, shift) = (symmetric(self.scale.range), symmetric(self.shift.range));
        let share = if self.noise.fixed_std { 1.0 } else { stream.random::<f64>() };
        #[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
        Augmentation {
            noise: noisy.then(|| Noise { std: (self.noise.std * share) as f32, seed: stream.random() }),
            scale: if scaled { scale as f32 } else { 0.0 },
            shift: if shifted { shift as f32 } else { 0.0 },
        }
    }
}

/// What was drawn for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// The noise, if there is any.
    pub noise: Option<Noise>,
    /// Intensities are multiplied by `1 + scale`.
    pub scale: f32,
    /// Added to all intensities.
    pub shift: f32,
}

/// Gaussian noise of mean 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Standard deviation.
    pub std: f32,
    /// The root of the noise's own streams.
    pub seed: u64,
}

/// Voxels that share one noise stream: a constant, so that the noise does not depend on the number of threads.
const NOISE_CHUNK: usize = 1 << 16;

impl Augmentation {
    /// Noise first, then scaling, then shifting: the order in which the paper names them.
    pub fn apply(&self, image: &mut [f32]) {
        let gain = 1.0 + self.scale;
        let shift = self.shift;
        match self.noise {
            Some(Noise { std, seed }) => {
                let streams = Streams::new(seed);
                image.par_chunks_mut(NOISE_CHUNK).enumerate().for_each(|(chunk, values)| {
                    let mut stream = streams.stream("noise", &[chunk as u64]);
                    for value in values {
                        let normal: f32 = StandardNormal.sample(&mut stream);
                        *value = (*value + std * normal) * gain + shift;
                    }
                });
            }
            None if gain != 1.0 || shift != 0.0 => image.iter_mut().for_each(|value| *value = *value * gain + shift),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper() -> AugmentConfig {
        AugmentConfig {
            noise: NoiseConfig { probability: 0.5, std: 0.05, fixed_std: false },
            scale: RangeConfig { probability: 0.5, range: 0.1 },
            shift: RangeConfig { probability: 0.5, range: 0.1 },
        }
    }

    fn draws(config: AugmentConfig) -> Vec<Augmentation> {
        (0..4000).map(|i| config.draw(&mut Streams::new(3).stream("augment", &[i]))).collect()
    }

    #[test]
    fn each_change_happens_to_half_of_the_samples_and_keeps_to_its_range() {
        let draws = draws(paper());
        let share = |what: &dyn Fn(&Augmentation) -> bool| draws.iter().filter(|a| what(a)).count() as f64 / draws.len() as f64;
        for share in [share(&|a| a.noise.is_some()), share(&|a| a.scale != 0.0), share(&|a| a.shift != 0.0)] {
            assert!((share - 0.5).abs() < 0.04, "{share}");
        }
        assert!(draws.iter().all(|a| a.scale.abs() <= 0.1 && a.shift.abs() <= 0.1 && a.noise.is_none_or(|n| n.std <= 0.05)));
        // Both ends of the ranges are reached, and the changes do not go together.
        assert!(draws.iter().any(|a| a.scale < -0.095) && draws.iter().any(|a| a.scale > 0.095));
        assert!((share(&|a| a.scale != 0.0 && a.shift != 0.0) - 0.25).abs() < 0.04);
    }

    #[test]
    fn the_deviation_of_the_noise_is_drawn_as_in_monai_or_fixed_on_request() {
        let stds = |config| draws(config).into_iter().filter_map(|a| a.noise).map(|n| f64::from(n.std)).collect::<Vec<_>>();
        let drawn = stds(paper());
        assert!((drawn.iter().sum::<f64>() / drawn.len() as f64 - 0.025).abs() < 0.002);
        let fixed = stds(AugmentConfig { noise: NoiseConfig { fixed_std: true, ..paper().noise }, ..paper() });
        assert!(fixed.iter().all(|&std| std == f64::from(0.05_f32)));
    }

    #[test]
    fn noise_has_mean_zero_the_asked_deviation_and_no_echo() {
        let mut image = vec![0.0_f32; 300_000];
        Augmentation { noise: Some(Noise { std: 0.05, seed: 9 }), scale: 0.0, shift: 0.0 }.apply(&mut image);
        let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / image.len() as f64;
        let var = image.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / image.len() as f64;
        assert!(mean.abs() < 5e-4 && (var.sqrt() - 0.05).abs() < 5e-4, "mean {mean}, deviation {}", var.sqrt());
        assert_ne!(image[0], image[NOISE_CHUNK], "each chunk has a stream of its own");
    }

    #[test]
    fn noise_does_not_depend_on_the_number_of_threads() {
        let noisy = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut image = vec![0.5_f32; 3 * NOISE_CHUNK + 17];
            pool.install(|| Augmentation { noise: Some(Noise { std: 0.05, seed: 9 }), scale: 0.1, shift: -0.1 }.apply(&mut image));
            image
        };
        assert_eq!(noisy(1), noisy(3));
    }

    #[test]
    fn scaling_comes_before_shifting() {
        let mut image = vec![0.5, 1.0];
        Augmentation { noise: None, scale: 0.1, shift: -0.05 }.apply(&mut image);
        assert_eq!(image, [0.5 * 1.1 - 0.05, 1.1 - 0.05]);
    }

    #[test]
    fn a_probability_above_one_is_refused() {
        let mut config = paper();
        config.shift.probability = 50.0;
        assert_eq!(config.check().unwrap_err(), "augment.shift.probability is 50; it must be in 0..1");
    }
}
