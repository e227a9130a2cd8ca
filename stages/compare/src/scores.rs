//! What `evaluate` found, read back case by case.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use labels::{CLASS_KEYS, TUMOR};
use metrics::{Protocol, Stat};

/// What is compared.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The mean over the organs that are defined in a case.
    Organs,
    Tumor,
}

/// DSC, NSD and HD95 of the classes of a case.
type Scores = BTreeMap<String, [Option<f64>; 3]>;

/// The scores of one method.
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) cases: BTreeMap<String, Scores>,
}

impl Method {
    fn score(&self, case: &str, target: Target) -> Option<f64> {
        let scores = self.cases.get(case)?;
        let tumor = CLASS_KEYS[usize::from(TUMOR)];
        match target {
            Target::Tumor => scores.get(tumor)?[0],
            Target::Organs => {
                let organs: Vec<f64> = scores.iter().filter(|(class, _)| *class != tumor).filter_map(|(_, score)| score[0]).collect();
                Stat::of(&organs).mean
            }
        }
    }

    /// Over the cases that have a score.
    pub(crate) fn stat(&self, target: Target) -> Stat {
        Stat::of(&self.cases.keys().filter_map(|case| self.score(case, target)).collect::<Vec<_>>())
    }

    /// The scores of the cases for which both methods have one.
    pub(crate) fn paired_with(&self, other: &Self, target: Target) -> Vec<(f64, f64)> {
        self.cases.keys().filter_map(|case| Some((self.score(case, target)?, other.score(case, target)?))).collect()
    }
}

/// Every method in the output of `evaluate`, by name.
pub(crate) fn load(folder: &Path, protocol: Protocol) -> Result<Vec<Method>> {
    let cases = folder.join("cases");
    let suffix = format!(".{protocol}.csv");
    let mut methods = Vec::new();
    for entry in std::fs::read_dir(&cases).with_context(|| format!("cannot list {}; give the output of `evaluate`", cases.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(&suffix)) else { continue };
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        methods.push(Method { name: name.to_owned(), cases: parse(&text).with_context(|| format!("{}", path.display()))? });
    }
    ensure!(!methods.is_empty(), "{} has no scores by the protocol `{protocol}`; give the output of `evaluate`", cases.display());
    methods.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(methods)
}

/// Lines `case,class,dsc,nsd,hd_mm,hd95_mm,note`; an undefined score is empty.
fn parse(text: &str) -> Result<BTreeMap<String, Scores>> {
    let mut cases: BTreeMap<String, Scores> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        // A case may be quoted, and have commas; the other six fields have none.
        let mut fields: Vec<&str> = line.rsplitn(7, ',').collect();
        fields.reverse();
        ensure!(fields.len() == 7, "line {}: 7 fields expected, found {}", number + 1, fields.len());
        let score = |field: &str| match field {
            "" => Ok(None),
            _ => field.parse().map(Some).with_context(|| format!("line {}: `{field}` is no number", number + 1)),
        };
        let scores = [score(fields[2])?, score(fields[3])?, score(fields[5])?];
        cases.entry(fields[0].to_owned()).or_default().insert(fields[1].to_owned(), scores);
    }
    Ok(cases)
}

/// Every method's mean scores of every class.
pub(crate) fn classes_csv(methods: &[Method]) -> String {
    let mut text = String::from("method,class,dsc,dsc_sd,nsd,nsd_sd,hd95_mm,hd95_mm_sd,n\n");
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for method in methods {
        for class in &CLASS_KEYS[1..] {
            let of = |score: usize| Stat::of(&method.cases.values().filter_map(|case| case.get(*class)?[score]).collect::<Vec<_>>());
            let stats = [of(0), of(1), of(2)];
            text += &format!("{},{class}", csv_field(&method.name));
            stats.iter().for_each(|stat| text += &format!(",{},{}", number(stat.mean), number(stat.sd)));
            text += &format!(",{}\n", stats[0].n);
        }
    }
    text
}

/// Quotes a field that would otherwise break the line (RFC 4180).
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "case,class,dsc,nsd,hd_mm,hd95_mm,note\nx,liver,0.9,0.8,5,3,\nx,spleen,0.7,0.6,5,3,\nx,tumor,,,,,absent_from_both\n\"y,1\",liver,0.5,0.4,5,7,\n\"y,1\",tumor,0.2,0.1,5,3,\n";

    #[test]
    fn organs_are_averaged_within_a_case_and_pairs_need_both_scores() {
        let method = |text: &str| Method { name: "m".into(), cases: parse(text).unwrap() };
        let a = method(A);
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12);
        near(a.stat(Target::Organs).mean, (0.8 + 0.5) / 2.0);
        assert_eq!(a.stat(Target::Tumor).n, 1);
        let b = method(&A.replace("x,liver,0.9", "x,liver,0.7").replace("y,1\",tumor,0.2", "y,1\",tumor,"));
        let pairs = b.paired_with(&a, Target::Organs);
        near(Some(pairs[1].0 - pairs[1].1), -0.1);
        assert!(b.paired_with(&a, Target::Tumor).is_empty());
        assert!(classes_csv(&[a]).contains("m,liver,0.700000,0.282843,0.600000,0.282843,5.000000,2.828427,2\n"));
    }

    #[test]
    fn a_file_that_is_no_table_of_scores_is_told() {
        assert!(parse("head\nx,liver,much,1,1,1,\n").unwrap_err().to_string().contains("line 2: `much` is no number"));
        assert!(parse("head\nx,liver\n").unwrap_err().to_string().contains("7 fields expected, found 2"));
    }
}
