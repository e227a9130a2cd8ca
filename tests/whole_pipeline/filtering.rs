//! Pseudo-labels with trust in them: what is written beside them, what is learned from, and a second round.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ndarray::Array3;
use volume::nifti;

use crate::lab::{Lab, await_that, outcome};
use crate::method::parameters;

/// Two rounds: labels of the teachers, a student of them, and its labels as far as the teachers believe in them.
fn two_rounds(filter: &str, epochs: u64) -> String {
    let labels = |name: &str, subset: &str, more: &str, trust: &str| {
        format!(
            "
  {name}:
    stage: pseudo-label
    inputs: {{datasets: {{FLARE23: data.FLARE23}}, partition: partition, teachers: {{M_o2: M_o2, M_c: M_c}}{more}}}
    params:
      subsets: [{subset}]
      grid: {{spacing_mm: [8, 8, 8], window_hu: [-200, 300]}}
      crop_foreground: true
      window: {{patch: [32, 32, 32], overlap: 0.5}}
      trust: {{{trust}}}
"
        )
    };
    let round = |name: &str, labels: &str, student: &str, trust: &str| {
        format!(
            "
  {name}:
    stage: preprocess
    inputs: {{datasets: {{FLARE23: data.FLARE23}}, partition: partition, pseudo: {labels}}}
    params: {{subsets: [D_u], layout: slices, grid: {{spacing_mm: [8, 8, null], window_hu: [-200, 300]}}, crop_foreground: true}}
  {student}:
    stage: train-student
    inputs: {{prepared: {name}, partition: partition}}
    params:
      subset: D_u
      targets: [organ, cancer]
      trust: {trust}
      live: ['*']
      network: {{features: [4, 4, 8, 8, 8, 4]}}
      crop: [32, 32]
      augment: {{noise: {{probability: 0, std: 0}}, scale: {{probability: 0, range: 0}}, shift: {{probability: 0, range: 0}}}}
      fit: {{batch_size: 4, micro_batch: 2, epochs: {epochs}, max_steps_per_epoch: 3, learning_rate: 1.0e-3, weight_decay: 0,
        schedule: {{polynomial: {{power: 0.9}}}}, select: highest_dice}}
"
        )
    };
    [
        "nodes:".into(),
        labels("weighed", "D_u", "", &format!("looks: [{{overlap: 0.25}}, {{scale: 1.1, shift: -0.05}}], filter: {filter}")),
        labels("of_l3", "D_l3", "", ""),
        round("first_round", "weighed", "first", "soft"),
        "
  opinion:
    stage: segment
    inputs: {images: data.FLARE23/unlabeledTr1800, student: first}
    params: {network: {features: [4, 4, 8, 8, 8, 4]}, grid: {spacing_mm: [8, 8, 8], window_hu: [-200, 300]}, crop_foreground: true,
      window: {batch: 8, size: [32, 32], overlap: 0.25}}
"
        .into(),
        labels("second_labels", "D_u", ", opinion: opinion", "labels_from: opinion"),
        labels("doubted", "D_u", ", opinion: opinion", "disagreeing: 0.1"),
        round("second_round", "second_labels", "second", "hard"),
    ]
    .concat()
}

const KEEP_ALL: &str = "{}";

fn map(folder: &Path, kind: &str, case: &str) -> Array3<u8> {
    nifti::read_labels(folder.join(kind).join(format!("{case}.nii.gz"))).unwrap().0.data
}

fn cases(lab: &Lab, subset: &str) -> Vec<String> {
    let list = fs::read_to_string(lab.result("partition").join(format!("{subset}.txt"))).unwrap();
    list.lines().map(str::to_owned).collect()
}

#[test]
fn labels_are_weighed_and_learned_from_in_two_rounds() {
    let lab = Lab::new(&two_rounds("{default: {voxel: 0.05}, classes: {liver: {quantile: 0.5}}}", 1));
    lab.run(&["second", "doubted", "of_l3", "pseudo_labels[D_u]", "pseudo_labels[D_l3]"]).must_succeed();
    assert_eq!(lab.run(&["second", "doubted"]).must_succeed().ran(), [""; 0], "a second run does nothing");

    let weighed = lab.result("weighed");
    let table = fs::read_to_string(weighed.join("trust.csv")).unwrap();
    assert!(table.starts_with("case,map,class,voxels,trust,bound,kept,left_out\n") && table.contains(",cancer,background,"), "{table}");
    for case in cases(&lab, "D_u") {
        for kind in ["organ", "cancer"] {
            let labels = map(&weighed, kind, &case);
            assert_eq!(labels, map(&lab.result("pseudo_labels[D_u]"), kind, &case), "trust changes no label");
            let trust = map(&weighed, &format!("{kind}_trust"), &case);
            assert_eq!(trust.dim(), labels.dim());
            let distinct = trust.iter().collect::<std::collections::BTreeSet<_>>().len();
            assert!(distinct > 3, "{kind} of {case}: {distinct} values of trust");

            let (doubted, student) = (map(&lab.result("doubted"), &format!("{kind}_trust"), &case), lab.result("second_labels"));
            let opinion = map(&student, kind, &case);
            let differ = labels.iter().zip(&opinion).zip(&doubted).filter(|((label, other), _)| label != other);
            assert!(differ.clone().count() > 0 && differ.clone().all(|(_, &trust)| trust <= 26), "a label that is disagreed with");
        }
        // Every class line of the table tells the voxels that the maps show.
        let (labels, trust) = (map(&weighed, "organ", &case), map(&weighed, "organ_trust", &case));
        for line in table.lines().filter(|line| line.starts_with(&format!("{case},organ,"))) {
            let fields: Vec<&str> = line.split(',').collect();
            let class = labels::flare23::classes().class(fields[2]).map_or(0, |class| class.value);
            let of_class = || labels.iter().zip(&trust).filter(|(label, _)| **label == class);
            assert_eq!(fields[3], of_class().count().to_string(), "{line}");
            assert_eq!(fields[6], of_class().filter(|(_, trust)| **trust > 0).count().to_string(), "{line}");
        }
    }
    true_labels_are_trusted(&lab);
}

