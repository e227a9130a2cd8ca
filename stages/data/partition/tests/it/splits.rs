//! The split: by fraction, by folds, by nnU-Net's lists; by case and by patient.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::data::{Data, with};

const SCANS: usize = 40;

fn params(split: &Value) -> Value {
    json!({
        "classes": [{"group": "organ", "classes": {"liver": 1}}],
        "datasets": {"set": {"layout": {"folders": {"images": ["images"]}}}},
        "split": split,
    })
}

fn scans(data: &Data, dataset: &str, patients: usize) {
    for number in 0..SCANS {
        data.image(&format!("{dataset}/images/p{:02}_{}_0000.nii", number % patients, number / patients));
    }
}

#[test]
fn the_split_keeps_to_the_seed() {
    let data = Data::new();
    scans(&data, "set", SCANS);
    let params = params(&json!({"fraction": 0.2}));
    let validation = |seed| data.partition_with(&params, seed).unwrap().lines("validation/D.txt");
    assert_eq!(validation(1).len(), 8);
    assert_eq!(validation(1), validation(1));
    assert_ne!(validation(1), validation(2));
}

#[test]
fn the_folds_part_the_cases_and_the_first_is_what_a_fraction_gives() {
    let data = Data::new();
    scans(&data, "set", SCANS);
    let validation = |split: Value| data.partition(&params(&split)).unwrap().lines("validation/D.txt");
    let folds: Vec<Vec<String>> = (0..5).map(|fold| validation(json!({"folds": 5, "fold": fold}))).collect();
    assert!(folds.iter().all(|fold| fold.len() == SCANS / 5));
    assert_eq!(folds.iter().flatten().collect::<BTreeSet<_>>().len(), SCANS);
    assert_eq!(folds[0], validation(json!({"fraction": 0.2})));
}

#[test]
fn all_cases_of_a_patient_stand_on_one_side() {
    let mut data = Data::new();
    scans(&data, "set", 10);
    // Some are labelled, so that patients have cases in two subsets.
    (0..10).for_each(|number| data.label(&format!("set/labels/p{number:02}_1.nii"), &[1]));
    let mut params = params(&json!({"fraction": 0.3}));
    params["datasets"]["set"] = json!({"layout": {"folders": {"images": ["images"], "labels": "labels"}}, "patient": "{patient}_*"});
    params["subsets"] = json!({"with": {"any": ["liver"]}, "without": {"none": ["liver"]}});
    for split in [json!({"fraction": 0.3}), json!({"folds": 3, "fold": 1})] {
        let done = data.partition(&with(&params, &json!({"split": split}))).unwrap();
        assert_eq!(done.ids().len(), SCANS);
        assert_eq!(done.validation().len(), 12, "three of ten patients with four cases each");
        let patients: BTreeSet<&str> = done.validation().into_iter().map(|case| &case[..3]).collect();
        assert_eq!(patients.len(), 3, "{patients:?}");
    }
    params["datasets"]["set"]["patient"] = "p{patient}_*_*".into();
    let done = data.partition(&params);
    assert!(done.is_err(), "no name is of that form");
}

#[test]
fn a_name_that_does_not_tell_its_patient_leaves_its_case_out() {
    let data = Data::new();
    ["a_1", "a_2_3", "b"].iter().for_each(|case| data.image(&format!("set/images/{case}_0000.nii")));
    let mut params = params(&json!({"fraction": 0}));
    params["datasets"]["set"]["patient"] = "{patient}_*".into();
    let done = data.partition(&params).unwrap();
    assert_eq!(done.ids(), ["a_1"]);
    let found = done.findings();
    assert_eq!(found[0], ("a_2_3".to_owned(), "a name that tells several patients: a, a_2".to_owned()));
    assert_eq!(found[1], ("b".to_owned(), "a name that does not tell the patient".to_owned()));
}

