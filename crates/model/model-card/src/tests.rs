use labels::{Classes, LabelPattern};
use serde_json::{Value, json};
use std::path::Path;
use volume::{ModelGrid, Resampling, Scaling};

use crate::{Answer, Asked, Habits, KeepParts, Kind, Measure, ModelCard, ModelInput, Origin, Output, Publication, model_file};

fn classes() -> Classes {
    serde_json::from_value(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255}},
    ]))
    .unwrap()
}

fn card() -> ModelCard {
    let classes = classes();
    ModelCard {
        kind: Kind::Student,
        network: json!({"features": [1, 2]}),
        outputs: (0..3).rev().map(|group| Output::of_group(&classes, group)).collect(),
        classes,
        input: ModelInput {
            grid: ModelGrid { spacing_mm: [Some(8.0), Some(8.0), None], window_hu: [-200.0, 300.0] },
            scaling: Scaling::signed(),
            crop_foreground: true,
            patch: vec![96, 80],
            habits: Habits::default(),
        },
        origin: Origin { cases: "D_l4".into(), seed: 1, best_epoch: 3, validation_score: 0.5, ..Origin::default() },
        keep_parts: KeepParts::default(),
    }
}

fn resolve(asked: Asked, card: Option<&ModelCard>) -> Result<Answer, String> {
    asked.resolve(card, Path::new("w.safetensors")).map_err(|error| error.to_string())
}

#[test]
fn what_the_parameters_leave_out_the_model_says() {
    let card = card();
    let answer = resolve(Asked::default(), Some(&card)).unwrap();
    assert_eq!((answer.network, answer.grid), (card.network.clone(), card.input.grid));
    assert_eq!((answer.crop_foreground, answer.patch), (true, vec![96, 80]));
    assert_eq!((answer.classes, answer.scaling), (classes(), Scaling::signed()));
    let groups: Vec<_> = answer.outputs.iter().map(|output| output.group.as_str()).collect();
    assert_eq!(groups, ["organ", "cancer", "growth"], "what lies over the others comes last");
    let grid = ModelGrid { spacing_mm: [Some(8.0), Some(8.0), Some(2.5)], window_hu: [-200.0, 300.0] };
    let asked = Asked { grid: Some(grid), patch: Some(vec![128, 128]), ..Asked::default() };
    let answer = resolve(asked, Some(&card)).unwrap();
    assert_eq!((answer.grid, answer.patch), (grid, vec![128, 128]), "the depth of slices and the window may be others");
}

#[test]
fn habits_of_another_program_come_back_and_stand_on_the_page() {
    assert!(!serde_json::to_string(&card()).unwrap().contains("habits"), "models trained here have none");
    let habits = Habits { mirrored: [true, true, false], around: 0.25, resampling: Resampling::Clipped };
    let input = ModelInput { habits, ..card().input };
    let origin = Origin { cases: "Dataset001".into(), ..Origin::default() };
    let foreign = ModelCard { input, origin, ..card() };
    assert_eq!(of_text(&serde_json::to_value(&foreign).unwrap()).unwrap(), Some(foreign.clone()));
    assert_eq!(resolve(Asked::default(), Some(&foreign)).unwrap().habits, habits);
    let page = Publication::default().page(&foreign, &["model.safetensors"]).unwrap();
    assert!(page.contains("Orientation: LPS") && page.contains("Resampling: ") && page.contains("Cases: Dataset001"), "{page}");
    assert!(!page.contains("after epoch") && !page.contains("Seed"), "nothing is said of what nobody knows: {page}");
}

