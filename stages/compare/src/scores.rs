//! What `evaluate` found, read back case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use labels::{CLASS_KEYS, TUMOR};
use metrics::{Protocol, Stat};
use tables::{Table, TableError, number, to_csv};

/// DSC, NSD and HD95 of the classes of a case.
type Scores = BTreeMap<String, [Option<f64>; 3]>;

/// The scores of one method.
pub(crate) struct Method {
    pub(crate) name: String,
    /// Of each of its trainings, by case.
    pub(crate) trainings: Vec<BTreeMap<String, Scores>>,
}

impl Method {
    /// For each training the mean DSC of the organs that are defined in a case.
    pub(crate) fn organs(&self) -> Vec<comparison::Scores> {
        self.of_each(|scores| {
            let organs: Vec<f64> = scores.iter().filter(|(class, _)| *class != tumor()).filter_map(|(_, score)| score[0]).collect();
            Stat::of(&organs).mean
        })
    }

    /// For each training the DSC of the tumor.
    pub(crate) fn tumor(&self) -> Vec<comparison::Scores> {
        self.of_each(|scores| scores.get(tumor())?[0])
    }

    fn of_each(&self, score: impl Fn(&Scores) -> Option<f64>) -> Vec<comparison::Scores> {
        let of_training =
            |cases: &BTreeMap<String, Scores>| cases.iter().filter_map(|(case, scores)| Some((case.clone(), score(scores)?))).collect();
        self.trainings.iter().map(of_training).collect()
    }

    /// How many cases were scored.
    pub(crate) fn cases(&self) -> usize {
        self.trainings.iter().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>().len()
    }
}

fn tumor() -> &'static str {
    CLASS_KEYS[usize::from(TUMOR)]
}

/// Every method in some outputs of `evaluate`, by name. A method that several of them have was trained as often.
pub(crate) fn load(folders: &[(&str, &Path)], protocol: Protocol) -> Result<Vec<Method>> {
    let mut methods: BTreeMap<String, Vec<BTreeMap<String, Scores>>> = BTreeMap::new();
    let suffix = format!(".{protocol}.csv");
    for (_, folder) in folders {
        let cases = folder.join("cases");
        let list = std::fs::read_dir(&cases).with_context(|| format!("cannot list {}; give the output of `evaluate`", cases.display()))?;
        let mut paths = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(&suffix)));
        ensure!(!paths.is_empty(), "{} has no scores by the protocol `{protocol}`; give the output of `evaluate`", cases.display());
        for path in paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(&suffix)) else { continue };
            methods.entry(name.to_owned()).or_default().push(read(Table::open(&path)?)?);
        }
    }
    Ok(methods.into_iter().map(|(name, trainings)| Method { name, trainings }).collect())
}

/// The scores in a table of cases and classes; an undefined score is empty.
fn read(mut table: Table<impl Read>) -> Result<BTreeMap<String, Scores>, TableError> {
    let (case, class) = (table.column("case")?, table.column("class")?);
    let scores = [table.column("dsc")?, table.column("nsd")?, table.column("hd95_mm")?];
    let mut cases: BTreeMap<String, Scores> = BTreeMap::new();
    for row in table.rows() {
        let row = row?;
        let scores = [row.number(scores[0])?, row.number(scores[1])?, row.number(scores[2])?];
        cases.entry(row.text(case).to_owned()).or_default().insert(row.text(class).to_owned(), scores);
    }
    Ok(cases)
}

/// Every method's mean scores of every class, over the cases and trainings that have them.
pub(crate) fn classes_csv(methods: &[Method]) -> String {
    let heads = ["method", "class", "dsc", "dsc_sd", "nsd", "nsd_sd", "hd95_mm", "hd95_mm_sd", "n"].map(str::to_owned);
    let row = |method: &Method, class: &str| {
        let cases = || method.trainings.iter().flat_map(BTreeMap::values);
        let of = |score: usize| Stat::of(&cases().filter_map(|case| case.get(class)?[score]).collect::<Vec<_>>());
        let [dsc, nsd, hd95] = [of(0), of(1), of(2)];
        let [(dsc_mean, dsc_sd), (nsd_mean, nsd_sd), (hd95_mean, hd95_sd)] =
            [&dsc, &nsd, &hd95].map(|stat| (number(stat.mean, 6), number(stat.sd, 6)));
        [method.name.clone(), class.to_owned(), dsc_mean, dsc_sd, nsd_mean, nsd_sd, hd95_mean, hd95_sd, dsc.n.to_string()]
    };
    let rows = methods.iter().flat_map(|method| CLASS_KEYS[1..].iter().map(|class| row(method, class)));
    to_csv(std::iter::once(heads).chain(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "case,class,dsc,nsd,hd_mm,hd95_mm,note\nx,liver,0.9,0.8,5,3,\nx,spleen,0.7,0.6,5,3,\nx,tumor,,,,,absent_from_both\n\"y,1\",liver,0.5,0.4,5,7,\n\"y,1\",tumor,0.2,0.1,5,3,\n";

    fn parse(text: &str) -> Result<BTreeMap<String, Scores>, TableError> {
        read(Table::of(Path::new("m.csv"), text.as_bytes())?)
    }

    #[test]
    fn organs_are_averaged_within_a_case_and_undefined_scores_are_left_out() {
        let method = Method { name: "m".into(), trainings: vec![parse(A).unwrap(), parse(&A.replace("0.9", "0.7")).unwrap()] };
        let organs = method.organs();
        assert_eq!((organs[0].len(), organs[1].len(), method.cases()), (2, 2, 2));
        assert!((organs[0]["x"] - 0.8).abs() < 1e-12 && (organs[1]["x"] - 0.7).abs() < 1e-12);
        assert_eq!(method.tumor()[0].iter().collect::<Vec<_>>(), [(&"y,1".to_owned(), &0.2)]);
        let once = Method { trainings: vec![parse(A).unwrap()], ..method };
        assert!(classes_csv(&[once]).contains("m,liver,0.700000,0.282843,0.600000,0.282843,5.000000,2.828427,2\n"));
    }

    #[test]
    fn a_file_that_is_no_table_of_scores_is_told() {
        let head = A.lines().next().unwrap();
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error(&format!("{head}\nx,liver,much,1,1,1,\n")).contains("m.csv, line 2: `much` is no number"));
        assert!(error(&format!("{head}\nx,liver\n")).contains("line: 2"));
        assert!(error("case,class\n").contains("no column `dsc`"));
    }
}
