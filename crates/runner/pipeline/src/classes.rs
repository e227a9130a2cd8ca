//! The classes that a pipeline file declares once for all of its stages.

use std::borrow::Cow;

use labels::Classes;
use schemars::SchemaGenerator;
use serde_json::Value;
use stage_kit::Entry;

use crate::document::Document;
use crate::error::Problem;

/// The key of pipeline files, and the parameter of stages that it gives.
pub(crate) const CLASSES: &str = "classes";

/// What a pipeline file says of classes.
pub(crate) enum Declared {
    /// Nothing.
    Nothing,
    /// Something wrong, which has been told.
    Wrong,
    /// These, in the one form that stands for all ways to write them: keys are made of it.
    Classes(Value),
}

impl Declared {
    pub(crate) fn read(document: &Document, problems: &mut Vec<Problem>) -> Self {
        let Some(value) = document.value.get(CLASSES).filter(|value| !value.is_null()) else { return Self::Nothing };
        match normal(value) {
            Ok(classes) => Self::Classes(classes),
            Err(message) => {
                let file = document.classes_file().map_or_else(String::new, |file| format!("{}: ", file.display()));
                problems.push(document.problem(&[CLASSES], file + message.trim_start_matches("classes: ")));
                Self::Wrong
            }
        }
    }

    /// The parameters of a node that says nothing of classes itself, with the file's if its stage takes some; none if those are
    /// wrong, so that nothing can be said of the rest.
    pub(crate) fn given_to<'p>(&self, stage: &Entry, params: &'p Value) -> Option<Cow<'p, Value>> {
        match self {
            _ if !takes_classes(stage) => Some(Cow::Borrowed(params)),
            Self::Nothing => Some(Cow::Borrowed(params)),
            Self::Wrong => None,
            Self::Classes(classes) => {
                let mut given = params.as_object().cloned().unwrap_or_default();
                given.insert(CLASSES.into(), classes.clone());
                Some(Cow::Owned(given.into()))
            }
        }
    }
}

fn normal(value: &Value) -> Result<Value, String> {
    if !value.is_array() {
        return Err("must be a list such as `[{group: organ, classes: {liver: 1}}]`, or the path of a file with such a list".into());
    }
    let classes: Classes = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(classes).map_err(|error| error.to_string())
}

/// Whether a stage has a parameter that the classes of the file are given to.
fn takes_classes(stage: &Entry) -> bool {
    let schema = stage.schema(&mut SchemaGenerator::default());
    schema.get("properties").is_some_and(|properties| properties.get(CLASSES).is_some())
}

/// Where a stage gets the classes from, if it is they that it misses.
pub(crate) const CLASSES_REMEDY: &str = " `classes:` at the top of the file gives them to every node that needs them.";

#[cfg(test)]
mod tests {
    use anyhow::{Result, ensure};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use stage_kit::{Role, Stage, StageIo};

    use super::*;
    use crate::{Overrides, Pipeline, key};

    /// Wants a class by its key.
    struct Find;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct FindConfig {
        classes: Classes,
        key: String,
    }

    /// Knows nothing of classes.
    struct Plain;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct PlainConfig {}

    macro_rules! stage {
        ($type:ty, $name:literal, $config:ty, $check:expr) => {
            impl Stage for $type {
                const NAME: &'static str = $name;
                const REVISION: u32 = 1;
                const ABOUT: &'static str = "";
                const READS: &'static [Role] = &[];
                const WRITES: &'static str = "";
                const PAPER: &'static str = "";
                type Config = $config;
                fn check(config: &$config) -> Result<()> {
                    let check: fn(&$config) -> Result<()> = $check;
                    check(config)
                }
                fn run(_: &$config, _: &StageIo) -> Result<()> {
                    Ok(())
                }
            }
        };
    }
    stage!(Find, "find", FindConfig, |config| {
        ensure!(config.classes.groups().len() == 1, "`classes` has several groups, and one of them can be searched");
        config.classes.class(&config.key)?;
        Ok(())
    });
    stage!(Plain, "plain", PlainConfig, |_| Ok(()));

