//! Methods side by side: what they reach on the same patients, over several trainings each, how they differ patient by patient,
//! and what they cost; as a table and as a plot.

mod plot;
mod reached;
mod table;

use std::collections::BTreeMap;

use metrics::{Protocol, ScoredGroup};
use serde::{Deserialize, Serialize};

pub use reached::{Reached, Scores};

/// The file in which a result holds its [`Comparison`].
pub const FILE: &str = "compare.json";

/// Methods that were scored on the same patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The rules of the scores.
    pub protocol: Protocol,
    /// The method that the others are held against.
    pub reference: String,
    /// How many patients there are.
    pub patients: usize,
    /// How many passes over a patch were timed.
    pub repeats: usize,
    /// The groups of the classes that were scored.
    pub groups: Vec<ScoredGroup>,
    /// The methods.
    pub methods: Vec<Compared>,
}

/// One method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// How often it was trained.
    pub trainings: usize,
    /// For each group, by its key, the mean DSC of the classes that are defined in a patient.
    pub reached: BTreeMap<String, Reached>,
    /// What it costs.
    pub cost: Cost,
}

/// What is known of a method's cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Those of the model that labels.
    pub parameters: Option<usize>,
    /// Of one training of all that the method trains.
    pub training_seconds: Option<f64>,
    /// The most memory of any of these trainings.
    pub training_mib: Option<f64>,
    /// One pass for all classes over a patch of the training's size.
    pub patch_seconds: Option<f64>,
    /// The most memory of such a pass, with the model and the program.
    pub patch_mib: Option<f64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two trainings of A, and one of B that is worse for every patient; B's cost is not known.
    pub(crate) fn two_methods() -> Comparison {
        let scores = |values: [f64; 3]| values.iter().enumerate().map(|(at, &value)| (format!("p{at}"), value)).collect::<Scores>();
        let a = [scores([0.8, 0.9, 1.0]), scores([0.6, 0.7, 0.8])];
        let b = [scores([0.5, 0.7, 0.6])];
        let compared = |name: &str, own: &[Scores], reference: Option<&[Scores]>, cost| Compared {
            name: name.into(),
            trainings: own.len(),
            reached: BTreeMap::from([
                ("cancer".to_owned(), Reached::of(&[Scores::new()], None)),
                ("organ".to_owned(), Reached::of(own, reference)),
            ]),
            cost,
        };
        let group = |key: &str, heading: &str, classes| ScoredGroup { key: key.into(), heading: heading.into(), classes };
        let cost = Cost { parameters: Some(12_345), training_seconds: Some(61.2), patch_seconds: Some(0.0456), ..Cost::default() };
        Comparison {
            protocol: Protocol::Plain,
            reference: "A".into(),
            patients: 3,
            repeats: 5,
            groups: vec![group("organ", "organs", 13), group("cancer", "tumor", 1)],
            methods: vec![compared("A", &a, None, cost), compared("B,|", &b, Some(&a), Cost::default())],
        }
    }
}
