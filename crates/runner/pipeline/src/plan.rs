//! What is fresh, what must be done, and what cannot be known yet.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cases::{Cases, Filter, Opened, by_case};
use crate::digest::{Digest, Hasher, Tree};
use crate::graph::{Pipeline, Source};
use crate::key::{key, key_of_cases};
use crate::record::Record;
use crate::store::Store;

/// One input as a node will read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The file or folder.
    pub path: PathBuf,
    /// The reference, for people.
    pub from: String,
    /// The digest of the content.
    pub digest: Digest,
}

/// A piece of work of which everything is known.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its key.
    pub key: String,
    /// Full role → input.
    pub inputs: BTreeMap<String, Input>,
    /// The cases, if the stage works case by case.
    pub cases: Option<Arc<Cases>>,
}

/// The state of a node.
#[derive(Clone, Debug)]
pub enum State {
    /// Its result is there.
    Fresh(Box<Record>),
    /// It must be run.
    Stale(Work),
    /// The nodes of these indices must be run first, or data are not at their place; whether this one must be run too depends on
    /// what they write.
    Waits(Vec<usize>),
}

/// The digest of a file, or of a folder with what is in it.
type Contents = (Digest, Option<Arc<Tree>>);

/// Finds keys and states.
pub struct Planner<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The store.
    pub store: &'a Store,
    /// The digests.
    pub hasher: &'a Hasher,
    note: &'a (dyn Fn(String) + Sync),
    /// Outside data are looked at once in a run.
    data: Mutex<HashMap<PathBuf, Contents>>,
    filter: Filter,
}

impl<'a> Planner<'a> {
    /// A planner; `note` is told of long hashing and of damaged results.
    #[must_use]
    pub fn new(pipeline: &'a Pipeline, store: &'a Store, hasher: &'a Hasher, note: &'a (dyn Fn(String) + Sync)) -> Self {
        Self { pipeline, store, hasher, note, data: Mutex::new(HashMap::new()), filter: Filter::default() }
    }