    const STAGES: &[Entry] = &[Entry::of::<Find>(), Entry::of::<Plain>()];
    const NODES: &str = "seed: 1\nnodes:\n  a: {stage: find, params: {key: liver}}\n  b: {like: a}\n  c: {stage: plain}\n";
    const LIVER: &str = "classes: [{group: organ, classes: {liver: 1}}]\n";

    struct Lab(tempfile::TempDir);

    impl Lab {
        fn of(files: &[(&str, &str)]) -> Self {
            let lab = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                let path = lab.0.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            lab
        }

        fn load(&self, name: &str) -> Result<Pipeline, String> {
            let folder = format!("{}/", self.0.path().display());
            let loaded = Pipeline::load(&self.0.path().join(name), &Overrides::default(), STAGES);
            loaded.map_err(|error| error.to_string().replace(&folder, ""))
        }

        /// The key of a node.
        fn key(&self, name: &str, node: &str) -> String {
            let pipeline = self.load(name).unwrap_or_else(|error| panic!("{error}"));
            key::key(&pipeline.nodes[pipeline.find(node).unwrap()], &Default::default())
        }
    }

    #[test]
    fn every_stage_that_takes_classes_gets_those_of_the_file() {
        let lab = Lab::of(&[("p.yaml", &(LIVER.to_owned() + NODES))]);
        let pipeline = lab.load("p.yaml").unwrap();
        let classes = json!([{"group": "organ", "classes": {"liver": 1}}]);
        assert_eq!(pipeline.nodes[0].params, json!({"classes": classes, "key": "liver"}));
        assert_eq!(pipeline.nodes[1].params, pipeline.nodes[0].params);
        assert_eq!(pipeline.nodes[2].params, json!({}));
    }

    #[test]
    fn a_node_may_have_classes_of_its_own() {
        let own = "seed: 1\nnodes:\n  a: {stage: find, params: {key: rib, classes: [{group: bone, classes: {rib: 3}}]}}\n";
        let lab = Lab::of(&[("p.yaml", &(LIVER.to_owned() + own)), ("alone.yaml", own)]);
        assert_eq!(lab.key("p.yaml", "a"), lab.key("alone.yaml", "a"));
        assert_eq!(lab.load("p.yaml").unwrap().nodes[0].params["classes"][0]["group"], "bone");
    }

    #[test]
    fn keys_hold_the_classes_and_neither_their_file_nor_the_way_they_are_written() {
        let lab = Lab::of(&[
            ("inline.yaml", &(LIVER.to_owned() + NODES)),
            ("long.yaml", &("classes: [{classes: {liver: {value: 1, name: Liver}}, group: organ}]\n".to_owned() + NODES)),
            ("sub/file.yaml", &("classes: ../known/liver.yaml\n".to_owned() + NODES)),
            ("known/liver.yaml", "- group: organ\n  classes: {liver: 1}\n"),
            ("other.yaml", &("classes: [{group: organ, classes: {liver: 2}}]\n".to_owned() + NODES)),
        ]);
        let key = lab.key("inline.yaml", "a");
        assert_eq!(lab.key("sub/file.yaml", "a"), key);
        assert_eq!(lab.key("long.yaml", "a"), key);
        assert_ne!(lab.key("other.yaml", "a"), key);
        assert_eq!(lab.key("other.yaml", "c"), lab.key("inline.yaml", "c"), "a stage without classes does not depend on them");
    }

    #[test]
    fn editors_ask_for_classes_at_the_top_and_not_in_nodes() {
        let schema = crate::schema("toy", STAGES);
        let definitions = &schema["definitions"];
        assert_eq!(definitions["find"]["required"], json!(["key"]));
        assert_eq!(schema["properties"]["classes"]["anyOf"][0]["$ref"], "#/definitions/Classes");
        assert_eq!(definitions["Classes"]["type"], "array");
    }

