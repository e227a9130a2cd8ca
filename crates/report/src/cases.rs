//! The scores of single cases, as `evaluate` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use tables::{Table, TableError};

/// One case of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The mean DSC of the organs that the case or its prediction has, 0 to 1.
    pub(crate) organs: Option<f64>,
    /// The DSC of the tumors, 0 to 1.
    pub(crate) tumor: Option<f64>,
}

/// The cases of a file `cases/MODEL.PROTOCOL.csv`, the best organs first. Of each case three numbers are held.
pub(crate) fn read(path: &Path) -> Result<Vec<Case>, TableError> {
    let mut table = Table::open(path)?;
    let (case, class, dsc) = (table.column("case")?, table.column("class")?, table.column("dsc")?);
    let mut sums: BTreeMap<String, (f64, usize, Option<f64>)> = BTreeMap::new();
    for row in table.rows() {
        let row = row?;
        let sum = sums.entry(row.text(case).to_owned()).or_default();
        match (row.text(class), row.number(dsc)?) {
            ("tumor", score) => sum.2 = score,
            (_, Some(score)) => (sum.0, sum.1) = (sum.0 + score, sum.1 + 1),
            (_, None) => {}
        }
    }
    let case = |(name, (sum, n, tumor)): (String, (f64, usize, Option<f64>))| Case { name, organs: (n > 0).then(|| sum / n as f64), tumor };
    let mut cases: Vec<Case> = sums.into_iter().map(case).collect();
    cases.sort_by(|a, b| b.organs.unwrap_or(-1.0).total_cmp(&a.organs.unwrap_or(-1.0)));
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
mod tests {
    use super::*;

    #[test]
    fn organs_are_averaged_where_they_are_defined_and_the_best_case_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text =
            "case,class,dsc,note\na,liver,0.5,\na,aorta,,empty\na,tumor,0.1,\n\"b,c\",liver,0.9,\n\"b,c\",aorta,0.7,\n\"b,c\",tumor,,\n";
        std::fs::write(&path, text).unwrap();
        let [first, second] = &read(&path).unwrap()[..] else { panic!("two cases") };
        assert_eq!((first.name.as_str(), first.tumor), ("b,c", None));
        assert!((first.organs.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!((second.organs, second.tumor), (Some(0.5), Some(0.1)));
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
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("a.csv") && error.contains("no column `case`"), "{error}");
    }
}
