//! Four datasets with other values and contradicting definitions: from `flare init` to labels and a model.

use std::collections::BTreeMap;
use std::fs;

use ndarray::Array3;
use serde_json::Value;
use volume::{LabelVolume, nifti};

use crate::lab::{Lab, copy_folder};

const NAMES: [&str; 4] = ["organs", "kidneys", "kidney_tumors", "spleen"];

/// The file of `flare init` with numbers for patients of a few thousand voxels.
const SMALL: &str = "extends: mine.yaml
store: store
nodes:
  volumes: {params: {grid: {spacing_mm: [8, 8, 8]}}}
  teacher:
    params:
      model: {method: {multitalent: {network: {u_net: {features: [4, 6, 8], strides: [[2, 2, 2], [2, 2, 1]]}}}}}
      patch: [32, 32, 32]
      fit: {epochs: 1, max_steps_per_epoch: 4}
      validation_patches: 4
  slices: {params: {grid: {spacing_mm: [8, 8, null]}}}
  student:
    params:
      network: {features: [4, 4, 8, 8, 8, 4]}
      crop: [32, 32]
      fit: {batch_size: 4, epochs: 1, max_steps_per_epoch: 3}
      validation_slices: 8
  known_kidneys: {like: unseen_labels_kidneys, foreach: null, inputs: {labels: pseudo_labels}}
  known_kidney_tumors: {like: unseen_labels_kidney_tumors, foreach: null, inputs: {labels: pseudo_labels}}
  scores_kidneys: {inputs: {predictions: {known: known_kidneys}}}
  scores_kidney_tumors: {inputs: {predictions: {known: known_kidney_tumors}}}
";

fn lab() -> Lab {
    let cases = "cases: {D_u: 1, D_l1: 0, D_l2: 0, D_l3: 0, D_l4: 0}, validation: 1, corrected: 0";
    let lab = Lab::new(&format!(
        "nodes: {{phantom: {{params: {{{cases}, collection: {{organs: 2, kidneys: 2, kidney_tumors: 2, spleen: 2}}}}}}}}\n"
    ));
    lab.run(&["phantom"]).must_succeed();
    copy_folder(&lab.result("phantom").join("collection"), &lab.path("collection"));
    let folders = NAMES.map(|name| format!("{name}={}", lab.path("collection").join(name).display()));
    let init = [&["init", "-o", "mine.yaml"], &folders.each_ref().map(String::as_str)[..]].concat();
    lab.call(&init).must_succeed();
    lab.call(&init).must_fail(2, &["mine.yaml is there already"]);
    fs::write(lab.path("small.yaml"), SMALL).unwrap();
    lab
}

/// The label maps of a dataset, each with that of a group beside it, by case.
fn beside(lab: &Lab, dataset: &str, group: &str) -> Vec<(Array3<u8>, LabelVolume)> {
    let maps = fs::read_dir(lab.path("collection").join(dataset).join("labelsTr")).unwrap().map(|entry| entry.unwrap());
    let pair = |entry: fs::DirEntry| {
        let name = format!("{dataset}__{}", entry.file_name().to_str().unwrap());
        let found = lab.path("store/results/small/pseudo_labels").join(group).join(name);
        let [truth, found] = [entry.path(), found].map(|path| nifti::read_labels(path).unwrap().0);
        (truth.data, found)
    };
    maps.map(pair).collect()
}

