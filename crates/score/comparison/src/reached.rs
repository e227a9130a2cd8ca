//! Scores of several trainings on the same patients.

use std::collections::BTreeMap;

use metrics::{Paired, Stat};
use serde::{Deserialize, Serialize};

/// The scores of one training's model by patient; a patient without a defined score is left out.
pub type Scores = BTreeMap<String, f64>;

/// What a method reaches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Over the patients, each of which has the mean of its scores by all trainings.
    pub patients: Stat,
    /// Over the trainings, each of which has the mean of its patients' scores.
    pub trainings: Stat,
    /// How it differs from the reference, patient by patient; nothing for the reference itself. Trainings of a method have
    /// seen the same data and are no patients of their own, so that a patient counts once with the mean of its scores.
    pub paired: Option<Paired>,
}

impl Reached {
    /// What trainings reach, beside those of the reference.
    #[must_use]
    pub fn of(trainings: &[Scores], reference: Option<&[Scores]>) -> Self {
        let own = over_trainings(trainings);
        let paired = reference.map(over_trainings).map(|other| {
            let pairs: Vec<(f64, f64)> = own.iter().filter_map(|(patient, &score)| Some((score, *other.get(patient)?))).collect();
            Paired::of(&pairs)
        });
        let of_training = |scores: &Scores| Stat::of(&scores.values().copied().collect::<Vec<_>>()).mean;
        Self {
            patients: Stat::of(&own.values().copied().collect::<Vec<_>>()),
            trainings: Stat::of(&trainings.iter().filter_map(of_training).collect::<Vec<_>>()),
            paired,
        }
    }
}

/// Each patient's mean over the trainings that have a score for it.
#[expect(clippy::cast_precision_loss, reason = "trainings are few")]
fn over_trainings(trainings: &[Scores]) -> Scores {
    let mut sums: BTreeMap<&String, (f64, usize)> = BTreeMap::new();
    for (patient, score) in trainings.iter().flatten() {
        let (sum, n) = sums.entry(patient).or_default();
        *sum += score;
        *n += 1;
    }
    sums.into_iter().map(|(patient, (sum, n))| (patient.clone(), sum / n as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(of: &[(&str, f64)]) -> Scores {
        of.iter().map(|(patient, score)| ((*patient).to_owned(), *score)).collect()
    }

    #[test]
    fn patients_and_trainings_are_averaged_over_each_other() {
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} and not {b}");
        let own = [scores(&[("a", 0.2), ("b", 0.6)]), scores(&[("a", 0.4), ("b", 1.0)]), scores(&[("b", 0.8)])];
        let reached = Reached::of(&own, Some(&[scores(&[("a", 0.5), ("c", 0.1)])]));
        near(reached.patients.mean, f64::midpoint(0.3, 0.8));
        assert_eq!((reached.patients.n, reached.trainings.n), (2, 3));
        near(reached.trainings.mean, (0.4 + 0.7 + 0.8) / 3.0);
        let paired = reached.paired.unwrap();
        assert_eq!(paired.difference.n, 1, "one patient has both");
        near(paired.difference.mean, 0.3 - 0.5);
    }

    #[test]
    fn a_repeated_training_is_no_further_patient() {
        let one = scores(&[("a", 0.2), ("b", 0.6), ("c", 0.9)]);
        let other = scores(&[("a", 0.1), ("b", 0.5), ("c", 0.7)]);
        let once = Reached::of(std::slice::from_ref(&one), Some(std::slice::from_ref(&other)));
        let thrice = Reached::of(&[one.clone(), one.clone(), one], Some(&[other]));
        assert_eq!(once.paired.unwrap().p, thrice.paired.unwrap().p);
        assert_eq!(thrice.trainings.n, 3);
    }
}
