//! `dataset.json`: what the outputs of a network are about.

use std::path::Path;

use labels::Classes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::plans::{form, of_file};
use super::refused;
use crate::error::ForeignError;

const EXPECTED: &str = "the dataset.json of a training by nnU-Net's second version";

/// The ignore label, which no output is about.
const IGNORE: &str = "ignore";

/// What a network learnt.
pub(super) enum Targets {
    /// Labels that exclude each other: one group.
    Labels(Classes),
    /// Regions, each a group, in the order in which they are laid over each other.
    Regions(Classes),
}

#[derive(Deserialize)]
struct Fields {
    labels: Map<String, Value>,
    #[serde(default)]
    regions_class_order: Option<Vec<Value>>,
    #[serde(default)]
    channel_names: Option<Map<String, Value>>,
    #[serde(default)]
    modality: Option<Map<String, Value>>,
}

impl Targets {
    pub(super) fn read(path: &Path, group: &str) -> Result<Self, ForeignError> {
        let fields: Fields = form(path, "", of_file(path)?, EXPECTED)?;
        if let Some(channels) = fields.channel_names.or(fields.modality).filter(|channels| channels.len() != 1) {
            let names: Vec<String> = channels.values().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect();
            return Err(refused(path, format!("scans have {} channels ({})", names.len(), names.join(", ")), "expected CT alone"));
        }
        let foreground = fields.labels.iter().filter(|(key, value)| *key != "background" && *key != IGNORE && value_of(value) != Some(0));
        let foreground: Vec<(&String, &Value)> = foreground.collect();
        let is_region = |(_, value): &(&String, &Value)| value.as_array().is_some_and(|values| values.len() > 1);
        match foreground.iter().any(is_region) {
            false => labels(path, &foreground, group).map(Self::Labels),
            true => regions(path, &foreground, fields.regions_class_order.as_deref()).map(Self::Regions),
        }
    }

    pub(super) fn classes(&self) -> &Classes {
        match self {
            Self::Labels(classes) | Self::Regions(classes) => classes,
        }
    }

    /// The outputs of the network: that of background is one where labels exclude each other.
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Labels(classes) => 1 + classes.pattern().len(),
            Self::Regions(classes) => classes.pattern().len(),
        }
    }
}

/// The value of a label, which may be a text, or stand in a list of its own.
fn value_of(value: &Value) -> Option<u64> {
    match value {
        Value::Array(values) if values.len() == 1 => value_of(&values[0]),
        Value::String(text) => text.parse().ok(),
        _ => value.as_u64(),
    }
}

fn labels(path: &Path, foreground: &[(&String, &Value)], group: &str) -> Result<Classes, ForeignError> {
    let mut values: Vec<Option<u64>> = foreground.iter().map(|(_, value)| value_of(value)).collect();
    values.sort_unstable();
    let expected: Vec<Option<u64>> = (1..=foreground.len() as u64).map(Some).collect();
    if values != expected || foreground.len() > 255 || foreground.is_empty() {
        let found: Vec<String> = foreground.iter().map(|(key, value)| format!("{key} is {value}")).collect();
        let expected = "expected values from 1 on without gaps, and at most 255, as the network's outputs are";
        return Err(refused(path, format!("of its labels {}", found.join(", ")), expected));
    }
    let classes: Map<String, Value> = foreground.iter().map(|(key, value)| declared(key, value_of(value).unwrap_or_default())).collect();
    declare(path, foreground.len(), json!([{"group": group, "classes": classes}]), classes.len())
}

fn regions(path: &Path, foreground: &[(&String, &Value)], order: Option<&[Value]>) -> Result<Classes, ForeignError> {
    let order: Vec<u64> = order.unwrap_or_default().iter().filter_map(Value::as_u64).collect();
    let mut distinct = order.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != foreground.len() || order.len() != foreground.len() || distinct.iter().any(|value| !(1..=255).contains(value)) {
        let found = format!("regions_class_order is {order:?} for {} regions", foreground.len());
        return Err(refused(path, found, "expected a value from 1 to 255 for each region, every one another"));
    }
    let named: Vec<(String, Value)> = foreground.iter().zip(&order).map(|((key, _), value)| declared(key, *value)).collect();
    let groups: Vec<Value> = named.iter().map(|(key, class)| json!({"group": format!("{key}_region"), "classes": {key: class}})).collect();
    let distinct: Map<String, Value> = named.iter().cloned().collect();
    declare(path, foreground.len(), Value::Array(groups), distinct.len())
}

/// A name as this program writes them, with the value and the name as it was.
fn declared(name: &str, value: u64) -> (String, Value) {
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter.to_ascii_lowercase() } else { '_' };
    let mut key: String = name.trim().chars().map(allowed).collect();
    if !key.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        key.insert_str(0, "class_");
    }
    (key.clone(), if key == name { json!(value) } else { json!({"value": value, "name": name}) })
}

fn declare(path: &Path, names: usize, declaration: Value, keys: usize) -> Result<Classes, ForeignError> {
    if keys < names {
        let reason = "two labels have the same name but for spaces and capitals; rename one of them".into();
        return Err(ForeignError::Classes { path: path.into(), reason });
    }
    serde_json::from_value(declaration).map_err(|error| ForeignError::Classes { path: path.into(), reason: error.to_string() })
}
