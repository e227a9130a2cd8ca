//! The tables for readers: how many cases of which pattern there are, and which cases are bad.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use dataset::{Case, Manifest, Split};
use labels::{LabelPattern, Subset};
use serde::Serialize;
use stage_kit::write_atomic_text;
use tables::to_csv;

/// The table of patterns; also as `.csv` and `.json`.
pub const PATTERNS_FILE: &str = "patterns.md";

/// The paper's counts (section 2.1).
const IN_THE_PAPER: [(Subset, usize); 5] =
    [(Subset::Du, 1800), (Subset::Dl1, 250), (Subset::Dl2, 458), (Subset::Dl3, 604), (Subset::Dl4, 888)];

#[derive(Default, Serialize)]
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

#[derive(Serialize)]
struct SubsetRow {
    subset: Subset,
    #[serde(flatten)]
    counts: Counts,
    in_the_paper: Option<usize>,
}

#[derive(Serialize)]
struct PatternRow {
    subset: Subset,
    pattern: LabelPattern,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Patterns {
    subsets: Vec<SubsetRow>,
    patterns: Vec<PatternRow>,
}

/// Writes the table of patterns as Markdown, CSV and JSON.
pub(crate) fn write_patterns(output: &Path, manifest: &Manifest) -> Result<()> {
    let patterns = count(manifest);
    let path = output.join(PATTERNS_FILE);
    write_atomic_text(&path, &patterns_markdown(&patterns))?;
    write_atomic_text(&path.with_extension("csv"), &patterns_csv(&patterns))?;
    write_atomic_text(&path.with_extension("json"), &(serde_json::to_string_pretty(&patterns)? + "\n"))
}

fn count(manifest: &Manifest) -> Patterns {
    let mut by_subset = BTreeMap::<Subset, Counts>::new();
    let mut by_pattern = BTreeMap::<(Subset, LabelPattern), Counts>::new();
    for case in &manifest.cases {
        by_subset.entry(case.subset).or_default().add(case);
        by_pattern.entry((case.subset, case.pattern)).or_default().add(case);
    }
    let subsets = Subset::ALL.into_iter().map(|subset| SubsetRow {
        subset,
        counts: by_subset.remove(&subset).unwrap_or_default(),
        in_the_paper: IN_THE_PAPER.iter().find(|(paper, _)| *paper == subset).map(|(_, cases)| *cases),
    });
    let subsets = subsets.collect();
    let mut patterns: Vec<_> = by_pattern.into_iter().map(|((subset, pattern), counts)| PatternRow { subset, pattern, counts }).collect();
    // The usual pattern of a subset first, then its variants with an organ missing.
    patterns.sort_by_key(|row| (row.subset, std::cmp::Reverse(row.counts.cases), row.pattern));
    Patterns { subsets, patterns }
}

fn patterns_markdown(Patterns { subsets, patterns }: &Patterns) -> String {
    let mut text = String::from("# Subsets\n\n| subset | cases | training | validation | in the paper |\n|---|--:|--:|--:|--:|\n");
    for SubsetRow { subset, counts, in_the_paper } in subsets {
        let paper = in_the_paper.map_or_else(|| "–".into(), |cases| cases.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {subset} | {} | {} | {} | {paper} |", counts.cases, counts.training, counts.validation);
    }
    text.push_str("\n# Label patterns\n\n| labels there | subset | cases | training | validation |\n|---|---|--:|--:|--:|\n");
    for PatternRow { subset, pattern, counts } in patterns {
        let _ = writeln!(text, "| {pattern} | {subset} | {} | {} | {} |", counts.cases, counts.training, counts.validation);
    }
    let others: usize = patterns.iter().filter(|row| row.subset == Subset::Other).map(|row| row.counts.cases).sum();
    if others > 0 {
        let _ = writeln!(
            text,
            "\n{others} cases have organs beyond the five together with tumor, a pattern that the paper's data does not have. They are kept as D_other, and no union holds them."
        );
    }
    text
}

fn patterns_csv(Patterns { patterns, .. }: &Patterns) -> String {
    let heads = ["pattern", "subset", "cases", "training", "validation"].map(str::to_owned);
    let row = |PatternRow { subset, pattern, counts: Counts { cases, training, validation } }: &PatternRow| {
        [pattern.to_string(), subset.to_string(), cases.to_string(), training.to_string(), validation.to_string()]
    };
    to_csv(std::iter::once(heads).chain(patterns.iter().map(row)))
}
