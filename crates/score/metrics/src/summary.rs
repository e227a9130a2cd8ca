use serde::{Deserialize, Serialize};

use crate::{CaseScores, ClassScore, MetricsError, Protocol, ScoredClass, ScoredGroup};

/// Scores of one model over a set of cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model's name, as the heading of its columns.
    pub model: String,
    /// The rules that all cases followed.
    pub protocol: Protocol,
    /// How many cases were scored.
    pub cases: usize,
    /// The classes, group by group.
    pub classes: Vec<ClassSummary>,
    /// The classes of each group together, such as the organs, as challenges rank them.
    pub groups: Vec<GroupSummary>,
    /// All classes together, the "Average" of the paper's tables.
    pub average: ScoreStats,
}

/// Scores of one class over cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// The class.
    #[serde(flatten)]
    pub class: ScoredClass,
    /// Its scores.
    #[serde(flatten)]
    pub scores: ScoreStats,
}

/// Scores of the classes of a group over cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSummary {
    /// The group.
    #[serde(flatten)]
    pub group: ScoredGroup,
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
    /// Over several classes (those of a group, all), the mean is the mean of the classes' means, as in the
    /// paper's tables, so that a rarely defined class weighs as much as the others. The standard deviation
    /// is over cases, of each case's own mean.
    ///
    /// # Errors
    /// [`MetricsError::NoCases`], [`MetricsError::MixedProtocols`] or [`MetricsError::MixedClasses`].
    pub fn of(model: &str, cases: &[(String, CaseScores)]) -> Result<Self, MetricsError> {
        let CaseScores { protocol, classes } = &cases.first().ok_or(MetricsError::NoCases)?.1;
        let classes: Vec<&ScoredClass> = classes.iter().map(|score| &score.class).collect();
        for (case, scores) in cases {
            let found: Vec<&ScoredClass> = scores.classes.iter().map(|score| &score.class).collect();
            check_alike(|| format!("case {case}"), (*protocol, &classes), (scores.protocol, &found))?;
        }
        let cases: Vec<&CaseScores> = cases.iter().map(|(_, scores)| scores).collect();
        let of_class = |&class: &&ScoredClass| {
            let scores = ScoreStats::of_each(|score| class_stat(&cases, &class.key, score));
            ClassSummary { class: class.clone(), scores }
        };
        let of_group = |group: ScoredGroup| {
            let members: Vec<&ScoredClass> = classes.iter().copied().filter(|class| class.group == group.key).collect();
            GroupSummary { group, scores: ScoreStats::of_each(|score| joint_stat(&cases, &members, score)) }
        };
        Ok(Self {
            model: model.to_owned(),
            protocol: *protocol,
            cases: cases.len(),
            classes: classes.iter().map(of_class).collect(),
            groups: ScoredGroup::of(classes.iter().copied()).into_iter().map(of_group).collect(),
            average: ScoreStats::of_each(|score| joint_stat(&cases, &classes, score)),
        })
    }

    /// The scores of a class.
    pub fn class(&self, key: &str) -> Option<&ScoreStats> {
        let class = self.classes.iter().find(|class| class.class.key == key)?;
        Some(&class.scores)
    }

    /// The scores of a group.
    pub fn group(&self, key: &str) -> Option<&GroupSummary> {
        self.groups.iter().find(|group| group.group.key == key)
    }

    /// The classes that were scored.
    #[must_use]
    pub fn scored(&self) -> Vec<&ScoredClass> {
        self.classes.iter().map(|class| &class.class).collect()
    }
}

/// Refuses to lay side by side what was scored by other rules, or on other classes.
pub(crate) fn check_alike(
    what: impl Fn() -> String,
    (protocol, classes): (Protocol, &[&ScoredClass]),
    (found, found_classes): (Protocol, &[&ScoredClass]),
) -> Result<(), MetricsError> {
    if found != protocol {
        return Err(MetricsError::MixedProtocols { what: what(), found, expected: protocol });
    }
    if found_classes != classes {
        let keys = |classes: &[&ScoredClass]| classes.iter().map(|class| class.key.clone()).collect();
        return Err(MetricsError::MixedClasses { what: what(), found: keys(found_classes), expected: keys(classes) });
    }
    Ok(())
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
fn class_stat(cases: &[&CaseScores], key: &str, score: Score) -> Stat {
    let values: Vec<f64> = cases.iter().filter_map(|case| case.class(key).and_then(score)).collect();
    Stat::of(&values)
}

/// Some classes together.
fn joint_stat(cases: &[&CaseScores], members: &[&ScoredClass], score: Score) -> Stat {
    let class_means: Vec<f64> = members.iter().filter_map(|class| class_stat(cases, &class.key, score).mean).collect();
    let case_means: Vec<f64> = cases
        .iter()
        .filter_map(|case| {
            let classes = case.classes.iter().filter(|class| members.contains(&&class.class));
            let values: Vec<f64> = classes.filter_map(score).collect();
            Stat::of(&values).mean
        })
        .collect();
    Stat { mean: Stat::of(&class_means).mean, ..Stat::of(&case_means) }
}
