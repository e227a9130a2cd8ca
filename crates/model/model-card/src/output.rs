//! What the channels of a network's outputs stand for.

use labels::{BACKGROUND_KEY, Classes, LabelPattern};
use serde::{Deserialize, Serialize};

/// Classes that one output of a network tells apart by softmax: channel 0 is background, channel `k` the class at `k - 1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The group that the classes are of, such as `organ`.
    pub group: String,
    /// The output values of the classes, by channel from 1.
    pub values: Vec<u8>,
    /// The student's decoder that it shares with other outputs; none if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
}

impl Output {
    /// The whole of a group.
    #[must_use]
    pub fn of_group(classes: &Classes, group: usize) -> Self {
        let group = &classes.groups()[group];
        Self { group: group.key().to_owned(), values: group.values(), decoder: None }
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        1 + self.values.len()
    }

    /// The student's decoder for it, as parameters begin with it, and its number of channels.
    #[must_use]
    pub fn decoder(&self) -> (String, usize) {
        (self.decoder.clone().unwrap_or_else(|| format!("{}_decoder", self.group)), self.channels())
    }

    /// The classes.
    #[must_use]
    pub fn pattern(&self) -> LabelPattern {
        self.values.iter().copied().collect()
    }

    /// The names of the channels.
    #[must_use]
    pub fn keys(&self, classes: &Classes) -> Vec<String> {
        std::iter::once(BACKGROUND_KEY.to_owned()).chain(self.values.iter().map(|&value| classes.key_of(value).into_owned())).collect()
    }

    /// The output value of each channel.
    #[must_use]
    pub fn value_of_channel(&self) -> Vec<u8> {
        std::iter::once(labels::BACKGROUND).chain(self.values.iter().copied()).collect()
    }
}
