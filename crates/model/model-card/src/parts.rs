//! Which connected parts of what a model finds are kept.

use std::collections::BTreeMap;
use std::fmt;

use labels::Classes;
use ndarray::Array3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::Keep;

use crate::CardError;

/// Which connected parts of a class are kept; voxels that touch by a face, an edge or a corner are connected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All of them.
    All,
    /// The largest one.
    Largest,
    /// Those with at least this share of the largest one's voxels, above 0 and up to 1.
    Share(f64),
    /// Those of at least so many mL.
    Ml(f64),
    /// Those of at least so many voxels of the model grid.
    Voxels(usize),
}

impl Part {
    fn check(self) -> Result<(), &'static str> {
        match self {
            Self::Share(share) if !(share > 0.0 && share <= 1.0) => Err("a share above 0 and up to 1"),
            Self::Ml(ml) if !(ml.is_finite() && ml >= 0.0) => Err("a volume in mL"),
            _ => Ok(()),
        }
    }

    /// In voxels of a grid where a voxel has `voxel_ml`.
    fn keep(self, voxel_ml: f64) -> Keep {
        match self {
            Self::All => Keep::All,
            Self::Largest => Keep::Largest,
            Self::Share(share) => Keep::Share(share),
            Self::Ml(ml) => Keep::Voxels((ml / voxel_ml).ceil() as usize),
            Self::Voxels(voxels) => Keep::Voxels(voxels),
        }
    }
}

/// By classes and groups of classes: which connected parts of a class are kept. What is said of a class goes before what is said of its
/// group. All parts of all others are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct KeepParts(BTreeMap<String, Part>);

impl KeepParts {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the class or group, and what was expected.
    pub fn check(&self) -> Result<(), CardError> {
        self.0.iter().try_for_each(|(key, part)| {
            let wrong = |expected| CardError::Part { key: key.clone(), found: *part, expected };
            part.check().map_err(wrong)
        })
    }

    /// By output values of declared classes.
    ///
    /// # Errors
    /// As [`KeepParts::check`], and when there is no such class or group.
    pub fn of(&self, classes: &Classes) -> Result<KeptParts, CardError> {
        self.check()?;
        let mut parts = BTreeMap::new();
        // Groups first, so that what is said of a class replaces what is said of its group.
        let (groups, single): (Vec<_>, Vec<_>) = self.0.iter().partition(|(key, _)| classes.group(key).is_ok());
        for (key, part) in groups.into_iter().chain(single) {
            let found = classes.pattern_of(&[key]).map_err(|reason| CardError::PartOf { reason: Box::new(reason) })?;
            parts.extend(found.iter().map(|value| (value, *part)));
        }
        Ok(KeptParts(parts))
    }
}

/// [`KeepParts`] by output values.
#[derive(Clone, Default, PartialEq)]
pub struct KeptParts(BTreeMap<u8, Part>);

impl KeptParts {
    /// Whether every part of everything is kept.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.values().all(|part| *part == Part::All)
    }

    /// Whether anything is said of an output value.
    #[must_use]
    pub fn says(&self, value: u8) -> bool {
        self.0.contains_key(&value)
    }

    /// Which parts of an output value are kept where a voxel has `voxel_ml`.
    #[must_use]
    pub fn keep(&self, value: u8, voxel_ml: f64) -> Keep {
        self.0.get(&value).map_or(Keep::All, |part| part.keep(voxel_ml))
    }

    /// Removes all others from the map of a group, in output values, of voxels of `voxel_ml`.
    pub fn keep_in(&self, labels: &mut Array3<u8>, voxel_ml: f64) {
        if !self.is_all() {
            volume::keep_parts(labels, |value| self.keep(value, voxel_ml));
        }
    }

    /// Both; what the other says goes first.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }
}

impl fmt::Debug for KeptParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use labels::flare23;
    use ndarray::s;
    use serde_json::{Value, json};

    use super::*;

    fn kept(parts: Value) -> Result<KeptParts, String> {
        let parts: KeepParts = serde_json::from_value(parts).unwrap();
        parts.of(&flare23::classes()).map_err(|error| error.to_string())
    }

    /// A liver in a large part and one of 8 voxels, and a right kidney in parts of 8 voxels and 1.
    fn organs() -> Array3<u8> {
        let mut labels = Array3::zeros((10, 9, 8));
        labels.slice_mut(s![0..3, 0..3, 0..3]).fill(1);
        labels[[3, 3, 3]] = 1; // touches the corner
        labels.slice_mut(s![6..8, 6..8, 6..8]).fill(1);
        labels.slice_mut(s![6..8, 0..2, 0..2]).fill(2);
        labels[[9, 8, 7]] = 2;
        labels
    }

    #[test]
    fn classes_keep_their_largest_part_or_those_that_are_large_enough() {
        let mut expected = organs();
        expected.slice_mut(s![6..8, 6..8, 6..8]).fill(0);
        let mut cleaned = organs();
        kept(json!({"liver": "largest", "aorta": "largest", "tumor": {"voxels": 50}})).unwrap().keep_in(&mut cleaned, 1.0);
        assert_eq!(cleaned, expected, "the second part of the liver goes, the kidney stays, the aorta is not there");
        let voxels_of = |parts: Value, value: u8| {
            let mut tumor = organs().mapv(|label| if label == 2 { value } else { 0 });
            kept(parts).unwrap().keep_in(&mut tumor, 0.5);
            tumor.iter().filter(|&&label| label == value).count()
        };
        assert_eq!(voxels_of(json!({"tumor": {"voxels": 9}}), 14), 0, "parts of 8 voxels and 1 are below 9");
        assert_eq!(voxels_of(json!({"cancer": {"voxels": 8}}), 14), 8);
        assert_eq!(voxels_of(json!({"cancer": {"ml": 4}}), 14), 8, "8 voxels of half a mL");
        assert_eq!(voxels_of(json!({"cancer": {"ml": 4.1}}), 14), 0);
        assert_eq!(voxels_of(json!({"cancer": {"share": 0.2}}), 14), 8);
        assert_eq!(voxels_of(json!({"cancer": {"voxels": 9}, "tumor": "all"}), 14), 9, "what is said of the class goes first");
        assert_eq!(voxels_of(json!({"organ": {"voxels": 9}, "spleen": "all"}), 2), 0);
    }

    #[test]
    fn names_that_are_not_known_and_numbers_that_make_no_sense_are_refused() {
        let error = kept(json!({"kidney": "largest"})).unwrap_err();
        assert!(error.starts_with("keep_parts: there is no class `kidney`; the classes are liver, right_kidney"), "{error}");
        for (part, expected) in [(json!({"ml": -1}), "a volume in mL"), (json!({"share": 1.5}), "a share above 0 and up to 1")] {
            let error = kept(json!({ "tumor": part })).unwrap_err();
            assert!(error.starts_with("keep_parts.tumor: ") && error.contains(expected), "{error}");
        }
    }
}
