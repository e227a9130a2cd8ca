//! What a written file says of patients that the split holds back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use volume::{Affine, Grid, Volume, nifti};

const GRID: Grid =
    Grid { shape: [4, 2, 2], affine: Affine([[0.8, 0.0, 0.0, 0.0], [0.0, 0.8, 0.0, 0.0], [0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 1.0]]) };

/// A dataset in nnU-Net's layout, with so many labelled cases.
fn listed(root: &Path, name: &str, labels: &Value, cases: usize) -> (String, PathBuf) {
    let folder = root.join(name);
    for part in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let list = json!({"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"});
    std::fs::write(folder.join("dataset.json"), list.to_string()).unwrap();
    for case in 0..cases {
        scan(&folder.join(format!("imagesTr/{name}_{case}_0000.nii.gz")));
        labelled(&folder.join(format!("labelsTr/{name}_{case}.nii.gz")));
    }
    (name.to_owned(), folder)
}

fn scan(path: &Path) {
    nifti::write_scalar_i16(path, &Volume::from_x_fastest(&GRID, vec![40.0; 16]).unwrap()).unwrap();
}

fn labelled(path: &Path) {
    nifti::write_labels_on(path, &Volume::from_x_fastest(&GRID, vec![1; 16]).unwrap()).unwrap();
}

/// The text of the file for these folders, and what it says.
fn written(folders: &[(String, PathBuf)]) -> (String, Value) {
    let text = survey::for_memory(folders, None, 1 << 30).unwrap();
    let read = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    (text, read)
}

#[test]
fn both_models_are_scored_by_what_each_dataset_labels() {
    let root = tempfile::tempdir().unwrap();
    let sides = listed(root.path(), "Sides", &json!({"background": 0, "kidney_left": 1, "kidney_right": 2, "liver": 3}), 3);
    let cancer = listed(root.path(), "Cancer", &json!({"background": 0, "kidneys": [1, 2], "tumor": 2}), 2);
    let (text, file) = written(&[sides, cancer]);
    let nodes = &file["nodes"];
    assert_eq!(nodes["unseen"]["foreach"], json!({"model": ["teacher", "model"], "dataset": ["Sides", "Cancer"]}));
    assert_eq!(nodes["unseen"]["params"]["held_out"], true);
    assert_eq!(nodes["unseen_labels_Sides"]["params"], json!({"groups": ["organ"]}), "no tumor is laid over what has none labelled");
    assert_eq!(nodes["unseen_labels_Cancer"]["params"], json!({"groups": ["organ", "lesion"]}));
    assert_eq!(nodes["scores_Sides"]["params"], json!({"truth": {"kidney_left": [1], "kidney_right": [2], "liver": [3]}}));
    let whole = json!({"kidneys": ["kidney_left", "kidney_right", "tumor"]});
    assert_eq!(nodes["scores_Cancer"]["params"], json!({"truth": {"tumor": [2], "kidneys": [1, 2]}, "unions": whole}));
    assert_eq!(nodes["scores_Cancer"]["inputs"]["truth"], "unseen[model,Cancer]/truth");
    assert_eq!(nodes["partition"]["params"].get("subsets"), None, "every case is labelled");
    assert!(!text.contains("one labelled case"), "{text}");
}

#[test]
fn a_dataset_with_one_labelled_case_that_can_be_read_holds_none_back_and_the_file_says_so() {
    let root = tempfile::tempdir().unwrap();
    let organs = json!({"background": 0, "liver": 1});
    let many = listed(root.path(), "Many", &organs, 2);
    let few = listed(root.path(), "Few", &organs, 1);
    let broken = listed(root.path(), "Broken", &organs, 2);
    std::fs::write(broken.1.join("imagesTr/Broken_1_0000.nii.gz"), "no scan").unwrap();
    let (text, file) = written(&[many, few.clone(), broken.clone()]);
    assert_eq!(file["nodes"]["unseen"]["foreach"]["dataset"], json!(["Many"]));
    for name in ["Few", "Broken"] {
        assert!(text.contains(&format!("  # {name} has one labelled case that can be read, which is trained on.")), "{text}");
        assert!(file["nodes"].get(format!("scores_{name}")).is_none());
    }
    let (text, file) = written(&[few, broken]);
    assert!(
        text.ends_with("  # So nobody knows how good the models are. Score them with label maps of other patients: stage `evaluate`.\n")
    );
    assert!(file["nodes"].get("unseen").is_none());
}

#[test]
fn unlabelled_cases_are_split_apart_from_labelled_ones() {
    let root = tempfile::tempdir().unwrap();
    let (name, folder) = listed(root.path(), "Listed", &json!({"background": 0, "liver": 1}), 2);
    let mixed = root.path().join("Mixed");
    for part in ["images", "labels"] {
        std::fs::create_dir_all(mixed.join(part)).unwrap();
    }
    (0..9).for_each(|case| scan(&mixed.join(format!("images/case_{case}_0000.nii.gz"))));
    (0..2).for_each(|case| labelled(&mixed.join(format!("labels/case_{case}.nii.gz"))));
    let (_, file) = written(&[(name, folder), ("Mixed".to_owned(), mixed)]);
    assert_eq!(
        file["nodes"]["partition"]["params"]["subsets"],
        json!({
            "Listed": {"datasets": ["Listed"]},
            "Mixed": {"datasets": ["Mixed"], "any": ["organ"]},
            "Mixed__unlabelled": {"datasets": ["Mixed"], "none": ["organ"], "annotated": []},
        })
    );
    assert_eq!(file["nodes"]["volumes"]["params"]["subsets"], json!(["Listed", "Mixed"]));
    assert_eq!(file["nodes"]["scores_Mixed"]["params"], json!({"truth": {"mixed_1": [1]}}));
}
