//! Results folders of nnU-Net (`make_nnunet.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use foreign::nnunet::{Choice, Results};
use inference::{Manner, Model, TrainedTeacher, VolumeNetwork as _, VolumeParams};
use model_card::Habits;
use ndarray::Array3;
use nets::Precision;
use partial::TrainedModel;
use volume::{Orientation, Scan, ScanFile, nifti};

use crate::{fixture, must_agree, tensors};

/// The folder, the orientation of its training, and what its model is.
const TRAININGS: [(&str, Option<&str>); 3] = [("plain", Some("LPS")), ("residual", Some("PIR")), ("regions", None)];

/// The share of voxels where two classes all but tie, so that rounding decides.
const TIES: f64 = 0.002;

fn choice(trained_on: Option<&str>) -> Choice {
    Choice { trained_on: trained_on.map(str::to_owned), ..Choice::default() }
}

/// The file that a training becomes.
pub(crate) fn imported(name: &str, trained_on: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let results = Results::read(&fixture(name), &choice(trained_on)).unwrap();
    assert_eq!(results.folds(), ["0"]);
    let (folder, model) = (tempfile::tempdir().unwrap(), results.fold("0").unwrap());
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    (folder, path)
}

/// Turned the way round that the network is used to, or back.
fn turned(x: &Tensor, habits: &Habits) -> Tensor {
    let axes: Vec<usize> = (0..3).filter(|axis| habits.mirrored[*axis]).map(|axis| x.rank() - 3 + axis).collect();
    if axes.is_empty() { x.clone() } else { x.flip(&axes).unwrap() }
}

#[test]
fn logits_are_those_of_the_other_program_for_a_scan_as_its_training_had_it() {
    for (name, trained_on) in TRAININGS {
        let expected = tensors(&format!("{name}/expected.safetensors"));
        let (_folder, path) = imported(name, trained_on);
        let image = expected["image"].unsqueeze(0).unwrap().unsqueeze(0).unwrap();
        let (logits, habits) = if name == "regions" {
            let model = TrainedModel::load(&path, Precision::F32, &Device::Cpu).unwrap();
            let habits = model.card.input.habits;
            let image = turned(&image, &habits);
            (model.pass(&image, &[vec![0]]).unwrap().remove(0).logits.squeeze(0).unwrap(), habits)
        } else {
            let (teacher, answer, view) = TrainedTeacher::load(&VolumeParams::default(), &path, &Device::Cpu).unwrap();
            assert_eq!(view.habits, answer.habits);
            (teacher.logits(&turned(&image, &view.habits)).unwrap().remove(0), view.habits)
        };
        must_agree(&turned(&logits, &habits), &expected["logits"], name);
    }
}

pub(crate) fn opened(path: PathBuf) -> Model {
    let manner = Manner { partial: Some(partial::open), ..Manner::default() };
    Model::open(&[path], &manner, &Device::Cpu).unwrap()
}

/// A fixture's scan as it is shown to a model.
pub(crate) fn scan_of(model: &Model, name: &str) -> Scan {
    model.scan(Arc::new(ScanFile::open(&fixture(name)).unwrap())).unwrap()
}

/// The labels of a fixture's scan on the model grid, all groups over each other.
pub(crate) fn labelled(model: &Model, scan: &Scan, folder: &Path) -> Array3<u8> {
    let maps = model.label_maps(scan, &scan.whole(), false, folder).unwrap();
    let [nx, _, nz] = scan.whole().shape;
    let mut found = Array3::zeros(scan.whole().shape);
    for z in 0..nz {
        for map in maps.plane(z).labels.maps {
            for (at, label) in map.into_iter().enumerate().filter(|(_, label)| *label > 0) {
                found[[at % nx, at / nx, z]] = label;
            }
        }
    }
    found
}

