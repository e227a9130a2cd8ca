//! What a run will take, told before it from what the stages measure of themselves.

use crate::lab::Lab;
use crate::partial::{METHODS, pipeline};

/// The row of a node in the table of a dry run.
#[track_caller]
fn row<'t>(text: &'t str, node: &str) -> &'t str {
    text.lines().rfind(|line| line.split_whitespace().next() == Some(node)).unwrap_or_else(|| panic!("{node}: {text}"))
}

#[test]
fn a_dry_run_counts_steps_cases_and_windows_and_measures_them() {
    let lab = Lab::new("");
    let blind = lab.run(&["--dry-run"]);
    assert_eq!(blind.code, Some(3));
    assert!(blind.stdout.contains("  M_c: how many cases D_c will have: run `partition` first, or give it `expected`"), "{}", blind.stdout);
    lab.run(&["partition"]).must_succeed();
    let plan = lab.run(&["--dry-run", "--measure"]);
    assert_eq!(plan.code, Some(3), "{}", plan.stderr);
    // 3 + 2 + 2 cases have labels for the teachers; two epochs have two steps at most, or three.
    let expected = [
        ("volumes", "7 cases of "),
        ("M_c", "4 steps of "),
        ("M_o2", "4 steps of "),
        ("M_1", "6 steps of "),
        ("M_4", "6 steps of "),
        ("pseudo_labels[D_u]", " windows of "),
        ("pseudo_labels[D_l3]", "2 scans of "),
        ("pseudo_slices[D_u]", "2 cases of "),
        ("segment[M_4]", " windows of "),
        ("overlay[M_4]", "2 cases of "),
        ("scores", " cases of a model of "),
    ];
    for (node, work) in expected {
        assert!(row(&plan.stdout, node).contains(work), "{node}: {}", plan.stdout);
    }
    assert!(plan.stdout.contains("\nThe longest chain takes ") && plan.stdout.contains("M_1 → M_2 → M_3 → M_4"), "{}", plan.stdout);
    assert!(plan.stdout.contains("the stage does not foresee its work"), "{}", plan.stdout);
    // What was measured is kept, and serves the next one.
    let again = lab.run(&["--dry-run"]);
    assert_eq!(row(&again.stdout, "M_c"), row(&plan.stdout, "M_c"));
}

#[test]
fn the_method_is_planned_without_any_data() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
    let store = tempfile::tempdir().unwrap();
    let flare = std::process::Command::new(env!("CARGO_BIN_EXE_flare"))
        .args(["run", "--dry-run", "--store", store.path().to_str().unwrap()])
        .args(["--suppose", "FLARE23=4000,512x512x240,0.8x0.8x2.5", "--suppose", "test_images=50,512x512x240,0.8x0.8x2.5"])
        .current_dir(root)
        .output()
        .unwrap();
    let text = String::from_utf8(flare.stdout).unwrap();
    assert_eq!(flare.status.code(), Some(3), "{text}");
    // D_c has 604 + 888 cases, of which a fifth is for validation (1193 are not): 2386 patches are 597 steps in each of 60 epochs.
    assert!(text.contains("  M_c: seconds for each of 35,820 steps: not measured"), "{text}");
    assert!(text.contains("  volumes: seconds for each of 1,742 cases: not measured"), "{text}");
    // On 1 mm a scan has 410×410×600 voxels, and windows of 128 that share a half begin at 6, 6 and 9 places.
    assert!(text.contains(&format!("seconds for each of {} windows: not measured", "583,200")), "{text}");
    // Weights of 1,438,802 and 2,388,096 numbers.
    assert!(row(&text, "M_c").contains("5.8 MB") && row(&text, "M_1").contains("9.6 MB"), "{text}");
}

#[test]
fn a_training_on_partial_labels_is_planned_once_the_partition_tells_what_is_annotated() {
    let name = METHODS[0].0;
    let lab = Lab::new(&pipeline(&METHODS[..1], 2));
    let blind = lab.run(&["--dry-run", name]);
    assert!(blind.stdout.contains("  dodnet: what each dataset annotates, and so the network: run `partition` first"), "{}", blind.stdout);
    lab.run(&["partition"]).must_succeed();
    let plan = lab.run(&["--dry-run", "--measure", name]);
    assert!(row(&plan.stdout, name).contains("4 steps of "), "{}", plan.stdout);
}
