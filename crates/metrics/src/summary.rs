use labels::{NUM_ORGANS, TUMOR};
use serde::{Deserialize, Serialize};

use crate::{CaseScores, ClassScore, MetricsError, Protocol};

/// Scores of one model over a set of cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model's name, as the heading of its columns.
    pub model: String,
    /// The rules that all cases followed.
    pub protocol: Protocol,
    /// How many cases were scored.
    pub cases: usize,
    /// Labels 1 to 14, ascending: the 13 organs, then tumor.
    pub classes: Vec<ClassSummary>,
    /// The 13 organs together, as challenges rank them.
    pub organs: ScoreStats,
    /// All 14 classes together, the "Average" of the paper's tables.
    pub average: ScoreStats,
}

/// Scores of one class over cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// The label, 1 to 14.
    pub label: u8,
    /// Its scores.
    #[serde(flatten)]
    pub scores: ScoreStats,
}

/// Mean and spread of each kind of score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreStats {
    /// Dice similarity coefficient, 0 to 1.
    pub dsc: Stat,
    /// Normalised surface Dice, 0 to 1.
    pub nsd: Stat,
    /// Hausdorff distance in mm.
    pub hd_mm: Stat,
    /// 95th percentile Hausdorff distance in mm.
    pub hd95_mm: Stat,
}

/// Mean and spread of one score over the cases that have it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// The mean; absent if no case has the score.
    pub mean: Option<f64>,
    /// The sample standard deviation (n - 1); absent for fewer than two cases.
    pub sd: Option<f64>,
    /// How many cases have the score.
    pub n: usize,
}

impl Stat {
    /// Mean and standard deviation of `values`.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        let mean = (n > 0).then(|| values.iter().sum::<f64>() / n as f64);
        let sd = mean.filter(|_| n > 1).map(|mean| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        Self { mean, sd, n }
    }

    /// `97.12 ± 1.74`, in percent; without spread for a single case, a dash where nothing is defined.
    #[must_use]
    pub fn percent(&self) -> String {
        match (self.mean, self.sd) {
            (Some(mean), Some(sd)) => format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * sd),
            (Some(mean), None) => format!("{:.2}", 100.0 * mean),
            (None, _) => "–".to_owned(),
        }
    }
}

impl Summary {
    /// Summarises `cases`, given as pairs of a case's name and its scores.
    ///
    /// Over several classes (the 13 organs, all 14), the mean is the mean of the classes' means, as in the
    /// paper's tables, so that a rarely defined class weighs as much as the others. The standard deviation
    /// is over cases, of each case's own mean.
    ///
    /// # Errors
    /// [`MetricsError::NoCases`] or [`MetricsError::MixedProtocols`].
    pub fn of(model: &str, cases: &[(String, CaseScores)]) -> Result<Self, MetricsError> {
        let protocol = cases.first().ok_or(MetricsError::NoCases)?.1.protocol;
        if let Some((case, scores)) = cases.iter().find(|(_, s)| s.protocol != protocol) {
            return Err(MetricsError::MixedProtocols { what: format!("case {case}"), found: scores.protocol, expected: protocol });
        }
        let cases: Vec<&CaseScores> = cases.iter().map(|(_, scores)| scores).collect();
        let classes = (1..=TUMOR)
            .map(|label| ClassSummary { label, scores: ScoreStats::of_each(|score| class_stat(&cases, label, score)) })
            .collect();
        Ok(Self {
            model: model.to_owned(),
            protocol,
            cases: cases.len(),
            classes,
            organs: ScoreStats::of_each(|score| joint_stat(&cases, NUM_ORGANS as u8, score)),
            average: ScoreStats::of_each(|score| joint_stat(&cases, TUMOR, score)),
        })
    }

    /// The scores of a label from 1 to 14.
    pub fn class(&self, label: u8) -> Option<&ScoreStats> {
        let class = self.classes.iter().find(|class| class.label == label)?;
        Some(&class.scores)
    }
}

type Score = fn(&ClassScore) -> Option<f64>;

impl ScoreStats {
    fn of_each(stat: impl Fn(Score) -> Stat) -> Self {
        Self {
            dsc: stat(|class| class.dsc),
            nsd: stat(|class| class.nsd),
            hd_mm: stat(|class| class.hd_mm),
            hd95_mm: stat(|class| class.hd95_mm),
        }
    }
}

/// One class over the cases that have a score for it.
fn class_stat(cases: &[&CaseScores], label: u8, score: Score) -> Stat {
    let values: Vec<f64> = cases.iter().filter_map(|case| case.class(label).and_then(score)).collect();
    Stat::of(&values)
}

/// Labels 1 to `last` together.
fn joint_stat(cases: &[&CaseScores], last: u8, score: Score) -> Stat {
    let class_means: Vec<f64> = (1..=last).filter_map(|label| class_stat(cases, label, score).mean).collect();
    let case_means: Vec<f64> = cases
        .iter()
        .filter_map(|case| {
            let classes = case.classes.iter().filter(|class| class.label <= last);
            let values: Vec<f64> = classes.filter_map(score).collect();
            Stat::of(&values).mean
        })
        .collect();
    Stat { mean: Stat::of(&class_means).mean, ..Stat::of(&case_means) }
}