#[test]
fn a_scan_is_labelled_as_by_the_other_program() {
    for (name, trained_on) in TRAININGS {
        let (folder, path) = imported(name, trained_on);
        let model = opened(path);
        // These networks, of random weights, find something else in every window: where several reach, labels follow from how they weigh.
        // The other program's weigh most half a voxel beyond their middle. Of regions it takes the mean logits, and not probabilities.
        let alike = if name == "regions" { 0.03 } else { TIES };
        for (kind, result, most) in [("small", "small_labels", TIES), ("scan", "scan_alike", alike), ("scan", "scan_labels", 0.12)] {
            let scan = scan_of(&model, &format!("{name}/{kind}.nii.gz"));
            let found = labelled(&model, &scan, folder.path());
            let (labels, _) = nifti::read_labels(fixture(&format!("{name}/{result}.nii.gz"))).unwrap();
            let expected = volume::reorient(&labels, Orientation::RAS).data;
            assert_eq!(found.dim(), expected.dim(), "{name}");
            let different = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            let share = different as f64 / found.len() as f64;
            assert!(share <= most, "{name}, {result}: {share}");
        }
    }
}

#[test]
fn the_card_says_what_the_plans_say_along_the_axes_of_the_grid() {
    let card = |name: &str, trained_on| Results::read(&fixture(name), &choice(trained_on)).unwrap().fold("0").unwrap().card;
    let plain = card("plain", Some("LPS"));
    assert_eq!(plain.input.patch, [12, 16, 8]);
    assert_eq!(plain.input.grid.spacing_mm, [Some(1.25), Some(1.0), Some(2.0)]);
    assert_eq!(plain.input.grid.window_hu, [-100.0, 240.0]);
    assert_eq!(plain.input.habits.mirrored, [true, true, false]);
    let scaled = |hu: f32| {
        let mut value = [(hu + 100.0) / 340.0];
        plain.input.scaling.apply(&mut value);
        value[0]
    };
    assert!(scaled(60.0).abs() < 1e-6 && (scaled(150.0) - 1.0).abs() < 1e-6, "the mean is 0, and a deviation above it 1");
    assert!((plain.input.habits.around - 160.0 / 340.0).abs() < 1e-6, "what lies around a small scan is 0, too");
    assert_eq!(plain.classes.keys_of(plain.classes.pattern()), ["left_kidney", "liver", "spleen"]);
    assert_eq!(plain.classes.class("left_kidney").unwrap().name, "Left kidney");
    assert_eq!(plain.origin.cases, "Dataset001_Small, 3d_fullres, fold 0");
    // Slices, rows, columns are R, I, P in turn, of which the network takes 1, 2, 0.
    let residual = card("residual", Some("PIR"));
    assert_eq!(residual.input.habits.mirrored, [false, true, true]);
    assert_eq!(residual.input.patch, [8, 12, 16]);
    assert_eq!(residual.input.grid.spacing_mm, [Some(2.0), Some(1.25), Some(1.0)]);
    let regions = card("regions", None);
    let groups: Vec<_> = regions.classes.groups().iter().map(|group| (group.key(), group.values())).collect();
    assert_eq!(
        groups,
        [("kidney_region", vec![1]), ("masses_region", vec![3]), ("tumor_region", vec![2])],
        "in the order in which they are laid over each other"
    );
    assert_eq!(regions.input.patch, [16, 12, 8], "an inherited configuration with a patch of its own");
}

#[test]
fn what_was_left_is_counted() {
    let account = |name: &str, trained_on| Results::read(&fixture(name), &choice(trained_on)).unwrap().fold("0").unwrap().account();
    let plain = account("plain", Some("LPS"));
    assert!(plain.starts_with("30 tensors taken"), "{plain}");
    for part in ["2 left (heads of deep supervision)", "left (biases that the norm", "left (second names of others)"] {
        assert!(plain.contains(part), "{plain}");
    }
    assert!(!account("regions", None).contains("deep supervision"), "two levels have one head");
}

#[test]
fn labels_may_be_texts_or_stand_alone_in_lists_and_no_output_is_about_those_to_ignore() {
    let folder = crate::copy_of("plain");
    let path = folder.path().join("dataset.json");
    let mut dataset: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    dataset["labels"] = serde_json::json!({"background": "0", "Left kidney": [1], "spleen": "3", "liver": 2, "ignore": 4});
    std::fs::write(&path, dataset.to_string()).unwrap();
    let classes = |folder: &Path| Results::read(folder, &choice(None)).unwrap().fold("0").unwrap().card.classes;
    assert_eq!(classes(folder.path()), classes(&fixture("plain")));
}
