//! From the window's 0..1 to what a network is shown.

use serde::{Deserialize, Serialize};

/// How a windowed intensity `v` in 0..1 is shown to a network: `(clip(v) − shift) / scale`. As it is by default (FLARE23); from −1
/// to 1 in DoDNet's paper; by percentiles, mean and deviation of the foreground in nnU-Net.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The least and the greatest value that is kept.
    pub clip: [f32; 2],
    /// What becomes 0.
    pub shift: f32,
    /// What becomes 1 above it.
    pub scale: f32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { clip: [0.0, 1.0], shift: 0.0, scale: 1.0 }
    }
}

impl Scaling {
    /// From −1 to 1.
    #[must_use]
    pub fn signed() -> Self {
        Self { shift: 0.5, scale: 0.5, ..Self::default() }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Scales values in place.
    pub fn apply(&self, values: &mut [f32]) {
        if !self.is_plain() {
            let [low, high] = self.clip;
            values.iter_mut().for_each(|value| *value = (value.clamp(low, high) - self.shift) / self.scale);
        }
    }
}