    /// The same planner, which sees some nodes as if they had a few cases only.
    #[must_use]
    pub fn limited_to(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// The readable name of a node's result: the node's, with the cases if it is limited to some.
    #[must_use]
    pub fn result_name(&self, index: usize) -> String {
        let node = &self.pipeline.nodes[index].name;
        if self.is_limited(index) {
            format!("{node}:{}", self.filter.names.iter().cloned().collect::<Vec<_>>().join(","))
        } else {
            node.clone()
        }
    }

    /// Whether a node is looked at with a few of its cases only.
    #[must_use]
    pub fn is_limited(&self, index: usize) -> bool {
        self.filter.nodes.contains(&index)
    }

    /// The outside data of a node that are not at their place, such as those of a disk that is not mounted.
    #[must_use]
    pub fn absent(&self, index: usize) -> Vec<String> {
        let absent = |source: &Source| match source {
            Source::Data { name, path } if !path.exists() => Some(format!("data.{name}, of which nothing is at {}", path.display())),
            _ => None,
        };
        self.pipeline.nodes[index].inputs.values().filter_map(absent).collect()
    }

    /// The inputs of a node by full role; `None` for what a node without a record will write, and for data that are not there.
    ///
    /// # Errors
    /// When outside data cannot be read, or a node's output lacks the file or folder that a reference names.
    pub fn inputs(&self, index: usize, records: &[Option<Record>]) -> Result<BTreeMap<String, Option<Input>>> {
        let node = &self.pipeline.nodes[index];
        let input = |(role, source): (&String, &Source)| {
            let input = self.input(source, records);
            Ok((role.clone(), input.with_context(|| format!("node {}, input {role}", node.name))?))
        };
        node.inputs.iter().map(input).collect()
    }

    fn input(&self, source: &Source, records: &[Option<Record>]) -> Result<Option<Input>> {
        match source {
            Source::Data { name, path } => {
                if !path.exists() {
                    return Ok(None);
                }
                let from = format!("data.{name} ({})", path.display());
                Ok(Some(Input { path: path.clone(), from, digest: self.data(path)?.0 }))
            }
            Source::Node { index, sub } => {
                let name = &self.pipeline.nodes[*index].name;
                let Some(record) = &records[*index] else { return Ok(None) };
                let object = self.store.object(&record.key);
                if sub.is_empty() {
                    return Ok(Some(Input { path: object, from: name.clone(), digest: record.output.clone() }));
                }
                let tree = self.contents(&record.output, &object)?;
                let (digest, part) = tree
                    .at(sub)
                    .with_context(|| format!("{name} has written no `{sub}`; its output is {}", self.store.result(name).display()))?;
                if let Some(part) = part {
                    let _ = self.store.keep_tree(&part);
                }
                Ok(Some(Input { path: object.join(sub), from: format!("{name}/{sub}"), digest }))
            }
        }
    }

    /// The list of files behind a digest; read anew from `folder` if the store has lost it.
    fn contents(&self, digest: &str, folder: &Path) -> Result<Tree> {
        if let Some(tree) = self.store.tree(digest) {
            return Ok(tree);
        }
        let tree = self.hasher.tree(folder, &|text| (self.note)(text))?;
        // A whole object holds more than its digest tells of.
        Ok(if tree.digest() == digest { tree } else { tree.split().0 })
    }

    fn data(&self, path: &Path) -> Result<Contents> {
        let mut known = self.data.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = known.get(path) {
            return Ok(found.clone());
        }
        let (digest, tree) = self.hasher.digest(path, &|text| (self.note)(text))?;
        if let Some(tree) = &tree {
            // A list that cannot be kept, as in a store that is read-only, costs `explain` the names of changed files.
            let _ = self.store.keep_tree(tree);
        }
        let found = (digest, tree.map(Arc::new));
        known.insert(path.to_owned(), found.clone());
        Ok(found)
    }

    /// The work of a node all of whose parents have records and whose data are there; `None` otherwise.
    ///
    /// # Errors
    /// As [`Planner::inputs`].
    pub fn work(&self, index: usize, records: &[Option<Record>]) -> Result<Option<Work>> {
        let inputs: Option<BTreeMap<_, _>> = self.inputs(index, records)?.into_iter().map(|(role, input)| Some((role, input?))).collect();
        let Some(inputs) = inputs else { return Ok(None) };
        let node = &self.pipeline.nodes[index];
        let cases = self.cases(index, &inputs).with_context(|| format!("node {}", node.name))?;
        let key = match &cases {
            Some(cases) => key_of_cases(node, cases),
            None => key(node, &inputs.iter().map(|(role, input)| (role.clone(), input.digest.clone())).collect()),
        };
        Ok(Some(Work { key, inputs, cases: cases.map(Arc::new) }))
    }

    fn cases(&self, index: usize, inputs: &BTreeMap<String, Input>) -> Result<Option<Cases>> {
        let node = &self.pipeline.nodes[index];
        if !node.stage.is_by_case() {
            return Ok(None);
        }
        let mut opened = BTreeMap::new();
        for (role, input) in inputs {
            let outside = matches!(node.inputs.get(role), Some(Source::Data { .. }));
            let tree = match () {
                () if !by_case(node, role) => None,
                () if outside => self.data(&input.path)?.1,
                () if input.digest.starts_with("tree:") => Some(Arc::new(self.contents(&input.digest, &input.path)?)),
                () => None,
            };
            opened.insert(role.clone(), Opened { input, tree });
        }
        let mut cases = Cases::of(self.pipeline, node, &opened)?;
        if let Some(cases) = cases.as_mut().filter(|_| self.is_limited(index)) {
            cases.retain(&node.name, &self.filter.names)?;
        }
        Ok(cases)
    }

    /// The record of a piece of work, if its result is there and, under `--verify`, sound.
    ///
    /// # Errors
    /// When the result cannot be read.
    pub fn record(&self, node: &str, work: &Work) -> Result<Option<Record>> {
        let Some(record) = self.store.record(&work.key) else { return Ok(None) };
        if self.hasher.reads_everything() {
            let tree = self.hasher.tree(&self.store.object(&work.key), &|text| (self.note)(text))?;
            if !record.is_of(tree) {
                (self.note)(format!("{node}: the files in {} are not those that were published", self.store.object(&work.key).display()));
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// The states of all nodes, in their order; those outside `wanted` are not looked at and wait for nothing.
    ///
    /// # Errors
    /// As [`Planner::inputs`].
    pub fn survey(&self, wanted: &std::collections::BTreeSet<usize>) -> Result<BTreeMap<usize, State>> {
        let mut records = vec![None; self.pipeline.nodes.len()];
        let mut states = BTreeMap::new();
        for &index in wanted {
            let node = &self.pipeline.nodes[index];
            let state = match self.work(index, &records)? {
                None => State::Waits(node.parents().into_iter().filter(|&parent| records[parent].is_none()).collect()),
                Some(work) => match self.record(&node.name, &work)? {
                    Some(record) => {
                        records[index] = Some(record.clone());
                        State::Fresh(Box::new(record))
                    }
                    None => State::Stale(work),
                },
            };
            states.insert(index, state);
        }
        Ok(states)
    }
}

/// The records of the fresh nodes among `states`, by index.
#[must_use]
pub fn records(states: &BTreeMap<usize, State>, n_nodes: usize) -> Vec<Option<Record>> {
    let record = |index| match states.get(&index) {
        Some(State::Fresh(record)) => Some((**record).clone()),
        _ => None,
    };
    (0..n_nodes).map(record).collect()
}
