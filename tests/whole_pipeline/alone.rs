//! Stages that work by case, each run by itself, without the runner: what they write, and what they take for done.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lab::{Lab, Outcome, outcome};
use crate::partial::{LABELLED, MUTUAL};

/// A node of a stage, and a change of its parameters or inputs that changes what it writes.
type Change = (&'static str, fn(&mut Value, &mut BTreeMap<String, PathBuf>));

const CHANGES: [Change; 10] = [
    ("phantom", |params, _| params["variation"] = json!(0.4)),
    ("partition", |params, _| params["split"] = json!({"fraction": 0.7})),
    ("volumes", |params, _| params["grid"]["window_hu"] = json!([-150, 250])),
    ("teacher_labels", |params, _| params["window"] = json!({"patch": [16, 16, 16], "overlap": 0.0})),
    ("completed", |params, _| params["window"] = json!({"patch": [16, 16, 16], "overlap": 0.0})),
    ("segment[M_1]", |_, inputs| other(inputs, "student", "M_1", "M_3")),
    ("overlay[M_1]", |params, _| params["groups"] = json!(["organ"])),
    ("resample_back[M_1]", |_, inputs| other(inputs, "labels", "overlay[M_1]", "overlay[M_3]")),
    ("steps", |_, inputs| other(inputs, "predictions.M_1", "resample_back[M_1]", "resample_back[M_3]")),
    ("predict", |params, _| params["flips"] = json!(true)),
];

fn other(inputs: &mut BTreeMap<String, PathBuf>, role: &str, from: &str, to: &str) {
    let path = inputs[role].to_str().unwrap().replace(from, to);
    inputs.insert(role.to_owned(), path.into());
}

/// A stage with what it is given.
struct Alone<'a> {
    lab: &'a Lab,
    stage: String,
    seed: u64,
    params: Value,
    inputs: BTreeMap<String, PathBuf>,
}

impl<'a> Alone<'a> {
    /// As the runner has run the node.
    fn of(lab: &'a Lab, node: &str) -> Self {
        if node == "predict" {
            let inputs = [("images", lab.result("phantom").join("FLARE/validation")), ("model", lab.result("model"))];
            let inputs = inputs.map(|(role, path)| (role.to_owned(), path)).into();
            return Self { lab, stage: node.into(), seed: 1, params: json!({}), inputs };
        }
        let records = fs::read_dir(lab.path("store/records")).unwrap().map(|entry| entry.unwrap().path());
        let records = records.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut records = records.map(|path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap());
        let record = records.find(|record| record["node"] == node).unwrap();
        let path = |from: &str| {
            let (node, inside) = from.split_once('/').map_or((from, None), |(node, inside)| (node, Some(inside)));
            inside.map_or_else(|| lab.result(node), |inside| lab.result(node).join(inside))
        };
        let input = |(role, input): (&String, &Value)| (role.clone(), path(input["from"].as_str().unwrap()));
        Self {
            lab,
            stage: record["stage"].as_str().unwrap().to_owned(),
            seed: record["seed"].as_u64().unwrap(),
            params: record["params"].clone(),
            inputs: record["inputs"].as_object().unwrap().iter().map(input).collect(),
        }
    }

    fn run(&self, output: &str) -> Outcome {
        fs::write(self.lab.path("params.json"), self.params.to_string()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_flare"));
        command.current_dir(self.lab.path("")).args(["stage", &self.stage, "--params", "params.json", "--output", output]);
        command.args(["--seed", &self.seed.to_string(), "--device", "cpu"]);
        for (role, path) in &self.inputs {
            command.arg("--input").arg(format!("{role}={}", path.display()));
        }
        outcome(command).must_succeed()
    }
}

/// The files of a folder, by their path in it.
fn files(lab: &Lab, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let inside = |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(lab.path(folder)).unwrap().to_owned(), bytes);
    lab.files(folder).into_iter().map(inside).collect()
}

/// Whether `has` has all files of `part` with the same bytes.
#[track_caller]
fn assert_holds(has: &BTreeMap<PathBuf, Vec<u8>>, part: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    assert!(!part.is_empty(), "{what}");
    for (path, bytes) in part {
        assert!(has.get(path) == Some(bytes), "{what}: {} is missing or another one", path.display());
    }
}

#[test]
fn a_stage_that_runs_alone_writes_what_the_runner_publishes_and_takes_nothing_else_for_done() {
    let lab = Lab::new(&format!("nodes:{LABELLED}{MUTUAL}"));
    lab.run(&[]).must_succeed();
    for (node, change) in CHANGES {
        let mut alone = Alone::of(&lab, node);
        alone.run("out");
        let first = files(&lab, "out");
        if node != "predict" {
            assert_holds(&first, &files(&lab, &format!("store/results/lab/{node}")), &format!("{node} alone"));
        }
        change(&mut alone.params, &mut alone.inputs);
        let said = alone.run("out").stderr;
        assert!(!said.contains("were there already"), "{node}: {said}");
        let changed = files(&lab, "out");
        assert_ne!(changed, first, "{node}: the change changes nothing");
        alone.run("fresh");
        assert_holds(&changed, &files(&lab, "fresh"), &format!("{node} over other results"));
        // What a stage keeps in its folder `work` is gone with it.
        let keeps = ["phantom", "partition", "steps"].contains(&node);
        let said = alone.run("out").stderr;
        assert!(keeps || (said.contains(" were there already") && !said.contains("made anew")), "{node}: {said}");
        assert_eq!(files(&lab, "out"), changed, "{node}: a second time");
        for folder in ["out", "fresh"] {
            fs::remove_dir_all(lab.path(folder)).unwrap();
        }
    }
}
