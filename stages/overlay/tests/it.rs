//! Cancer over organs, or organs alone, case by case.

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
    let io = StageIo {
        node: "overlay".into(),
        inputs: [("labels".to_owned(), folder.join("labels"))].into(),
        output: folder.join("out"),
        work: folder.join("work"),
        seed: 1,
        device: Default::default(),
        report: Default::default(),
        planned: false,
        sink: None,
    };
    Entry::of::<Overlay>().run(params, &io).map_err(|error| format!("{error:#}"))?;
    let (labels, header) = nifti::read_labels(folder.join("out/labels/a.nii.gz")).unwrap();
    assert!(header.grid().approx_eq(&GRID));
    Ok((0..6).map(|x| labels.data[[x, 2, 3]]).collect())
}

#[test]
fn cancer_lies_on_organs_unless_organs_alone_are_wanted() {
    for (params, expected) in [(json!({}), [0, 14, 14, 3, 3, 0]), (json!({"organs_only": true}), [0, 0, 3, 3, 3, 0])] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("out")).unwrap();
        write(folder.path(), "organs", |x| if (2..5).contains(&x) { 3 } else { 0 });
        write(folder.path(), "cancer", |x| u8::from((1..3).contains(&x)));
        assert_eq!(overlaid(folder.path(), params).unwrap(), expected);
    }
}

#[test]
fn a_case_without_its_cancer_map_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("out")).unwrap();
    write(folder.path(), "organs", |_| 1);
    let error = overlaid(folder.path(), json!({})).unwrap_err();
    assert!(error.contains("cancer/a.nii.gz"), "{error}");
}
