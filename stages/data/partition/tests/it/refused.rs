//! What makes no sense is refused by name before anything is read, and what does not fit the datasets before any scan is.

use partition::Partition;
use serde_json::{Value, json};
use stage_kit::Entry;

use crate::data::Data;

fn params() -> Value {
    json!({
        "classes": [{"group": "organ", "classes": {"liver": 1, "left_kidney": 2}}, {"group": "cancer", "classes": {"tumor": 14}}],
        "datasets": {"set": {"layout": "nnunet"}, "more": {"layout": {"folders": {"images": ["images"], "labels": "labels"}}}},
        "subsets": {"ill": {"any": ["cancer"]}, "well": {"none": ["cancer"]}},
        "unions": {"both": ["ill", "well"]},
        "split": {"fraction": 0.2},
    })
}

/// The parameters with the value at a path replaced.
fn with(path: &str, value: &Value) -> Value {
    let mut params = params();
    let (parent, field) = path.rsplit_once('/').unwrap();
    params.pointer_mut(parent).unwrap()[field] = value.clone();
    params
}

#[test]
fn the_parameters_come_back_as_they_were_given_with_their_defaults() {
    let entry = Entry::of::<Partition>();
    let resolved = entry.resolve(params()).unwrap();
    assert_eq!(resolved["datasets"]["set"], json!({"layout": {"nnunet": {"unlabeled": false}}}));
    assert_eq!(resolved["spacing_mm_range"], json!([0.1, 20.0]));
    assert_eq!(entry.resolve(resolved.clone()).unwrap(), resolved);
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let organ = |classes: Value| json!([{"group": "organ", "classes": classes}]);
    let set = |more: Value| {
        let mut set = json!({"layout": "nnunet"});
        set.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set
    };
    let pattern = |pattern: Value| json!({"layout": {"pattern": pattern}});
    let also = |mut set: Value, field: &str, value: Value| {
        set[field] = value;
        set
    };
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/classes", organ(json!({"liver": 1, "spleen": 1})), "`liver` and `spleen` both have the value 1"),
        ("/datasets", json!({}), "datasets: none is declared"),
        ("/datasets/a__b", json!({"layout": "nnunet"}), "dataset a__b: a dataset cannot be called so"),
        ("/datasets/a.b", json!({"layout": "nnunet"}), "dataset a.b: a dataset cannot be called so"),
        ("/datasets/set", set(json!({"layout": "nnunte"})), "expected a layout: `nnunet`, or one of"),
        ("/datasets/set", set(json!({"layout": {"folder": {}}})), "unknown variant `folder`"),
        ("/datasets/set", set(json!({"layout": {"folders": {"images": []}}})), "dataset set: layout: folders: images: no folder given"),
        ("/datasets/set", set(json!({"labels": {}})), "unknown field `labels`"),
        (
            "/datasets/set",
            set(json!({"values": {"liver": 300}})),
            "invalid value: integer `300`, expected a value of label maps from 1 to 255",
        ),
        ("/datasets/set", set(json!({"values": {"liver": 0}})), "invalid value: integer `0`"),
        (
            "/datasets/set",
            set(json!({"values": {"kidney_left": 1}})),
            "values: there is no class `kidney_left`, did you mean `left_kidney`?",
        ),
        ("/datasets/set", set(json!({"values": {"livre": 1}})), "there is no class `livre`, did you mean `liver`?"),
        (
            "/datasets/set",
            set(json!({"values": {"liver": [1, 2], "left_kidney": 2}})),
            "the value 2 is one of `liver` and of `left_kidney`",
        ),
        ("/datasets/set", set(json!({"values": {"liver": [1, 2]}, "ignore": 2})), "the value 2 is one of `liver` and is ignored too"),
        ("/datasets/more/values", json!({"liver": "liver"}), "dataset more: values: liver: `liver` is no value from 1 to 255"),
        ("/datasets/more/ignore", json!(["cyst"]), "dataset more: ignore: `cyst` is no value"),
        ("/datasets/more/ignore", json!([2]), "the value 2 is one of `left_kidney` and is ignored too"),
        ("/datasets/more/patient", json!("*_*"), "dataset more: patient: `*_*` does not tell a patient"),
        ("/datasets/more/patient", json!("{patient}/{case}"), "does not tell a patient"),
        ("/datasets/more/split", json!({"folds": 1, "fold": 0}), "dataset more: split: folds: 1, expected at least 2"),
        ("/datasets/set", pattern(json!({"images": "ct/x.nii.gz"})), "layout: pattern: images: `ct/x.nii.gz` has no `{case}`"),
        ("/datasets/set", pattern(json!({"images": "{case}.mhd"})), "does not end with `.nii.gz`, `.nii`, `.nrrd` or `.mha`"),
        ("/datasets/set", pattern(json!({"images": "../{case}.nii"})), "is no path within the dataset"),
        ("/datasets/set", pattern(json!({"images": "{id}.nii"})), "has braces around something else"),
        ("/datasets/set", pattern(json!({"images": "{patient}/{case}.nii", "labels": "{case}.nii"})), "must name the `{patient}`"),
        (
            "/datasets/set",
            also(pattern(json!({"images": "{patient}/{case}.nii"})), "patient", json!("{patient}_*")),
            "`layout: pattern: images` does so too; keep one of the two",
        ),
        (
            "/datasets/set",
            also(pattern(json!({"images": "{case}.nii"})), "values", json!({"liver": 1})),
            "the layout has none; name the label maps",
        ),
        ("/subsets/well", json!({"any": ["organ"]}), "cases of more that show no class belong to no subset"),
        ("/subsets/well", json!({}), "belong to ill and to well"),
        ("/subsets/well", json!({"none": ["cancr"]}), "subset well: there is no class `cancr`"),
        ("/subsets/well", json!({"datasets": ["sets"]}), "subset well: there is no dataset `sets`"),
        ("/subsets/D", json!({"any": ["cancer"]}), "`D` cannot be the name of a subset"),
        ("/unions/both", json!(["ill", "wel"]), "there is no subset `wel`"),
        ("/expected", json!({"il": 3}), "expected: there is no subset il, did you mean ill?"),
        ("/split", json!({"fraction": 1.0}), "split: fraction: 1, expected a number from 0 to below 1"),
        ("/split", json!({"folds": 5, "fold": 5}), "split: fold: 5, expected one from 0 to 4"),
        ("/split", json!({"folds": 5}), "split: give one of"),
        ("/split", json!({"fraction": 0.2, "fold": 5}), "split: give one of"),
        ("/split", json!({"fractoin": 0.2}), "unknown field `fractoin`"),
        ("/spacing_mm_range", json!([2.0, 1.0]), "spacing_mm_range: [2, 1]"),
        ("/imgaes", json!([]), "imgaes"),
    ];
    for (path, value, expected) in cases {
        let error = match Entry::of::<Partition>().resolve(with(path, &value)) {
            Ok(_) => panic!("{path} {value} is taken"),
            Err(error) => format!("{error:#}"),
        };
        assert!(error.contains(expected), "{path} {value}: {error}; expected {expected}");
    }
}

