//! What a student of random weights says of a scan must not depend on what lies around the patient.

use std::path::Path;

use candle_core::Device;
use ndarray::{Array3, s};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params};
use random::Streams;
use segment::Segment;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{Affine, ScalarVolume, nifti};

const FEATURES: [usize; 6] = [4, 4, 4, 8, 8, 4];

fn params(crop_foreground: bool) -> Value {
    json!({
        "classes": labels::flare23::classes(),
        "network": {"features": FEATURES},
        "grid": {"spacing_mm": [2, 2, 5], "window_hu": [-200, 300]},
        "crop_foreground": crop_foreground,
        "window": {"batch": 3, "size": [32, 32], "overlap": 0.25},
    })
}

/// A patient of 44×36 voxels and seven slices with `air` voxels on every side.
fn patient(air: usize) -> ScalarVolume {
    let body = |i: f64, j: f64| i.hypot(j) < 1.0;
    let hu = |(i, j, k): (usize, usize, usize)| match body((i as f64 - 21.5) / 22.5, (j as f64 - 17.5) / 18.5) {
        true => 40.0 + 30.0 * ((i / 5 + 2 * (j / 4) + 3 * k) % 7) as f32,
        false => -1000.0,
    };
    let mut data = Array3::from_elem((44 + 2 * air, 36 + 2 * air, 7), -1000.0);
    data.slice_mut(s![air..44 + air, air..36 + air, ..]).assign(&Array3::from_shape_fn((44, 36, 7), hu));
    let affine = Affine([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
    ScalarVolume { data, affine }
}

/// The label maps of the patient's groups, the air cut off again.
fn segmented(folder: &Path, air: usize, crop_foreground: bool) -> Result<[Array3<u8>; 2], String> {
    for name in ["images", "student", "out", "work"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let image = patient(air);
    nifti::write_scalar_i16(folder.join("images/a_0000.nii.gz"), &image).unwrap();
    let student = DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &[("organ_decoder".into(), 14), ("cancer_decoder".into(), 2)]);
    let weights = Params::init(&student.parameters(), Streams::new(3), &Device::Cpu).unwrap();
    weights.save(&folder.join("student/weights.safetensors"), &Default::default()).unwrap();
    run(folder, params(crop_foreground))?;
    Ok(["organ", "cancer"].map(|map| {
        let (labels, _) = nifti::read_labels(folder.join(format!("out/{map}/a.nii.gz"))).unwrap();
        assert_eq!(labels.data.dim(), image.data.dim(), "on the grid of the image");
        labels.data.slice(s![air..44 + air, air..36 + air, ..]).to_owned()
    }))
}

fn run(folder: &Path, params: Value) -> Result<(), String> {
    let io =
        StageIo::new("segment", ["images", "student"].map(|role| (role, folder.join(role))), folder.join("out"), folder.join("work"), 1);
    Entry::of::<Segment>().run(params, &io).map_err(|error| format!("{error:#}"))
}

#[test]
fn air_around_the_patient_changes_nothing() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [tight, wide, uncropped] = [(&folders[0], 0, true), (&folders[1], 23, true), (&folders[2], 23, false)]
        .map(|(folder, air, crop)| segmented(folder.path(), air, crop).unwrap());
    assert_eq!(tight, wide);
    assert!(tight[0].iter().collect::<std::collections::BTreeSet<_>>().len() > 2, "the weights tell voxels apart");
    assert_ne!(wide, uncropped, "a network with instance normalisation sees air, or this test shows nothing");
}

#[test]
fn parts_of_a_group_below_the_limit_are_removed_and_the_others_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let all = segmented(folder.path(), 0, true).unwrap();
    let cancer = |ml: Value| {
        std::fs::remove_dir_all(folder.path().join("out")).unwrap();
        std::fs::create_dir_all(folder.path().join("out")).unwrap();
        let mut params = params(true);
        params["keep_parts"] = json!({ "cancer": { "ml": ml } });
        run(folder.path(), params)?;
        let read = |map: &str| nifti::read_labels(folder.path().join(format!("out/{map}/a.nii.gz"))).unwrap().0.data;
        assert_eq!(read("organ"), all[0]);
        Ok::<_, String>(read("cancer"))
    };
    // A voxel has 0.02 mL.
    let labelled = |map: &Array3<u8>| map.iter().filter(|&&label| label > 0).count();
    assert!(labelled(&all[1]) > 0 && cancer(json!(0.02)).unwrap() == all[1]);
    assert!(all[1].iter().all(|label| [0, 14].contains(label)), "in the values of the classes");
    assert_eq!(labelled(&cancer(json!(1000)).unwrap()), 0);
    assert!(cancer(json!(-1)).unwrap_err().contains("keep_parts.cancer: Ml(-1.0)"));
}

#[test]
fn a_scan_of_air_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    segmented(folder.path(), 0, true).unwrap();
    let mut air = patient(0);
    air.data.fill(-1000.0);
    nifti::write_scalar_i16(folder.path().join("images/b_0000.nii.gz"), &air).unwrap();
    let error = run(folder.path(), params(true)).unwrap_err();
    assert!(error.contains("b_0000.nii.gz") && error.contains("no voxel above -200 HU"), "{error}");
}

#[test]
fn every_group_of_the_student_has_a_folder_in_the_values_of_its_classes() {
    let folder = tempfile::tempdir().unwrap();
    segmented(folder.path(), 0, true).unwrap();
    let classes = json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255, "stone": 15}},
    ]);
    let decoders = [("organ", 3), ("cancer", 2), ("growth", 3)].map(|(group, channels)| (format!("{group}_decoder"), channels));
    let student = DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders);
    let weights = Params::init(&student.parameters(), Streams::new(3), &Device::Cpu).unwrap();
    weights.save(&folder.path().join("student/weights.safetensors"), &Default::default()).unwrap();
    let run = |classes: &Value| {
        let mut params = params(true);
        params["classes"] = classes.clone();
        run(folder.path(), params)
    };
    run(&classes).unwrap();
    for (group, values) in [("organ", [0, 1, 200]), ("cancer", [0, 14, 14]), ("growth", [0, 15, 255])] {
        let (labels, _) = nifti::read_labels(folder.path().join(format!("out/{group}/a.nii.gz"))).unwrap();
        assert!(labels.data.iter().all(|label| values.contains(label)), "{group}");
    }
    let error = run(&json!([{"group": "organ", "classes": {"liver": 1}}])).unwrap_err();
    assert!(error.contains("weights.safetensors"), "{error}");
}
