//! YAML text → JSON value, with duplicate keys refused, and the line at which a field stands.
//!
//! `serde_yaml` keeps the last of two equal keys without a word: half a node would vanish. The reader here refuses
//! them. Lines are found by reading the text once more up to the field in question, which costs nothing as long as
//! all is well.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A text that is no valid YAML, or has a key twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
}

impl From<serde_yaml::Error> for YamlError {
    fn from(error: serde_yaml::Error) -> Self {
        let mut message = error.to_string();
        // The line is told apart, in the way of compilers.
        if let Some(at) = message.rfind(" at line ") {
            message.truncate(at);
        }
        Self { line: error.location().map(|location| location.line()), message }
    }
}

/// Reads a whole document.
pub(crate) fn parse(text: &str) -> Result<Value, YamlError> {
    Ok(Tree.deserialize(serde_yaml::Deserializer::from_str(text))?)
}

/// The line, from 1, of the key (or list element) at `path`; `None` when the text has no such field.
pub(crate) fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let found = Probe(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    found.to_string().contains(FOUND).then(|| found.location().map(|location| location.line()))?
}

struct Tree;

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("infinity and NaN are no parameters"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element_seed(Tree)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(NewKey(&map))? {
            let value = access.next_value_seed(Tree)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("tags (`!name`) have no meaning here"))
    }
}

/// A key that the map does not have yet. The error arises while the key is read, so that its line is the key's.
struct NewKey<'a>(&'a Map<String, Value>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.0.contains_key(key) {
            return Err(E::custom(format!("`{key}` stands twice in the same map; keep one of them")));
        }
        Ok(key.to_owned())
    }
}

/// The mark of the error with which a [`Probe`] comes back from its field.
const FOUND: &str = "\u{1}found\u{1}";

/// Walks down a path and returns with an error at its end, because only errors carry their place in the text.
struct Probe<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(on_path) = access.next_key_seed(KeyProbe { wanted: first, last: rest.is_empty() })? {
            if on_path {
                access.next_value_seed(Probe(rest))?;
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct KeyProbe<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for KeyProbe<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyProbe<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.last {
            return Err(E::custom(FOUND));
        }
        Ok(key == self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seed: 1\nnodes:\n  a:\n    params: {lr: 0.5,\n      steps: 3}\n  b: [1, x, null]\n";

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_document_keeps_types_and_order() {
        let value = parse(TEXT).unwrap();
        assert_eq!(value.to_string(), r#"{"seed":1,"nodes":{"a":{"params":{"lr":0.5,"steps":3}},"b":[1,"x",null]}}"#);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_its_second_line() {
        let error = parse("nodes:\n  a: {}\n  b: {}\n  a: {}\n").unwrap_err();
        assert_eq!(error, YamlError { line: Some(4), message: "nodes: `a` stands twice in the same map; keep one of them".into() });
        let nested = parse("nodes:\n  a:\n    params:\n      lr: 1\n      lr: 2\n").unwrap_err();
        assert_eq!(nested.line, Some(5));
    }

    #[test]
    fn equal_keys_in_different_maps_are_no_duplicates() {
        assert!(parse("a: {stage: x}\nb: {stage: x}\n").is_ok());
    }

    #[test]
    fn broken_text_and_tags_are_errors_with_a_line() {
        assert_eq!(parse("a: 1\nb: [2\nc: 3\n").unwrap_err().line, Some(3));
        assert!(parse("a: !odd 3\n").unwrap_err().message.contains("tags"));
        assert!(parse("a: .nan\n").unwrap_err().message.contains("NaN"));
    }

    #[test]
    fn the_line_of_a_field_is_found_in_block_and_flow_style() {
        assert_eq!(line_of(TEXT, &path("nodes")), Some(2));
        assert_eq!(line_of(TEXT, &path("nodes.a.params.lr")), Some(4));
        assert_eq!(line_of(TEXT, &path("nodes.a.params.steps")), Some(5));
        assert_eq!(line_of(TEXT, &path("nodes.c")), None);
        assert_eq!(line_of(TEXT, &path("seed.deeper")), None);
    }
}
