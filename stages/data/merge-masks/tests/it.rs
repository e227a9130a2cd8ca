//! From a file for each class to a dataset that `partition` reads.

use std::path::{Path, PathBuf};

use dataset::{DatasetConfig, Source};
use labels::Classes;
use merge_masks::MergeMasks;
use ndarray::Array3;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{Affine, LabelVolume, ScalarVolume, nifti};

const SHAPE: (usize, usize, usize) = (6, 5, 4);
const AFFINE: Affine = Affine([[-1.0, 0.0, 0.0, 9.0], [0.0, -1.0, 0.0, 8.0], [0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 1.0]]);

/// Masks by their class, each a range along x.
type Masks<'a> = &'a [(&'a str, std::ops::Range<usize>)];

struct Study(tempfile::TempDir);

impl Study {
    /// Cases of which each has an image and masks.
    fn of(cases: &[(&str, Masks<'_>)]) -> Self {
        let study = Self(tempfile::tempdir().unwrap());
        for folder in ["out", "work"] {
            std::fs::create_dir(study.path(folder)).unwrap();
        }
        for (case, masks) in cases {
            let folder = study.path("in").join(case).join("segmentations");
            std::fs::create_dir_all(&folder).unwrap();
            let image = ScalarVolume { data: Array3::from_shape_fn(SHAPE, |(x, y, z)| (x + 7 * y + 40 * z) as f32), affine: AFFINE };
            nifti::write_scalar_i16(study.path("in").join(case).join("ct.nii.gz"), &image).unwrap();
            for (class, range) in *masks {
                write_mask(&folder.join(format!("{class}.nii.gz")), SHAPE, |x| range.contains(&x));
            }
        }
        study
    }

    fn path(&self, place: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(place)
    }

    fn merged(&self, params: Value) -> Result<(), String> {
        let io = StageIo::new("masks", [("cases", self.path("in"))], self.path("out"), self.path("work"), 1);
        Entry::of::<MergeMasks>().run(params, &io).map_err(|error| format!("{error:#}"))
    }

    /// The labels of a case along x.
    fn labels(&self, case: &str) -> Vec<u8> {
        let (labels, header) = nifti::read_labels(self.path(format!("out/labelsTr/{case}.nii.gz"))).unwrap();
        assert!(header.grid().affine.0 == AFFINE.0);
        (0..SHAPE.0).map(|x| labels.data[[x, 2, 3]]).collect()
    }
}

fn write_mask(path: &Path, shape: (usize, usize, usize), inside: impl Fn(usize) -> bool) {
    let data = Array3::from_shape_fn(shape, |(x, ..)| if inside(x) { 255 } else { 0 });
    nifti::write_labels_on(path, &LabelVolume { data, affine: AFFINE }).unwrap();
}

fn params(labels: &[&str]) -> Value {
    json!({"images": "{case}/ct.nii.gz", "masks": "{case}/segmentations/{class}.nii.gz", "labels": labels})
}

#[test]
fn masks_become_one_label_map_in_nnu_nets_layout() {
    let study = Study::of(&[("s1", &[("liver", 0..3), ("spleen", 2..4), ("rib", 5..6)]), ("s2", &[("liver", 1..2), ("spleen", 0..0)])]);
    study.merged(params(&["spleen", "liver"])).unwrap();
    assert_eq!(study.labels("s1"), [2, 2, 2, 1, 0, 0], "the liver stands later and counts");
    assert_eq!(study.labels("s2"), [0, 2, 0, 0, 0, 0]);
    let read = |place: &str| std::fs::read(study.path(place)).unwrap();
    assert!(read("in/s1/ct.nii.gz") == read("out/imagesTr/s1_0000.nii.gz"), "images are copied to the byte");
    let slice = 20;
    let table = String::from_utf8(read("out/masks.csv")).unwrap();
    let expected = format!(
        "mask,value,files,cases_that_show_it,voxels,hidden_by_later_masks\nspleen,1,2,1,{},{}\nliver,2,2,2,{},0\n",
        2 * slice,
        slice,
        4 * slice
    );
    assert_eq!(table, expected);

    let classes: Classes = serde_json::from_value(json!([{"group": "organ", "classes": {"liver": 7, "spleen": 9}}])).unwrap();
    let dataset: DatasetConfig = serde_json::from_value(json!({"layout": "nnunet"})).unwrap();
    let source = Source::open("merged", &dataset, &study.path("out"), &classes).unwrap();
    let (cases, aside) = source.cases().unwrap();
    assert_eq!(cases.iter().map(|case| case.case.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);
    assert!(aside.left_out.is_empty(), "{aside:?}");
}

#[test]
fn a_case_without_a_mask_is_left_out_unless_missing_masks_are_empty() {
    let study = Study::of(&[("s1", &[("liver", 0..3)]), ("s2", &[("liver", 1..2), ("spleen", 3..4)])]);
    let error = study.merged(params(&["liver", "spleen"])).unwrap_err();
    assert!(error.contains("left cases out"), "{error}");
    assert_eq!(study.labels("s2"), [0, 1, 0, 2, 0, 0], "the other case is done");
    let left_out = std::fs::read_to_string(study.path("out/about/left_out.json")).unwrap();
    for said in ["s1/segmentations/spleen.nii.gz", "no such file, but masks of liver", "masks of spleen", "missing_is_empty"] {
        assert!(left_out.contains(said), "{left_out}");
    }
    let mut params = params(&["liver", "spleen"]);
    params["missing_is_empty"] = json!(true);
    study.merged(params).unwrap();
    assert_eq!(study.labels("s1"), [1, 1, 1, 0, 0, 0]);
}

#[test]
fn masks_may_lie_beside_the_images_and_names_may_tell_the_patient() {
    let study = Study::of(&[]);
    let folder = study.path("in/p7");
    std::fs::create_dir_all(&folder).unwrap();
    let image = ScalarVolume { data: Array3::zeros(SHAPE), affine: AFFINE };
    nifti::write_scalar_i16(folder.join("a.nii.gz"), &image).unwrap();
    nifti::write_scalar_i16(folder.join("pet.nii.gz"), &image).unwrap();
    write_mask(&folder.join("a_mask_liver.nii.gz"), SHAPE, |x| x == 4);
    let paths = json!({"images": "{patient}/{case}.nii.gz", "masks": "{patient}/{case}_mask_{class}.nii.gz", "labels": ["liver"],
        "others": ["{patient}/pet.nii.gz"]});
    study.merged(paths).unwrap();
    assert_eq!(study.labels("p7_a"), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn a_mask_on_another_grid_is_named_and_the_other_cases_are_done() {
    let study = Study::of(&[("s1", &[("liver", 0..3)]), ("s2", &[("liver", 1..2)])]);
    write_mask(&study.path("in/s1/segmentations/liver.nii.gz"), (6, 5, 3), |_| true);
    let error = study.merged(params(&["liver"])).unwrap_err();
    for said in ["case s1", "liver.nii.gz has [6, 5, 3] voxels", "[6, 5, 4]", "resample"] {
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(study.labels("s2"), [0, 1, 0, 0, 0, 0]);
    assert!(!study.path("out/labelsTr/s1.nii.gz").exists());
}

#[test]
fn parameters_that_cannot_be_right_are_refused_by_name() {
    let study = Study::of(&[("s1", &[("liver", 0..3)])]);
    let with = |key: &str, value: Value| {
        let mut params = params(&["liver"]);
        params[key] = value;
        study.merged(params).unwrap_err()
    };
    for masks in
        ["{case}/liver.nii.gz", "{class}/{case}.nii.gz", "x/{class}.nii.gz", "{case}/*/{class}.nii.gz", "{case}/{class}{class}.nii.gz"]
    {
        let error = with("masks", json!(masks));
        assert!(error.contains(masks) && error.contains("such as `{case}/segmentations/{class}.nii.gz`"), "{error}");
    }
    assert!(with("masks", json!("{case}/{class}.png")).contains("does not end with"));
    assert!(with("images", json!("ct.nii.gz")).contains("no `{case}`"));
    assert!(with("labels", json!([])).contains("names no mask"));
    assert!(with("labels", json!(["liver", "liver"])).contains("`liver` stands there twice"));
    let many: Vec<String> = (0..256).map(|number| format!("mask{number}")).collect();
    assert!(with("labels", json!(many)).contains("256 masks, and a label map has room for 255"));
}
