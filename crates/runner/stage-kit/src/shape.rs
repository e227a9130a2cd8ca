//! The shape of parameters: what may stand where, as the schema of a stage's config type says it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::entry::Entry;

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Text,
    Whole,
    Number,
    Flag,
    Null,
    /// One of these words or numbers, each with its meaning.
    Choice(Vec<(Value, String)>),
    /// A list; of so many values, where the number is fixed.
    List(Box<Shape>, Option<usize>),
    /// A map of these fields and no others.
    Map(Vec<Field>),
    /// A map of exactly one of these fields.
    OneOf(Vec<Field>),
    /// A map of names that the user chooses.
    Named(Box<Shape>),
    /// One of several.
    Either(Vec<Shape>),
    /// Whatever the schema does not tell.
    Any,
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) need: Need,
    pub(crate) about: String,
}

/// Whether an entry must be there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Need {
    Required,
    Default(Value),
    Optional,
    /// One of several is chosen.
    Chosen,
}

impl Shape {
    /// That of the parameters of a stage.
    pub(crate) fn of(stage: &Entry) -> Self {
        let mut settings = SchemaSettings::draft07();
        settings.inline_subschemas = true;
        let mut generator = settings.into_generator();
        Self::read(stage.schema(&mut generator).as_value())
    }

    fn read(schema: &Value) -> Self {
        let Some(map) = schema.as_object() else { return Self::Any };
        let one = |key: &str| map.get(key).and_then(Value::as_array);
        if let Some([inner]) = one("allOf").map(Vec::as_slice) {
            return Self::read(inner);
        }
        if let Some(value) = map.get("const") {
            return Self::Choice(vec![(value.clone(), about(map))]);
        }
        if let Some(values) = one("enum") {
            return Self::Choice(values.iter().map(|value| (value.clone(), about(map))).collect());
        }
        if let Some(variants) = one("oneOf").or_else(|| one("anyOf")) {
            return Self::either(variants.iter().map(|variant| (Self::read(variant), variant)).collect());
        }
        match map.get("type") {
            Some(Value::String(kind)) => Self::of_type(kind, map),
            Some(Value::Array(kinds)) => {
                Self::joined(kinds.iter().filter_map(Value::as_str).map(|kind| Self::of_type(kind, map)).collect())
            }
            _ => Self::Any,
        }
    }

    fn of_type(kind: &str, map: &Map<String, Value>) -> Self {
        match kind {
            "string" => Self::Text,
            "integer" => Self::Whole,
            "number" => Self::Number,
            "boolean" => Self::Flag,
            "null" => Self::Null,
            "array" => {
                let count = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                let fixed = count("maxItems").filter(|most| count("minItems") == Some(*most));
                Self::List(Box::new(map.get("items").map_or(Self::Any, Self::read)), fixed)
            }
            "object" => match (map.get("properties").and_then(Value::as_object), map.get("additionalProperties")) {
                (Some(properties), _) => Self::Map(fields(properties, map)),
                (None, Some(named @ Value::Object(_))) => Self::Named(Box::new(Self::read(named))),
                (None, Some(Value::Bool(false))) => Self::Map(Vec::new()),
                _ => Self::Any,
            },
            _ => Self::Any,
        }
    }

    /// The variants of an enum: words, and maps of a variant's name to its fields.
    fn either(variants: Vec<(Self, &Value)>) -> Self {
        let mut words = Vec::new();
        let mut named = Vec::new();
        let mut others = Vec::new();
        for (shape, schema) in variants {
            match shape {
                Self::Choice(choice) => words.extend(choice),
                Self::Map(mut fields) if fields.len() == 1 && fields[0].need == Need::Required => {
                    let about = schema.as_object().map(about).filter(|about| !about.is_empty());
                    let mut field = fields.remove(0);
                    field.about = about.unwrap_or(field.about);
                    field.need = Need::Chosen;
                    named.push(field);
                }
                other => others.push(other),
            }
        }
        if !named.is_empty() {
            others.insert(0, Self::OneOf(named));
        }
        if !words.is_empty() {
            others.insert(0, Self::Choice(words));
        }
        Self::joined(others)
    }

    fn joined(mut shapes: Vec<Self>) -> Self {
        if shapes.len() == 1 { shapes.remove(0) } else { Self::Either(shapes) }
    }

