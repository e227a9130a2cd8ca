//! Draws from one random stream, in the forms that anatomy and acquisition need.

use random::rand::RngExt as _;
use random::{Stream, normal};

use crate::geometry::Point;

/// A stream of chance with convenient draws.
pub(crate) struct Draw(Stream);

impl Draw {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(stream)
    }

    /// Uniform between `low` and `high`.
    pub(crate) fn between(&mut self, [low, high]: [f32; 2]) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// Standard normal, cut at two deviations: an outlier must not tear the anatomy apart.
    pub(crate) fn normal(&mut self) -> f32 {
        normal(&mut self.0).clamp(-2.0, 2.0)
    }

    /// Standard normal, not cut.
    pub(crate) fn noise(&mut self) -> f32 {
        normal(&mut self.0)
    }

    /// Three normal draws of deviation `sigma`.
    pub(crate) fn normal_point(&mut self, sigma: f32) -> Point {
        [self.normal() * sigma, self.normal() * sigma, self.normal() * sigma]
    }

    /// A factor around 1 with relative deviation `sigma`, never negative.
    pub(crate) fn factor(&mut self, sigma: f32) -> f32 {
        (self.normal() * sigma).exp()
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.0.random::<f32>() < p
    }

    /// A whole number below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }
}
