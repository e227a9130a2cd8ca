//! From yes-or-no outputs, several of which may speak of one class, to labels that exclude each other.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::PartialError;
use crate::loss::sigmoid;
use crate::model::{Channel, Model, Output};

/// What a class's probability is where several heads have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The mean over the heads.
    #[default]
    Mean,
    /// The greatest.
    Maximum,
    /// That of the first of these heads that has the class; of the mean, where none of them does.
    Prefer(Vec<String>),
}

/// The rule by which outputs become labels: a voxel has the class of the greatest probability of each group, if that is above the
/// threshold, and later groups lie over earlier ones. The classes of a model that excludes all others have no threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The heads that are asked, such as those of a dataset alone whose own definitions count; all of them if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<String>,
    /// How heads with the same class are combined.
    #[serde(default)]
    pub combine: Combine,
    /// The probability above which a class is there.
    #[serde(default = "half")]
    pub threshold: f64,
}

fn half() -> f64 {
    0.5
}

impl Default for Rule {
    fn default() -> Self {
        Self { heads: Vec::new(), combine: Combine::Mean, threshold: half() }
    }
}

impl Rule {
    /// Refuses what a model cannot fulfil.
    ///
    /// # Errors
    /// Names the value and what it must be.
    pub fn check(&self, model: &Model) -> Result<(), PartialError> {
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(PartialError::Network(format!("rule.threshold is {}; it must be at least 0 and below 1", self.threshold)));
        }
        let preferred = if let Combine::Prefer(names) = &self.combine { &names[..] } else { &[] };
        for (field, names) in [("rule.heads", &self.heads[..]), ("rule.combine.prefer", preferred)] {
            if let Some(name) = names.iter().find(|name| !model.heads().iter().any(|head| head.name == **name)) {
                let known: Vec<&str> = model.heads().iter().map(|head| head.name.as_str()).collect();
                return Err(PartialError::Network(format!("{field} names `{name}`; the heads of the model are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// The heads that are asked, by their places.
    #[must_use]
    pub fn asked(&self, model: &Model) -> Vec<usize> {
        let asked = |head: usize| self.heads.is_empty() || self.heads.contains(&model.heads()[head].name);
        (0..model.heads().len()).filter(|&head| asked(head)).collect()
    }

    /// Scores of a window `(1 + classes, d, h, w)` for each of [`Model::outputs`], whose greatest is the label: the background's
    /// first. Weighted means of scores are scores of weighted mean probabilities (but for `maximum`, which is taken window by window).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn scores(&self, model: &Model, outputs: &[Output]) -> candle_core::Result<Vec<Tensor>> {
        let groups = model.outputs();
        if model.is_exclusive() {
            return exclusive(&groups, &outputs[0]);
        }
        let spatial = outputs[0].logits.dims()[2..].to_vec();
        let blank = Tensor::zeros([&[1], &spatial[..]].concat(), outputs[0].logits.dtype(), outputs[0].logits.device())?;
        let threshold = (&blank + self.threshold)?;
        let of_group = |group: &model_card::Output| {
            let mut scores = vec![threshold.clone()];
            for &value in &group.values {
                scores.push(self.probability(model, outputs, value)?.unwrap_or_else(|| blank.clone()));
            }
            Tensor::cat(&scores, 0)
        };
        groups.iter().map(of_group).collect()
    }

    /// The probability `(1, d, h, w)` of a class, if any head has it.
    fn probability(&self, model: &Model, outputs: &[Output], value: u8) -> candle_core::Result<Option<Tensor>> {
        let mut found: Vec<(&str, Tensor)> = Vec::new();
        for output in outputs {
            for (k, row) in output.rows.iter().enumerate() {
                for (channel, about) in row.channels.iter().enumerate() {
                    if let Some(about) = about.filter(|about| about.class.value() == value) {
                        let logits = output.logits.narrow(0, k, 1)?.narrow(1, channel, 1)?.squeeze(0)?;
                        found.push((&model.heads()[about.head].name, sigmoid(&logits)?));
                    }
                }
            }
        }
        if let Combine::Prefer(names) = &self.combine
            && let Some(first) = names.iter().find_map(|name| found.iter().position(|(head, _)| head == name))
        {
            return Ok(Some(found.swap_remove(first).1));
        }
        let n = found.len();
        let mut maps = found.into_iter().map(|(_, map)| map);
        let Some(mut joined) = maps.next() else { return Ok(None) };
        for map in maps {
            joined = if self.combine == Combine::Maximum { joined.maximum(&map)? } else { (joined + map)? };
        }
        #[expect(clippy::cast_precision_loss, reason = "few heads")]
        let by = if self.combine == Combine::Maximum { 1.0 } else { 1.0 / n as f64 };
        Ok(Some((joined * by)?))
    }
}

/// Scores of classes that exclude each other over all groups. What is below a group is its background: the greatest of the
/// background's probability and of those of the classes of earlier groups.
fn exclusive(groups: &[model_card::Output], output: &Output) -> candle_core::Result<Vec<Tensor>> {
    let p = candle_nn::ops::softmax(&output.logits, 1)?.contiguous()?.squeeze(0)?;
    let mut below = p.narrow(0, 0, 1)?;
    let mut scores = Vec::with_capacity(groups.len());
    for group in groups {
        let of_group = |about: &Option<Channel>| about.is_some_and(|about| group.values.contains(&about.class.value()));
        let channels = (0u32..).zip(&output.rows[0].channels).filter(|(_, about)| of_group(about)).map(|(channel, _)| channel);
        let classes = p.index_select(&Tensor::from_iter(channels, p.device())?, 0)?;
        let of_group = Tensor::cat(&[&below, &classes], 0)?;
        below = of_group.max_keepdim(0)?;
        scores.push(of_group);
    }
    Ok(scores)
}
