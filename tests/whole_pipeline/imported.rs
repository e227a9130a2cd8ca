//! Models that another program has trained, from its folder to labels.

use std::path::{Path, PathBuf};
use std::process::Command;

use volume::nifti;

use crate::lab::{Outcome, outcome};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/foreign/tests/fixtures").join(name)
}

/// A stage by itself, in a folder.
fn stage(folder: &Path, stage: &str, params: &str, inputs: &[(&str, PathBuf)], output: &str) -> Outcome {
    std::fs::write(folder.join("params.yaml"), params).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flare"));
    command.current_dir(folder).args(["stage", stage, "--params", "params.yaml", "--output", output, "--device", "cpu"]);
    for (role, path) in inputs {
        command.arg("--input").arg(format!("{role}={}", path.display()));
    }
    outcome(command)
}

#[test]
fn an_imported_model_labels_a_scan_as_the_program_that_trained_it() {
    for (name, params) in
        [("plain", "{nnunet: {trained_on: LPS}}"), ("residual", "{nnunet: {trained_on: PIR}}"), ("regions", "{nnunet: {}}")]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let imported = stage(folder.path(), "import", params, &[("model", fixture(name))], "theirs").must_succeed();
        assert!(imported.stderr.contains("tensors taken") && imported.stderr.contains("biases that the norm"), "{}", imported.stderr);
        for (scan, labels) in [("small", "small_labels"), ("scan", "scan_alike")] {
            let inputs = [("model", path("theirs")), ("images", fixture(&format!("{name}/{scan}.nii.gz")))];
            stage(folder.path(), "predict", "{exact: true}", &inputs, scan).must_succeed();
            let found = nifti::read_labels(path(&format!("{scan}/{scan}.nii.gz"))).unwrap().0;
            let expected = nifti::read_labels(fixture(&format!("{name}/{labels}.nii.gz"))).unwrap().0;
            assert!(found.grid().approx_eq(&expected.grid()), "{name}");
            let different = found.data.iter().zip(&expected.data).filter(|(a, b)| a != b).count();
            // Where classes all but tie, rounding decides. Of regions the other program takes the mean logits of windows, and not probabilities.
            let most = found.data.len() / if (name, scan) == ("regions", "scan") { 30 } else { 500 };
            assert!(different <= most, "{name}, {scan}: {different} of {}", found.data.len());
        }
    }
}

#[test]
fn a_graph_labels_a_scan_as_the_training_that_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let declared = "onnx:
  axes: zyx
  orientation: LPS
  patch: [12, 16, 8]
  grid: {spacing_mm: [1.25, 1, 2], window_hu: [-100, 240]}
  intensity: {normal: {mean: 60, std: 90}}
  classes: [{group: organ, classes: {left_kidney: 1, liver: 2, spleen: 3}}]
";
    let graph = fixture("onnx/nnunet_plain.traced_open.onnx");
    let imported = stage(folder.path(), "import", declared, &[("model", graph)], "graph").must_succeed();
    assert!(imported.stderr.contains("nnunet_plain.traced_open.onnx, by pytorch"), "{}", imported.stderr);
    stage(folder.path(), "import", "{nnunet: {trained_on: LPS}}", &[("model", fixture("plain"))], "training").must_succeed();
    for scan in ["small", "scan"] {
        let [by_graph, by_training] = ["graph", "training"].map(|model| {
            let output = format!("{model}-{scan}");
            let inputs = [("model", path(model)), ("images", fixture(&format!("plain/{scan}.nii.gz")))];
            stage(folder.path(), "predict", "{exact: true}", &inputs, &output).must_succeed();
            nifti::read_labels(path(&format!("{output}/{scan}.nii.gz"))).unwrap().0.data
        });
        let different = by_graph.iter().zip(&by_training).filter(|(a, b)| a != b).count();
        assert!(different <= by_graph.len() / 1000, "{scan}: {different} of {}", by_graph.len());
        assert!((1..=3).all(|class| by_graph.iter().any(|label| *label == class)), "{scan}");
    }
}

#[test]
fn a_model_of_an_unknown_program_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let neither = stage(folder.path(), "import", "{}", &[("model", fixture("plain"))], "theirs");
    neither.must_fail(2, &["give exactly one of `nnunet`, `monai` and `onnx`"]);
}
