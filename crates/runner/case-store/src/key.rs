//! The keys of cases: equal keys mean equal files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Raised when what goes into a key, or its form, changes.
const SCHEMA: u32 = 1;

/// What all cases of a node have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// The stage.
    pub stage: String,
    /// The stage's revision.
    pub revision: u32,
    /// The parameters that matter to a single case.
    pub params: Value,
    /// The root of all random streams.
    pub seed: u64,
    /// Full role → digest of the inputs that every case reads.
    pub shared: BTreeMap<String, String>,
}

impl Common {
    /// A digest of the whole, which [`Common::case_key`] goes on from.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&SCHEMA.to_le_bytes()).update(&self.revision.to_le_bytes()).update(&self.seed.to_le_bytes());
        text(&mut hasher, &self.stage);
        text(&mut hasher, &sorted(&self.params).to_string());
        map(&mut hasher, &self.shared);
        *hasher.finalize().as_bytes()
    }

    /// The key of a case: `reads` are the hashes of its own files by name, `facts` whatever else it depends on.
    #[must_use]
    pub fn case_key(digest: &[u8; 32], id: &str, reads: &BTreeMap<String, String>, facts: &Value) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(digest);
        text(&mut hasher, id);
        map(&mut hasher, reads);
        text(&mut hasher, &sorted(facts).to_string());
        hasher.finalize().to_hex().to_string()
    }
}

/// The hash of all that comes from a file, from where it stands.
///
/// # Errors
/// When it cannot be read.
pub fn hash_of(file: &File) -> io::Result<String> {
    Ok(blake3::Hasher::new().update_reader(file)?.finalize().to_hex().to_string())
}

/// The digest of a folder, from relative path → hash of the files in it.
#[must_use]
pub fn tree_digest(files: &BTreeMap<String, String>) -> String {
    format!("tree:{}", blake3::hash(tree_text(files).as_bytes()))
}

/// One line per file, as `b3sum` writes and checks them.
#[must_use]
pub fn tree_text(files: &BTreeMap<String, String>) -> String {
    files.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect()
}

/// With its length before it, no text can run into the next.
fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

fn map(hasher: &mut blake3::Hasher, map: &BTreeMap<String, String>) {
    hasher.update(&(map.len() as u64).to_le_bytes());
    for (key, value) in map {
        text(hasher, key);
        text(hasher, value);
    }
}

/// The same value with the keys of all maps in order: the order of a struct's fields is no part of its meaning.
#[must_use]
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(Map::from_iter(map))
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn common() -> Common {
        let shared = BTreeMap::from([("student".into(), "tree:1".into())]);
        Common { stage: "segment".into(), revision: 1, params: json!({"a": 1, "b": [2]}), seed: 1, shared }
    }

    fn key(common: &Common, id: &str, reads: &[(&str, &str)], facts: &Value) -> String {
        let reads = reads.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
        Common::case_key(&common.digest(), id, &reads, facts)
    }

    #[test]
    fn every_part_of_the_work_is_in_the_key_and_the_order_of_parameters_is_not() {
        let base = key(&common(), "a", &[("image", "1")], &Value::Null);
        assert_eq!(base, key(&Common { params: json!({"b": [2], "a": 1}), ..common() }, "a", &[("image", "1")], &Value::Null));
        let others = [
            key(&Common { stage: "x".into(), ..common() }, "a", &[("image", "1")], &Value::Null),
            key(&Common { revision: 2, ..common() }, "a", &[("image", "1")], &Value::Null),
            key(&Common { params: json!({"a": 1, "b": [3]}), ..common() }, "a", &[("image", "1")], &Value::Null),
            key(&Common { seed: 2, ..common() }, "a", &[("image", "1")], &Value::Null),
            key(&Common { shared: BTreeMap::new(), ..common() }, "a", &[("image", "1")], &Value::Null),
            key(&common(), "b", &[("image", "1")], &Value::Null),
            key(&common(), "a", &[("image", "2")], &Value::Null),
            key(&common(), "a", &[("image", "1"), ("label", "1")], &Value::Null),
            key(&common(), "a", &[("image1", "")], &Value::Null),
            key(&common(), "a", &[("image", "1")], &json!({"subset": "D_u"})),
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(*other != base && !others[..index].contains(other), "{index}");
        }
    }
}
