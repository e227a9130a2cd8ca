//! A small validator of JSON schemas: the keywords that ours has, by the definition of draft 7, and an end with a panic
//! at any other, so that nothing is passed over.

use regex::Regex;
use serde_json::Value;

/// What is wrong with `value`, a line each; empty when it is valid.
pub(crate) fn problems(root: &Value, value: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(root, root, value, "", &mut problems);
    problems
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref") {
        // In draft 7 what stands beside a reference does not count.
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        let target = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere"));
        return check(root, target, value, at, problems);
    }
    let Value::Object(keywords) = schema else {
        assert_eq!(schema, &Value::Bool(true), "of the schemas without keywords only `true` is used");
        return;
    };
    let valid = |schema: &Value| {
        let mut problems = Vec::new();
        check(root, schema, value, at, &mut problems);
        problems.is_empty()
    };
    for (keyword, rule) in keywords {
        let list = || rule.as_array().unwrap();
        let mut refuse = |message: String| problems.push(format!("{at}: {message}"));
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "format" | "definitions" | "then" | "else" => {}
            "type" => {
                let kinds = rule.as_array().map_or_else(|| vec![rule], |kinds| kinds.iter().collect());
                if !kinds.iter().any(|kind| is(value, kind.as_str().unwrap())) {
                    refuse(format!("{value} is no {rule}"));
                }
            }
            "const" if rule != value => refuse(format!("{value} is not {rule}")),
            "enum" if !list().contains(value) => refuse(format!("{value} is none of {rule}")),
            "const" | "enum" => {}
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => refuse(format!("{value} is below {rule}")),
            "maximum" if value.as_f64() > rule.as_f64() => refuse(format!("{value} is above {rule}")),
            "minItems" if value.as_array().is_some_and(|items| items.len() < size(rule)) => refuse(format!("{value} is too short")),
            "maxItems" if value.as_array().is_some_and(|items| items.len() > size(rule)) => refuse(format!("{value} is too long")),
            "minProperties" if value.as_object().is_some_and(|map| map.len() < size(rule)) => refuse("it is too small".into()),
            "minimum" | "maximum" | "minItems" | "maxItems" | "minProperties" => {}
            "pattern" => {
                if value.as_str().is_some_and(|text| !Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)) {
                    refuse(format!("{value} does not match {rule}"));
                }
            }
            "required" => {
                for key in list().iter().map(|key| key.as_str().unwrap()) {
                    if value.is_object() && value.get(key).is_none() {
                        refuse(format!("`{key}` is missing"));
                    }
                }
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(field) = value.get(key) {
                        check(root, rule, field, &format!("{at}/{key}"), problems);
                    }
                }
            }
            "additionalProperties" => {
                let known = |key: &str| keywords.get("properties").is_some_and(|properties| properties.get(key).is_some());
                for (key, field) in value.as_object().into_iter().flatten().filter(|(key, _)| !known(key)) {
                    if rule == &Value::Bool(false) {
                        problems.push(format!("{at}: `{key}` is unknown"));
                    } else {
                        check(root, rule, field, &format!("{at}/{key}"), problems);
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{index}"), problems);
                }
            }
            "allOf" => list().iter().for_each(|rule| check(root, rule, value, at, problems)),
            "anyOf" if !list().iter().any(valid) => refuse(format!("{value} fits no alternative")),
            "oneOf" if list().iter().filter(|rule| valid(rule)).count() != 1 => {
                refuse(format!("{value} does not fit exactly one alternative"));
            }
            "not" if valid(rule) => refuse(format!("{value} must not fit")),
            "anyOf" | "oneOf" | "not" => {}
            "if" => {
                if let Some(rule) = keywords.get(if valid(rule) { "then" } else { "else" }) {
                    check(root, rule, value, at, problems);
                }
            }
            other => panic!("the validator does not know `{other}`"),
        }
    }
}

fn size(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // A number without a fraction is an integer, however it is written.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("there is no type `{other}`"),
    }
}
