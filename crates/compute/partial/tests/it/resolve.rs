//! What a manifest says of datasets and tasks.

use std::collections::BTreeMap;

use dataset::{Case, Manifest, Split};
use labels::{Classes, LabelPattern, Regions, flare23};
use nets::{TrunkConfig, UNetConfig};
use partial::{Class, Dataset, MethodConfig, ModelConfig, Task};

use crate::{FIVE, dataset, datasets, kits, names};

/// A manifest with a case for each subset and each list of classes that its annotators looked for.
fn manifest(classes: &Classes, cases: &[(&str, &[&str])]) -> Manifest {
    let case = |(k, (subset, annotated)): (usize, &(&str, &[&str]))| {
        let annotated = classes.pattern_of(annotated).unwrap();
        Case {
            id: format!("case_{k}"),
            dataset: "one".into(),
            image: "image_0000.nii.gz".into(),
            label: (!annotated.is_empty()).then(|| "label.nii.gz".into()),
            pattern: LabelPattern::EMPTY,
            subset: (*subset).into(),
            annotated,
            split: Split::Training,
            shape: [8; 3],
            spacing_mm: [1.0; 3],
            cuts: Vec::new(),
        }
    };
    let mut subsets: BTreeMap<String, Vec<String>> = cases.iter().map(|(subset, _)| ((*subset).to_owned(), names(&[subset]))).collect();
    subsets.insert("D".into(), subsets.keys().cloned().collect());
    subsets.insert("D_c".into(), names(&["D_l3", "D_l4"]));
    let regions = [("one".to_owned(), Regions::plain(classes.pattern()))].into();
    Manifest { classes: classes.clone(), regions, subsets, cases: cases.iter().enumerate().map(case).collect() }
}

fn flare() -> Manifest {
    let five_and_tumor = [&FIVE[..], &["tumor"]].concat();
    manifest(
        &flare23::classes(),
        &[("D_l1", &["organ"]), ("D_l2", &FIVE), ("D_l3", &five_and_tumor), ("D_l4", &["tumor"]), ("D_l4", &[]), ("D_u", &[])],
    )
}

fn config(datasets: Vec<Dataset>, tasks: Vec<Task>) -> ModelConfig {
    let network = UNetConfig { features: vec![2, 2], strides: vec![[2; 3]], blocks: None, first_kernel: [3; 3], layers: None };
    ModelConfig { method: MethodConfig::MultiHead { network: TrunkConfig::UNet(network) }, datasets, tasks }
}

fn of_subset(name: &str, subset: &str) -> Dataset {
    Dataset { name: name.into(), subset: subset.into(), classes: None }
}

fn annotated(config: &ModelConfig) -> Vec<(&str, usize)> {
    config.datasets.iter().map(|dataset| (dataset.name.as_str(), dataset.classes.as_ref().map_or(0, Vec::len))).collect()
}

#[test]
fn what_annotators_looked_for_is_annotated() {
    let declared = vec![of_subset("all", "D_l1"), of_subset("both", "D_l3"), of_subset("tumor", "D_l4")];
    let resolved = config(declared, Vec::new()).resolved(&flare()).unwrap();
    assert_eq!(annotated(&resolved), [("all", 13), ("both", 6), ("tumor", 1)]);
    assert_eq!(resolved.datasets[2].classes, Some(names(&["tumor"])));
    let together = config(vec![of_subset("cancer", "D_c")], Vec::new()).resolved(&flare()).unwrap();
    assert_eq!(together.datasets[0].classes, Some(names(&["tumor"])), "what only some of the cases have annotated does not count");
    let fewer = config(vec![Dataset { classes: Some(names(&["cancer", "liver"])), ..of_subset("both", "D_l3") }], Vec::new());
    assert_eq!(fewer.resolved(&flare()).unwrap().datasets[0].classes, Some(names(&["liver", "tumor"])), "a group is its classes");
    assert_eq!(resolved.resolved(&flare()).unwrap(), resolved, "nothing is left to resolve");
}

