//! The models that were scored, and what is known of each: the nodes behind its predictions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dataset::Manifest;
use metrics::{Protocol, Summary};
use pipeline::{Node, NodeState, Record, Snapshot, Source, Store};
use stage_kit::Entry;

/// One `evaluate` node with a result.
pub(crate) struct Scored {
    pub(crate) node: String,
    pub(crate) state: NodeState,
    pub(crate) folder: PathBuf,
    /// By the challenge's rules, a summary per model, in the order of the stage.
    pub(crate) official: Vec<Summary>,
    /// By the plain rules.
    pub(crate) plain: Vec<Summary>,
    /// What is behind each model, in the same order.
    pub(crate) origins: Vec<Origin>,
}

/// What is behind a model's predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// A 2-D student; otherwise the teachers themselves.
    pub(crate) student: bool,
    /// Some training saw pseudo-labels of unlabelled cases.
    pub(crate) unlabeled: bool,
}

impl Origin {
    /// Adds a node behind the model; `partition` is the result that tells the cases of its subset.
    fn add(&mut self, stage: &str, params: &serde_json::Value, partition: Option<&Path>) {
        if stage != "train-student" {
            return;
        }
        self.student = true;
        let subset = params.get("subset").and_then(|subset| subset.as_str());
        self.unlabeled |= subset.zip(partition).is_some_and(|(subset, partition)| has_unlabeled(partition, subset));
    }
}

/// Whether a subset has cases of which nobody has annotated anything. What cannot be read says nothing.
fn has_unlabeled(partition: &Path, subset: &str) -> bool {
    let Ok(manifest) = Manifest::load(partition) else { return false };
    manifest.select(subset, None).is_ok_and(|cases| cases.iter().any(|case| case.annotated_label().is_none()))
}

/// The input that tells the cases of a training's subset.
const PARTITION: &str = "partition";

const STAGE: &str = "evaluate";

/// Every `evaluate` node that has a result.
pub(crate) fn scored(seen: &Snapshot<'_>) -> Result<Vec<Scored>> {
    let mut all = Vec::new();
    for (node, view) in seen.pipeline.nodes.iter().zip(&seen.nodes) {
        let (STAGE, Some(record)) = (node.stage.name, readable(&node.stage, view.record.as_ref())) else { continue };
        let folder = seen.store.object(&record.key);
        let official = read(&folder, Protocol::Official)?;
        let origins = official.iter().map(|summary| origin(seen, node, &summary.model)).collect();
        let plain = read(&folder, Protocol::Plain)?;
        all.push(Scored { node: node.name.clone(), state: view.state, folder, official, plain, origins });
    }
    Ok(all)
}

/// A record whose files are those that this program's stage writes. An earlier revision may have laid them out otherwise.
pub(crate) fn readable<'a>(stage: &Entry, record: Option<&'a Record>) -> Option<&'a Record> {
    record.filter(|record| record.stage == stage.name && record.revision == stage.revision)
}

fn read(folder: &Path, protocol: Protocol) -> Result<Vec<Summary>> {
    let path = folder.join(format!("{protocol}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the scores {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no scores; run its node again with --force", path.display()))
}

fn origin(seen: &Snapshot<'_>, node: &Node, model: &str) -> Origin {
    let mut origin = Origin::default();
    if let Some(Source::Node { index, .. }) = node.inputs.get(&format!("predictions.{model}")) {
        for ancestor in seen.pipeline.with_ancestors(&[*index].into()) {
            let ancestor = &seen.pipeline.nodes[ancestor];
            let partition = match ancestor.inputs.get(PARTITION) {
                Some(Source::Node { index, .. }) => seen.nodes[*index].record.as_ref().map(|record| seen.store.object(&record.key)),
                _ => None,
            };
            origin.add(ancestor.stage.name, &ancestor.params, partition.as_deref());
        }
    }
    origin
}

/// The last model of a pipeline that shares the store.
pub(crate) struct Variant {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    pub(crate) official: Summary,
    pub(crate) origin: Origin,
}

/// The same node of the other pipelines of the store, as far as they have a result of it that was scored on the same classes.
pub(crate) fn variants(seen: &Snapshot<'_>, scored: &Scored) -> Result<Vec<Variant>> {
    let (Some(at), Some(own)) = (seen.pipeline.find(&scored.node), scored.official.last()) else { return Ok(Vec::new()) };
    let stage = &seen.pipeline.nodes[at].stage;
    let Some(results) = seen.store.results().parent().filter(|folder| folder.is_dir()) else { return Ok(Vec::new()) };
    let list = std::fs::read_dir(results).with_context(|| format!("cannot list {}", results.display()))?;
    let mut names: Vec<String> = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| *name != seen.pipeline.name);
    names.sort();
    let mut variants = Vec::new();
    for pipeline in names {
        let store = Store::new(&seen.pipeline.store, &pipeline);
        let record = latest(&store, &scored.node);
        let Some(record) = readable(stage, record.as_ref()) else { continue };
        let Some(official) = read(&store.object(&record.key), Protocol::Official)?.pop().filter(|other| other.scored() == own.scored())
        else {
            continue;
        };
        let mut origin = Origin::default();
        if let Some(prediction) = record.inputs.get(&format!("predictions.{}", official.model)) {
            trace(&store, &prediction.from, &mut origin, &mut Vec::new());
        }
        variants.push(Variant { pipeline, official, origin });
    }
    Ok(variants)
}

fn latest(store: &Store, node: &str) -> Option<Record> {
    store.record(&store.latest_key(node)?)
}

/// Follows the records of another pipeline from input to input; its file is not at hand.
fn trace(store: &Store, reference: &str, origin: &mut Origin, visited: &mut Vec<String>) {
    let node = reference.split('/').next().unwrap_or(reference);
    if visited.iter().any(|other| other == node) {
        return;
    }
    visited.push(node.to_owned());
    let Some(record) = latest(store, node) else { return };
    let partition = record.inputs.get(PARTITION).and_then(|input| latest(store, &input.from));
    origin.add(&record.stage, &record.params, partition.map(|partition| store.object(&partition.key)).as_deref());
    for input in record.inputs.values() {
        trace(store, &input.from, origin, visited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unlabelled_data_are_those_that_nobody_annotated_whatever_their_subset_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let case = |id: &str, subset: &str, label: Option<&str>, annotated: &str| {
            json!({"id": id, "dataset": "x", "image": "i.nii.gz", "label": label, "pattern": annotated, "subset": subset, "annotated": annotated,
                   "split": "training", "shape": [1, 1, 1], "spacing_mm": [1.0, 1.0, 1.0]})
        };
        let manifest = json!({
            "classes": [{"group": "organ", "classes": {"liver": 1}}],
            "regions": {},
            "subsets": {"plain": ["plain"], "full": ["full"]},
            "cases": [case("a", "plain", None, "{}"), case("b", "full", Some("l.nii.gz"), "{1}")],
        });
        std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
        let origin = |stage: &str, subset: &str| {
            let mut origin = Origin::default();
            origin.add(stage, &json!({"subset": subset}), Some(folder.path()));
            (origin.student, origin.unlabeled)
        };
        assert_eq!(origin("train-student", "plain"), (true, true));
        assert_eq!(origin("train-student", "full"), (true, false));
        assert_eq!(origin("train-student", "D_u"), (true, false), "there is no such subset");
        assert_eq!(origin("train-teacher", "plain"), (false, false));
    }
}
