//! The JSON schema of pipeline files, by which editors complete and check them.
//!
//! What it says of parameters comes from the stages' own types, and of inputs from their roles. An editor sees one file
//! at a time: in a file that extends another, everything may be left out or taken away with `null`, and a node that
//! names no stage may hold the parameters of any.

use labels::Classes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use stage_kit::{DeviceChoice, Entry, Role};

use crate::classes::CLASSES;
use crate::defaults::DEFAULTS;

/// Where the definitions of parts live; those of overlays have [`OVERLAY`] behind their name.
const DEFINITIONS: &str = "#/definitions/";
const OVERLAY: &str = "+overlay";

/// A reference, such as `partition`, `phantom/truth`, `segment[M_1]`, `data.dataset` or `$model`.
const REFERENCE: &str = r"^(data\.)?[A-Za-z0-9_$-][A-Za-z0-9_${}-]*(\[[A-Za-z0-9_,.${}-]+\])?(/[^/]+)*/?$";
/// Each node of a `foreach`: `segment[*]`, `segment[*,0.5]`.
const EACH: &str = r"^[A-Za-z0-9_$-][A-Za-z0-9_${}-]*\[([A-Za-z0-9_.${}-]+,)*\*(,[A-Za-z0-9_.${}-]+)*\](/[^/]+)*/?$";
/// A variable of `foreach`, alone.
const VARIABLE: &str = r"^\$(\{[A-Za-z0-9_-]+\}|[A-Za-z0-9_-]+)$";

/// The schema of the pipeline files of a program with these stages, in draft 7, which editors know best.
#[must_use]
pub fn schema(program: &str, stages: &[Entry]) -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let params: Vec<Value> = stages.iter().map(|stage| params(stage, &mut generator)).collect();
    let device = generator.subschema_for::<DeviceChoice>().to_value();
    let classes = generator.subschema_for::<Classes>().to_value();
    let mut definitions = parts(&mut generator);
    for (stage, params) in stages.iter().zip(params) {
        definitions.insert(format!("{}{OVERLAY}", stage.name), overlay(&params));
        definitions.insert(stage.name.to_owned(), params);
    }
    definitions.insert(
        "reference".into(),
        json!({
            "description": "NODE, NODE/FOLDER, NODE[VALUE], data.NAME or data.NAME/FOLDER",
            "type": "string",
            "pattern": REFERENCE,
        }),
    );
    definitions.insert(
        "each".into(),
        json!({
            "description": "NODE[*]: each node of a `foreach`, under its values as names; other values may stand beside `*`",
            "type": "string",
            "pattern": EACH,
        }),
    );
    definitions.insert("node".into(), node(stages));
    definitions.insert("node+overlay".into(), overlay_node(stages));
    let nodes = |node: &str| json!({"properties": {"nodes": {"additionalProperties": {"$ref": format!("{DEFINITIONS}{node}")}}}});
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("A pipeline of {program}"),
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "extends": {
                "description": "A file that this one is laid over, relative to this one; or several, each laid over those before it.",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            },
            "seed": {"description": "The root of all randomness.", "type": "integer", "minimum": 0},
            "device": device,
            "store": {"description": "The folder for results, relative to this file.", "type": "string"},
            "slurm": slurm(),
            CLASSES: {
                "description": "The classes, in groups; or a YAML file with them, relative to this one. Every stage that takes classes gets these.",
                "anyOf": [classes, {"type": ["string", "null"]}],
            },
            "data": {
                "description": "Where data come from: a path, relative to this file, or what a node writes.",
                "type": ["object", "null"],
                "additionalProperties": {"anyOf": [
                    {"type": ["string", "null"]},
                    {
                        "type": "object",
                        "properties": {"from": {"$ref": format!("{DEFINITIONS}reference")}},
                        "required": ["from"],
                        "additionalProperties": false,
                    },
                ]},
            },
            DEFAULTS: {
                "description": "By stage: inputs and parameters of all its nodes that do not say otherwise.",
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": defaults(stages),
            },
            "nodes": {"description": "What is done, in reading order.", "type": "object"},
        },
        // What a node has from elsewhere, an editor does not see.
        "if": {"anyOf": [{"required": ["extends"]}, {"required": [DEFAULTS]}]},
        "then": nodes("node+overlay"),
        "else": {"allOf": [nodes("node"), {"required": ["seed", "nodes"]}]},
        "definitions": definitions,
    })
}

