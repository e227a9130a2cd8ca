//! The tables for readers: how many cases of which subset and of which pattern there are.

use std::collections::BTreeMap;
use std::path::Path;

use ::tables::to_csv;
use anyhow::Result;
use dataset::{Case, Manifest, Split};
use labels::LabelPattern;
use serde::Serialize;
use stage_kit::write_atomic_text;

use crate::Config;

/// The table of patterns; also as `.csv` and `.json`.
pub const PATTERNS_FILE: &str = "patterns.md";

#[derive(Clone, Default, Serialize)]
struct Counts {
    cases: usize,
    training: usize,
    validation: usize,
}

impl Counts {
    fn add(&mut self, case: &Case) {
        self.cases += 1;
        match case.split {
            Split::Training => self.training += 1,
            Split::Validation => self.validation += 1,
        }
    }
}

/// A subset, or a union of some.
#[derive(Serialize)]
struct SubsetRow {
    subset: String,
    #[serde(flatten)]
    counts: Counts,
    /// The cases of each dataset, also where there are none.
    datasets: BTreeMap<String, usize>,
    /// How many cases the declaration expects, if it says so.
    expected: Option<usize>,
}

#[derive(Serialize)]
struct PatternRow {
    subset: String,
    dataset: String,
    pattern: LabelPattern,
    /// The names of the classes of the pattern.
    classes: Vec<String>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Patterns {
    subsets: Vec<SubsetRow>,
    unions: Vec<SubsetRow>,
    patterns: Vec<PatternRow>,
}

/// Writes the table of patterns as Markdown, CSV and JSON.
pub(crate) fn write_patterns(output: &Path, config: &Config, manifest: &Manifest) -> Result<()> {
    let patterns = count(config, manifest);
    let path = output.join(PATTERNS_FILE);
    write_atomic_text(&path, &patterns_markdown(&patterns))?;
    write_atomic_text(&path.with_extension("csv"), &patterns_csv(&patterns))?;
    write_atomic_text(&path.with_extension("json"), &(serde_json::to_string_pretty(&patterns)? + "\n"))
}

fn count(config: &Config, manifest: &Manifest) -> Patterns {
    let row = |(name, members): (&String, &Vec<String>)| {
        let mut datasets: BTreeMap<String, usize> = config.datasets.keys().map(|dataset| (dataset.clone(), 0)).collect();
        let mut counts = Counts::default();
        for case in manifest.cases.iter().filter(|case| members.contains(&case.subset)) {
            counts.add(case);
            *datasets.entry(case.dataset.clone()).or_default() += 1;
        }
        SubsetRow { subset: name.clone(), counts, datasets, expected: config.expected.get(name).copied() }
    };
    let is_subset = |(name, members): &(&String, &Vec<String>)| members[..] == [(*name).clone()];
    let (subsets, unions): (Vec<_>, Vec<_>) = manifest.subsets.iter().partition(is_subset);
    Patterns {
        subsets: subsets.into_iter().map(row).collect(),
        unions: unions.into_iter().map(row).collect(),
        patterns: count_patterns(manifest),
    }
}

fn count_patterns(manifest: &Manifest) -> Vec<PatternRow> {
    let mut by_pattern = BTreeMap::<(&str, &str, LabelPattern), Counts>::new();
    for case in &manifest.cases {
        by_pattern.entry((&case.subset, &case.dataset, case.pattern)).or_default().add(case);
    }
    let mut patterns: Vec<_> = by_pattern
        .into_iter()
        .map(|((subset, dataset, pattern), counts)| PatternRow {
            subset: subset.to_owned(),
            dataset: dataset.to_owned(),
            pattern,
            classes: manifest.classes.keys_of(pattern),
            counts,
        })
        .collect();
    // The usual pattern of a subset first, then its variants with a class missing.
    patterns.sort_by(|a, b| (&a.subset, b.counts.cases, &a.dataset, a.pattern).cmp(&(&b.subset, a.counts.cases, &b.dataset, b.pattern)));
    patterns
}

fn patterns_markdown(Patterns { subsets, unions, patterns }: &Patterns) -> String {
    let names: Vec<&str> = subsets.first().into_iter().flat_map(|row| row.datasets.keys().map(String::as_str)).collect();
    let of_several = names.len() > 1;
    let is_expected = subsets.iter().chain(unions).any(|row| row.expected.is_some());
    let mut heads = vec!["cases", "training", "validation"];
    heads.extend(names.iter().filter(|_| of_several));
    heads.extend(is_expected.then_some("expected"));
    let row = |row: &SubsetRow| {
        let mut cells = numbers(&row.counts).to_vec();
        cells.extend(row.datasets.values().filter(|_| of_several).map(usize::to_string));
        cells.extend(is_expected.then(|| row.expected.map_or_else(|| "–".into(), |cases| cases.to_string())));
        (vec![row.subset.clone()], cells)
    };
    let mut text = format!("# Subsets\n\n{}", table(&["subset"], &heads, subsets.iter().map(row)));
    text += &format!("\n# Unions\n\n{}", table(&["union"], &heads, unions.iter().map(row)));
    let mut heads = vec!["classes there", "values", "subset"];
    heads.extend(of_several.then_some("dataset"));
    let row = |row: &PatternRow| {
        let mut cells = vec![classes(row), row.pattern.to_string(), row.subset.clone()];
        cells.extend(of_several.then(|| row.dataset.clone()));
        (cells, numbers(&row.counts).to_vec())
    };
    text + &format!("\n# Label patterns\n\n{}", table(&heads, &["cases", "training", "validation"], patterns.iter().map(row)))
}

/// A table with columns of words and then columns of numbers.
fn table(words: &[&str], numbers: &[&str], rows: impl Iterator<Item = (Vec<String>, Vec<String>)>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = words.iter().chain(numbers).map(|head| (*head).to_owned()).collect();
    let rule = format!("|{}{}\n", "---|".repeat(words.len()), "--:|".repeat(numbers.len()));
    let rows: String = rows.map(|(words, numbers)| line(&[words, numbers].concat())).collect();
    line(&heads) + &rule + &rows
}

fn numbers(counts: &Counts) -> [String; 3] {
    [counts.cases, counts.training, counts.validation].map(|n| n.to_string())
}

fn classes(row: &PatternRow) -> String {
    if row.classes.is_empty() { "none".into() } else { row.classes.join(", ") }
}

fn patterns_csv(Patterns { patterns, .. }: &Patterns) -> String {
    let heads = ["pattern", "classes", "subset", "dataset", "cases", "training", "validation"].map(str::to_owned);
    let row = |row: &PatternRow| {
        let [cases, training, validation] = numbers(&row.counts);
        [row.pattern.to_string(), row.classes.join(" "), row.subset.clone(), row.dataset.clone(), cases, training, validation]
    };
    to_csv(std::iter::once(heads).chain(patterns.iter().map(row)))
}
