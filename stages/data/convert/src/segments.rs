//! What the names of segments and regions of interest become.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Config;

/// A label.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a value from 1 to 255, or a value with names, such as {value: 2, names: [Kidney_L, Kidney_R]}")]
pub enum Label {
    /// Its value in label maps, from 1; its segments bear its own name.
    Value(u8),
    /// Its value, and more names.
    Named(NamedLabel),
}

/// A label whose segments bear other names too.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLabel {
    /// The value in label maps, from 1.
    pub value: u8,
    /// Further names of segments and regions of interest.
    pub names: Vec<String>,
}

impl Label {
    pub(crate) fn value(&self) -> u8 {
        match self {
            Self::Value(value) | Self::Named(NamedLabel { value, .. }) => *value,
        }
    }

    fn names(&self) -> &[String] {
        match self {
            Self::Value(_) => &[],
            Self::Named(named) => &named.names,
        }
    }
}

/// What becomes of each name, in small letters: a label, or nothing.
pub(crate) struct Meanings<'c>(BTreeMap<String, Option<(&'c str, u8)>>);

impl<'c> Meanings<'c> {
    pub(crate) fn of(config: &'c Config) -> Result<Self> {
        let label = |(name, segment): (&'c String, &'c Label)| {
            let names = std::iter::once(name).chain(segment.names());
            names.map(move |other| (other, Some((name.as_str(), segment.value()))))
        };
        let all = config.segments.iter().flat_map(label).chain(config.ignore.iter().map(|name| (name, None)));
        let mut meanings = BTreeMap::new();
        for (name, meaning) in all {
            let other = meanings.insert(plain(name), meaning);
            ensure!(
                other.is_none_or(|other| other == meaning),
                "`{name}` stands twice among `segments`, their names and `ignore`; capitals play no part; give it once"
            );
        }
        Ok(Self(meanings))
    }

    /// The label of a name, or that it has none; nothing if nobody has said.
    pub(crate) fn get(&self, name: &str) -> Option<Option<(&'c str, u8)>> {
        self.0.get(&plain(name)).copied()
    }
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

pub(crate) fn check(config: &Config) -> Result<()> {
    Meanings::of(config)?;
    let mut names = BTreeMap::new();
    for (name, segment) in &config.segments {
        let value = segment.value();
        ensure!(value > 0, "segments: {name}: 0 is the value of background; give a value from 1 to 255");
        if let Some(other) = names.insert(value, name) {
            anyhow::bail!("segments: `{other}` and `{name}` have the value {value}; give one of them, with the other among its `names`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(yaml: serde_json::Value) -> String {
        let config = serde_json::from_value(yaml).map_err(anyhow::Error::from);
        config.and_then(|config: Config| check(&config)).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn names_are_known_without_their_capitals_and_contradictions_are_refused() {
        let config = serde_json::from_value(serde_json::json!({
            "segments": {"liver": 1, "kidney": {"value": 2, "names": ["Kidney_L", "renal"]}}, "ignore": ["BODY"],
        }));
        let config: Config = config.unwrap();
        check(&config).unwrap();
        let meanings = Meanings::of(&config).unwrap();
        let found = ["LIVER", " kidney_l ", "Renal", "body", "spleen"].map(|name| meanings.get(name));
        assert_eq!(found, [Some(Some(("liver", 1))), Some(Some(("kidney", 2))), Some(Some(("kidney", 2))), Some(None), None]);
        assert_eq!(checked(serde_json::json!({"segments": {"a": 1, "b": {"value": 2, "names": ["A"]}}}))[..17], *"`A` stands twice ");
        assert!(checked(serde_json::json!({"segments": {"a": 1, "b": 1}})).contains("`a` and `b` have the value 1"));
        assert!(checked(serde_json::json!({"segments": {"a": 0}})).contains("0 is the value of background"));
        assert!(checked(serde_json::json!({"segments": {"a": 256}})).contains("expected a value from 1 to 255"));
        assert!(checked(serde_json::json!({"segments": {"a": 1}, "ignore": ["A"]})).contains("stands twice"));
    }
}