/// [`schema`] as text, with a line for each definition.
#[must_use]
pub fn schema_text(program: &str, stages: &[Entry]) -> String {
    let lines = |map: &Map<String, Value>, at: &str, text: &dyn Fn(&str, &Value) -> String| {
        let lines: Vec<String> = map.iter().map(|(key, value)| format!("{at}  {}: {}", json!(key), text(key, value))).collect();
        format!("{{\n{}\n{at}}}", lines.join(",\n"))
    };
    let definition = |_: &str, value: &Value| value.to_string();
    let field = |key: &str, value: &Value| match value {
        Value::Object(map) if key == "definitions" => lines(map, "  ", &definition),
        value => value.to_string(),
    };
    match schema(program, stages) {
        Value::Object(map) => lines(&map, "", &field) + "\n",
        other => other.to_string(),
    }
}

/// What a site says of its Slurm; `SlurmOptions` reads it.
fn slurm() -> Value {
    let texts = |description: &str| json!({"description": description, "type": "array", "items": {"type": "string"}});
    let count = |description: &str, least: u32| json!({"description": description, "type": "integer", "minimum": least});
    let text = |description: &str| json!({"description": description, "type": "string"});
    json!({
        "description": "How to use the Slurm of a site.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "partition": text("The partition; Slurm's default without it."),
            "account": text("The account."),
            "args": texts("More arguments of sbatch, for all jobs."),
            "gpu_args": texts("More arguments of sbatch, for jobs that ask for a card."),
            "array": count("The most jobs in one array.", 1),
            "queue": count("The most jobs of a run in the queue.", 1),
            "poll": text("How often the queue is looked at, such as `10 s`."),
            "latency": text("How long a file may take until it is seen on another machine, such as `10 s`."),
            "resubmit": count("How often a job that was lost is submitted again.", 0),
        },
    })
}

/// The parameters of a stage as a node writes them. The classes need not be among them, for the file gives them.
fn params(stage: &Entry, generator: &mut SchemaGenerator) -> Value {
    let mut params = stage.schema(generator).to_value();
    if let Some(required) = params.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != CLASSES);
    }
    params
}

/// The named parts of parameters, each as it is and for overlays.
fn parts(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let parts = generator.take_definitions(true);
    parts.iter().flat_map(|(name, part)| [(name.clone(), part.clone()), (format!("{name}{OVERLAY}"), overlay(part))]).collect()
}

/// The same schema for an overlay or a node of `foreach`: nothing is required, `null` takes a field away, and a variable
/// may stand for a value.
fn overlay(schema: &Value) -> Value {
    // A reference has no neighbours in draft 7, so that the alternatives stand around it.
    let variable = json!({"type": "string", "pattern": VARIABLE});
    let loose = |schema: &Value| json!({"anyOf": [overlay(schema), {"type": "null"}, variable]});
    match schema {
        Value::Object(map) => {
            if let Some(variants) = variants(map) {
                return overlay(&variants);
            }
            let field = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("required", Value::Array(_)) => return None,
                    ("$ref", Value::String(reference)) => format!("{reference}{OVERLAY}").into(),
                    ("properties", Value::Object(properties)) => {
                        properties.iter().map(|(name, property)| (name.clone(), loose(property))).collect::<Map<_, _>>().into()
                    }
                    ("additionalProperties", Value::Object(_)) => loose(value),
                    ("items", Value::Object(_)) => json!({"anyOf": [overlay(value), variable]}),
                    ("default" | "enum" | "const", value) => value.clone(),
                    (_, value) => overlay(value),
                };
                Some((key.clone(), value))
            };
            Value::Object(map.iter().filter_map(field).collect())
        }
        Value::Array(list) => list.iter().map(overlay).collect(),
        scalar => scalar.clone(),
    }
}

