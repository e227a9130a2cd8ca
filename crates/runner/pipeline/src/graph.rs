//! The checked pipeline: nodes in an order in which each stands after what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use stage_kit::{DeviceChoice, Entry};

use crate::classes::{CLASSES, Declared};
use crate::defaults::{self, DEFAULTS};
use crate::document::Document;
use crate::error::{ConfigError, Problem};
use crate::lookup::{Builder, read_data};
use crate::nodes::{RawNode, read_nodes};
use crate::order::{cycle_problem, order, reordered};
use crate::overrides::Overrides;
use crate::resources::Resources;
use crate::slurm::SlurmOptions;
use crate::text::instead;

/// A pipeline in which everything is known: stages exist, parameters are complete, references lead somewhere, and
/// there is no cycle.
pub struct Pipeline {
    /// The root of the random streams of all nodes that have no seed of their own.
    pub seed: u64,
    /// Where networks run.
    pub device: DeviceChoice,
    /// The name of the file without `.yaml`.
    pub name: String,
    /// The folder of results.
    pub store: PathBuf,
    /// How to use the site's Slurm.
    pub slurm: SlurmOptions,
    /// The nodes, each after the nodes that it reads, else in the order of the file.
    pub nodes: Vec<Node>,
    document: Document,
}

/// One node.
#[derive(Clone)]
pub struct Node {
    /// Its name, such as `M_c` or `segment[M_1]`.
    pub name: String,
    /// Its stage.
    pub stage: Entry,
    /// Its parameters, complete.
    pub params: Value,
    /// The root of its random streams: its own, or else the pipeline's.
    pub seed: u64,
    /// Full role (`predictions.M_1`) → where it comes from.
    pub inputs: BTreeMap<String, Source>,
    /// What it asks for.
    pub resources: Resources,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The output of the node at `index` in [`Pipeline::nodes`], or what is at `sub` in it.
    Node {
        /// Its place in [`Pipeline::nodes`].
        index: usize,
        /// The file or folder in its output; empty for all of it.
        sub: String,
    },
    /// A file or folder from outside.
    Data {
        /// The name under `data:`.
        name: String,
        /// The path.
        path: PathBuf,
    },
}

impl Node {
    /// The indices of the nodes that it reads.
    #[must_use]
    pub fn parents(&self) -> BTreeSet<usize> {
        self.inputs.values().filter_map(|source| if let Source::Node { index, .. } = source { Some(*index) } else { None }).collect()
    }
}

/// So many nodes are named that lack an input.
const MOST_READERS: usize = 3;

pub(crate) const KEYS: [&str; 9] = ["extends", "seed", "device", "store", "slurm", CLASSES, "data", DEFAULTS, "nodes"];

