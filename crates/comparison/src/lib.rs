//! Methods side by side: what they reach on the same patients, over several trainings each, how they differ patient by patient,
//! and what they cost; as a table and as a plot.

mod plot;
mod reached;
mod table;

use metrics::Protocol;
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
    /// The mean DSC of the organs that are defined in a patient.
    pub organs: Reached,
    /// The DSC of the tumor.
    pub tumor: Reached,
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
            organs: Reached::of(own, reference),
            tumor: Reached::of(&[Scores::new()], None),
            cost,
        };
        let cost = Cost { parameters: Some(12_345), training_seconds: Some(61.2), patch_seconds: Some(0.0456), ..Cost::default() };
        Comparison {
            protocol: Protocol::Plain,
            reference: "A".into(),
            patients: 3,
            repeats: 5,
            methods: vec![compared("A", &a, None, cost), compared("B,|", &b, Some(&a), Cost::default())],
        }
    }
}