#[test]
fn the_inputs_must_be_the_datasets_that_are_declared() {
    let data = Data::new();
    let error = |inputs: &[&str]| match data.partition_of(&params(), inputs, 1) {
        Ok(_) => panic!("{inputs:?} are taken"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error(&[]).contains("needs at least one input `datasets.NAME`"));
    assert!(error(&["set"]).contains("no input `datasets.more` is given, and `datasets` declares it"), "{}", error(&["set"]));
    let strange = error(&["set", "more", "sett"]);
    assert!(strange.contains("the input `datasets.sett` is given (did you mean `datasets.set`?)"), "{strange}");
    let missing = error(&["set", "more"]);
    assert!(missing.contains("input `datasets.more` is") && missing.contains("there is nothing at that place"), "{missing}");
}

#[test]
fn annotators_cannot_have_looked_for_what_their_dataset_has_no_values_for() {
    let mut data = Data::new();
    data.nnunet("set", "a", &[1]);
    data.dataset_json("set", &json!({"background": 0, "liver": 1}));
    data.image("more/images/b_0000.nii");
    data.label("more/labels/b.nii", &[14]);
    let mut params = params();
    params["subsets"]["well"]["annotated"] = json!(["liver", "left_kidney"]);
    let error = data.error(&params);
    assert!(
        error.contains("subset well: `annotated` has left_kidney, and the dataset set, whose cases it takes, declares no values"),
        "{error}"
    );
    // No case of `set` can be ill, and `more` has values for all.
    params["subsets"]["well"]["annotated"] = json!(["liver"]);
    params["subsets"]["ill"]["annotated"] = json!(["cancer", "left_kidney"]);
    let done = data.partition(&params).unwrap();
    assert_eq!((done.annotated("set__a"), done.annotated("more__b")), ("liver".to_owned(), "left_kidney tumor".to_owned()));
}

#[test]
fn editors_are_told_every_form_of_a_layout_and_of_a_split() {
    let mut generator = schemars::SchemaGenerator::default();
    let schema = Entry::of::<Partition>().schema(&mut generator).to_value();
    let parts = Value::Object(generator.take_definitions(true));
    assert_eq!(parts["Layout"]["anyOf"][0]["const"], "nnunet");
    assert_eq!(parts["Layout"]["anyOf"][1]["oneOf"].as_array().unwrap().len(), 3);
    assert_eq!(parts["SplitRule"]["properties"].as_object().unwrap().len(), 5);
    assert!(schema["properties"].get("classes").is_some());
}
