//! Missing weights, empty subsets, a full disk, and mistakes in pipeline files.

use std::fs;
use std::process::Command;

use crate::lab::{Lab, outcome};

#[test]
fn a_subset_without_cases_is_told_with_the_cases_that_there_are() {
    let lab = Lab::new("nodes: {phantom: {params: {cases: {D_l3: 0, D_l4: 0}}}}\n");
    let run = lab.run(&["M_c"]);
    run.must_fail(1, &["volumes: subset D_c has no cases; cases per subset: D_l1 3, D_l2 1, D_u 2", "Give data with that label pattern"]);
    assert_eq!(run.ran(), ["partition", "phantom", "volumes"]);
    lab.run(&["true_slices[D_l1]"]).must_succeed();
}

#[test]
fn missing_damaged_and_foreign_weights_are_told_apart() {
    let lab = Lab::new("data: {start: start}\nnodes: {M_1: {inputs: {init: data.start}}}\n");
    let first_step = || lab.run(&["M_1"]);
    first_step().must_fail(2, &["lab.yaml:", "data.start: there is nothing at ", "/start; mend the path"]);

    fs::create_dir(lab.path("start")).unwrap();
    first_step().must_fail(1, &["M_1: there are no weights at ", "/start/weights.safetensors; train them first, or correct the path"]);

    let weights = lab.path("start/weights.safetensors");
    fs::copy(lab.result("M_c").join("weights.safetensors"), &weights).unwrap();
    first_step().must_fail(1, &["start/weights.safetensors do not fit the network: ", "is missing", "Take weights of the same network"]);

    let whole = fs::read(lab.result("M_c").join("weights.safetensors")).unwrap();
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let run = first_step();
    run.must_fail(1, &["M_1: cannot read the weights ", "start/weights.safetensors", "expected a whole .safetensors file"]);
    assert_eq!(run.ran(), ["M_1"], "what was finished is fresh");
}

/// The shell lets no file grow beyond 16 KiB, which a program meets as it meets a full disk.
#[test]
fn a_disk_without_room_costs_nothing_that_was_finished() {
    let lab = Lab::new("");
    lab.run(&["phantom"]).must_succeed();
    let program = lab.command(&["run", "volumes"]);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    limited.current_dir(lab.path(""));
    let run = outcome(limited);
    run.must_fail(1, &["volumes: all of the 7 cases failed:"]);
    run.must_fail(1, &["  case FLARE23_0001: cannot write ", "check that the disk has room", "File too large"]);
    assert!(lab.result("partition").is_dir() && !lab.result("volumes").exists());
    assert!(lab.files("store/attempts").keys().all(|path| !path.display().to_string().contains(".writing-")), "no half files are left");

    let run = lab.run(&["volumes"]).must_succeed();
    assert_eq!(run.ran(), ["volumes"]);
}

#[test]
fn mistakes_in_a_pipeline_file_are_told_with_file_line_and_field_before_anything_runs() {
    let lab = Lab::new("");
    let cases: [(&str, &[&str]); 7] = [
        ("nodes:\n  scores: {colour: red}\n", &["bad.yaml:4: nodes.scores.colour: a node has no `colour`"]),
        (
            "nodes:\n  scores: {params: {colour: red}}\n",
            &["bad.yaml:4: nodes.scores.params.colour: ", "stage evaluate has no parameter `colour`; it has classes, truth"],
        ),
        ("nodes:\n  scores: {}\n  scores: {}\n", &["bad.yaml:5: nodes: `scores` stands twice"]),
        (
            "nodes:\n  M_1: {params: {fit: {epochs: many}}}\n",
            &["bad.yaml:4: nodes.M_1.params.fit.epochs: ", "must be a whole number, but is \"many\""],
        ),
        ("nodes:\n  M_1: {inputs: {init: M_9}}\n", &["bad.yaml:4: nodes.M_1.inputs.init: there is no node `M_9`; the nodes are "]),
        ("nodes:\n  M_1: {stage: train-studnt}\n", &["bad.yaml:4: nodes.M_1.stage: there is no stage `train-studnt`; the stages are "]),
        ("nodes:\n  volumes: {inputs: {partition: M_c}}\n", &["bad.yaml:4: ", "feed each other in a circle: ", "volumes → M_c"]),
    ];
    for (more, parts) in cases {
        lab.write_pipeline("bad.yaml", more);
        let run = lab.run(&["--pipeline", "bad.yaml"]);
        run.must_fail(2, parts);
        assert_eq!(run.stderr.lines().count(), 1, "one mistake, one line: {}", run.stderr);
    }
    assert!(!lab.path("store").exists(), "nothing was run");
}
