//! What `evaluate` found, read back case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use metrics::{Protocol, ScoredClass, Stat, Summary};
use tables::{Table, TableError, number, to_csv};

/// DSC, NSD and HD95 of the classes of a case.
type Scores = BTreeMap<String, [Option<f64>; 3]>;

/// The scores of all methods.
pub(crate) struct Scored {
    /// The classes, group by group.
    pub(crate) classes: Vec<ScoredClass>,
    pub(crate) methods: Vec<Method>,
}

/// The scores of one method.
pub(crate) struct Method {
    pub(crate) name: String,
    /// Of each of its trainings, by case.
    pub(crate) trainings: Vec<BTreeMap<String, Scores>>,
}

impl Method {
    /// For each training the mean DSC of some classes that are defined in a case.
    pub(crate) fn mean_dsc(&self, classes: &[&ScoredClass]) -> Vec<comparison::Scores> {
        self.of_each(|scores| {
            let defined: Vec<f64> = classes.iter().filter_map(|class| scores.get(&class.key)?[0]).collect();
            Stat::of(&defined).mean
        })
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

/// Every method in some outputs of `evaluate`, by name. A method that several of them have was trained as often.
pub(crate) fn load(folders: &[(&str, &Path)], protocol: Protocol) -> Result<Scored> {
    let mut methods: BTreeMap<String, Vec<BTreeMap<String, Scores>>> = BTreeMap::new();
    let mut classes = Vec::<ScoredClass>::new();
    for (name, folder) in folders {
        for summary in summaries(folder, protocol)? {
            let scored: Vec<ScoredClass> = summary.scored().into_iter().cloned().collect();
            ensure!(
                classes.is_empty() || classes == scored,
                "scores.{name}: {} was scored on {}, and what was read before on {}; score all methods on the same classes",
                summary.model,
                keys(&scored),
                keys(&classes)
            );
            classes = scored;
            let table = Table::open(&folder.join("cases").join(format!("{}.{protocol}.csv", summary.model)))?;
            methods.entry(summary.model).or_default().push(read(table)?);
        }
    }
    Ok(Scored { classes, methods: methods.into_iter().map(|(name, trainings)| Method { name, trainings }).collect() })
}

fn keys(classes: &[ScoredClass]) -> String {
    classes.iter().map(|class| class.key.as_str()).collect::<Vec<_>>().join(", ")
}

/// The models that an output of `evaluate` has scores of, and their classes.
fn summaries(folder: &Path, protocol: Protocol) -> Result<Vec<Summary>> {
    let path = folder.join(format!("{protocol}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}; give the output of `evaluate`", path.display()))?;
    let summaries: Vec<Summary> =
        serde_json::from_str(&text).with_context(|| format!("{} holds no scores; run `evaluate` again", path.display()))?;
    ensure!(!summaries.is_empty(), "{} has no scores; give the output of `evaluate`", path.display());
    Ok(summaries)
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
pub(crate) fn classes_csv(scored: &Scored) -> String {
    let heads = ["method", "class", "dsc", "dsc_sd", "nsd", "nsd_sd", "hd95_mm", "hd95_mm_sd", "n"].map(str::to_owned);
    let row = |method: &Method, class: &str| {
        let cases = || method.trainings.iter().flat_map(BTreeMap::values);
        let of = |score: usize| Stat::of(&cases().filter_map(|case| case.get(class)?[score]).collect::<Vec<_>>());
        let [dsc, nsd, hd95] = [of(0), of(1), of(2)];
        let [(dsc_mean, dsc_sd), (nsd_mean, nsd_sd), (hd95_mean, hd95_sd)] =
            [&dsc, &nsd, &hd95].map(|stat| (number(stat.mean, 6), number(stat.sd, 6)));
        [method.name.clone(), class.to_owned(), dsc_mean, dsc_sd, nsd_mean, nsd_sd, hd95_mean, hd95_sd, dsc.n.to_string()]
    };
    let rows = scored.methods.iter().flat_map(|method| scored.classes.iter().map(|class| row(method, &class.key)));
    to_csv(std::iter::once(heads).chain(rows))
}

#[cfg(test)]
mod tests {
    use metrics::{CaseScores, ClassScore};

    use super::*;

    const A: &str = "case,class,dsc,nsd,hd_mm,hd95_mm,note\nx,liver,0.9,0.8,5,3,\nx,spleen,0.7,0.6,5,3,\nx,tumor,,,,,absent_from_both\n\"y,1\",liver,0.5,0.4,5,7,\n\"y,1\",tumor,0.2,0.1,5,3,\n";

    fn parse(text: &str) -> Result<BTreeMap<String, Scores>, TableError> {
        read(Table::of(Path::new("m.csv"), text.as_bytes())?)
    }

    fn class(key: &str, group: &str) -> ScoredClass {
        ScoredClass { key: key.into(), name: key.into(), label: None, group: group.into() }
    }

    #[test]
    fn classes_are_averaged_within_a_case_and_undefined_scores_are_left_out() {
        let classes = vec![class("liver", "organ"), class("spleen", "organ"), class("tumor", "cancer")];
        let method = Method { name: "m".into(), trainings: vec![parse(A).unwrap(), parse(&A.replace("0.9", "0.7")).unwrap()] };
        let organs = method.mean_dsc(&[&classes[0], &classes[1]]);
        assert_eq!((organs[0].len(), organs[1].len(), method.cases()), (2, 2, 2));
        assert!((organs[0]["x"] - 0.8).abs() < 1e-12 && (organs[1]["x"] - 0.7).abs() < 1e-12);
        assert_eq!(method.mean_dsc(&[&classes[2]])[0].iter().collect::<Vec<_>>(), [(&"y,1".to_owned(), &0.2)]);
        let once = Method { trainings: vec![parse(A).unwrap()], ..method };
        let csv = classes_csv(&Scored { classes, methods: vec![once] });
        assert!(csv.contains("m,liver,0.700000,0.282843,0.600000,0.282843,5.000000,2.828427,2\n"), "{csv}");
        assert_eq!(csv.lines().count(), 1 + 3);
    }

    /// An output of `evaluate` with the scores [`A`] of a model.
    fn output(folder: &Path, model: &str, classes: &[ScoredClass]) {
        let score = |class: &ScoredClass| ClassScore { class: class.clone(), dsc: None, nsd: None, hd_mm: None, hd95_mm: None, note: None };
        let scores = CaseScores { protocol: Protocol::Plain, classes: classes.iter().map(score).collect() };
        let summary = Summary::of(model, &[("x".into(), scores)]).unwrap();
        std::fs::create_dir_all(folder.join("cases")).unwrap();
        std::fs::write(folder.join("plain.json"), serde_json::to_string(&[summary]).unwrap()).unwrap();
        std::fs::write(folder.join(format!("cases/{model}.plain.csv")), A).unwrap();
    }

    #[test]
    fn classes_are_those_that_were_scored_and_must_be_the_same_everywhere() {
        let root = tempfile::tempdir().unwrap();
        let [one, two, other] = ["one", "two", "other"].map(|name| root.path().join(name));
        let classes = [class("vein", "vessel"), class("tumor", "cancer")];
        output(&one, "m", &classes);
        output(&two, "m", &classes);
        output(&other, "n", &classes[..1]);
        let found = load(&[("a", &one), ("b", &two)], Protocol::Plain).unwrap();
        assert_eq!((found.classes.as_slice(), found.methods.len(), found.methods[0].trainings.len()), (&classes[..], 1, 2));
        let error = |folders: &[(&str, &Path)], protocol| load(folders, protocol).err().unwrap().to_string();
        let told = error(&[("a", &one), ("b", &other)], Protocol::Plain);
        assert!(told.starts_with("scores.b: n was scored on vein, and what was read before on vein, tumor;"), "{told}");
        assert!(error(&[("a", &one)], Protocol::Official).contains("official.json; give the output of `evaluate`"));
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
