//! The datasets at their places, and the cases in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use dataset::{CaseFiles, DATASETS, Source, Split, SplitRule};
use labels::{LabelPattern, Regions, Rule};
use stage_kit::{Aside, LeftOut, StageIo};

use crate::Config;
use crate::check::Facts;
use crate::lists::Lists;

/// A case with its files, not yet looked into.
pub struct Candidate {
    /// The name among all datasets.
    pub(crate) id: String,
    pub(crate) dataset: String,
    /// The root of its dataset.
    pub(crate) root: PathBuf,
    pub(crate) files: CaseFiles,
    /// What stands on one side of the split as a whole: the patient, or the case itself.
    pub(crate) unit: String,
    /// The side, where a list of the dataset says it.
    pub(crate) side: Option<Split>,
    /// What the values of the label maps of all datasets mean.
    pub(crate) regions: Arc<AllRegions>,
}

/// What the values of the label maps of each dataset mean.
pub(crate) type AllRegions = BTreeMap<String, Regions>;

impl Candidate {
    /// The structures of its label map that are cut in two, as [`Regions::sides`](labels::Regions::sides) has them.
    pub(crate) fn sides(&self) -> &[BTreeMap<u8, u8>] {
        self.regions.get(&self.dataset).map_or(&[], |regions| regions.sides())
    }

    /// Where the facts or the findings are kept until all cases are checked, in the folder `work`.
    pub(crate) fn findings(&self) -> String {
        format!("checked/{}.json", self.id)
    }

    /// What the check found.
    pub(crate) fn read_findings(&self, work: &Path) -> Result<Result<Facts, Vec<LeftOut>>> {
        let path = work.join(self.findings());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no findings; remove it and run again", path.display()))
    }
}

/// The datasets, which must be those that are declared.
fn sources<'a>(config: &'a Config, io: &StageIo) -> Result<Vec<Source<'a>>> {
    let given: BTreeMap<&str, &Path> = io.inputs_under(DATASETS.name).into_iter().collect();
    let names = |names: Vec<&str>| names.into_iter().map(|name| format!("`{}.{name}`", DATASETS.name)).collect::<Vec<_>>().join(", ");
    let missing: Vec<&str> = config.datasets.keys().map(String::as_str).filter(|name| !given.contains_key(name)).collect();
    ensure!(missing.is_empty(), "no input {} is given, and `datasets` declares it; give its folder, or take it out", names(missing));
    let strange: Vec<&str> = given.keys().copied().filter(|name| !config.datasets.contains_key(*name)).collect();
    if let Some(first) = strange.first() {
        let near = stage_kit::nearest(first, config.datasets.keys().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!(" (did you mean `{}.{near}`?)", DATASETS.name));
        bail!("the input {} is given{near}, and `datasets` does not declare it; say there what it is, or take it out", names(strange));
    }
    let mut sources = Vec::with_capacity(config.datasets.len());
    for (name, declared) in &config.datasets {
        let role = format!("{}.{name}", DATASETS.name);
        let source = Source::open(name, declared, io.input(&role)?, &config.classes)?;
        for (subset, rule) in &config.subsets {
            check_annotated(config, &source, subset, rule)?;
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Refuses a subset whose annotators are said to have looked for classes that a dataset of its cases has no values for.
fn check_annotated(config: &Config, source: &Source<'_>, subset: &str, rule: &Rule) -> Result<()> {
    let pattern = |keys: &[String]| config.classes.pattern_of(keys);
    let Some(annotated) = rule.annotated.as_deref().map(pattern).transpose()? else { return Ok(()) };
    let shown: LabelPattern = source.regions().classes().minus(pattern(&rule.none)?);
    let (any, all) = (pattern(&rule.any)?, pattern(&rule.all)?);
    let is_of_it = rule.datasets.is_empty() || rule.datasets.iter().any(|name| name == source.name());
    let has_label_maps = !source.regions().classes().is_empty();
    let takes_cases = is_of_it && has_label_maps && (any.is_empty() || any.meets(shown)) && all.is_within(shown);
    let unknown = annotated.minus(source.regions().classes());
    ensure!(
        !takes_cases || unknown.is_empty(),
        "subset {subset}: `annotated` has {}, and the dataset {}, whose cases it takes, declares no values for it; take it out, or part the subset by `datasets`",
        config.classes.keys_of(unknown).join(", "),
        source.name()
    );
    Ok(())
}

/// All cases that have one image, sorted by id, what else lies in the folders, and what the datasets' label maps mean.
pub(crate) fn gather(config: &Config, io: &StageIo) -> Result<(Vec<Candidate>, Aside, Arc<AllRegions>)> {
    let sources = sources(config, io)?;
    let regions: AllRegions = sources.iter().map(|source| (source.name().to_owned(), source.regions().clone())).collect();
    let regions = Arc::new(regions);
    let mut all = (Vec::new(), Aside::default());
    for source in &sources {
        let (cases, mut aside) = source.cases()?;
        let prefix = if sources.len() > 1 { format!("{}__", source.name()) } else { String::new() };
        let mut candidates: Vec<Candidate> = cases.into_iter().map(|files| candidate(source, &prefix, files, &regions)).collect();
        if let SplitRule::File { file, fold } = config.split_of(source.name()) {
            let lists = Lists::read(source.root(), file, *fold).with_context(|| format!("dataset {}", source.name()))?;
            lists.apply(&mut candidates, &mut aside)?;
        }
        for one in &mut aside.left_out {
            one.case.insert_str(0, &prefix);
        }
        all.0.extend(candidates);
        all.1.extend(aside);
    }
    let (mut candidates, mut aside) = all;
    exclude(&mut candidates, &mut aside, config)?;
    candidates.sort_by(|a, b| a.id.cmp(&b.id));
    aside.left_out.sort();
    Ok((candidates, aside, regions))
}

fn candidate(source: &Source<'_>, prefix: &str, files: CaseFiles, regions: &Arc<AllRegions>) -> Candidate {
    Candidate {
        id: format!("{prefix}{}", files.case),
        dataset: source.name().to_owned(),
        root: source.root().to_owned(),
        unit: format!("{prefix}{}", files.patient.as_ref().unwrap_or(&files.case)),
        side: None,
        regions: Arc::clone(regions),
        files,
    }
}

/// Cases that the user wants to do without are no findings.
fn exclude(candidates: &mut Vec<Candidate>, aside: &mut Aside, config: &Config) -> Result<()> {
    let known: BTreeSet<&str> =
        candidates.iter().map(|one| one.id.as_str()).chain(aside.left_out.iter().map(|one| one.case.as_str())).collect();
    let unknown: Vec<&str> = config.exclude.iter().map(String::as_str).filter(|case| !known.contains(case)).collect();
    if let Some(first) = unknown.first() {
        let near = stage_kit::nearest(first, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        let place = if config.datasets.len() > 1 { "the datasets" } else { "the dataset" };
        bail!("exclude: there is no case {} in {place}{near}", unknown.join(", "));
    }
    candidates.retain(|one| !config.exclude.contains(&one.id));
    aside.left_out.retain(|one| !config.exclude.contains(&one.case));
    Ok(())
}
