//! Why a node is not fresh: what differs from the work behind its latest result, field by field.

use std::collections::{BTreeMap, BTreeSet};

use case_store::Common;
use serde_json::Value;

use crate::cases::{Cases, PlannedCase, by_case};
use crate::digest::Tree;
use crate::graph::Node;
use crate::plan::Input;
use crate::record::{InputRecord, Record};
use crate::store::Store;

/// Every difference between the latest record of a node and the work that it stands for now, a line each. Inputs that
/// are not known yet (`None`) are left out, and so are inputs that cases read by themselves, when the cases are known:
/// [`case_lines`] tells of these.
#[must_use]
pub fn differences(store: &Store, node: &Node, inputs: &BTreeMap<String, Option<Input>>, old: &Record, cases_known: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if old.stage != node.stage.name {
        lines.push(format!("stage {} → {}", old.stage, node.stage.name));
    }
    if old.revision != node.stage.revision {
        lines.push(format!("revision of the stage {} → {}", old.revision, node.stage.revision));
    }
    if old.seed != node.seed {
        lines.push(format!("seed {} → {}", old.seed, node.seed));
    }
    compare_params("", &old.params, &node.params, &mut lines);
    for role in old.inputs.keys().chain(inputs.keys()).collect::<BTreeSet<_>>() {
        match (old.inputs.get(role), inputs.get(role)) {
            (Some(_), Some(Some(_))) if cases_known && by_case(node, role) => {}
            (Some(old), Some(Some(new))) if old.digest != new.digest => {
                lines.push(format!("input {role} {}", input_change(store, old, new)));
            }
            (None, Some(Some(new))) => lines.push(format!("input {role} is new: {}", new.from)),
            (Some(old), None) => lines.push(format!("input {role} is gone; it was {}", old.from)),
            _ => {}
        }
    }
    lines
}

/// Why a case has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseChange {
    /// Its name.
    pub id: String,
    /// What is different, each in words.
    pub reasons: Vec<String>,
}

/// The cases that have to be done, with their reasons. `old` has the names and keys of the cases of an earlier result.
#[must_use]
pub fn case_changes(store: &Store, cases: &Cases, old: &BTreeMap<String, String>) -> Vec<CaseChange> {
    let changed = |index: usize| {
        let case = &cases.list[index];
        CaseChange { id: case.id.clone(), reasons: case_reasons(store, &cases.common, case, old.get(&case.id)) }
    };
    cases.missing(store).into_iter().map(changed).collect()
}

/// What differs between a case as it was, under the key `old`, and as it is now.
#[must_use]
pub fn case_reasons(store: &Store, common: &Common, case: &PlannedCase, old: Option<&String>) -> Vec<String> {
    let Some(old_key) = old else { return vec!["is new".into()] };
    let Some(old) = store.cases().sealed(old_key) else { return vec!["its record is damaged or was removed".into()] };
    if *old_key == case.key {
        return vec!["its files are damaged or were removed".into()];
    }
    let mut lines = Vec::new();
    if old.common.revision != common.revision {
        lines.push(format!("revision of the stage {} → {}", old.common.revision, common.revision));
    }
    if old.common.seed != common.seed {
        lines.push(format!("seed {} → {}", old.common.seed, common.seed));
    }
    compare_params("", &old.common.params, &common.params, &mut lines);
    compare_files("input ", &old.common.shared, &common.shared, &mut lines);
    compare_files("", &old.reads, &case.reads, &mut lines);
    if old.facts != case.facts {
        let mut facts = Vec::new();
        compare_params("", &old.facts, &case.facts, &mut facts);
        lines.extend(facts.iter().map(|line| line.replacen("parameter ", "", 1)));
    }
    lines
}

fn compare_files(what: &str, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>, lines: &mut Vec<String>) {
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(name).filter(|hash| !hash.is_empty()), new.get(name).filter(|hash| !hash.is_empty())) {
            (Some(old), Some(new)) if old != new => lines.push(format!("{what}{name} changed")),
            (None, Some(_)) => lines.push(format!("{what}{name} is new")),
            (Some(_), None) => lines.push(format!("{what}{name} is gone")),
            _ => {}
        }
    }
}