fn nnunet(data: &mut Data, lists: &Value) -> Value {
    ["a_1", "a_2", "b_1", "c_1"].iter().for_each(|case| data.nnunet("set", case, &[1]));
    data.dataset_json("set", &json!({"background": 0, "liver": 1}));
    data.text("set/splits_final.json", &lists.to_string());
    with(&params(&json!({"file": "splits_final.json", "fold": 1})), &json!({"datasets": {"set": {"layout": "nnunet"}}}))
}

fn lists() -> Value {
    json!([{"train": ["a_1", "a_2", "b_1"], "val": ["c_1"]}, {"train": ["b_1", "c_1"], "val": ["a_1", "a_2"]}])
}

#[test]
fn the_lists_of_nnunet_say_who_stands_where() {
    let mut data = Data::new();
    let params = nnunet(&mut data, &lists());
    assert_eq!(data.partition(&params).unwrap().validation(), ["a_1", "a_2"]);
    let first = json!({"split": {"file": "splits_final.json", "fold": 0}});
    assert_eq!(data.partition(&with(&params, &first)).unwrap().validation(), ["c_1"]);
    data.text("set/splits_final.json", &json!([{}, {"train": ["b_1"], "val": ["a_1"]}]).to_string());
    let error = data.error(&params);
    assert!(error.contains("splits_final.json is no list of {\"train\": […], \"val\": […]}"), "{error}");
}

#[test]
fn lists_and_datasets_that_do_not_fit_together_are_named() {
    let mut data = Data::new();
    let params = nnunet(
        &mut data,
        &json!([{"train": ["a_1", "gone"], "val": ["b_1"]}, {"train": ["a_1"], "val": ["a_1"]}, {"train": ["a_1"], "val": ["a_2"]}]),
    );
    let of = |fold: u32| with(&params, &json!({"split": {"file": "splits_final.json", "fold": fold}}));
    let done = data.partition(&of(0)).unwrap();
    assert_eq!(done.ids(), ["a_1", "b_1"]);
    let found = done.findings();
    assert_eq!(found.iter().map(|(case, _)| case.as_str()).collect::<Vec<_>>(), ["a_2", "c_1", "gone"]);
    assert_eq!((found[0].1.as_str(), found[2].1.as_str()), ("a case that is on no list", "the name of a case that is not there"));
    let error = data.error(&of(1));
    assert!(error.contains("dataset set: split: case a_1 is on both lists of fold 1"), "{error}");
    let error = data.error(&of(3));
    assert!(error.contains("split: fold: 3, and") && error.contains("has the folds 0 to 2"), "{error}");
    let mut by_patient = of(2);
    by_patient["datasets"]["set"]["patient"] = "{patient}_*".into();
    let error = data.error(&by_patient);
    assert!(error.contains("puts the cases a_1 and a_2 of patient a on different sides"), "{error}");
    std::fs::remove_file(data.path("set/splits_final.json")).unwrap();
    let error = data.error(&of(0));
    assert!(error.contains("split: cannot read") && error.contains("`split` of its own"), "{error}");
}

#[test]
fn a_dataset_may_be_split_by_a_rule_of_its_own() {
    let mut data = Data::new();
    let mut params = nnunet(&mut data, &lists());
    scans(&data, "more", SCANS);
    params["split"] = json!({"fraction": 0.2});
    params["datasets"]["set"]["split"] = json!({"file": "splits_final.json", "fold": 1});
    params["datasets"]["more"] = json!({"layout": {"folders": {"images": ["images"]}}});
    params["subsets"] = json!({"all": {}});
    let done = data.partition(&params).unwrap();
    let (of_set, of_more): (Vec<&str>, Vec<&str>) = done.validation().into_iter().partition(|case| case.starts_with("set__"));
    assert_eq!(of_set, ["set__a_1", "set__a_2"]);
    assert_eq!(of_more.len(), SCANS / 5, "the cases of other datasets play no part");
    params["datasets"]["more"]["split"] = json!({"fraction": 0});
    assert_eq!(data.partition(&params).unwrap().validation(), ["set__a_1", "set__a_2"]);
}
