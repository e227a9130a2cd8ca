//! What the stage writes of trainings by other programs.

use std::path::{Path, PathBuf};

use import::{Config, Import};
use inference::{Manner, Model};
use serde_json::{Value, json};
use stage_kit::{Entry, Stage as _, StageIo};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crates/model/foreign/tests/fixtures").join(name)
}

/// Runs the stage and gives the names of what it has written into `output`, in order.
fn imported(model: PathBuf, params: Value, output: &Path) -> anyhow::Result<Vec<String>> {
    let config: Config = serde_json::from_value(Entry::of::<Import>().resolve(params)?)?;
    let io = StageIo {
        node: "theirs".into(),
        inputs: [("model".to_owned(), model)].into(),
        output: output.to_owned(),
        work: output.join("work"),
        seed: 1,
        device: Default::default(),
        report: Default::default(),
        planned: false,
        known: Default::default(),
        ranks: Default::default(),
        sink: None,
    };
    Import::check(&config)?;
    Import::run(&config, &io)?;
    let mut names: Vec<String> =
        std::fs::read_dir(output)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

#[test]
fn a_fold_is_a_model_and_several_are_an_ensemble() {
    let (folder, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, place) in
        [("plans.json", "."), ("dataset.json", "."), ("fold_0/checkpoint_final.pth", "fold_0"), ("fold_0/checkpoint_final.pth", "fold_1")]
    {
        let place = folder.path().join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(fixture("plain").join(name), place.join(Path::new(name).file_name().unwrap())).unwrap();
    }
    let one = imported(folder.path().to_owned(), json!({"nnunet": {"folds": ["1"], "trained_on": "LPS"}}), output.path()).unwrap();
    assert_eq!(one, ["model.safetensors"]);
    let output = tempfile::tempdir().unwrap();
    let both = imported(folder.path().to_owned(), json!({"nnunet": {}}), output.path()).unwrap();
    assert_eq!(both, ["fold_0.safetensors", "fold_1.safetensors"]);
    let files: Vec<PathBuf> = both.iter().map(|name| output.path().join(name)).collect();
    let together = Model::open(&files, &Manner::default(), &nets::device(Default::default()).unwrap()).unwrap();
    assert_eq!(together.classes().keys_of(together.classes().pattern()), ["left_kidney", "liver", "spleen"]);
    assert_eq!(together.outputs().len(), 1, "they find the same, and their mean counts");
}

#[test]
fn a_bundle_holds_the_state_dict() {
    let (bundle, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let declared = json!({"monai": {
        "network": {"features": [4, 4, 6, 8, 8, 4]}, "patch": [32, 16, 16], "grid": {"spacing_mm": [2, 2, 2], "window_hu": [-175, 250]},
        "classes": [{"group": "organ", "classes": {"liver": 1, "spleen": 2}}],
    }});
    let missing = imported(bundle.path().to_owned(), declared.clone(), output.path()).unwrap_err().to_string();
    assert!(missing.contains("models/model.pt; give a state dict, or a bundle"), "{missing}");
    std::fs::create_dir(bundle.path().join("models")).unwrap();
    std::fs::copy(fixture("monai/basic_unet.pt"), bundle.path().join("models/model.pt")).unwrap();
    assert_eq!(imported(bundle.path().to_owned(), declared, output.path()).unwrap(), ["model.safetensors"]);
}

#[test]
fn a_graph_is_a_model_and_its_weights_may_lie_beside_it() {
    let declared = json!({"onnx": {
        "axes": "xy", "overlapping": true, "grid": {"spacing_mm": [1, 1, null], "window_hu": [-175, 250]},
        "classes": [{"group": "organ", "classes": {"liver": 1}}, {"group": "cancer", "classes": {"tumor": 2}}],
    }});
    let output = tempfile::tempdir().unwrap();
    let beside = fixture("onnx/beside");
    for model in [beside.clone(), beside.join("flat.beside.onnx")] {
        assert_eq!(imported(model, declared.clone(), output.path()).unwrap(), ["model.safetensors"]);
    }
    let model =
        Model::open(&[output.path().join("model.safetensors")], &Manner::default(), &nets::device(Default::default()).unwrap()).unwrap();
    assert_eq!(model.outputs().iter().map(|output| output.group.as_str()).collect::<Vec<_>>(), ["organ", "cancer"]);
    let open = imported(fixture("onnx/flat.traced_open.onnx"), declared, output.path()).unwrap_err().to_string();
    assert!(open.contains("leaves its sides open; give `patch`"), "{open}");
}

#[test]
fn one_program_has_trained_a_model() {
    let output = tempfile::tempdir().unwrap();
    let refused = |params| format!("{:#}", imported(fixture("plain"), params, output.path()).unwrap_err());
    assert!(refused(json!({})).contains("exactly one of `nnunet`, `monai` and `onnx`"));
    assert!(refused(json!({"nnunet": {"trained_on": "XYZ"}})).contains("nnunet.trained_on"));
    assert!(refused(json!({"nnunet": {"fold": 1}})).contains("fold"));
}
