//! What is wrong with parameters, all of it at once. The stage itself has refused them; its own words are about the first mistake alone.

use serde_json::{Map, Value};

use crate::entry::Entry;
use crate::nearest::nearest;
use crate::shape::{Field, Need, Shape, flow, with_article};

/// One thing that is wrong with the parameters of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, such as `fit`, `epochs`.
    pub field: Vec<String>,
    /// What is wrong and what is expected.
    pub message: String,
}

impl Entry {
    /// Every parameter that is missing, unknown or of another kind than its type says, in the order of the type; empty where the
    /// types find nothing wrong.
    #[must_use]
    pub fn mistakes(&self, params: &Value) -> Vec<Mistake> {
        let mut search = Search { at: Vec::new(), found: Vec::new(), stage: self.name };
        let nothing = Value::Object(Map::new());
        search.value(&Shape::of(self), if params.is_null() { &nothing } else { params });
        search.found
    }
}

struct Search<'a> {
    at: Vec<String>,
    found: Vec<Mistake>,
    stage: &'a str,
}

impl Search<'_> {
    fn tell(&mut self, message: String) {
        self.found.push(Mistake { field: self.at.clone(), message });
    }

    fn under(&mut self, name: &str, look: impl FnOnce(&mut Self)) {
        self.at.push(name.to_owned());
        look(self);
        self.at.pop();
    }

    fn value(&mut self, shape: &Shape, value: &Value) {
        if !shape.admits(value) {
            let given = if let (Shape::List(_, Some(_)), Value::Array(list)) = (shape, value) {
                format!("has {} values", list.len())
            } else {
                format!("is {}", short(value))
            };
            self.tell(format!("must be {}, but {given}", with_article(&shape.kind())));
            return;
        }
        match (shape, value) {
            (Shape::Map(fields), Value::Object(map)) => self.map(fields, map),
            (Shape::OneOf(fields), Value::Object(map)) => self.one_of(fields, map),
            (Shape::Named(shape), Value::Object(map)) => {
                map.iter().for_each(|(name, value)| self.under(name, |this| this.value(shape, value)));
            }
            (Shape::List(shape, _), Value::Array(list)) => {
                let numbered = list.iter().enumerate();
                numbered.for_each(|(index, value)| self.under(&index.to_string(), |this| this.value(shape, value)));
            }
            (Shape::Either(shapes), value) => {
                // If several kinds are possible, nobody knows which one was meant.
                if let [shape] = shapes.iter().filter(|shape| shape.admits(value)).collect::<Vec<_>>()[..] {
                    self.value(shape, value);
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, fields: &[Field], map: &Map<String, Value>) {
        for name in map.keys().filter(|name| fields.iter().all(|field| field.name != **name)) {
            let place = match self.at.last() {
                Some(at) => format!("`{at}`"),
                None => format!("stage {}", self.stage),
            };
            let what = if self.at.is_empty() { "parameter" } else { "field" };
            let known = instead(name, fields);
            self.under(name, |this| this.tell(format!("{place} has no {what} `{name}`; {known}")));
        }
        for field in fields {
            match map.get(&field.name) {
                Some(value) => self.under(&field.name, |this| this.value(&field.shape, value)),
                None if field.need == Need::Required => {
                    let about = if field.about.is_empty() { String::new() } else { format!(". {}", field.about) };
                    let kind = with_article(&field.shape.kind());
                    self.under(&field.name, |this| this.tell(format!("is missing; give {kind}{about}")));
                }
                None => {}
            }
        }
    }

    fn one_of(&mut self, fields: &[Field], map: &Map<String, Value>) {
        let names = || fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
        let given: Vec<&str> = map.keys().map(String::as_str).collect();
        match given[..] {
            [name] => match fields.iter().find(|field| field.name == name) {
                Some(field) => self.under(name, |this| this.value(&field.shape, &map[name])),
                None => self.under(name, |this| this.tell(format!("there is no `{name}` here; {}", instead(name, fields)))),
            },
            [] => self.tell(format!("is empty; give one of {}", names())),
            _ => self.tell(format!("has {}; keep one of {}", given.join(" and "), names())),
        }
    }
}

fn instead(unknown: &str, fields: &[Field]) -> String {
    if fields.is_empty() {
        return "it has none".into();
    }
    let names = || fields.iter().map(|field| field.name.as_str());
    let near = nearest(unknown, names()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("it has {}{near}", names().collect::<Vec<_>>().join(", "))
}

/// A value, shortened where it is long.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        value => flow(value),
    };
    if text.chars().count() > MOST { text.chars().take(MOST).chain("…".chars()).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::{Role, Stage, StageIo};

    struct Train;

    /// The parameters of the test.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Config {
        /// The cases.
        subset: String,
        /// The protocol.
        fit: Fit,
        /// Voxels.
        patch: [usize; 3],
        #[serde(default)]
        flips: bool,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Fit {
        /// Passes.
        epochs: u64,
        schedule: Schedule,
        #[serde(default)]
        most: Option<u64>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    enum Schedule {
        Warmup { epochs: u64 },
        Decay { power: f64 },
    }

    impl Stage for Train {
        const NAME: &'static str = "train";
        const REVISION: u32 = 1;
        const ABOUT: &'static str = "";
        const READS: &'static [Role] = &[];
        const WRITES: &'static str = "";
        const PAPER: &'static str = "";
        type Config = Config;

        fn run(_: &Config, _: &StageIo) -> Result<()> {
            Ok(())
        }
    }

    fn mistakes(params: &Value) -> Vec<String> {
        let entry = Entry::of::<Train>();
        let refused = entry.resolve(params.clone()).is_err();
        let found: Vec<String> =
            entry.mistakes(params).into_iter().map(|Mistake { field, message }| format!("{}: {message}", field.join("."))).collect();
        assert_eq!(refused, !found.is_empty(), "{found:?}");
        found
    }

    #[test]
    fn all_missing_and_unknown_parameters_are_named_at_once() {
        assert_eq!(
            mistakes(&json!({"subste": "D_c", "fit": {"schedule": {"warmup": {}}, "epoch": 3, "most": null}, "flips": "no"})),
            [
                "subste: stage train has no parameter `subste`; it has subset, fit, patch, flips; did you mean `subset`?",
                "subset: is missing; give text. The cases.",
                "fit.epoch: `fit` has no field `epoch`; it has epochs, schedule, most; did you mean `epochs`?",
                "fit.epochs: is missing; give a whole number. Passes.",
                "fit.schedule.warmup.epochs: is missing; give a whole number",
                "patch: is missing; give a list of 3 whole numbers. Voxels.",
                "flips: must be true or false, but is \"no\"",
            ]
        );
    }

    #[test]
    fn a_wrong_kind_is_told_with_what_is_expected_and_what_is_there() {
        let with = |fit: Value, patch: Value| json!({"subset": "D", "fit": fit, "patch": patch});
        let decay = json!({"decay": {"power": 1}});
        assert_eq!(
            mistakes(&with(json!({"epochs": 1, "schedule": decay}), json!([1, 2]))),
            ["patch: must be a list of 3 whole numbers, but has 2 values"]
        );
        assert_eq!(
            mistakes(&with(json!({"epochs": 1, "schedule": {"decya": {"power": 1}}}), json!([1, 2, 3]))),
            ["fit.schedule.decya: there is no `decya` here; it has warmup, decay; did you mean `decay`?"]
        );
        assert_eq!(
            mistakes(&with(json!({"epochs": 1, "schedule": {"decay": {"power": 1}, "warmup": {"epochs": 1}}}), json!([1, 2, 3]))),
            ["fit.schedule: has decay and warmup; keep one of warmup, decay"]
        );
        assert_eq!(
            mistakes(&with(json!({"epochs": "many", "schedule": decay}), json!([1, 2, 3]))),
            ["fit.epochs: must be a whole number, but is \"many\""]
        );
        assert_eq!(mistakes(&with(json!({"epochs": 1, "schedule": decay}), json!([1, 2, 3]))), [""; 0]);
        assert_eq!(mistakes(&Value::Null).len(), 3);
    }
}
