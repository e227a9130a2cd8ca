//! The maps of groups over each other, or some of them, case by case.

use ndarray::Array3;
use overlay::Overlay;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{Affine, Grid, LabelVolume, nifti};

const GRID: Grid =
    Grid { shape: [6, 5, 4], affine: Affine([[-1.0, 0.0, 0.0, 9.0], [0.0, -1.0, 0.0, 8.0], [0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 1.0]]) };

fn write(folder: &std::path::Path, map: &str, label: impl Fn(usize) -> u8) {
    std::fs::create_dir_all(folder.join("labels").join(map)).unwrap();
    let data = Array3::from_shape_fn((6, 5, 4), |(x, ..)| label(x));
    nifti::write_labels_on(folder.join(format!("labels/{map}/a.nii.gz")), &LabelVolume { data, affine: GRID.affine }).unwrap();
}

fn overlaid(folder: &std::path::Path, params: Value) -> Result<Vec<u8>, String> {
    let io = StageIo::new("overlay", [("labels", folder.join("labels"))], folder.join("out"), folder.join("work"), 1);
    Entry::of::<Overlay>().run(params, &io).map_err(|error| format!("{error:#}"))?;
    let (labels, header) = nifti::read_labels(folder.join("out/labels/a.nii.gz")).unwrap();
    assert!(header.grid().approx_eq(&GRID));
    Ok((0..6).map(|x| labels.data[[x, 2, 3]]).collect())
}

fn params(groups: &Value) -> Value {
    let classes = json!([
        {"group": "organ", "classes": {"spleen": 3, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255}},
    ]);
    json!({ "classes": classes, "groups": groups })
}

fn study() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("out")).unwrap();
    write(folder.path(), "organ", |x| [0, 0, 3, 200, 200, 0][x]);
    write(folder.path(), "cancer", |x| [0, 14, 14, 0, 14, 0][x]);
    write(folder.path(), "growth", |x| [255, 0, 0, 255, 255, 0][x]);
    folder
}

#[test]
fn later_groups_lie_over_earlier_ones_and_groups_may_be_left_out() {
    for (groups, expected) in [
        (json!(null), [255, 14, 14, 255, 255, 0]),
        (json!(["organ"]), [0, 0, 3, 200, 200, 0]),
        (json!(["cancer", "organ"]), [0, 14, 14, 200, 14, 0]),
        (json!(["growth", "cancer"]), [255, 14, 14, 255, 255, 0]),
    ] {
        assert_eq!(overlaid(study().path(), params(&groups)).unwrap(), expected, "{groups}");
    }
}

#[test]
fn a_group_without_a_folder_and_one_that_nobody_declared_are_errors() {
    let folder = study();
    std::fs::remove_dir_all(folder.path().join("labels/cancer")).unwrap();
    let error = overlaid(folder.path(), params(&json!(null))).unwrap_err();
    assert!(error.contains("no folder") && error.contains("labels/cancer") && error.contains("`groups`"), "{error}");
    assert!(overlaid(folder.path(), params(&json!(["organ", "growth"]))).is_ok());
    let unknown = overlaid(folder.path(), params(&json!(["vessel"]))).unwrap_err();
    assert!(unknown.contains("vessel") && unknown.contains("organ, cancer, growth"), "{unknown}");
    assert!(overlaid(folder.path(), params(&json!([]))).unwrap_err().contains("names no group"));
}

#[test]
fn a_case_without_a_map_of_a_group_is_named() {
    let folder = study();
    std::fs::remove_file(folder.path().join("labels/cancer/a.nii.gz")).unwrap();
    let error = overlaid(folder.path(), params(&json!(null))).unwrap_err();
    assert!(error.contains("cancer/a.nii.gz"), "{error}");
}

#[test]
fn values_that_are_not_those_of_the_group_are_refused() {
    let folder = study();
    write(folder.path(), "cancer", |x| u8::from(x == 2));
    let error = overlaid(folder.path(), params(&json!(null))).unwrap_err();
    assert!(error.contains("cancer/a.nii.gz: value 1, expected 0 and the classes {14} of the group `cancer`"), "{error}");
}
