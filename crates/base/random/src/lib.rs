//! Random streams by purpose: one seed for the whole run, and a separate generator for each use of chance.
//!
//! A stream is named by what it is for and by where the run stands (`"augment"`, epoch 3, sample 17). It never
//! depends on how many numbers another purpose has drawn, on the number of threads, or on the time of day, so a
//! run that is killed and resumed draws the same numbers as one that is not.

pub use rand;
use rand::{RngExt as _, SeedableRng as _};
pub use rand_chacha::ChaCha8Rng as Stream;

/// The root of all randomness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The generator for one `purpose` at one place of the run, such as `("augment", &[epoch, sample])`.
    #[must_use]
    pub fn stream(&self, purpose: &str, place: &[u64]) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("partial-label segmentation random stream 1");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        for index in place {
            hasher.update(&index.to_le_bytes());
        }
        Stream::from_seed(*hasher.finalize().as_bytes())
    }
}

/// A draw from the standard normal distribution (Box-Muller, one of the pair).
pub fn normal(stream: &mut Stream) -> f32 {
    let radius = (-2.0 * (1.0 - stream.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * stream.random::<f32>()).cos()
}

/// A shuffle of `0..n`.
pub fn permutation(stream: &mut Stream, n: usize) -> Vec<usize> {
    use rand::seq::SliceRandom as _;
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(stream);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_purpose_and_place_alone() {
        let draw = |seed, purpose: &str, place: &[u64]| Streams::new(seed).stream(purpose, place).random::<u64>();
        assert_eq!(draw(1, "noise", &[2, 3]), draw(1, "noise", &[2, 3]));
        assert_ne!(draw(1, "noise", &[2, 3]), draw(2, "noise", &[2, 3]));
        assert_ne!(draw(1, "noise", &[2, 3]), draw(1, "crop", &[2, 3]));
        assert_ne!(draw(1, "noise", &[2, 3]), draw(1, "noise", &[3, 2]));
    }

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one() {
        let mut stream = Streams::new(7).stream("test", &[]);
        let draws: Vec<f32> = (0..20_000).map(|_| normal(&mut stream)).collect();
        let mean = draws.iter().sum::<f32>() / 20_000.0;
        let variance = draws.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = permutation(&mut Streams::new(1).stream("order", &[0]), 100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
