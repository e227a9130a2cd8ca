//! The scores of single cases, as `evaluate` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use metrics::Summary;
use tables::{Table, TableError};

/// One case of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// For each group the mean DSC of the classes that the case or its prediction has, 0 to 1.
    pub(crate) groups: Vec<Option<f64>>,
}

impl Case {
    /// What cases are ranked by: the lowest group, such as the organs.
    pub(crate) fn rank(&self) -> Option<f64> {
        self.groups.first().copied().flatten()
    }
}

/// The cases of a file `cases/MODEL.PROTOCOL.csv`, the best first, with the groups of the model's summary. Of each case a number a
/// group is held.
pub(crate) fn read(path: &Path, summary: &Summary) -> Result<Vec<Case>, TableError> {
    let group_of = |class: &str| {
        let class = summary.classes.iter().find(|scored| scored.class.key == class)?;
        summary.groups.iter().position(|group| group.group.key == class.class.group)
    };
    let mut table = Table::open(path)?;
    let (case, class, dsc) = (table.column("case")?, table.column("class")?, table.column("dsc")?);
    let mut sums: BTreeMap<String, Vec<(f64, usize)>> = BTreeMap::new();
    for row in table.rows() {
        let row = row?;
        let sums = sums.entry(row.text(case).to_owned()).or_insert_with(|| vec![(0.0, 0); summary.groups.len()]);
        if let (Some(group), Some(score)) = (group_of(row.text(class)), row.number(dsc)?) {
            let (sum, n) = &mut sums[group];
            (*sum, *n) = (*sum + score, *n + 1);
        }
    }
    let mean = |(sum, n): (f64, usize)| (n > 0).then(|| sum / n as f64);
    let case = |(name, sums): (String, Vec<(f64, usize)>)| Case { name, groups: sums.into_iter().map(mean).collect() };
    let mut cases: Vec<Case> = sums.into_iter().map(case).collect();
    cases.sort_by(|a, b| b.rank().unwrap_or(-1.0).total_cmp(&a.rank().unwrap_or(-1.0)));
    Ok(cases)
}

/// The first and the last of many, and how many are left out.
pub(crate) fn ends<T>(mut all: Vec<T>, most: usize) -> (Vec<T>, usize) {
    let left = all.len().saturating_sub(most);
    let first = most.div_ceil(2).min(all.len());
    all.drain(first..first + left);
    (all, left)
}

#[cfg(test)]
pub(crate) mod tests {
    use metrics::{CaseScores, ClassScore, Protocol, ScoredClass};

    use super::*;

    /// A summary of a case with some classes, each with its group.
    pub(crate) fn summary(classes: &[(&str, &str)]) -> Summary {
        let class = |&(key, group): &(&str, &str)| ScoredClass { key: key.into(), name: key.into(), label: None, group: group.into() };
        let score = |of| ClassScore { class: class(of), dsc: Some(0.5), nsd: None, hd_mm: None, hd95_mm: None, note: None };
        Summary::of("m", &[("x".into(), CaseScores { protocol: Protocol::Plain, classes: classes.iter().map(score).collect() })]).unwrap()
    }

    #[test]
    fn groups_are_averaged_where_they_are_defined_and_the_best_case_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text =
            "case,class,dsc,note\na,liver,0.5,\na,aorta,,empty\na,tumor,0.1,\n\"b,c\",liver,0.9,\n\"b,c\",aorta,0.7,\n\"b,c\",tumor,,\n";
        std::fs::write(&path, text).unwrap();
        let flare = summary(&[("liver", "organ"), ("aorta", "organ"), ("tumor", "cancer")]);
        let [first, second] = &read(&path, &flare).unwrap()[..] else { panic!("two cases") };
        assert_eq!((first.name.as_str(), first.groups[1]), ("b,c", None));
        assert!((first.rank().unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(second.groups, [Some(0.5), Some(0.1)]);
        let vessels_apart = summary(&[("liver", "organ"), ("aorta", "vessel"), ("tumor", "cancer")]);
        assert_eq!(read(&path, &vessels_apart).unwrap()[0].groups, [Some(0.9), Some(0.7), None]);
    }

    #[test]
    fn of_many_the_best_and_the_worst_are_shown() {
        assert_eq!(ends((0..4000).collect(), 5), (vec![0, 1, 2, 3998, 3999], 3995));
        assert_eq!(ends(vec![1, 2], 5), (vec![1, 2], 0));
    }

    #[test]
    fn a_file_that_holds_no_scores_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "x,y\n").unwrap();
        let error = read(&path, &summary(&[])).unwrap_err().to_string();
        assert!(error.contains("a.csv") && error.contains("no column `case`"), "{error}");
    }
}