fn true_labels_are_trusted(lab: &Lab) {
    for case in cases(lab, "D_l3") {
        let [found, plain] = ["of_l3", "pseudo_labels[D_l3]"].map(|node| lab.result(node));
        assert_eq!(map(&found, "organ", &case), map(&plain, "organ", &case));
        assert!(map(&found, "cancer_trust", &case).iter().all(|&trust| trust == 255), "the cancer of D_l3 is true");
        let dataset = lab.result("phantom").join("FLARE/labelsTr2200");
        let path = [dataset.join("20230507-fix"), dataset]
            .map(|folder| folder.join(format!("{case}.nii.gz")))
            .into_iter()
            .find(|path| path.is_file());
        let truth = nifti::read_labels(path.unwrap()).unwrap().0.data;
        let trust = map(&found, "organ_trust", &case);
        let five = |label: &u8| labels::flare23::FIVE_ORGANS.contains(label);
        assert!(truth.iter().zip(&trust).filter(|(label, _)| five(label)).all(|(_, &trust)| trust == 255));
        assert!(truth.iter().zip(&trust).any(|(&label, &trust)| label == 0 && trust < 255), "what the teacher adds is not");
    }
}

#[test]
fn trust_does_not_depend_on_the_number_of_threads() {
    let of = |threads: &str| {
        let lab = Lab::new(&two_rounds(KEEP_ALL, 1));
        let mut command = lab.command(&["run", "weighed"]);
        outcome({
            command.env("RAYON_NUM_THREADS", threads);
            command
        })
        .must_succeed();
        let trust = |case: &String| ["organ_trust", "cancer_trust"].map(|kind| map(&lab.result("weighed"), kind, case));
        cases(&lab, "D_u").iter().map(trust).collect::<Vec<_>>()
    };
    assert!(of("1") == of("3"));
}

#[test]
fn what_falls_below_its_bounds_is_left_out_and_nothing_left_is_an_error() {
    let lab = Lab::new(&two_rounds("{case: 1}", 1));
    lab.run(&["first"]).must_fail(1, &["no training case of D_u", "lower the bounds of `trust`"]);
    let table = fs::read_to_string(lab.result("weighed").join("trust.csv")).unwrap();
    assert!(table.lines().any(|line| line.ends_with("below the case's 1\"") && line.contains(",0,")), "{table}");
    for case in cases(&lab, "D_u") {
        assert!(map(&lab.result("weighed"), "organ_trust", &case).iter().all(|&trust| trust == 0));
    }
}

#[test]
fn settings_of_trust_that_make_no_sense_are_refused() {
    for (filter, reason) in [
        ("{classes: {lung: {}}}", "there is no class `lung`"),
        ("{default: {voxel: 2}}", "default.voxel is 2; it must be from 0 to 1"),
        ("{}, disagreeing: -1", "trust.disagreeing is -1"),
    ] {
        Lab::new(&two_rounds(filter, 1)).run(&["weighed"]).must_fail(2, &[reason]);
    }
    let nodes = two_rounds(KEEP_ALL, 1);
    Lab::new(&nodes.replace("{overlap: 0.25}", "{}")).run(&["weighed"]).must_fail(2, &["trust.looks[0] is the look that makes the labels"]);
    Lab::new(&nodes.replace(", opinion: opinion", "")).run(&["second_labels"]).must_fail(1, &["there is no input `opinion`"]);
    let without = nodes.replace("      trust: {disagreeing: 0.1}\n", "");
    Lab::new(&without).run(&["doubted"]).must_fail(1, &["`opinion` is given, and no parameter `trust`"]);
    let unweighed = nodes.replace("pseudo: weighed", "pseudo: \"pseudo_labels[D_u]\"");
    Lab::new(&unweighed).run(&["first"]).must_fail(1, &["nobody has weighed the labels of D_u"]);
}

#[test]
fn a_killed_training_with_trust_costs_no_bit() {
    let long = two_rounds("{default: {voxel: 0.05}}", 60);
    let quiet = Lab::new(&long);
    quiet.run(&["first"]).must_succeed();
    let lab = Lab::new(&long);
    let mut runner = lab.command(&["run", "first"]).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = lab.attempt("first").join("work/checkpoint/state.json");
    await_that("a checkpoint", || checkpoint.is_file().then_some(()));
    // The process may have ended this moment; whether it was killed shows in what follows.
    let _ = Command::new("kill").args(["-KILL", &runner.id().to_string()]).stderr(Stdio::null()).status();
    assert_eq!(runner.wait().unwrap().code(), None, "killed and not finished");
    let last = lab.run(&["first"]).must_succeed();
    assert!(last.stderr.contains("first: goes on where it was interrupted"), "{}", last.stderr);
    assert!(parameters(&quiet.result("first")) == parameters(&lab.result("first")), "the weights differ");
}