#[test]
fn what_contradicts_the_model_is_refused_with_both_values() {
    let grid = ModelGrid { spacing_mm: [Some(25.0), Some(8.0), Some(2.5)], window_hu: [-100.0, 300.0] };
    let other = json!([{"group": "organ", "classes": {"liver": 1, "kidney": 2}}]);
    let asked = Asked {
        network: Some(json!({"features": [1, 3]})),
        classes: Some(serde_json::from_value(other).unwrap()),
        grid: Some(grid),
        crop_foreground: Some(false),
        patch: None,
    };
    let error = resolve(asked, Some(&card())).unwrap_err();
    for part in [
        "w.safetensors: the model was trained with network {\"features\":[1,2]}, and the parameters say {\"features\":[1,3]}",
        "the classes organ {liver: 1, kidney: 200}, cancer {tumor: 14}, growth {cyst: 255}, and the parameters say organ {liver: 1, kidney: 2}",
        "grid.spacing_mm [8, 8, null], and the parameters say [25, 8, 2.5]",
        "grid.window_hu [-200.0, 300.0], and the parameters say [-100.0, 300.0]",
        "crop_foreground true, and the parameters say false",
        "Leave these parameters out",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_model_may_find_fewer_classes_than_are_declared_and_no_others() {
    let declared = |classes: Classes| resolve(Asked { classes: Some(classes), ..Asked::default() }, Some(&card()));
    let more = json!([
        {"group": "organ", "classes": {"liver": {"value": 1, "name": "The liver"}, "spleen": 3, "kidney": 200}},
        {"group": "vessel", "classes": {"aorta": 5}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255}},
    ]);
    assert_eq!(declared(serde_json::from_value(more).unwrap()).unwrap().classes, classes());
    assert!(declared(classes().only([1, 200, 14].into_iter().collect())).is_err());
    let moved =
        json!([{"group": "organ", "classes": {"liver": 1, "kidney": 200, "tumor": 14}}, {"group": "growth", "classes": {"cyst": 255}}]);
    assert!(declared(serde_json::from_value(moved).unwrap()).is_err(), "another group");
}

#[test]
fn weights_without_a_card_need_all_that_matters() {
    let error = resolve(Asked { crop_foreground: Some(true), ..Asked::default() }, None).unwrap_err();
    assert!(error.contains("give network, classes, grid, the size of the window under `params:`"), "{error}");
    let asked = Asked {
        network: Some(json!(1)),
        classes: Some(classes()),
        grid: Some(card().input.grid),
        crop_foreground: Some(true),
        patch: Some(Vec::new()),
    };
    let answer = resolve(asked, None).unwrap();
    assert_eq!((answer.outputs, answer.scaling), (card().ordered_outputs(), Scaling::default()));
}

#[test]
fn mirror_images_that_a_training_is_known_not_to_have_shown_are_doubted_with_both_values() {
    let doubt = |kind: Kind, mirrored: Option<[bool; 3]>| {
        let card = ModelCard { kind, origin: Origin { mirrored, ..card().origin }, ..card() };
        let read = of_text(&serde_json::to_value(&card).unwrap()).unwrap().unwrap();
        assert_eq!(read.origin.mirrored, mirrored);
        read.unseen_mirrors().map(|doubt| doubt.to_string()).unwrap_or_default()
    };
    let none = doubt(Kind::Teacher, Some([false; 3]));
    assert!(none.starts_with("`flips` mirrors along x, y and z, and the training of this model along no axis: "), "{none}");
    assert!(none.ends_with("leave `flips` out, or train it with `mirror` under `augment`"), "{none}");
    let some = doubt(Kind::Partial, Some([false, true, true]));
    assert!(some.starts_with("`flips` mirrors along x, y and z, and the training of this model along y and z: "), "{some}");
    let slices = doubt(Kind::Student, Some([false, true, false]));
    assert!(slices.starts_with("`flips` mirrors along x and y, and the training of this model along y: "), "{slices}");
    assert_eq!(doubt(Kind::Student, Some([true, true, false])), "", "slices have no third axis");
    assert_eq!(doubt(Kind::Teacher, Some([true; 3])), "");
    assert_eq!([Kind::Teacher, Kind::Graph].map(|kind| doubt(kind, None)), [""; 2], "nobody knows");
}

fn of_text(card: &Value) -> Result<Option<ModelCard>, String> {
    let metadata = [(ModelCard::FIELD.to_owned(), card.to_string())].into();
    ModelCard::of(&metadata, Path::new("w.safetensors")).map_err(|error| error.to_string())
}

#[test]
fn a_card_comes_back_from_metadata_and_refuses_another_role() {
    let (card, path) = (card(), Path::new("w.safetensors"));
    let metadata = card.to_metadata().unwrap().into_iter().collect();
    assert_eq!(ModelCard::of(&metadata, path).unwrap(), Some(card.clone()));
    assert_eq!(ModelCard::of(&Default::default(), path).unwrap(), None);
    let kind = card.must_be(Kind::Teacher, path).unwrap_err().to_string();
    assert!(kind.contains("is a student") && kind.contains("expected a teacher"), "{kind}");
    assert!(card.must_find(LabelPattern::of(1), &classes(), path).is_ok());
    let others: Classes = serde_json::from_value(json!([{"group": "organ", "classes": {"liver": 1, "kidney": 2}}])).unwrap();
    let refused = card.must_find(others.pattern(), &others, path).unwrap_err().to_string();
    assert!(refused.contains("finds liver (1), tumor (14), kidney (200), cyst (255); expected a model that finds"), "{refused}");
    assert!(refused.ends_with("finds liver (1), kidney (2)"), "a class of another value is another class: {refused}");
}

#[test]
fn cards_of_another_form_are_refused_by_name() {
    let good = serde_json::to_value(card()).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut card = good.clone();
        *card.pointer_mut(pointer).unwrap() = value;
        of_text(&card).unwrap_err()
    };
    let earlier = changed("/classes", json!(["background", "liver"]));
    assert!(earlier.contains("w.safetensors: its card cannot be read") && earlier.contains("train the model anew"), "{earlier}");
    let group = changed("/outputs/0/group", json!("vessel"));
    assert!(group.contains("vessel") && group.contains("organ, cancer, growth"), "{group}");
    for values in [json!([1, 200]), json!([0]), json!([255, 255])] {
        let error = changed("/outputs/0/values", values.clone());
        assert!(error.contains("of the group `growth`, whose values are [255]"), "{values}: {error}");
    }
    let twice = changed("/outputs/0", json!({"group": "organ", "values": [1, 200]}));
    assert!(twice.contains("of the group `organ`"), "{twice}");
}

