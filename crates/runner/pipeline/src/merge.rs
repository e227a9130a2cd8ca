//! Maps laid over maps: files over those that they extend, and nodes over those that they are like.

use serde_json::{Map, Value};

/// Lays `over` on `base`: maps merge key by key, `null` removes, everything else replaces (RFC 7386).
pub(crate) fn merge(base: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        *base = over.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(base) = base else { return };
    for (key, value) in over {
        if value.is_null() {
            base.shift_remove(key);
        } else {
            merge(base.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_overlay_changes_adds_and_removes() {
        let mut base = json!({"seed": 1, "nodes": {"a": {"params": {"lr": 1, "steps": 2}}, "b": {}}});
        merge(&mut base, &json!({"nodes": {"a": {"params": {"lr": 3, "steps": null}}, "b": null, "c": {"stage": "x"}}}));
        assert_eq!(base, json!({"seed": 1, "nodes": {"a": {"params": {"lr": 3}}, "c": {"stage": "x"}}}));
    }

    #[test]
    fn a_list_replaces_a_list() {
        let mut base = json!({"steps": [1, 2, 3]});
        merge(&mut base, &json!({"steps": [4]}));
        assert_eq!(base, json!({"steps": [4]}));
    }

    #[test]
    fn an_empty_overlay_changes_nothing() {
        let base = json!({"a": {"b": null}, "c": [1]});
        let mut merged = base.clone();
        merge(&mut merged, &json!({}));
        assert_eq!(merged, base);
    }
}
