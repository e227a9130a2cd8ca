//! A piece of work that is ready to be done, complete in itself.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use case_store::CaseList;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_kit::DeviceChoice;

use crate::graph::Node;
use crate::plan::{Input, Planner, Work};
use crate::resources::Resources;
use crate::store::Store;

/// All that must be known to do a piece of work and to publish its result: whoever has the store and a job needs neither
/// the pipeline file nor a plan. It stands in the folder of its attempt as `job.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The key of the work, which names its attempt, its object, its record and its lock.
    pub key: String,
    /// The node that it is done for.
    pub node: String,
    /// The stage.
    pub stage: String,
    /// The stage's revision.
    pub revision: u32,
    /// All parameters.
    pub params: Value,
    /// The root of all random streams.
    pub seed: u64,
    /// Where networks run.
    pub device: DeviceChoice,
    /// Full role → what is read.
    pub inputs: BTreeMap<String, Input>,
    /// What the node asks for.
    pub resources: Resources,
    /// The program's version, for the record.
    pub version: String,
    /// The name of the pipeline that it was prepared for.
    pub pipeline: String,
    /// Whether the work is done even if there is a result.
    pub forced: bool,
    /// Whether finished cases are read before they are taken for finished.
    pub verify: bool,
    /// The graphics cards that the runner has set aside for it, on the runner's machine.
    #[serde(skip)]
    pub cards: Option<String>,
    /// The cases of a stage that works case by case. They stand in a file of their own, `cases.json`.
    #[serde(skip)]
    pub cases: Option<CaseList>,
}

/// How much of a job is done in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// All that is not done yet, and then the result is published.
    #[default]
    Whole,
    /// These cases of a stage that works case by case, by their place in the list. Each is published as it is finished; the
    /// result of the node is not.
    Cases(Range<usize>),
}

impl Part {
    /// The name of the attempt and of its lock: the key, for some cases with their places.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        match self {
            Self::Whole => key.to_owned(),
            Self::Cases(range) => format!("{key}.{}-{}", range.start, range.end),
        }
    }
}

impl Job {
    /// The job of a node, for the program of that version.
    ///
    /// # Errors
    /// When an input has changed since it was looked at.
    pub fn new(planner: &Planner<'_>, node: &Node, work: &Work, version: &str, forced: bool) -> Result<Self> {
        let (pipeline, hasher) = (planner.pipeline, planner.hasher);
        let cases = work.cases.as_ref().map(|cases| cases.entries(planner.store, hasher)).transpose()?;
        Ok(Self {
            key: work.key.clone(),
            node: node.name.clone(),
            stage: node.stage.name.to_owned(),
            revision: node.stage.revision,
            params: node.params.clone(),
            seed: node.seed,
            device: pipeline.device,
            inputs: work.inputs.clone(),
            resources: node.resources,
            version: version.to_owned(),
            pipeline: pipeline.name.clone(),
            forced,
            verify: hasher.reads_everything(),
            cards: None,
            cases,
        })
    }

    /// Puts the job into the folder of its attempt, from which [`Job::load`] reads it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self, store: &Store) -> Result<()> {
        let folder = store.attempt(&self.key);
        if let Some(cases) = &self.cases {
            stage_kit::write_atomic_text(&folder.join(CASES), &serde_json::to_string(cases)?)?;
        }
        stage_kit::write_atomic_text(&folder.join(JOB), &serde_json::to_string_pretty(self)?)
    }

    /// The job of an attempt.
    ///
    /// # Errors
    /// When there is no such attempt, or another version has written it.
    pub fn load(store: &Store, key: &str) -> Result<Self> {
        let folder = store.attempt(key);
        let path = folder.join(JOB);
        let text = std::fs::read_to_string(&path).with_context(|| format!("there is no job at {}", path.display()))?;
        let job: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is no job of this version; start the run again", path.display()))?;
        let cases = folder.join(CASES);
        let cases = if cases.is_file() { Some(CaseList::load(&cases)?) } else { None };
        Ok(Self { cases, ..job })
    }
}

impl Job {
    /// What of the job's inputs is not there: an input from the store counts only with the record of the work that made
    /// it, and with the content that this job was prepared for.
    #[must_use]
    pub fn missing_input(&self, store: &Store) -> Option<String> {
        let missing = |(role, input): (&String, &Input)| {
            let tell = |what: &str| Some(format!("input {role} ({}): {what} {}", input.from, input.path.display()));
            let Ok(place) = input.path.strip_prefix(store.root().join("objects")) else {
                return if input.path.exists() { None } else { tell("there is nothing at") };
            };
            let mut parts = place.components();
            let key = parts.next().map(|key| key.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
            let Some(record) = store.record(&key) else { return tell("there is no record of") };
            let sub = parts.as_path().to_str().unwrap_or_default();
            let digest = if sub.is_empty() {
                Some(record.output)
            } else {
                store.tree(&record.output).and_then(|tree| tree.at(sub).map(|(digest, _)| digest))
            };
            if digest.as_ref() == Some(&input.digest) { None } else { tell("there is something else than was planned for at") }
        };
        self.inputs.iter().find_map(missing)
    }
}

const JOB: &str = "job.json";
const CASES: &str = "cases.json";