    #[test]
    fn an_overlay_replaces_the_classes_as_a_whole() {
        let lab = Lab::of(&[
            ("base.yaml", &(LIVER.to_owned() + NODES)),
            ("over/inline.yaml", "extends: ../base.yaml\nclasses: [{group: other, classes: {liver: 7}}]\n"),
            ("over/file.yaml", "extends: ../base.yaml\nclasses: own.yaml\n"),
            ("over/own.yaml", "[{group: other, classes: {liver: 7}}]"),
            ("over/none.yaml", "extends: ../base.yaml\nclasses: null\n"),
        ]);
        let classes = |name: &str| lab.load(name).unwrap().nodes[0].params["classes"].clone();
        assert_eq!(classes("over/inline.yaml"), json!([{"group": "other", "classes": {"liver": 7}}]));
        assert_eq!(classes("over/file.yaml"), classes("over/inline.yaml"));
        assert!(lab.load("over/none.yaml").err().unwrap().contains("params.classes: is missing"));
    }

    /// The one problem that the file has.
    fn wrong(files: &[(&str, &str)]) -> String {
        let error = Lab::of(files).load("p.yaml").err().unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn what_is_wrong_with_classes_is_told_once_at_their_line() {
        let at_the_end = |text: &str| format!("{NODES}{text}");
        let file = |text: &str| wrong(&[("p.yaml", &at_the_end("classes: known.yaml\n")), ("known.yaml", text)]);
        let inline = |text: &str| wrong(&[("p.yaml", &at_the_end(text))]);
        let shared = "`liver` and `tumor` both have the value 1; give each class a value of its own";
        let twice = "[{group: organ, classes: {liver: 1}}, {group: cancer, classes: {tumor: 1}}]";
        assert_eq!(inline(&format!("classes: {twice}\n")), format!("p.yaml:6: classes: {shared}"));
        assert_eq!(file(twice), format!("p.yaml:6: classes: known.yaml: {shared}"));
        let no_list = "must be a list such as `[{group: organ, classes: {liver: 1}}]`, or the path of a file with such a list";
        assert_eq!(inline("classes: {liver: 1}\n"), format!("p.yaml:6: classes: {no_list}"));
        assert_eq!(file("liver: 1\n"), format!("p.yaml:6: classes: known.yaml: {no_list}"));
        let strange = file("- group: organ\n  classes: {spleen: 2, liver: one}\n");
        assert!(strange.contains("class `liver`: \"one\" is found, and expected is a value from 1 to 255"), "{strange}");
        let far = inline("classes: [{group: organ, classes: {liver: {value: 300}}}]\n");
        assert!(far.contains("class `liver`: invalid value: integer `300`, expected u8"), "{far}");
        let same_key = "`liver` stands twice in the same map; keep one of them";
        assert!(file("- group: organ\n  classes:\n    liver: 1\n    liver: 2\n").starts_with("known.yaml:4: "));
        assert!(file("- group: organ\n  classes:\n    liver: 1\n    liver: 2\n").ends_with(same_key));
        let gone = wrong(&[("p.yaml", &at_the_end("classes: gone.yaml\n"))]);
        assert!(gone.starts_with("p.yaml:6: classes: cannot read the file gone.yaml: "), "{gone}");
    }

    #[test]
    fn what_a_stage_cannot_do_with_the_classes_is_told_at_their_line_too() {
        let two = "classes: [{group: organ, classes: {liver: 1}}, {group: cancer, classes: {tumor: 2}}]\n";
        let error = wrong(&[("p.yaml", &format!("{NODES}{two}"))]);
        assert!(error.starts_with("p.yaml:6: classes: parameters of stage find: `classes` has several groups"), "{error}");
        let key = wrong(&[("p.yaml", &format!("{LIVER}{}", NODES.replace("liver", "livr")))]);
        assert_eq!(key, "p.yaml:4: nodes.a.params: parameters of stage find: there is no class `livr`; the classes are liver");
    }

    #[test]
    fn a_file_without_classes_is_told_where_to_declare_them() {
        let error = wrong(&[("p.yaml", NODES)]);
        assert!(error.starts_with("p.yaml:3: nodes.a.params.classes: is missing; "), "{error}");
        assert!(error.ends_with(" `classes:` at the top of the file gives them to every node that needs them."), "{error}");
    }
}
