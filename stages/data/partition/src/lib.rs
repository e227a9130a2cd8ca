//! Sorts the cases of one or several datasets into subsets by the labels that are there, and splits each by case or by patient.
//!
//! Reads:  the folders of the datasets, each in its own layout.
//! Writes: `manifest.json`; a list of cases for each subset and union, such as `D_l1.txt`, and `D.txt` for all, a case a line, and
//! the same under `training/` and `validation/`; `patterns.{md,csv,json}`; `about/left_out.{md,json}` if a case is left out.
//! Paper:  sections 2.1 and 3.2.
//!
//! Images and label maps are read once, slice by slice. A bad case is no failure: it is left out, and all bad cases are
//! named together, because a dataset of 4,000 scans from thirty hospitals always has some. No file of a dataset is passed over
//! without a word: a label map that nobody sees would make a labelled case an unlabelled one.

mod ahead;
mod check;
mod gather;
mod lists;
mod split;
mod subsets;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use dataset::{Case, DATASETS, DatasetConfig, MANIFEST_FILE, Manifest, Split, SplitRule};
use labels::{Classes, LabelPattern, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, LeftOut, Look, Role, Stage, StageIo, write_atomic_text};

pub use gather::Candidate;
use subsets::Good;
pub use tables::PATTERNS_FILE;

/// The stage.
pub struct Partition;

/// Its parameters.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The classes; the runner takes them from the head of the pipeline file.
    pub classes: Classes,
    /// Each dataset by its name: where its files lie, and what its label maps mean.
    pub datasets: BTreeMap<String, DatasetConfig>,
    /// The subsets by rules on what the label maps show. If there is none, each dataset is a subset of its name.
    #[serde(default)]
    pub subsets: BTreeMap<String, Rule>,
    /// Unions of subsets that have a name.
    #[serde(default)]
    pub unions: BTreeMap<String, Vec<String>>,
    /// How cases are put on the two sides; a dataset may have a rule of its own.
    pub split: SplitRule,
    /// How many cases subsets are known to have, such as those of a paper: shown beside what is there.
    #[serde(default)]
    pub expected: BTreeMap<String, usize>,
    /// The least and the largest voxel edge in mm that a CT scan can have; others are headers gone wrong.
    #[serde(default = "plausible_spacing_mm")]
    pub spacing_mm_range: [f64; 2],
    /// Whether images are read too, so that damage beyond their headers, scans without a body, and intensities that are no HU are
    /// found now and cost their own case, and not the whole of `preprocess`. Takes about a second for each case.
    #[serde(default = "yes")]
    pub check_images: bool,
    /// Cases to do without, such as those that were left out before and are known to be bad: they are named no more. With several
    /// datasets `DATASET__CASE`.
    #[serde(default)]
    pub exclude: Vec<String>,
}

impl Config {
    /// The rule that the cases of a dataset are split by.
    pub(crate) fn split_of(&self, dataset: &str) -> &SplitRule {
        self.datasets.get(dataset).and_then(|dataset| dataset.split.as_ref()).unwrap_or(&self.split)
    }
}

fn yes() -> bool {
    true
}

/// Clinical CT has voxel edges from 0.2 to 10 mm; twice that is left for phantoms and oddities.
fn plausible_spacing_mm() -> [f64; 2] {
    [0.1, 20.0]
}

