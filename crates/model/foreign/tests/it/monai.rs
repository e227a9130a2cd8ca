//! Networks of MONAI's (`make_monai.py`).

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use foreign::monai::{Declared, import};
use inference::{TrainedTeacher, VolumeParams};
use serde_json::{Value, json};

use crate::{fixture, must_agree, tensors};

pub(crate) fn declared(network: &Value, patch: [usize; 3]) -> Declared {
    let declared = json!({
        "network": network, "patch": patch, "grid": {"spacing_mm": [1.5, 1.5, 2.0], "window_hu": [-175, 250]},
        "classes": [{"group": "organ", "classes": {"liver": 1, "spleen": 4}}],
    });
    serde_json::from_value(declared).unwrap()
}

/// The logits of an image by the file that a state dict becomes.
fn logits(state: &Path, declared: &Declared, image: &Tensor) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    import(state, declared).unwrap().save(&path).unwrap();
    let (teacher, ..) = TrainedTeacher::load(&VolumeParams::default(), &path, &Device::Cpu).unwrap();
    teacher.network().forward(teacher.params(), image).unwrap().squeeze(0).unwrap()
}

/// Every `by`-th value along x, y and z.
fn thinned(logits: &Tensor, by: usize) -> Tensor {
    let thin = |logits: Tensor, axis: usize| {
        let kept: Vec<u32> = (0..logits.dim(axis).unwrap()).step_by(by).map(|at| at as u32).collect();
        logits.index_select(&Tensor::new(kept, &Device::Cpu).unwrap(), axis).unwrap()
    };
    (1..4).fold(logits.clone(), thin)
}

#[test]
fn basic_unet_and_unetr_have_the_logits_of_monai() {
    let unetr = json!({"unetr": {"img_size": [32, 16, 16], "feature_size": 2, "hidden_size": 8, "mlp_dim": 12, "num_heads": 2}});
    for (file, network, patch) in
        [("basic_unet.pt", json!({"features": [4, 4, 6, 8, 8, 4]}), [32, 17, 18]), ("unetr.pth", unetr, [32, 16, 16])]
    {
        let expected = tensors(&format!("monai/{}.safetensors", file.split('.').next().unwrap()));
        let image = expected["image"].to_dtype(candle_core::DType::F32).unwrap().unsqueeze(0).unwrap().unsqueeze(0).unwrap();
        let found = logits(&fixture(&format!("monai/{file}")), &declared(&network, patch), &image);
        must_agree(&thinned(&found, 2), &expected["logits"], file);
    }
}

/// The weights of the script's formula.
fn swin_unetr() -> HashMap<String, Tensor> {
    let shapes: HashMap<String, Vec<usize>> = serde_json::from_slice(&std::fs::read(fixture("monai/swin_unetr.json")).unwrap()).unwrap();
    let names: Vec<String> = serde_json::from_slice(&std::fs::read(fixture("monai/swin_unetr_names.json")).unwrap()).unwrap();
    let places = names.iter().enumerate().filter_map(|(k, name)| Some((k, name, shapes.get(name)?)));
    let weights = places.map(|(k, name, shape)| {
        let count: usize = shape.iter().product();
        let (shift, scale) = match shape.len() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.05),
            _ => (0.0, (2.0 * shape[0] as f64 / count as f64).sqrt()),
        };
        let values = (0..count).map(|i| (shift + scale * f64::from((0.7 * i as f64 + 1.3 * k as f64).sin() as f32)) as f32);
        (name.clone(), Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(&shape[..]).unwrap())
    });
    weights.collect()
}

#[test]
fn a_swin_unetr_in_safetensors_has_the_logits_of_monai() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swin.safetensors");
    candle_core::safetensors::save(&swin_unetr(), &path).unwrap();
    let network = json!({"swin_unetr": {"feature_size": 12, "window_size": 4}});
    let image = Tensor::from_iter((0..65_536).map(|i| (0.37 * f64::from(i)).sin() as f32), &Device::Cpu).unwrap();
    let found = logits(&path, &declared(&network, [64, 32, 32]), &image.reshape((1, 1, 64, 32, 32)).unwrap());
    must_agree(&thinned(&found, 4), &tensors("monai/swin_unetr.safetensors")["logits"], "Swin UNETR");
}

#[test]
fn tokens_that_a_perceptron_embeds_are_convolved() {
    let network = json!({"unetr": {"img_size": [32, 16, 16], "feature_size": 2, "hidden_size": 8, "mlp_dim": 12, "num_heads": 2}});
    let saved = pth::Saved::read(&fixture("monai/unetr.pth")).unwrap().tensors(&["state_dict"], |_| true).unwrap();
    // As networks of MONAI have it whose embedding is no convolution.
    let earlier = saved.into_iter().map(|(name, pth::Tensor { shape, values })| {
        let (name, shape) = match name.strip_suffix("patch_embeddings.weight") {
            Some(start) => (format!("{start}patch_embeddings.1.weight"), vec![8, 4096]),
            None => (name.replace("patch_embeddings.bias", "patch_embeddings.1.bias"), shape),
        };
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("earlier.safetensors");
    candle_core::safetensors::save(&earlier.collect::<HashMap<String, Tensor>>(), &path).unwrap();
    let [as_convolution, as_perceptron] =
        [fixture("monai/unetr.pth"), path].map(|path| import(&path, &declared(&network, [32, 16, 16])).unwrap().params);
    for (name, value) in as_convolution.all() {
        must_agree(&as_perceptron.get(name).unwrap(), value.as_tensor(), name);
    }
}

#[test]
fn a_declaration_becomes_the_card_and_checkpoints_lose_their_wrapping() {
    let network = json!({"unetr": {"img_size": [32, 16, 16], "feature_size": 2, "hidden_size": 8, "mlp_dim": 12, "num_heads": 2}});
    let turned = Declared { orientation: "LAS".into(), range: [-1.0, 1.0], ..declared(&network, [32, 16, 16]) };
    let model = import(&fixture("monai/unetr.pth"), &turned).unwrap();
    let input = &model.card.input;
    assert_eq!((input.habits.mirrored, input.habits.around), ([true, false, false], 0.5));
    let mut ends = [0.0, 1.0];
    input.scaling.apply(&mut ends);
    assert_eq!(ends, [-1.0, 1.0]);
    assert_eq!(model.card.outputs[0].values, [1, 4]);
    assert_eq!(model.card.origin.cases, "unetr.pth, names behind `module.`");
    assert!(model.account().contains("tensors taken"));
}

#[test]
fn declarations_that_cannot_be_are_refused_by_their_parameter() {
    let good = declared(&json!({"features": [4, 4, 6, 8, 8, 4]}), [32, 16, 16]);
    for (wrong, part) in [
        (Declared { orientation: "SAR".into(), ..good.clone() }, "orientation SAR: expected axes from left to right"),
        (Declared { orientation: "up".into(), ..good.clone() }, "orientation: \"up\" is not an orientation"),
        (Declared { range: [1.0, 1.0], ..good.clone() }, "range [1, 1]"),
        (Declared { patch: [8, 32, 32], ..good.clone() }, "at least 16"),
    ] {
        assert!(wrong.check().unwrap_err().contains(part), "{part}");
        assert!(import(&fixture("monai/basic_unet.pt"), &wrong).is_err());
    }
}
