//! The schema by which editors check pipeline files takes all of ours, and no typical mistake.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::outcome;
use crate::validator::problems;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn schema() -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flare"));
    command.arg("schema").stdin(Stdio::null());
    serde_json::from_str(&outcome(command).must_succeed().stdout).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_pipeline_file_fits_and_says_where_the_schema_is() {
    let schema = schema();
    let pipelines = std::fs::read_dir(root().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    let files = pipelines.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut n_files = 0;
    for path in files.chain([root().join("pipeline.yaml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(problems(&schema, &yaml(&text)), [""; 0], "{}", path.display());
        let place = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        assert!(path.parent().unwrap().join(place).is_file(), "{}: {place}", path.display());
        n_files += 1;
    }
    assert!(n_files >= 5);
}

/// A small sound file; each mistake replaces a part of it.
const SOUND: &str = "
seed: 1
classes: [{group: organ, classes: {liver: 1}}]
data: {FLARE23: FLARE, truth: {from: scores/x}}
nodes:
  partition:
    stage: partition
    inputs: {datasets: {FLARE23: data.FLARE23}}
    params: {datasets: {FLARE23: {layout: {folders: {images: [images], labels: labels}}}}, split: {fraction: 0.2}}
  volumes:
    foreach: {mm: [1, 2]}
    stage: preprocess
    inputs: {datasets: {FLARE23: data.FLARE23}, partition: partition}
    params:
      subsets: [D_c]
      layout: volume
      grid: {spacing_mm: [$mm, 1, null], window_hu: [-200, 300]}
      crop_foreground: true
  scores:
    stage: evaluate
    inputs: {truth: data.truth, predictions: {first: \"volumes[1]\"}}
  more: {like: scores, params: {pictures: 3}, inputs: {images: data.FLARE23}}
";

#[test]
fn typical_mistakes_do_not_fit() {
    let schema = schema();
    assert_eq!(problems(&schema, &yaml(SOUND)), [""; 0]);
    let mistakes = [
        ("seed: 1", "sed: 1", "`sed` is unknown"),
        ("seed: 1", "", "`seed` is missing"),
        ("stage: evaluate", "stage: evalute", "fits no alternative"),
        ("stage: partition", "", "`stage` is missing"),
        ("    stage: evaluate", "    stage: evaluate\n    param: {}", "`param` is unknown"),
        ("split: {", "splits: {", "`splits` is unknown"),
        ("fraction: 0.2", "fraction: a fifth", "fraction"),
        ("images: [images]", "images: images", "fits no alternative"),
        (", split: {fraction: 0.2}", "", "`split` is missing"),
        ("subsets: [D_c]", "subsets: D_c", "fits no alternative"),
        ("layout: volume", "layout: volumes", "fits no alternative"),
        ("$mm, 1, null", "$mm, 1", "fits no alternative"),
        ("{FLARE23: data.FLARE23}, partition", "/data/FLARE, partition", "fits no alternative"),
        ("inputs: {datasets: {FLARE23: data.FLARE23}}\n", "\n", "`inputs` is missing"),
        ("truth: data.truth, ", "", "`truth` is missing"),
        ("predictions: {first: \"volumes[1]\"}", "predictions: \"volumes[1]\"", "fits no alternative"),
        ("foreach: {mm: [1, 2]}", "foreach: {mm: 1}", "is no [\"array\""),
        ("like: scores", "like: 3", "is no \"string\""),
        ("like: scores", "lik: scores", "`lik` is unknown"),
        ("pictures: 3", "picture: 3", "fits no alternative"),
    ];
    for (right, wrong, message) in mistakes {
        assert!(SOUND.contains(right), "{right}");
        let found = problems(&schema, &yaml(&SOUND.replacen(right, wrong, 1)));
        assert!(found.iter().any(|problem| problem.contains(message)), "{wrong}: {found:?}");
    }
}

#[test]
fn an_overlay_may_leave_out_and_take_away_but_not_misspell() {
    let schema = schema();
    let overlay = |text: &str| problems(&schema, &yaml(&format!("extends: a.yaml\n{text}")));
    let fine = [
        "nodes: {M_2: {inputs: {init: null}}}",
        "nodes: {phantom: null, M_c: {params: {fit: {epochs: 3, schedule: {polynomial: null, warmup: {epochs: 1}}}}}}",
        "nodes: {a: {stage: evaluate, params: {pictures: null}}}",
    ];
    for text in fine {
        assert_eq!(overlay(text), [""; 0], "{text}");
    }
    let wrong = [
        "nodes: {M_2: {inputs: {int: null}}}",
        "nodes: {M_c: {params: {fit: {epoch: 3}}}}",
        "nodes: {M_c: {params: {fit: {epochs: many}}}}",
        "nodes: {M_c: {parms: {}}}",
        "nodes: {a: {stage: evaluate, params: {picture: 1}}}",
    ];
    for text in wrong {
        assert_ne!(overlay(text), [""; 0], "{text}");
    }
}