impl Stage for Partition {
    const NAME: &'static str = "partition";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Sort datasets into subsets by the labels that are there, and split them by case or by patient";
    const READS: &'static [Role] = &[DATASETS];
    const WRITES: &'static str = "manifest.json, case lists SUBSET.txt, training/SUBSET.txt, validation/SUBSET.txt, patterns.{md,csv,json}; about/left_out.{md,json}";
    const PAPER: &'static str = "section 2.1 (subsets), section 3.2 (split by case)";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        ensure!(!config.datasets.is_empty(), "datasets: none is declared, expected at least one");
        for (name, dataset) in &config.datasets {
            dataset.check(name, &config.classes)?;
        }
        config.split.check()?;
        let members = config.subsets()?.members();
        if let Some(name) = config.expected.keys().find(|name| !members.contains_key(*name)) {
            let near = stage_kit::nearest(name, members.keys().map(String::as_str))
                .map_or_else(String::new, |near| format!(", did you mean {near}?"));
            bail!("expected: there is no subset {name}{near}; there are {}", members.keys().cloned().collect::<Vec<_>>().join(", "));
        }
        let [least, most] = config.spacing_mm_range;
        ensure!(
            0.0 < least && least < most && most.is_finite(),
            "spacing_mm_range: [{least}, {most}], expected two lengths in mm, 0 < least < most"
        );
        Ok(())
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>().gathering());

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, ahead: &Ahead, _: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, ahead, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Partition {
    type Job = Candidate;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Candidate>> {
        let (candidates, aside, regions) = gather::gather(config, io)?;
        let sides: BTreeMap<&str, Split> = candidates.iter().filter_map(|one| Some((one.id.as_str(), one.side?))).collect();
        // What the small files of the datasets say.
        let rest = json!({"regions": *regions, "sides": sides});
        Ok(Look::of(Ok(candidates)).beside(aside).finished_by(rest))
    }

    fn case(_: &Config, candidate: &Candidate) -> CaseSpec {
        let Candidate { id, root, files, .. } = candidate;
        let spec = CaseSpec::of(id).reads("image", &root.join(&files.image)).keeps([candidate.findings()]);
        let mut facts = json!({"image": files.image, "label": files.label});
        if !candidate.sides().is_empty() {
            facts["sides"] = json!(candidate.sides());
        }
        let spec = spec.depends_on(facts);
        files.label.iter().fold(spec, |spec, label| spec.reads("label", &root.join(label)))
    }

    /// What does not look into a case changes none.
    fn case_params(config: &Config) -> Result<Value> {
        Ok(json!({"spacing_mm_range": config.spacing_mm_range, "check_images": config.check_images}))
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(config: &Config, io: &StageIo, (): &(), candidate: &Candidate) -> Result<()> {
        let found = check::check(candidate, config);
        write_atomic_text(&io.work.join(candidate.findings()), &serde_json::to_string(&found)?)
    }

    fn finish(config: &Config, io: &StageIo, candidates: &[Candidate]) -> Result<Vec<LeftOut>> {
        let mut sorted = subsets::sort(config, io, candidates)?;
        LeftOut::tell(&mut sorted.bad, io);
        tell_doubts(io, &sorted.good);
        let cases = split::split(sorted.good, config, io.seed);
        ensure!(!cases.is_empty(), "no case can be used: each of the {} cases is bad, as named above", candidates.len());
        let subsets = sorted.subsets.members();
        let manifest = Manifest { classes: config.classes.clone(), regions: sorted.regions, subsets, cases };
        tell_unseen(io, &manifest);
        write(io, config, &manifest)?;
        Ok(sorted.bad)
    }
}

/// Cases that are used although their intensities may not be HU.
fn tell_doubts(io: &StageIo, good: &[Good]) {
    let doubt = |Good { case, doubt, .. }: &Good| Some(format!("\n  case {}: {}: {}", case.id, case.image.display(), doubt.as_ref()?));
    let doubts: Vec<String> = good.iter().filter_map(doubt).collect();
    if !doubts.is_empty() {
        io.report.note(&format!("{}: {} cases are used, and doubtful:{}", io.node, doubts.len(), doubts.concat()));
    }
}

/// Classes that a dataset declares and no case of it shows: most likely their values are others.
fn tell_unseen(io: &StageIo, manifest: &Manifest) {
    for (dataset, regions) in &manifest.regions {
        let labelled = || manifest.cases.iter().filter(|case| case.dataset == *dataset && case.label.is_some());
        let shown = labelled().map(|case| case.pattern).fold(LabelPattern::EMPTY, LabelPattern::union);
        let unseen: Vec<String> =
            regions.classes().minus(shown).iter().filter_map(|class| unseen(manifest, class, regions.of_class(class))).collect();
        if !unseen.is_empty() && labelled().next().is_some() {
            let cases = labelled().count();
            io.report.note(&format!("{}: dataset {dataset}: none of its {cases} labelled cases shows {}", io.node, unseen.join(", ")));
        }
    }
}

/// A class with values that none of the cases shows; nothing of a class that is declared to be nowhere.
fn unseen(manifest: &Manifest, class: u8, values: LabelPattern) -> Option<String> {
    let values: Vec<String> = values.iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| {
        format!("{} ({} {})", manifest.classes.key_of(class), if values.len() == 1 { "value" } else { "values" }, values.join(", "))
    })
}

fn write(io: &StageIo, config: &Config, manifest: &Manifest) -> Result<()> {
    for (name, members) in &manifest.subsets {
        let members: BTreeSet<&str> = members.iter().map(String::as_str).collect();
        let cases = || manifest.cases.iter().filter(|case| members.contains(case.subset.as_str()));
        write_list(io, &format!("{name}.txt"), cases())?;
        for (folder, split) in [("training", Split::Training), ("validation", Split::Validation)] {
            write_list(io, &format!("{folder}/{name}.txt"), cases().filter(|case| case.split == split))?;
        }
    }
    tables::write_patterns(&io.output, config, manifest)?;
    // The manifest comes last: where it is, everything else is.
    write_atomic_text(&io.output.join(MANIFEST_FILE), &(serde_json::to_string_pretty(manifest)? + "\n"))?;
    io.report.note(&format!("{}: {} cases: {}", io.node, manifest.cases.len(), manifest.counts()));
    if !config.exclude.is_empty() {
        io.report.note(&format!("{}: does without {} cases, as `exclude` says", io.node, config.exclude.len()));
    }
    Ok(())
}

fn write_list<'a>(io: &StageIo, name: &str, cases: impl Iterator<Item = &'a Case>) -> Result<()> {
    let text: String = cases.map(|case| format!("{}\n", case.id)).collect();
    write_atomic_text(&io.output.join(name), &text)
}