    /// What it is, in a few words.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Whole => "whole number".into(),
            Self::Number => "number".into(),
            Self::Flag => "true or false".into(),
            Self::Null => "null".into(),
            Self::Any => "value".into(),
            Self::Choice(values) => values.iter().map(|(value, _)| flow(value)).collect::<Vec<_>>().join(" | "),
            Self::List(item, count) => {
                let many = count.map_or_else(String::new, |count| format!("{count} "));
                match &**item {
                    Self::Text => format!("list of {many}texts"),
                    Self::Whole => format!("list of {many}whole numbers"),
                    Self::Number => format!("list of {many}numbers"),
                    Self::Map(_) => format!("list of {many}maps"),
                    item => format!("list of {many}values ({})", item.kind()),
                }
            }
            Self::Map(_) => "map".into(),
            Self::OneOf(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                format!("map of {}{}", if names.len() > 1 { "one of " } else { "" }, names.join(", "))
            }
            Self::Named(item) => format!("map of names, each with {}", with_article(&item.kind())),
            Self::Either(shapes) => shapes.iter().map(Self::kind).collect::<Vec<_>>().join(" or "),
        }
    }

    /// Whether it can be a value of this JSON type.
    pub(crate) fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _)
            | (Self::Text, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Null, Value::Null)
            | (Self::Map(_) | Self::OneOf(_) | Self::Named(_), Value::Object(_)) => true,
            (Self::Whole, Value::Number(number)) => number.is_u64() || number.is_i64(),
            (Self::Choice(values), value) => values.iter().any(|(known, _)| known == value),
            (Self::List(_, count), Value::Array(list)) => count.is_none_or(|count| count == list.len()),
            (Self::Either(shapes), value) => shapes.iter().any(|shape| shape.admits(value)),
            _ => false,
        }
    }
}

/// `a map`, `an integer`; what is no noun stays as it is.
pub(crate) fn with_article(kind: &str) -> String {
    if ["text", "whole", "number", "map", "list", "value"].iter().any(|noun| kind.starts_with(noun)) && !kind.starts_with("text") {
        format!("a {kind}")
    } else {
        kind.to_owned()
    }
}

fn fields(properties: &Map<String, Value>, map: &Map<String, Value>) -> Vec<Field> {
    let required = |name: &str| map.get("required").and_then(Value::as_array).is_some_and(|list| list.iter().any(|known| known == name));
    let field = |(name, schema): (&String, &Value)| {
        let shape = Shape::read(schema);
        let need = match schema.get("default") {
            _ if required(name) => Need::Required,
            Some(default) if !default.is_null() => Need::Default(default.clone()),
            _ => match shape {
                Shape::List(..) => Need::Default(Value::Array(Vec::new())),
                Shape::Named(_) => Need::Default(Value::Object(Map::new())),
                _ => Need::Optional,
            },
        };
        Field { name: name.clone(), shape, need, about: schema.as_object().map(about).unwrap_or_default() }
    };
    properties.iter().map(field).collect()
}

/// The description on one line.
fn about(schema: &Map<String, Value>) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value as YAML writes it on one line.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c)) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            format!("{{{}}}", map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_is_told_in_the_words_of_a_reader() {
        let kind = |schema: Value| Shape::read(&schema).kind();
        assert_eq!(kind(json!({"type": "integer"})), "whole number");
        assert_eq!(kind(json!({"type": ["number", "null"]})), "number or null");
        assert_eq!(kind(json!({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3})), "list of 3 whole numbers");
        assert_eq!(kind(json!({"oneOf": [{"const": "f32"}, {"enum": ["bf16", "auto"]}]})), "f32 | bf16 | auto");
        let variant = |name: &str| json!({"type": "object", "properties": {name: {"type": "number"}}, "required": [name]});
        assert_eq!(kind(json!({"oneOf": [variant("warmup"), variant("polynomial")]})), "map of one of warmup, polynomial");
        assert_eq!(kind(json!({"type": "object", "additionalProperties": {"type": "number"}})), "map of names, each with a number");
        assert_eq!(kind(json!({"allOf": [{"type": "boolean"}]})), "true or false");
    }

    #[test]
    fn a_value_stands_on_one_line() {
        assert_eq!(
            flow(&json!({"a": [1, 2.5, null], "b": "x y", "c": "f32", "d": "*"})),
            "{a: [1, 2.5, null], b: \"x y\", c: f32, d: \"*\"}"
        );
    }
}
