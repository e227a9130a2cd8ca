//! What the label maps of the cases show, and the subset that follows from it.

use anyhow::{Context, Result};
use dataset::{Case, Split};
use labels::{LabelPattern, Regions, Subsets};
use stage_kit::{LeftOut, StageIo};
use volume::{Cut, Found};

use crate::Config;
use crate::check::Facts;
use crate::gather::{AllRegions, Candidate};

/// A good case before it is put on a side of the split: that of `case` means nothing yet.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) case: Case,
    /// What stands on one side as a whole.
    pub(crate) unit: String,
    /// The side, where a list of the dataset says it.
    pub(crate) side: Option<Split>,
    /// What makes the case doubtful, if anything does.
    pub(crate) doubt: Option<String>,
}

/// All cases after the check.
pub(crate) struct Sorted {
    pub(crate) good: Vec<Good>,
    /// The findings about the bad ones.
    pub(crate) bad: Vec<LeftOut>,
    /// What the values of the label maps of each dataset mean.
    pub(crate) regions: AllRegions,
    pub(crate) subsets: Subsets,
}

/// Sorts what the check found.
pub(crate) fn sort(config: &Config, io: &StageIo, candidates: &[Candidate]) -> Result<Sorted> {
    let regions = candidates.first().map(|candidate| (*candidate.regions).clone()).unwrap_or_default();
    let mut sorted = Sorted { good: Vec::new(), bad: Vec::new(), regions, subsets: config.subsets()? };
    for candidate in candidates {
        let found =
            candidate.read_findings(&io.work)?.and_then(|facts| sorted.case(config, candidate, facts).map_err(|finding| vec![finding]));
        match found {
            Ok(good) => sorted.good.push(good),
            Err(findings) => sorted.bad.extend(findings),
        }
    }
    Ok(sorted)
}

impl Sorted {
    fn case(&self, config: &Config, candidate: &Candidate, facts: Facts) -> Result<Good, LeftOut> {
        let Candidate { id, dataset, files, unit, side, .. } = candidate;
        let finding = |found: String, expected: &str, remedy: &str| LeftOut {
            case: id.clone(),
            file: files.label.clone().unwrap_or_else(|| files.image.clone()),
            found,
            expected: expected.to_owned(),
            remedy: remedy.to_owned(),
        };
        let nothing = Regions::default();
        let regions = self.regions.get(dataset).unwrap_or(&nothing);
        let pattern = regions.shown(&facts.voxels()).map_err(|error| {
            let remedy = "declare the values, name them under `ignore` to count them as background, or correct the label map";
            finding(error.to_string(), "values that the dataset declares", remedy)
        })?;
        let subset = self.subsets.of(dataset, pattern).ok_or_else(|| {
            let shown = config.classes.keys_of(pattern).join(", ");
            finding(format!("classes that no subset takes: {shown}"), "a subset for each case", "add a rule that takes them")
        })?;
        let annotated = match (&files.label, subset.annotated) {
            (None, _) => LabelPattern::EMPTY,
            (Some(_), Some(annotated)) => annotated,
            (Some(_), None) => regions.classes(),
        };
        let case = Case {
            id: id.clone(),
            dataset: dataset.clone(),
            image: files.image.clone(),
            label: files.label.clone(),
            pattern,
            subset: subset.name.clone(),
            annotated,
            split: Split::Training,
            shape: facts.shape,
            spacing_mm: facts.spacing_mm,
            cuts: facts.cuts.iter().map(|(cut, _)| *cut).collect(),
        };
        let doubts: Vec<String> = facts.doubt.into_iter().chain(one_sided(&facts.cuts)).collect();
        Ok(Good { case, unit: unit.clone(), side: *side, doubt: (!doubts.is_empty()).then(|| doubts.join("; ")) })
    }
}

/// What a reader should look at where labels of both sides have one part.
fn one_sided(cuts: &[(Cut, Found)]) -> impl Iterator<Item = String> {
    [(Found::OnlyLeft, "left"), (Found::OnlyRight, "right")].into_iter().filter_map(move |(found, side)| {
        let of_side: Vec<String> = cuts.iter().filter(|(_, of)| *of == found).map(|(cut, _)| cut.value.to_string()).collect();
        let labels = of_side.join(", ");
        (!of_side.is_empty()).then(|| format!("label {labels}: one part, taken for the {side} one, as it lies {side} of the scan's middle"))
    })
}

impl Config {
    /// The subsets of the declaration.
    pub(crate) fn subsets(&self) -> Result<Subsets> {
        let datasets: Vec<&str> = self.datasets.keys().map(String::as_str).collect();
        Subsets::declared(&self.subsets, &self.unions, &self.classes, &datasets).context("subsets")
    }
}
