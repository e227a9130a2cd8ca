//! The cases of a node: which there are, what each is made from, and the key that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use case_store::{CaseEntry, CaseList, Common, Seen};
use serde_json::Value;
use stage_kit::{CasePlan, DeviceChoice, StageIo};

use crate::digest::{Hasher, Tree};
use crate::graph::{Node, Pipeline};
use crate::plan::Input;
use crate::store::Store;

/// The cases of a node, with their keys.
#[derive(Clone, Debug)]
pub struct Cases {
    /// What they share.
    pub common: Common,
    /// What the whole depends on beside its parameters and its cases.
    pub rest: Value,
    /// The cases, in the stage's order.
    pub list: Vec<PlannedCase>,
}

/// One case of a node.
#[derive(Clone, Debug)]
pub struct PlannedCase {
    /// The name of the piece of work.
    pub id: String,
    /// The case of the dataset.
    pub case: String,
    /// Its key.
    pub key: String,
    /// Name → hash of its own files; empty where there is none.
    pub reads: BTreeMap<String, String>,
    /// These files and their hashes; an empty one of a file that is not there.
    pub files: Vec<(PathBuf, String)>,
    /// Whatever else it depends on.
    pub facts: Value,
    /// What it writes.
    pub writes: Vec<String>,
}

/// The only cases that are asked for, of some nodes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Cases of the dataset, or pieces of work.
    pub names: BTreeSet<String>,
    /// The nodes that are limited to them.
    pub nodes: BTreeSet<usize>,
}

/// An input and what is in it.
pub(crate) struct Opened<'a> {
    pub(crate) input: &'a Input,
    /// Read only where cases read their own files.
    pub(crate) tree: Option<Arc<Tree>>,
}

impl Cases {
    /// The cases of `node`; `None` when its stage does not work by case, or cannot tell them from its inputs: then the run
    /// tells what is wrong.
    pub(crate) fn of(pipeline: &Pipeline, node: &Node, inputs: &BTreeMap<String, Opened<'_>>) -> Result<Option<Self>> {
        let paths = inputs.iter().map(|(role, opened)| (role.clone(), opened.input.path.clone())).collect();
        let io = surroundings(node, paths, pipeline.device);
        let Ok(Some(CasePlan { params, rest, cases })) = node.stage.cases(node.params.clone(), &io) else { return Ok(None) };
        let shared = inputs.iter().filter(|(role, _)| !by_case(node, role));
        let common = Common {
            stage: node.stage.name.to_owned(),
            revision: node.stage.revision,
            params,
            seed: node.seed,
            shared: shared.map(|(role, opened)| (role.clone(), opened.input.digest.clone())).collect(),
        };
        let digest = common.digest();
        let own: Vec<&Opened<'_>> = inputs.iter().filter(|(role, _)| by_case(node, role)).map(|(_, opened)| opened).collect();
        let mut list = Vec::with_capacity(cases.len());
        for spec in cases {
            let mut reads = BTreeMap::new();
            let mut files = Vec::new();
            for (name, path) in &spec.reads {
                let hash = find(&own, path).with_context(|| {
                    format!(
                        "internal error: stage {} says that case {} reads {}, which is none of its inputs",
                        node.stage.name,
                        spec.id,
                        path.display()
                    )
                })?;
                // The list of cases was made after the list of files.
                anyhow::ensure!(!hash.is_empty() || !path.exists(), "{} appeared while the run was planned; run again", path.display());
                files.push((path.clone(), hash.clone()));
                reads.insert(name.clone(), hash);
            }
            let key = Common::case_key(&digest, &spec.id, &reads, &spec.facts);
            let writes = spec.places();
            list.push(PlannedCase { id: spec.id, case: spec.case, key, reads, files, facts: spec.facts, writes });
        }
        Ok(Some(Self { common, rest, list }))
    }

    /// Leaves only the cases of these names.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn retain(&mut self, node: &str, names: &BTreeSet<String>) -> Result<()> {
        let known = self.list.len();
        self.list.retain(|case| names.contains(&case.case) || names.contains(&case.id));
        let asked = || names.iter().cloned().collect::<Vec<_>>().join(", ");
        anyhow::ensure!(!self.list.is_empty(), "node {node} has no case {}, but {known} others", asked());
        Ok(())
    }

    /// The cases without a result, by their place in the list.
    #[must_use]
    pub fn missing(&self, store: &Store) -> Vec<usize> {
        use rayon::prelude::*;
        let cases = store.cases();
        (0..self.list.len()).into_par_iter().filter(|&index| cases.record(&self.list[index].key).is_none()).collect()
    }

    /// The list for the stage. Files from outside are looked at once more, and must be what they were when they were hashed.
    pub(crate) fn entries(&self, store: &Store, hasher: &Hasher) -> Result<CaseList> {
        let entry = |case: &PlannedCase| {
            let seen = case.files.iter().map(|(path, hash)| seen(path, hash, hasher)).collect::<Result<Vec<_>>>()?;
            let PlannedCase { id, key, reads, facts, writes, .. } = case.clone();
            Ok(CaseEntry { id, key, done: false, reads, seen, facts, writes })
        };
        let cases = self.list.iter().map(entry).collect::<Result<_>>()?;
        Ok(CaseList { root: store.root().to_owned(), partial: false, common: self.common.clone(), cases })
    }
}

fn seen(path: &Path, hash: &str, hasher: &Hasher) -> Result<Seen> {
    let before = Seen::now(path, hash);
    let now = if path.exists() { hasher.file(path)? } else { String::new() };
    anyhow::ensure!(now == hash, "{} has changed since the run was planned; run again when it is at rest", path.display());
    Ok(before)
}

/// Whether each case reads its own files of `role`.
pub(crate) fn by_case(node: &Node, role: &str) -> bool {
    let name = role.split_once('.').map_or(role, |(name, _)| name);
    node.stage.reads.iter().any(|role| role.name == name && role.by_case)
}

/// The hash of a file that lies in one of the inputs; an empty one when nothing is there.
fn find(own: &[&Opened<'_>], path: &Path) -> Option<String> {
    let mut found = None;
    for opened in own {
        let Ok(inside) = path.strip_prefix(&opened.input.path) else { continue };
        let hash = match &opened.tree {
            Some(tree) => inside.to_str().and_then(|inside| tree.0.get(inside)).cloned(),
            None => opened.input.digest.strip_prefix("file:").filter(|_| inside.as_os_str().is_empty()).map(str::to_owned),
        };
        // One input may lie inside another; whichever has the file knows its hash.
        let known = hash.is_some();
        found = Some(hash.unwrap_or_default());
        if known {
            break;
        }
    }
    found
}

fn surroundings(node: &Node, inputs: BTreeMap<String, PathBuf>, device: DeviceChoice) -> StageIo {
    StageIo { device, planned: true, ..StageIo::new(&node.name, inputs, PathBuf::new(), PathBuf::new(), node.seed) }
}
