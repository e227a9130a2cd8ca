//! The key of a piece of work: equal keys mean equal results, wherever and whenever they were made.

use std::collections::BTreeMap;

use case_store::sorted;
use serde_json::json;

use crate::cases::Cases;
use crate::digest::Digest;
use crate::graph::Node;

/// Raised when what goes into a key, or its form, changes.
const SCHEMA: u32 = 1;

/// The key of a node: BLAKE3 over the schema, the stage and its revision, all parameters, the seed, and the digests of
/// the inputs by role. Neither paths nor times nor the node's name, device or machine are part of it.
#[must_use]
pub fn key(node: &Node, inputs: &BTreeMap<String, Digest>) -> String {
    let content = json!({
        "schema": SCHEMA,
        "stage": node.stage.name,
        "revision": node.stage.revision,
        "params": node.params,
        "seed": node.seed,
        "inputs": inputs,
    });
    blake3::hash(sorted(&content).to_string().as_bytes()).to_string()
}

/// The key of a node that works case by case: what [`key`] is made of, but in place of the inputs the keys of the cases,
/// which stand for what was read by each, and `rest`, what else the whole depends on.
#[must_use]
pub fn key_of_cases(node: &Node, cases: &Cases) -> String {
    let whole = json!({
        "schema": SCHEMA,
        "stage": node.stage.name,
        "revision": node.stage.revision,
        "params": node.params,
        "seed": cases.common.seed,
        "rest": cases.rest,
        "shared": cases.common.shared,
    });
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"by case\n").update(sorted(&whole).to_string().as_bytes());
    for case in &cases.list {
        hasher.update(b"\n").update(case.key.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;
    use proptest::prelude::*;
    use serde_json::{Map, Value};
    use stage_kit::{Entry, Role, Stage, StageIo};

    struct First;
    struct Second;

    macro_rules! stage {
        ($type:ty, $name:literal, $revision:literal) => {
            impl Stage for $type {
                const NAME: &'static str = $name;
                const REVISION: u32 = $revision;
                const ABOUT: &'static str = "";
                const READS: &'static [Role] = &[];
                const WRITES: &'static str = "";
                const PAPER: &'static str = "";
                type Config = Value;
                fn run(_: &Value, _: &StageIo) -> Result<()> {
                    Ok(())
                }
            }
        };
    }
    stage!(First, "first", 1);
    stage!(Second, "first", 2);

    fn node(name: &str, params: Value, seed: u64) -> Node {
        Node { name: name.into(), stage: Entry::of::<First>(), params, seed, inputs: BTreeMap::new(), resources: Default::default() }
    }

    fn digests(inputs: &[(String, String)]) -> BTreeMap<String, Digest> {
        inputs.iter().cloned().collect()
    }

    #[test]
    fn a_raised_revision_changes_the_key() {
        let first = node("a", json!({}), 1);
        let second = Node { stage: Entry::of::<Second>(), ..first.clone() };
        assert_ne!(key(&first, &BTreeMap::new()), key(&second, &BTreeMap::new()));
    }

    type Inputs = Vec<(String, String)>;

    fn work() -> impl Strategy<Value = (BTreeMap<String, i32>, u64, Inputs)> {
        let params = proptest::collection::btree_map("[a-c]", 0..3, 0..3);
        (params, 0..3_u64, proptest::collection::vec(("[a-b]".prop_map(String::from), "[0-1]".prop_map(String::from)), 0..3))
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_when_the_work_is(one in work(), two in work()) {
            let key_of = |(params, seed, inputs): &(BTreeMap<String, i32>, u64, Inputs)| {
                key(&node("n", json!(params), *seed), &digests(inputs))
            };
            let same = (&one.0, one.1, digests(&one.2)) == (&two.0, two.1, digests(&two.2));
            prop_assert_eq!(key_of(&one) == key_of(&two), same);
        }

        #[test]
        fn neither_the_name_nor_the_order_of_the_parameters_matters(work in work(), name in "[a-z]+") {
            let forward: Map<String, Value> = work.0.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            let backward: Map<String, Value> = work.0.iter().rev().map(|(k, v)| (k.clone(), json!(v))).collect();
            let inputs = digests(&work.2);
            prop_assert_eq!(key(&node("n", forward.into(), work.1), &inputs), key(&node(&name, backward.into(), work.1), &inputs));
        }
    }
}