/// The names of the files in a folder of the results, sorted.
fn names(lab: &Lab, folder: &str) -> Vec<String> {
    let list = fs::read_dir(lab.path("store/results/small").join(folder)).unwrap();
    let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The mean DSC of each class that a model is scored by on a dataset.
fn scores(lab: &Lab, dataset: &str, model: &str) -> BTreeMap<String, f64> {
    let path = lab.path(&format!("store/results/small/scores_{dataset}/plain.json"));
    let summaries: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let of_model = summaries.into_iter().find(|summary| summary["model"] == model).unwrap();
    let classes = of_model["classes"].as_array().unwrap().iter();
    classes.map(|class| (class["key"].as_str().unwrap().to_owned(), class["dsc"]["mean"].as_f64().unwrap())).collect()
}

/// Both models are scored on the patients that the split holds back, by what each dataset labels; and what is known scores fully.
fn must_score_unseen_patients(lab: &Lab) {
    let held = fs::read_to_string(lab.path("store/results/small/partition/validation/D.txt")).unwrap();
    assert_eq!(held.lines().count(), 4, "one of each dataset: {held}");
    for name in NAMES {
        let of_dataset = held.lines().filter(|case| case.starts_with(&format!("{name}__"))).map(|case| format!("{case}.nii.gz"));
        assert_eq!(of_dataset.collect::<Vec<_>>(), names(lab, &format!("unseen[model,{name}]/truth")));
        let [teacher, model] = ["teacher", "model"].map(|model| scores(lab, name, model));
        assert!(teacher.keys().eq(model.keys()), "{teacher:?} {model:?}");
    }
    assert_eq!(scores(lab, "organs", "model").len(), 13);
    let all = |classes: &[&str]| classes.iter().map(|class| ((*class).to_owned(), 1.0)).collect::<BTreeMap<_, _>>();
    assert_eq!(scores(lab, "kidneys", "known"), all(&["liver", "kidneys"]));
    assert_eq!(scores(lab, "kidney_tumors", "known"), all(&["kidney", "tumor"]));
}

/// The value of a class in the file that `flare init` wrote.
fn value_of(lab: &Lab, class: &str) -> u8 {
    let text = fs::read_to_string(lab.path("mine.yaml")).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{class}: "))).unwrap_or_else(|| panic!("{class}: {text}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_file_written_for_four_datasets_trains_and_labels_what_each_means() {
    let lab = lab();
    lab.call(&["run", "--pipeline", "small.yaml"]).must_succeed();
    let [spleen, tumor, left, right, liver] =
        ["spleen", "tumor", "left_kidney", "right_kidney", "liver"].map(|class| value_of(&lab, class));

    // Value 2 is both kidneys in one dataset, and the tumor in a kidney in another. World coordinates grow to the right.
    let are_cut = |found: &LabelVolume| {
        let of_value = |value: u8| found.data.indexed_iter().filter(move |(_, found)| **found == value);
        let x_mm = |((x, y, z), _): ((usize, usize, usize), &u8)| found.affine.apply(&[x as f64, y as f64, z as f64])[0];
        of_value(left).map(x_mm).fold(f64::MIN, f64::max) < of_value(right).map(x_mm).fold(f64::MAX, f64::min)
    };
    let is_kidney = |value: u8| value == left || value == right;
    for (truth, found) in beside(&lab, "kidneys", "organ") {
        assert!(truth.iter().any(|&value| value == 2) && are_cut(&found));
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth == 2) == is_kidney(found)));
    }
    for (truth, found) in beside(&lab, "kidney_tumors", "organ") {
        assert!(are_cut(&found));
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth > 0) == is_kidney(found)), "a kidney contains its tumor");
    }
    for (truth, found) in beside(&lab, "kidney_tumors", "lesion") {
        assert!(truth.iter().any(|&value| value == 2));
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth == 2) == (found == tumor)));
    }
    for (truth, found) in beside(&lab, "spleen", "organ") {
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth == 1) == (found == spleen)), "nothing else is a spleen");
    }
    for (truth, found) in beside(&lab, "kidneys", "organ") {
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth == 1) == (found == liver)));
    }
    for (truth, found) in beside(&lab, "organs", "organ") {
        assert!(found.data.iter().any(|&value| value == left));
        assert!(truth.iter().zip(&found.data).all(|(&truth, &found)| (truth > 0) == (found > 0)), "all 13 are annotated");
    }
    must_score_unseen_patients(&lab);
    // The student has a decoder for organs and one for lesions, and labels a scan of no dataset.
    let student = lab.path("store/results/small/model/model.safetensors");
    let model = format!("model={}", student.display());
    let images = format!("images={}", lab.result("phantom").join("FLARE/validation").display());
    lab.call(&["stage", "predict", "--input", &images, "--input", &model, "--output", "predicted"]).must_succeed();
    assert_eq!(fs::read_dir(lab.path("predicted")).unwrap().count(), 1);
    assert_eq!(lab.call(&["run", "--pipeline", "small.yaml"]).must_succeed().ran(), [""; 0], "a second run does nothing");
}

#[test]
fn a_file_written_for_labelled_and_unlabelled_scans_holds_labelled_ones_back() {
    let cases = "cases: {D_u: 8, D_l1: 2, D_l2: 0, D_l3: 0, D_l4: 0}, validation: 0, corrected: 0";
    let lab = Lab::new(&format!("nodes: {{phantom: {{params: {{{cases}}}}}}}\n"));
    lab.run(&["phantom"]).must_succeed();
    let folder = format!("FLARE={}", lab.result("phantom").join("FLARE").display());
    lab.call(&["init", "-o", "mine.yaml", &folder]).must_succeed();
    lab.call(&["run", "--pipeline", "mine.yaml", "--store", "store", "partition"]).must_succeed();
    let held = |subset: &str| {
        let list = lab.path(&format!("store/results/mine/partition/validation/{subset}.txt"));
        fs::read_to_string(list).unwrap().lines().count()
    };
    assert_eq!([held("FLARE"), held("FLARE__unlabelled")], [1, 2]);
    let plan = lab.call(&["run", "--pipeline", "mine.yaml", "--store", "store", "--dry-run"]);
    let unseen = plan.stdout.lines().find(|line| line.starts_with("  unseen[teacher,FLARE]")).unwrap_or_else(|| panic!("{plan:?}"));
    assert!(unseen.contains("seconds for each of 1 scans: not measured"), "of two labelled cases one is held back: {unseen}");
}

#[test]
fn contradictions_in_declarations_are_told_before_anything_is_run() {
    let lab = lab();
    let refused = |change: &dyn Fn(String) -> String, parts: &[&str]| {
        let text = change(fs::read_to_string(lab.path("mine.yaml")).unwrap());
        fs::write(lab.path("wrong.yaml"), text).unwrap();
        lab.call(&["run", "--pipeline", "wrong.yaml", "--dry-run"]).must_fail(2, parts);
    };
    let spleen = value_of(&lab, "spleen");
    refused(&|text| text.replace(&format!("spleen: {spleen} "), "spleen: 1 "), &["wrong.yaml", "both have the value 1"]);
    refused(&|text| text.replace("split: {fraction: 0.2}", "split: {folds: 5, fold: 5}"), &["wrong.yaml", "fold"]);
    refused(&|text| text.replace("{fraction: 0.2}", "{fraction: 0.2}\n      unions: {all: [spleens]}"), &["there is no subset `spleens`"]);
    let foreign = |text: String| text.replacen("values: {", "values: {spleens: 2, ", 1);
    refused(&foreign, &["spleens"]);
    let one_side = |text: String| text.replacen("left_kidney: {left:", "left_kidney: {right:", 1);
    refused(&one_side, &["the right part of `", "and the left part to none"]);
}