#[test]
fn every_subset_with_annotations_is_a_dataset_by_default() {
    let resolved = config(Vec::new(), Vec::new()).resolved(&flare()).unwrap();
    assert_eq!(annotated(&resolved), [("D_l1", 13), ("D_l2", 5), ("D_l3", 6), ("D_l4", 1)]);
    let other =
        manifest(&kits(), &[("lits", &["liver", "lesion"]), ("kits", &["kidney", "tumor", "cyst"]), ("kits", &["kidney", "tumor"])]);
    let resolved = config(Vec::new(), Vec::new()).resolved(&other).unwrap();
    assert_eq!(annotated(&resolved), [("kits", 2), ("lits", 3)]);
    assert_eq!(resolved.datasets[1].classes, Some(names(&["liver", "cyst", "tumor"])), "in the order of groups and values");
}

#[test]
fn classes_are_in_the_order_of_their_groups() {
    let classes = kits();
    let keys = |of: &[Class]| of.iter().map(|class| classes.key_of(class.value()).into_owned()).collect::<Vec<_>>();
    let all = Class::within(&classes, classes.pattern());
    assert_eq!(keys(&all), ["liver", "kidney", "cyst", "tumor", "artery"]);
    let places = all.iter().map(|class| (class.group(), class.place(), class.value())).collect::<Vec<_>>();
    assert_eq!(places, [(0, 1, 17), (0, 2, 200), (1, 1, 3), (1, 2, 40), (2, 1, 90)]);
    assert_eq!(Class::of(&classes, 14), None);
    let datasets = datasets(&[dataset("vessels", &["artery", "kidney"]), dataset("lesions", &["lesion"])], &classes);
    assert_eq!(
        (keys(datasets.classes(0)), keys(&datasets.all())),
        (names(&["kidney", "artery"]), names(&["kidney", "cyst", "tumor", "artery"]))
    );
}

#[test]
fn contradictions_are_told_with_what_is_known() {
    let error = |datasets: Vec<Dataset>, tasks: Vec<Task>| config(datasets, tasks).resolved(&flare()).unwrap_err().to_string();
    let check = |error: String, parts: &[&str]| assert!(parts.iter().all(|part| error.contains(part)), "{error}: {parts:?}");
    check(error(vec![of_subset("a", "D_l3"), of_subset("b", "D_c")], Vec::new()), &["cases of D_l3 belong to the datasets `a` and `b`"]);
    check(error(vec![of_subset("a", "D_u")], Vec::new()), &["dataset `a` has no classes that are annotated in all of its cases"]);
    check(error(vec![of_subset("a", "D_l9")], Vec::new()), &["model.datasets, subset: there is no subset D_l9", "D_l1"]);
    let unknown = Dataset { classes: Some(names(&["kidney"])), ..of_subset("a", "D_l1") };
    check(error(vec![unknown], Vec::new()), &["model.datasets, dataset `a`, classes: there is no class `kidney`; the classes are liver"]);
    let task = Task { name: "t".into(), classes: names(&["lung"]) };
    check(error(Vec::new(), vec![task]), &["model.tasks, task `t`, classes: there is no class `lung`"]);
    let nothing = manifest(&flare23::classes(), &[("D_u", &[])]);
    let none = config(Vec::new(), Vec::new()).resolved(&nothing).unwrap_err().to_string();
    check(none, &["model.datasets: none given", "cases per subset: D_u 1"]);
}

#[test]
fn what_needs_no_manifest_is_checked_before() {
    let error = |datasets: Vec<Dataset>, tasks: Vec<Task>| config(datasets, tasks).check().unwrap_err().to_string();
    assert!(error(vec![of_subset("a", "D_l1"), of_subset("a", "D_l2")], Vec::new()).contains("dataset `a`: names must differ"));
    assert!(error(vec![of_subset("a.b", "D_l1")], Vec::new()).contains("dataset `a.b`"));
    assert!(error(vec![dataset("a", &[])], Vec::new()).contains("dataset `a` has no classes;"));
    assert!(error(Vec::new(), vec![Task { name: "t".into(), classes: Vec::new() }]).contains("task `t` has no classes;"));
    assert!(config(Vec::new(), Vec::new()).check().is_ok());
}

#[test]
fn a_card_keeps_of_a_declaration_what_the_model_knows() {
    let classes = flare23::classes();
    let tasks = vec![Task { name: "liver".into(), classes: names(&["liver"]) }];
    let resolved = config(vec![of_subset("five", "D_l2")], tasks).resolved(&flare()).unwrap();
    let known = classes.only(LabelPattern::of(1));
    let about = resolved.about(&known);
    assert_eq!(about.datasets[0].classes, Some(names(&["liver"])));
    assert_eq!(datasets(&about.datasets, &known).classes(0).len(), 1);
}
