//! From yes-or-no outputs, several of which may speak of one class, to labels that exclude each other.

use candle_core::Tensor;
use labels::{ORGAN_CLASSES, TUMOR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::{Class, PartialError};
use crate::loss::sigmoid;
use crate::model::{Model, Output};

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

/// The rule by which outputs become labels: a voxel has the organ of the greatest probability, if that is above the threshold,
/// and tumor lies over organs where its probability is. Classes that exclude each other have no threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
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

impl Rule {
    /// Refuses what a model cannot fulfil.
    ///
    /// # Errors
    /// Names the value and what it must be.
    pub fn check(&self, model: &Model) -> Result<(), PartialError> {
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(PartialError::Network(format!("rule.threshold is {}; it must be at least 0 and below 1", self.threshold)));
        }
        let Combine::Prefer(names) = &self.combine else { return Ok(()) };
        let unknown = names.iter().find(|name| !model.heads().iter().any(|head| head.name == **name));
        unknown.map_or(Ok(()), |name| {
            let known: Vec<&str> = model.heads().iter().map(|head| head.name.as_str()).collect();
            Err(PartialError::Network(format!("rule.combine.prefer names `{name}`; the heads of the model are {}", known.join(", "))))
        })
    }

    /// Scores of a window, whose greatest is the label: of background and organs `(14, d, h, w)`, and of no tumor and tumor
    /// `(2, d, h, w)`. Weighted means of scores are scores of weighted mean probabilities (but for `maximum`, which is taken
    /// window by window).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn scores(&self, model: &Model, outputs: &[Output]) -> candle_core::Result<[Tensor; 2]> {
        if model.is_exclusive() {
            let p = candle_nn::ops::softmax(&outputs[0].logits, 1)?.contiguous()?.squeeze(0)?;
            let organs = p.narrow(0, 0, ORGAN_CLASSES)?;
            let no_tumor = organs.max_keepdim(0)?;
            let tumor = p.narrow(0, usize::from(TUMOR), 1)?;
            return Ok([organs, Tensor::cat(&[no_tumor, tumor], 0)?]);
        }
        let spatial = outputs[0].logits.dims()[2..].to_vec();
        let blank = Tensor::zeros([&[1], &spatial[..]].concat(), outputs[0].logits.dtype(), outputs[0].logits.device())?;
        let threshold = (&blank + self.threshold)?;
        let score = |class: Class| Ok(self.probability(model, outputs, class)?.unwrap_or_else(|| blank.clone()));
        let of_classes = Class::all().into_iter().map(score).collect::<candle_core::Result<Vec<_>>>()?;
        let (organs, tumor) = of_classes.split_at(ORGAN_CLASSES - 1);
        let with_threshold = |scores: &[Tensor]| Tensor::cat(&[std::slice::from_ref(&threshold), scores].concat(), 0);
        Ok([with_threshold(organs)?, with_threshold(tumor)?])
    }

    /// The probability `(1, d, h, w)` of a class, if any head has it.
    fn probability(&self, model: &Model, outputs: &[Output], class: Class) -> candle_core::Result<Option<Tensor>> {
        let mut found: Vec<(&str, Tensor)> = Vec::new();
        for output in outputs {
            for (k, row) in output.rows.iter().enumerate() {
                for (channel, about) in row.channels.iter().enumerate() {
                    if let Some(about) = about.filter(|about| about.class == class) {
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
