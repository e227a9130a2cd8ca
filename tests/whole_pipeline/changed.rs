//! What a change runs again, and what it does not.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use volume::nifti;

use crate::lab::{Lab, copy_folder};

/// Erases the first half of a label's voxels: the map changes on every grid, its pattern does not.
fn retouch(path: &Path, label: u8) {
    let (mut labels, header) = nifti::read_labels(path).unwrap();
    let mut left = labels.data.iter().filter(|&&found| found == label).count() / 2;
    for found in labels.data.iter_mut().filter(|found| **found == label) {
        if left > 0 {
            *found = 0;
            left -= 1;
        }
    }
    nifti::write_labels(path, &labels, &header).unwrap();
}

#[test]
fn a_changed_label_map_reaches_what_depends_on_it_and_no_more() {
    let lab = Lab::with_own_data("");
    lab.run(&[]).must_succeed();

    retouch(&lab.path("truth/FLARE23Ts_0001.nii.gz"), 1);
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["scores", "steps"], "the truth of a test case is read by the scores alone");

    let five_organs = fs::read_to_string(lab.result("partition").join("D_l2.txt")).unwrap();
    let path = lab.path(&format!("FLARE/labelsTr2200/{}.nii.gz", five_organs.trim()));
    retouch(&path, 1);
    let run = lab.run(&[]).must_succeed();
    assert_eq!(run.ran(), ["partition"], "no network learns from D_l2, and its label is where it was");
    assert!(run.stderr.contains("partition: 9 of 10 cases are there already"), "{}", run.stderr);

    let all_organs = fs::read_to_string(lab.result("partition").join("training/D_l1.txt")).unwrap();
    let case = all_organs.lines().next().unwrap();
    let corrected = lab.path(&format!("FLARE/labelsTr2200/20230507-fix/{case}.nii.gz"));
    retouch(&if corrected.is_file() { corrected } else { lab.path(&format!("FLARE/labelsTr2200/{case}.nii.gz")) }, 1);
    let run = lab.run(&[]).must_succeed();
    for node in ["volumes", "M_o2", "pseudo_labels[D_u]", "M_1", "M_3", "M_4", "resample_back[M_4]", "scores"] {
        assert!(run.ran().contains(&node), "{node} depends on D_l1:\n{}", run.stderr);
    }
    for line in ["volumes: 6 of 7 cases are there already", "true_slices[D_l1]: 2 of 3 cases are there already"] {
        assert!(run.stderr.contains(line), "{line}:\n{}", run.stderr);
    }
    assert!(!run.ran().contains(&"true_slices[D_l4]"), "another case's slices");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn a_changed_scan_costs_its_case_in_every_stage_and_what_follows() {
    let lab = Lab::with_own_data("");
    lab.run(&[]).must_succeed();
    let (scan, other) = (lab.path("FLARE/validation/FLARE23Ts_0001_0000.nii.gz"), lab.path("FLARE/validation/FLARE23Ts_0002_0000.nii.gz"));
    fs::copy(other, &scan).unwrap();
    let why = lab.call(&["explain", "segment[M_4]:FLARE23Ts_0001"]).must_succeed().stdout;
    assert_eq!(why, "segment[M_4]:FLARE23Ts_0001 must be run:\n  image changed\n");
    let run = lab.run(&["segment", "overlay", "teacher_labels"]).must_succeed();
    for node in ["segment[M_1]", "segment[M_4]", "overlay[M_4]", "teacher_labels"] {
        assert!(run.stderr.contains(&format!("{node}: 1 of 2 cases are there already")), "{node}:\n{}", run.stderr);
    }
    assert!(!run.ran().iter().any(|node| node.starts_with("M_")), "no network has seen the scan: {:?}", run.ran());
}

#[test]
fn touching_and_copying_files_runs_nothing() {
    let lab = Lab::with_own_data("");
    lab.run(&[]).must_succeed();
    let later = SystemTime::now() + Duration::from_secs(3600);
    for path in lab.files("FLARE").keys().chain(lab.files("truth").keys()) {
        File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
    }
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "touched");
    copy_folder(&lab.path("FLARE"), &lab.path("copy"));
    let copied = lab.run(&["--data", "FLARE23=copy", "--data", "test_images=copy/validation"]).must_succeed();
    assert_eq!(copied.ran(), [""; 0], "copied");
}

#[test]
fn a_training_that_is_done_once_more_comes_to_the_same_and_nothing_after_it_runs() {
    let lab = Lab::new("");
    lab.run(&[]).must_succeed();
    let times = || fs::metadata(lab.result("M_1").join("about/times.csv")).unwrap().modified().unwrap();
    let before = times();
    let trainings = ["M_1", "M_2", "M_c"];
    let forced = lab.run(&[&trainings[..], &["--force"]].concat()).must_succeed();
    assert_eq!(forced.ran(), trainings);
    assert!(!forced.stderr.contains("differs from the earlier one"), "{}", forced.stderr);
    assert!(times() > before, "it was done indeed");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn a_changed_parameter_runs_its_node_and_what_follows() {
    let lab = Lab::with_own_data("");
    lab.run(&[]).must_succeed();
    let cases: [(&[&str], &[&str]); 4] = [
        // `steps` is like `scores`.
        (&["--set", "scores.pictures=0"], &["scores", "steps"]),
        (&["--set", "M_4.fit.epochs=3"], &["M_4", "model", "overlay[M_4]", "resample_back[M_4]", "scores", "segment[M_4]", "steps"]),
        // The same maps come out of smaller batches, so nothing follows.
        (&["--set", "segment.window.batch=3"], &["segment[M_1]", "segment[M_2]", "segment[M_3]", "segment[M_4]"]),
        // Going back finds what was there.
        (&[], &[]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(lab.run(&[arguments, &["--dry-run"]].concat()).code, Some(if expected.is_empty() { 0 } else { 3 }), "{arguments:?}");
        assert_eq!(lab.run(arguments).must_succeed().ran(), expected, "{arguments:?}");
    }
}

/// What was trained before a precision could be chosen stays fresh; 16 bits make another training.
#[test]
fn another_precision_is_another_training() {
    let lab = Lab::new("nodes: {M_1: {params: {network: {features: [16, 16, 16, 16, 16, 16]}}}}\n");
    let weights = || crate::method::parameters(&lab.result("M_1"));
    lab.run(&["M_1"]).must_succeed();
    let single = weights();
    assert_eq!(lab.run(&["M_1", "--set", "M_1.fit.precision=f32"]).must_succeed().ran(), [""; 0]);
    assert_eq!(lab.run(&["M_1", "--set", "M_1.fit.precision=bf16"]).must_succeed().ran(), ["M_1"]);
    assert_ne!(weights(), single);
    lab.run(&["M_1", "--set", "M_1.fit.precision=half"]).must_fail(2, &["M_1", "precision", "half", "bf16"]);
}