impl Pipeline {
    /// Reads and checks a pipeline file. No file but the pipeline file and what it extends is touched.
    ///
    /// # Errors
    /// Everything that is wrong, with file, line and field.
    pub fn load(path: &Path, overrides: &Overrides, stages: &[Entry]) -> Result<Self, ConfigError> {
        let document = Document::load(path, overrides)?;
        let mut problems = Vec::new();
        for key in document.value.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            problems.push(document.problem(&[key], format!("a pipeline file has no `{key}`; {}", instead(key, "it has", &KEYS))));
        }
        let (seed, device, store) = settings(&document, &mut problems);
        let slurm = SlurmOptions::parse(document.value.get("slurm")).unwrap_or_else(|(key, message)| {
            let field: Vec<&str> = ["slurm"].into_iter().chain(key.as_deref()).collect();
            problems.push(document.problem(&field, message));
            SlurmOptions::default()
        });
        let classes = Declared::read(&document, &mut problems);
        let data = read_data(&document, &mut problems);
        defaults::check(&document, &stages.iter().map(|stage| stage.name).collect::<Vec<_>>(), &mut problems);
        let raw = read_nodes(&document, &mut problems);
        if !overrides.params.is_empty() {
            check_set(overrides, &raw, &mut problems);
        }
        let mut nodes = Builder { document: &document, stages, classes: &classes, data: &data, seed, problems: &mut problems }.build(&raw);
        if problems.is_empty() {
            let order = order(&nodes).map_err(|cycle| cycle_problem(&document, &nodes, &raw, &cycle))?;
            nodes = reordered(&nodes, &order);
        } else {
            return Err(ConfigError(problems));
        }
        let name = path.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self { name, seed, device, store, slurm, nodes, document })
    }

    /// The file that the pipeline file at `path` extends.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn base_of(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Document::base_of(path)
    }

    /// The index of the node of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The nodes that `names` ask for: a `foreach` node's plain name stands for all of its nodes.
    ///
    /// # Errors
    /// For a name that is no node.
    pub fn select(&self, names: &[String]) -> Result<BTreeSet<usize>, ConfigError> {
        let mut selected = BTreeSet::new();
        for name in names {
            let family = format!("{name}[");
            let found: Vec<usize> =
                (0..self.nodes.len()).filter(|&i| self.nodes[i].name == *name || self.nodes[i].name.starts_with(&family)).collect();
            if found.is_empty() {
                let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
                let message = format!("there is no node `{name}`; {}", instead(name, "the nodes are", &known));
                return Err(Problem { file: self.document.file().to_owned(), line: None, field: String::new(), message }.into());
            }
            selected.extend(found);
        }
        Ok(selected)
    }

    /// `selected` and everything that they read, directly or not.
    #[must_use]
    pub fn with_ancestors(&self, selected: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut all = selected.clone();
        // Parents come before their children, so that one pass from the end finds them all.
        for index in (0..self.nodes.len()).rev() {
            if all.contains(&index) {
                all.extend(self.nodes[index].parents());
            }
        }
        all
    }

    /// Checks that the outside data that `selected` read are there.
    ///
    /// # Errors
    /// Names each entry of `data:` behind which there is nothing.
    pub fn check_data(&self, selected: &BTreeSet<usize>) -> Result<(), ConfigError> {
        let sources = || selected.iter().flat_map(|&index| self.nodes[index].inputs.values());
        let missing = |source: &'_ Source| match source {
            Source::Data { name, path } if !path.exists() => Some((path.clone(), name.clone())),
            _ => None,
        };
        // Two names of one place, or of a place within another, are one problem.
        let missing: BTreeMap<PathBuf, String> = sources().filter_map(missing).collect();
        let outermost = |path: &Path| !path.ancestors().skip(1).any(|outer| missing.contains_key(outer));
        let mut problems = Vec::new();
        for (path, name) in missing.iter().filter(|(path, _)| outermost(path)) {
            let reads = |node: &&Node| {
                let mut sources = node.inputs.values();
                sources.any(|source| matches!(source, Source::Data { path: read, .. } if read.starts_with(path)))
            };
            let readers: Vec<&str> =
                selected.iter().map(|&index| &self.nodes[index]).filter(reads).map(|node| node.name.as_str()).collect();
            let message = format!(
                "there is nothing at {}; mend the path, or give `--data {name}=PATH`, or name nodes to run that do without {}",
                path.display(),
                stage_kit::some_of(&readers, MOST_READERS)
            );
            problems.push(self.document.problem(&["data", name], message));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

/// `seed`, `device` and `store`.
fn settings(document: &Document, problems: &mut Vec<Problem>) -> (u64, DeviceChoice, PathBuf) {
    let seed = document.value.get("seed").and_then(Value::as_u64).unwrap_or_else(|| {
        problems.push(document.problem(&["seed"], "must be given as a whole number; all randomness comes from it"));
        0
    });
    let device = document.value.get("device").map_or(Ok(DeviceChoice::default()), |value| serde_json::from_value(value.clone()));
    let device = device.unwrap_or_else(|_| {
        problems.push(document.problem(&["device"], "must be auto, cpu or cuda"));
        DeviceChoice::default()
    });
    let store = match document.value.get("store") {
        Some(Value::String(store)) => store.clone(),
        _ => {
            problems.push(document.problem(&["store"], "must be the path of the folder for results"));
            String::new()
        }
    };
    (seed, device, store.into())
}

fn check_set(overrides: &Overrides, raw: &[RawNode], problems: &mut Vec<Problem>) {
    for (node, param, _) in &overrides.params {
        if !raw.iter().any(|raw| raw.written == *node) {
            let mut known: Vec<&str> = raw.iter().map(|raw| raw.written.as_str()).collect();
            // The nodes of a `foreach` follow each other.
            known.dedup();
            let message = format!("there is no node `{node}`; {}", instead(node, "the nodes are", &known));
            problems.push(Problem { file: "the command line".into(), line: None, field: format!("--set {node}.{param}"), message });
        }
    }
}
