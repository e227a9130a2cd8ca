//! What trust in labels comes to in training.

use candle_core::Tensor;
use labels::FULL_TRUST;
use prepared::IndexEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Targets;

/// How the trust that `pseudo-label` has put into labels is used. Where there is none, as of true labels, a label counts fully.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Not at all: every label counts the same, as in the paper.
    #[default]
    Unused,
    /// A label with any trust counts fully, one without is ignored.
    Hard,
    /// A label counts as far as it is trusted.
    Soft,
}

impl Trust {
    /// Whether trust changes nothing; for `skip_serializing_if`.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        *self == Self::Unused
    }

    /// How much a label counts, from 0 to 1.
    pub(crate) fn weight(self, trust: u8) -> f32 {
        match self {
            Self::Unused => 1.0,
            Self::Hard => f32::from(u8::from(trust > 0)),
            Self::Soft => f32::from(trust) / f32::from(FULL_TRUST),
        }
    }

    /// Whether any label of a case counts in a training for `targets`.
    pub(crate) fn leaves_in(self, case: &IndexEntry, targets: &Targets) -> bool {
        let Some(trust) = case.trust.as_ref().filter(|_| self != Self::Unused) else { return true };
        targets.outputs.iter().any(|target| trust.get(&target.group).is_none_or(|&trust| trust > 0.0))
    }
}

/// The labels of a batch that an output is to learn.
#[derive(Clone, Debug)]
pub struct Truth {
    /// `u8 (b, spatial..)`.
    pub labels: Tensor,
    /// How much each label counts, `f32`, shaped as the labels; every one fully without it.
    pub weights: Option<Tensor>,
}

impl Truth {
    /// The same for a loss.
    #[must_use]
    pub fn target(&self) -> ops::Target<'_> {
        ops::Target { labels: &self.labels, weights: self.weights.as_ref() }
    }
}
