//! The nodes that score both models on patients that the split holds back.

use dataset::DatasetConfig;
use serde_json::{Map, Value, json};

use crate::merge::{Merged, Shown};
use crate::plan::Scans;
use crate::write::flow;

/// The split holds back one of so many labelled cases; one alone is trained on.
const LEAST: usize = 2;

/// The nodes, and a comment for each dataset that has too few labelled cases.
pub(crate) fn nodes(merged: &Merged, datasets: &[(String, DatasetConfig)], scans: &Scans) -> String {
    let labelled =
        || datasets.iter().zip(&scans.usable).map(|((name, _), usable)| (name.as_str(), *usable)).filter(|(_, usable)| *usable > 0);
    let scored: Vec<&str> = labelled().filter(|(_, usable)| *usable >= LEAST).map(|(name, _)| name).collect();
    let mut text = String::from("\n");
    for (name, _) in labelled().filter(|(_, usable)| *usable < LEAST) {
        text += &format!(
            "  # {name} has one labelled case that can be read, which is trained on. Of {LEAST} the split would hold one back, to be scored.\n"
        );
    }
    if scored.is_empty() {
        return text + "  # So nobody knows how good the models are. Score them with label maps of other patients: stage `evaluate`.\n";
    }
    text += &unseen(&scored);
    text.extend(scored.iter().map(|name| of_dataset(name, merged)));
    text
}

/// The node that labels the patients of some datasets.
fn unseen(datasets: &[&str]) -> String {
    format!(
        "  # How good both models are, for patients of whom neither has learnt: those that the split holds back, labelled as if nobody had
  # labelled them. Their scores have chosen the best epochs, and so are rather too high than too low. Where a patient has several scans,
  # say `patient` at the dataset, so that all of them are held back or none: docs/datasets.md. `flare report` shows the tables.
  unseen:
    foreach: {{model: &models [teacher, model], dataset: [{}]}}
    stage: pseudo-label
    inputs: {{datasets: *datasets, partition: partition, teachers: {{model: $model}}}}
    params: {{subsets: [$dataset], held_out: true, window: {{overlap: 0.5}}}}
",
        datasets.join(", ")
    )
}

/// The nodes that score both models on a dataset, by the groups that it has labels of.
fn of_dataset(name: &str, merged: &Merged) -> String {
    let shown = merged.shown(name);
    let group = |shown: &Shown| merged.classes.group_of(merged.classes.class(shown.classes.first()?).ok()?.value);
    let groups = merged.classes.groups().iter().enumerate().filter(|(place, _)| shown.iter().any(|shown| group(shown) == Some(*place)));
    let groups: Vec<&str> = groups.map(|(_, of)| of.key()).collect();
    format!(
        "
  unseen_labels_{name}:
    foreach: {{model: *models}}
    stage: overlay
    inputs: {{labels: \"unseen[$model,{name}]\"}}
    params: {{groups: [{}]}}
  scores_{name}:
    stage: evaluate
    inputs:
      truth: \"unseen[model,{name}]/truth\"
      predictions: {{teacher: \"unseen_labels_{name}[teacher]\", model: \"unseen_labels_{name}[model]\"}}
    params: {}
",
        groups.join(", "),
        flow(&meaning(&shown, group)),
    )
}

/// What the values of a dataset's label maps mean: parameters of `evaluate`. The map that is scored shows a tumor in place of its organ; so
/// an organ that contains its tumor is scored with it.
fn meaning(shown: &[Shown], group: impl Fn(&Shown) -> Option<usize>) -> Value {
    let (mut truth, mut unions) = (Map::new(), Map::new());
    for one in shown {
        let is_within = |other: &&Shown| group(other) > group(one) && other.values.iter().all(|value| one.values.contains(value));
        let within = shown.iter().filter(is_within).flat_map(|other| &other.classes);
        let members: Vec<&String> = one.classes.iter().chain(within).collect();
        if members != [&one.name] {
            unions.insert(one.name.clone(), json!(members));
        }
        truth.insert(one.name.clone(), json!(one.values));
    }
    if unions.is_empty() { json!({"truth": truth}) } else { json!({"truth": truth, "unions": unions}) }
}