#[test]
fn a_decoder_has_a_channel_for_each_class_and_one_for_background() {
    let output = Output::of_group(&classes(), 0);
    assert_eq!(output.decoder(), ("organ_decoder".to_owned(), 3));
    assert_eq!(output.value_of_channel(), [0, 1, 200]);
    assert_eq!(output.keys(&classes()), ["background", "liver", "kidney"]);
}

#[test]
fn a_folder_stands_for_the_model_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(model_file(folder.path()), path("model.safetensors"), "what a message then misses");
    std::fs::write(path("weights.safetensors"), "").unwrap();
    assert_eq!(model_file(folder.path()), path("weights.safetensors"));
    std::fs::write(path("model.safetensors"), "").unwrap();
    assert_eq!(model_file(folder.path()), path("model.safetensors"));
    assert_eq!(model_file(&path("else.safetensors")), path("else.safetensors"));
}

#[test]
fn a_page_says_what_the_model_is_where_it_comes_from_and_what_its_publisher_adds() {
    let known = Origin {
        node: Some("M_4".into()),
        key: Some("0123".into()),
        measure: Some(Measure::Dice),
        mirrored: Some([false, true, false]),
        inputs: [("prepared".to_owned(), "tree:abc".to_owned())].into(),
        ..card().origin
    };
    let card = ModelCard { origin: known, ..card() };
    let publication = Publication {
        licence: Some("cc-by-4.0".into()),
        datasets: vec!["some/data".into()],
        limits: vec!["No children.".into()],
        ..Publication::default()
    };
    let page = publication.page(&card, &["model.safetensors", "model.onnx"]).unwrap();
    let (front, body) = page.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    let front: Value = serde_yaml::from_str(front).unwrap();
    assert_eq!((&front["license"], &front["datasets"]), (&json!("cc-by-4.0"), &json!(["some/data"])));
    assert!(front["tags"].as_array().unwrap().contains(&json!("onnx")));
    let index = &front["model-index"][0];
    assert_eq!((&index["name"], &index["results"][0]["metrics"][0]["value"]), (&json!("M_4"), &json!(0.5)));
    for part in [
        "# M_4",
        "| organ | `kidney` | 200 | Kidney |",
        "8 mm, 8 mm, that of the scan",
        "-200 to 300 HU",
        "less 0.5, divided by 0.5",
        "Pixels of a crop: 96 × 80",
        "Cases: D_l4",
        "after epoch 3: 0.5",
        "Samples were mirrored along y\n",
        "Key of the training: `0123`",
        "Digest of its `prepared`: `tree:abc`",
        "No children.",
        "--model model.safetensors",
        "InferenceSession(\"model.onnx\")",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

#[test]
fn a_loss_is_no_score_on_the_hub_and_an_earlier_card_is_read_without_its_origin() {
    let loss = ModelCard { origin: Origin { measure: Some(Measure::Loss), ..card().origin }, ..card() };
    let page = Publication::default().page(&loss, &["model.safetensors"]).unwrap();
    assert!(!page.contains("model-index") && page.contains("loss of the validation cases, after epoch 3: 0.5"), "{page}");
    assert!(page.contains("Not stated"), "nobody has said the licence: {page}");
    let mut earlier = serde_json::to_value(card()).unwrap();
    let origin = json!({"cases": "D_l4", "seed": 1, "best_epoch": 3, "validation_score": 0.5});
    assert_eq!(earlier["origin"], origin, "what is not known is not written");
    earlier["origin"] = origin;
    assert_eq!(of_text(&earlier).unwrap(), Some(card()));
}
