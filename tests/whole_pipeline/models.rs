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
    wrong("  teacher_labels: {inputs: {cancer_teacher: M_o2}}\n", "teacher_labels")
        .must_fail(1, &["weights.safetensors finds background, liver, right_kidney", "expected a model of background, tumor"]);
    wrong("  teacher_labels: {inputs: {organ_teacher: M_1}}\n", "teacher_labels")
        .must_fail(1, &["is a student, as `train-student` writes it; expected a teacher, as `train-teacher` writes it"]);
    wrong("  again: {like: segment, foreach: null, inputs: {student: M_c}}\n", "again")
        .must_fail(1, &["is a teacher, as `train-teacher` writes it; expected a student"]);
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