/// What of a node's cases has to be done, in a few lines.
#[must_use]
pub fn case_lines(store: &Store, cases: &Cases, old: &BTreeMap<String, String>) -> Vec<String> {
    let changes = case_changes(store, cases, old);
    let total = cases.list.len();
    let mut lines = Vec::new();
    let shown: Vec<String> =
        changes.iter().take(SHOWN_NAMES).map(|change| format!("{} ({})", change.id, change.reasons.join(", "))).collect();
    let more = if changes.len() > SHOWN_NAMES { ", …" } else { "" };
    if !old.is_empty() && !changes.is_empty() {
        lines.push(format!("{} of {total} cases: {}{more}", changes.len(), shown.join(", ")));
    } else if changes.len() < total {
        lines.push(format!("{} of {total} cases are there already", total - changes.len()));
    }
    let now: BTreeSet<&String> = cases.list.iter().map(|case| &case.id).collect();
    if let Some(gone) = names(old.keys().filter(|id| !now.contains(id))) {
        lines.push(format!("gone: {}", gone.replace(" files", " cases")));
    }
    lines
}

pub(crate) fn compare_params(at: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare_params(&at, old, new, lines),
                    (Some(old), None) => lines.push(format!("parameter {at} is gone; it was {}", shown(old))),
                    (None, Some(new)) => lines.push(format!("parameter {at} is new: {}", shown(new))),
                    (None, None) => {}
                }
            }
        }
        _ if old == new => {}
        _ => lines.push(format!("parameter {at} {} → {}", shown(old), shown(new))),
    }
}

/// A parameter as a person would write it: without the digits that `f32` gains on its way to `f64`.
#[must_use]
pub fn shown(value: &Value) -> String {
    let Some(number) = value.as_f64().filter(|_| value.is_f64()) else { return value.to_string() };
    #[expect(clippy::cast_possible_truncation, reason = "compared with the original just below")]
    let short = number as f32;
    if f64::from(short) == number { short.to_string() } else { value.to_string() }
}

fn input_change(store: &Store, old: &InputRecord, new: &Input) -> String {
    let from = if old.from == new.from { new.from.clone() } else { format!("{} → {}", old.from, new.from) };
    match (store.tree(&old.digest), store.tree(&new.digest)) {
        (Some(old), Some(new)) => format!("changed ({from}): {}", tree_change(&old, &new)),
        _ => format!("changed ({from})"),
    }
}

/// How many names a line shows of many.
const SHOWN_NAMES: usize = 3;

pub(crate) fn tree_change(old: &Tree, new: &Tree) -> String {
    let changed = new.0.iter().filter(|(path, hash)| old.0.get(*path).is_some_and(|before| before != *hash)).map(|(path, _)| path);
    let added = new.0.keys().filter(|path| !old.0.contains_key(*path));
    let removed = old.0.keys().filter(|path| !new.0.contains_key(*path));
    let counts = [("changed", names(changed)), ("added", names(added)), ("removed", names(removed))];
    let parts = counts.iter().filter_map(|(what, names)| names.as_ref().map(|names| format!("{what} {names}")));
    parts.collect::<Vec<_>>().join("; ")
}

fn names<'a>(paths: impl Iterator<Item = &'a String>) -> Option<String> {
    let paths: Vec<&str> = paths.map(String::as_str).collect();
    let shown = paths.iter().take(SHOWN_NAMES).copied().collect::<Vec<_>>().join(", ");
    match paths.len() {
        0 => None,
        1 => Some(shown),
        n if n <= SHOWN_NAMES => Some(format!("{n} files ({shown})")),
        n => Some(format!("{n} files ({shown}, …)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_compared_field_by_field() {
        let mut lines = Vec::new();
        let old = json!({"lr": 5e-4, "steps": 10, "window": {"level": 50, "width": 400}, "old": true});
        let new = json!({"lr": 1e-4, "steps": 10, "window": {"level": 40, "width": 400}, "new": [1]});
        compare_params("", &old, &new, &mut lines);
        let expected = [
            "parameter lr 0.0005 → 0.0001",
            "parameter window.level 50 → 40",
            "parameter old is gone; it was true",
            "parameter new is new: [1]",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn single_precision_numbers_are_shown_short() {
        assert_eq!(shown(&json!(0.1_f32)), "0.1");
        assert_eq!(shown(&json!(0.1_f64)), "0.1");
        assert_eq!(shown(&json!(3)), "3");
    }

    #[test]
    fn changed_files_are_named() {
        let tree = |files: &[(&str, &str)]| Tree(files.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).to_owned())).collect());
        let old = tree(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("gone", "1")]);
        let new = tree(&[("a", "2"), ("b", "2"), ("c", "2"), ("d", "2"), ("e", "1"), ("new", "1")]);
        assert_eq!(tree_change(&old, &new), "changed 4 files (a, b, c, …); added new; removed gone");
    }
}
