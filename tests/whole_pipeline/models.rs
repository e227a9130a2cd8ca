//! A trained model knows how scans were shown to it: inference follows it, and what contradicts it is refused with both values.

use std::fs;

use crate::lab::Lab;

#[test]
fn a_student_is_not_shown_scans_otherwise_than_in_its_training() {
    let lab = Lab::new("");
    lab.run(&["segment[M_1]"]).must_succeed();
    let wrong = |params: &str| {
        lab.write_pipeline("wrong.yaml", &format!("nodes:\n  segment: {{params: {params}}}\n"));
        lab.run(&["segment[M_1]", "--pipeline", "wrong.yaml"])
    };
    wrong("{grid: {spacing_mm: [25, 8, 8]}}").must_fail(
        1,
        &[
            "weights.safetensors: the model was trained with grid.spacing_mm [8, 8, null], and the parameters say [25, 8, 8]",
            "Leave these parameters out",
        ],
    );
    wrong("{grid: {window_hu: [-100, 200]}}")
        .must_fail(1, &["trained with grid.window_hu [-200.0, 300.0], and the parameters say [-100.0, 200.0]"]);
    wrong("{crop_foreground: false}").must_fail(1, &["trained with crop_foreground true, and the parameters say false"]);
    wrong("{network: {features: [4, 4, 8, 8, 8, 8]}}")
        .must_fail(1, &["trained with network {\"features\":[4,4,8,8,8,4]}", "[4,4,8,8,8,8]"]);
    wrong("{grid: {spacing_mm: [8, 8, 10]}, window: {batch: 2, size: [48, 48], overlap: 0.5}}").must_succeed();
}

#[test]
fn a_model_in_the_place_of_another_is_refused_by_what_it_is() {
    let lab = Lab::new("");
    lab.run(&["M_1"]).must_succeed();
    let wrong = |nodes: &str, target: &str| {
        lab.write_pipeline("wrong.yaml", &format!("nodes:\n{nodes}"));
        lab.run(&[target, "--pipeline", "wrong.yaml"])
    };
    wrong("  teacher_labels: {inputs: {teachers: {M_c: M_o2}}}\n", "teacher_labels")
        .must_fail(1, &["teachers: M_c, M_o2 all find the group `organ`; give one of them"]);
    let alone = wrong("  teacher_labels: {inputs: {teachers: {M_c: null}}}\n", "teacher_labels").must_succeed();
    assert!(alone.stderr.contains("no teacher finds tumor: nothing is written of it"), "{}", alone.stderr);
    wrong("  pseudo_labels: {inputs: {teachers: {M_c: null}}}\n", "pseudo_labels[D_u]")
        .must_fail(1, &["teachers: none of M_o2 finds the group `cancer` (tumor); give a model that does"]);
    wrong("  again: {like: segment, foreach: null, inputs: {student: M_c}}\n", "again")
        .must_fail(1, &["is a teacher, as `train-teacher` writes it; expected a student"]);
}

#[test]
fn a_student_labels_in_the_place_of_teachers() {
    let lab = Lab::new("nodes: {teacher_labels: {inputs: {teachers: {M_o2: M_1, M_c: null}}}}\n");
    lab.run(&["teacher_labels", "segment[M_1]"]).must_succeed();
    for group in ["organ", "cancer"] {
        assert_eq!(fs::read_dir(lab.result("teacher_labels").join(group)).unwrap().count(), 2);
    }
}

#[test]
fn a_model_of_other_classes_is_refused_by_both() {
    let lab = Lab::new("");
    lab.run(&["M_1"]).must_succeed();
    let other = format!(
        "seed: 1\nstore: store\nclasses: [{{group: organ, classes: {{liver: 1, spleen: 2}}}}, {{group: cancer, classes: {{tumor: 14}}}}]\n\
         data: {{images: {}, student: {}}}\n\
         nodes: {{labels: {{stage: segment, inputs: {{images: data.images, student: data.student}}, params: {{}}}}}}\n",
        lab.result("phantom").join("FLARE/validation").display(),
        lab.result("M_1").display()
    );
    fs::write(lab.path("other.yaml"), other).unwrap();
    lab.run(&["labels", "--pipeline", "other.yaml"]).must_fail(
        1,
        &[
            "weights.safetensors: the model was trained with the classes organ {liver: 1, right_kidney: 2,",
            "the parameters say organ {liver: 1, spleen: 2}, cancer {tumor: 14}",
        ],
    );
}

#[test]
fn weights_that_say_nothing_need_all_that_matters() {
    let lab = Lab::new("data: {start: start}\nnodes: {again: {like: segment, foreach: null, inputs: {student: data.start}}}\n");
    lab.run(&["M_1"]).must_succeed();
    fs::create_dir(lab.path("start")).unwrap();
    // The same weights as somebody else would write them: without a card.
    let bytes = fs::read(lab.result("M_1").join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    fs::write(lab.path("start/weights.safetensors"), safetensors::serialize(tensors.tensors(), None).unwrap()).unwrap();
    lab.run(&["again"])
        .must_fail(1, &["does not say how it was trained", "give network, crop_foreground, the size of the window under `params:`"]);
    let said = "{network: {features: [4, 4, 8, 8, 8, 4]}, crop_foreground: true, window: {batch: 8, size: [32, 32], overlap: 0.25}}";
    lab.write_pipeline(
        "said.yaml",
        &format!(
            "data: {{start: start}}\nnodes: {{again: {{like: segment, foreach: null, inputs: {{student: data.start}}, params: {said}}}}}\n"
        ),
    );
    lab.run(&["again", "--pipeline", "said.yaml"]).must_succeed();
}

#[test]
fn a_model_says_which_training_of_the_store_it_comes_from() {
    let lab = Lab::new("");
    lab.run(&["M_1", "model"]).must_succeed();
    let object = fs::canonicalize(lab.result("M_1")).unwrap();
    let key = object.file_name().unwrap().to_str().unwrap();
    let record = fs::read_to_string(lab.path(&format!("store/records/{key}.json"))).unwrap();
    // A seal follows the record.
    let record: serde_json::Value = serde_json::Deserializer::from_str(&record).into_iter().next().unwrap().unwrap();
    let bytes = fs::read(object.join("weights.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let card: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["card"]).unwrap();
    let origin = &card["origin"];
    assert_eq!((origin["node"].as_str(), origin["key"].as_str()), (Some("M_1"), Some(key)));
    for (role, input) in record["inputs"].as_object().unwrap() {
        assert_eq!(origin["inputs"][role], input["digest"], "{role}");
    }
    let page = fs::read_to_string(lab.result("model").join("README.md")).unwrap();
    assert!(page.starts_with("---\n") && page.contains("Trained by: `M_4`"), "{page}");
}