/// The variants of an enum, each written as a map of its name to its fields, as one map: an overlay may take one variant
/// away and bring another.
fn variants(schema: &Map<String, Value>) -> Option<Value> {
    let mut properties = Map::new();
    for variant in schema.get("oneOf")?.as_array()? {
        properties.extend(variant.get("properties")?.as_object()?.clone());
    }
    let mut merged = schema.clone();
    merged.shift_remove("oneOf");
    merged.extend([
        ("type".into(), "object".into()),
        ("additionalProperties".into(), false.into()),
        ("properties".into(), properties.into()),
    ]);
    Some(merged.into())
}

/// A node of a file that extends no other.
fn node(stages: &[Entry]) -> Value {
    let cases: Vec<Value> = stages
        .iter()
        .map(|stage| {
            let overlaid = json!({"properties": {"params": {"$ref": format!("{DEFINITIONS}{}{OVERLAY}", stage.name)}}});
            let plain = json!({"properties": {"params": {"$ref": format!("{DEFINITIONS}{}", stage.name)}}});
            let mut then = json!({
                "properties": {"inputs": inputs(stage.reads, true)},
                "if": {"required": ["foreach"]},
                "then": overlaid,
                "else": plain,
            });
            if stage.reads.iter().any(|role| role.required) {
                then["required"] = json!(["inputs"]);
            }
            json!({"if": is(stage), "then": then})
        })
        .collect();
    let mut node = node_of(stages, &json!("object"));
    // What a node has from the one that it is like, an editor does not see.
    node["if"] = json!({"required": ["like"]});
    node["then"] = json!({"$ref": format!("{DEFINITIONS}node{OVERLAY}")});
    node["else"] = json!({"required": ["stage"], "allOf": cases});
    node
}

/// A node of a file that extends another, which `null` takes away.
fn overlay_node(stages: &[Entry]) -> Value {
    let cases = stages.iter().map(|stage| {
        let params = json!({"$ref": format!("{DEFINITIONS}{}{OVERLAY}", stage.name)});
        json!({"if": is(stage), "then": {"properties": {"params": params, "inputs": inputs(stage.reads, false)}}})
    });
    let any: Vec<Value> = stages.iter().map(|stage| json!({"$ref": format!("{DEFINITIONS}{}{OVERLAY}", stage.name)})).collect();
    let roles: Vec<Role> = stages.iter().flat_map(|stage| stage.reads.iter().copied()).collect();
    let unnamed = json!({
        "if": {"not": {"required": ["stage"]}},
        "then": {"properties": {"params": {"anyOf": any}, "inputs": inputs(&roles, false)}},
    });
    let mut node = node_of(stages, &json!(["object", "null"]));
    node["allOf"] = cases.chain([unnamed]).collect();
    node
}

/// What the nodes of each stage may get.
fn defaults(stages: &[Entry]) -> Map<String, Value> {
    let of = |stage: &Entry| {
        let params = json!({"$ref": format!("{DEFINITIONS}{}{OVERLAY}", stage.name)});
        let given = json!({"params": params, "inputs": inputs(stage.reads, false), "resources": {"type": "object"}});
        (stage.name.to_owned(), json!({"type": "object", "additionalProperties": false, "properties": given}))
    };
    stages.iter().map(of).collect()
}

fn is(stage: &Entry) -> Value {
    json!({"properties": {"stage": {"const": stage.name}}, "required": ["stage"]})
}

