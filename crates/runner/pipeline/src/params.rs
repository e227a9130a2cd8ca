//! Parameters are checked by their stage before any work; here the fields at fault are found.

use serde_json::Value;
use stage_kit::{Entry, Mistake};

/// Lets the stage check its parameters and fill in the defaults. On failure it lists every field whose type is wrong. If no type is
/// wrong, it names the first field that the stage itself refuses.
pub(crate) fn resolve(stage: &Entry, params: &Value) -> Result<Value, Vec<Mistake>> {
    stage.resolve(params.clone()).map_err(|error| {
        let mistakes = stage.mistakes(params);
        if !mistakes.is_empty() {
            return mistakes;
        }
        let message = format!("{error:#}");
        let mut field = Vec::new();
        culprit(&|candidate| refusal(stage, candidate), params, &message, &mut field);
        vec![Mistake { field, message }]
    })
}

fn refusal(stage: &Entry, params: &Value) -> Option<String> {
    stage.resolve(params.clone()).err().map(|error| format!("{error:#}"))
}

/// Finds the field that a refusal is about: the one that the message quotes first, or else the only one without which
/// the stage would say something else (other than that it misses this very field).
fn culprit(refusal: &dyn Fn(&Value) -> Option<String>, params: &Value, message: &str, field: &mut Vec<String>) {
    let Some(map) = locate(params, field).and_then(Value::as_object) else { return };
    let place = |message: &str, key: &str| message.find(&format!("`{key}`"));
    let quoted = map.keys().filter_map(|key| Some((place(message, key)?, key))).min();
    let mut suspects: Vec<(&String, Option<String>)> = Vec::new();
    for key in map.keys() {
        let mut without = params.clone();
        if let Some(Value::Object(inner)) = locate_mut(&mut without, field) {
            inner.shift_remove(key);
        }
        let other = refusal(&without);
        if other.as_deref() != Some(message) {
            suspects.push((key, other));
        }
    }
    if suspects.len() > 1 {
        suspects.retain(|(key, other)| other.as_ref().is_none_or(|other| place(other, key).is_none()));
    }
    let only = if let [(key, _)] = suspects[..] { Some(key) } else { None };
    if let Some(key) = quoted.map(|(_, key)| key).or(only) {
        field.push(key.clone());
        culprit(refusal, params, message, field);
    }
}

fn locate<'v>(value: &'v Value, field: &[String]) -> Option<&'v Value> {
    field.iter().try_fold(value, |value, part| value.get(part))
}

fn locate_mut<'v>(value: &'v mut Value, field: &[String]) -> Option<&'v mut Value> {
    field.iter().try_fold(value, |value, part| value.get_mut(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A stage that wants `lr`, a number, and `window.width`, a positive one.
    fn refuses(params: &Value) -> Option<String> {
        match (params.get("lr"), params.pointer("/window/width")) {
            (None, _) => Some("missing field `lr`".into()),
            (Some(lr), _) if !lr.is_number() => Some("invalid type: expected a number".into()),
            (_, Some(width)) if width.as_f64() <= Some(0.0) => Some("must be positive".into()),
            _ => None,
        }
    }

    fn found(params: &Value) -> String {
        let mut field = Vec::new();
        culprit(&refuses, params, &refuses(params).unwrap(), &mut field);
        field.join(".")
    }

    #[test]
    fn the_field_at_fault_is_found_even_if_the_message_does_not_name_it() {
        assert_eq!(found(&json!({"lr": "x", "steps": 3})), "lr");
        assert_eq!(found(&json!({"lr": 1, "window": {"level": 0, "width": -5}})), "window.width");
        assert_eq!(found(&json!({"steps": 3})), "", "a missing field has no place of its own");
    }
}