/// What all nodes have in common.
fn node_of(stages: &[Entry], kind: &Value) -> Value {
    let known: Vec<Value> = stages
        .iter()
        .map(|stage| json!({"const": stage.name, "description": format!("{}. Paper: {}", stage.about, stage.paper)}))
        .collect();
    json!({
        "type": kind,
        "additionalProperties": false,
        "properties": {
            "stage": {"description": "What to do.", "anyOf": known},
            "like": {
                "description": "Another node: this one has what that one has, but for what is written here; `null` takes away.",
                "type": "string",
            },
            "foreach": {
                "description": "Makes a node of each value, or of each combination of values; `$NAME` stands for the value.",
                "type": ["object", "null"],
                "minProperties": 1,
                "additionalProperties": {"type": ["array", "null"], "minItems": 1, "items": {"type": ["string", "number", "boolean"]}},
            },
            "inputs": {"description": "What it reads: for each input of the stage a reference.", "type": ["object", "null"]},
            "params": {"description": "The stage's parameters.", "type": ["object", "null"]},
            "seed": {
                "description": "The root of its randomness, where it is not the file's.",
                "anyOf": [{"type": ["integer", "null"], "minimum": 0}, {"type": "string", "pattern": VARIABLE}],
            },
            "resources": {
                "description": "What it may take of a machine.",
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "cpus": {"description": "Cores of each process, which are also its threads.", "type": ["integer", "null"], "minimum": 1},
                    "processes": {"description": "Processes that share the work of one training, by MPI.", "type": ["integer", "null"], "minimum": 1},
                    "gpus": {"description": "Graphics cards.", "type": ["integer", "null"], "minimum": 0},
                    "memory": {"description": "Such as `16 GB`.", "type": ["string", "null"]},
                    "time": {"description": "The longest that it may take, such as `8 h`.", "type": ["string", "null"]},
                    "batch": {"description": "How many cases one job of a cluster does.", "type": ["integer", "null"], "minimum": 1},
                },
            },
        },
    })
}

/// The inputs of these roles; the same name may stand for several.
fn inputs(roles: &[Role], whole: bool) -> Value {
    let reference = json!({"$ref": format!("{DEFINITIONS}reference")});
    let mut properties: Map<String, Value> = Map::new();
    for role in roles {
        let one = if whole { reference.clone() } else { json!({"anyOf": [reference, {"type": "null"}]}) };
        let many = json!({"type": "object", "minProperties": 1, "additionalProperties": one});
        let mut kinds = if role.many { vec![many, json!({"$ref": format!("{DEFINITIONS}each")})] } else { vec![reference.clone()] };
        if !whole || !role.required {
            kinds.push(json!({"type": "null"}));
        }
        match properties.get_mut(role.name).and_then(|known| known["anyOf"].as_array_mut()) {
            Some(known) => known.extend(kinds.into_iter().filter(|kind| !known.contains(kind)).collect::<Vec<_>>()),
            None => {
                properties.insert(role.name.to_owned(), json!({"description": role.about, "anyOf": kinds}));
            }
        }
    }
    let mut inputs = json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties});
    let required: Vec<&str> = roles.iter().filter(|role| whole && role.required).map(|role| role.name).collect();
    if !required.is_empty() {
        inputs["type"] = json!("object");
        inputs["required"] = json!(required);
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::KEYS;
    use crate::nodes::NODE_KEYS;

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    fn sorted<const N: usize>(mut keys: [&'static str; N]) -> Vec<&'static str> {
        keys.sort_unstable();
        keys.to_vec()
    }

    #[test]
    fn the_keys_are_those_that_the_reader_knows() {
        let schema = schema("toy", &[]);
        assert_eq!(keys(&schema["properties"]), sorted(KEYS));
        for node in ["node", "node+overlay"] {
            assert_eq!(keys(&schema["definitions"][node]["properties"]), sorted(NODE_KEYS));
        }
    }

    #[test]
    fn the_text_is_the_schema() {
        assert_eq!(serde_json::from_str::<Value>(&schema_text("toy", &[])).unwrap(), schema("toy", &[]));
    }

    #[test]
    fn an_overlay_may_bring_another_variant() {
        let whole = json!({"description": "x", "oneOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}, "additionalProperties": false},
            {"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}, "additionalProperties": false},
        ]});
        let merged = overlay(&whole);
        assert_eq!(keys(&merged["properties"]), ["a", "b"]);
        assert_eq!((&merged["description"], &merged["oneOf"]), (&json!("x"), &Value::Null));
    }

    #[test]
    fn an_overlay_requires_nothing_and_may_take_away() {
        let whole = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "number"}, "required": {"items": {"$ref": "#/definitions/X"}}}});
        let variable = json!({"type": "string", "pattern": VARIABLE});
        let alternatives = |schema: Value| json!({"anyOf": [schema, {"type": "null"}, variable]});
        let expected = json!({"type": "object", "properties": {
            "a": alternatives(json!({"type": "number"})),
            "required": alternatives(json!({"items": {"anyOf": [{"$ref": "#/definitions/X+overlay"}, variable]}})),
        }});
        assert_eq!(overlay(&whole), expected);
    }
}
