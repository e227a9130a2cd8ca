//! ONNX graphs as PyTorch's exporters write them (`make_onnx.py`), against onnxruntime.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use foreign::Foreign;
use foreign::onnx::{Declared, Scores, import};
use inference::{SlidingWindow, TrainedGraph, VolumeNetwork as _};
use serde_json::{Value, json};

use crate::{fixture, must_agree, tensors};

pub(crate) fn declared(more: Value) -> Declared {
    let mut declared = json!({
        "grid": {"spacing_mm": [1.5, 1.5, 2.0], "window_hu": [-175, 250]}, "axes": "xyz",
        "classes": [{"group": "organ", "classes": {"liver": 1, "spleen": 4}}],
    });
    let Value::Object(more) = more else { panic!("no map: {more}") };
    declared.as_object_mut().unwrap().extend(more);
    serde_json::from_value(declared).unwrap()
}

/// The scores of an image `(1, 1, x, y, z)` by the file that an imported model becomes.
fn scores(model: &Foreign, image: &Tensor) -> Vec<Tensor> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let window = SlidingWindow { patch: image.dims()[2..].try_into().unwrap(), overlap: 0.5 };
    let graph = TrainedGraph::load(&model.card, &window, &path, &Device::Cpu).unwrap();
    assert_eq!(graph.outputs(), model.card.outputs);
    graph.logits(image).unwrap()
}

fn file(name: &str) -> PathBuf {
    fixture(&format!("onnx/{name}.onnx"))
}

fn sides(image: &Tensor) -> Vec<usize> {
    image.dims()[2..].to_vec()
}

/// So many channels, with background.
fn organs(channels: usize) -> Value {
    let keys = ["liver", "spleen", "kidney", "tumor", "vessel"];
    let classes: serde_json::Map<String, Value> = (1..channels).map(|k| (keys[k - 1].to_owned(), json!(k))).collect();
    json!([{"group": "organ", "classes": classes}])
}

#[test]
fn networks_of_volumes_have_the_logits_of_onnxruntime() {
    for name in ["basic_unet", "unet", "dynunet", "segresnet", "nnunet_plain", "nnunet_residual", "parts"] {
        let expected = tensors(&format!("onnx/{name}.safetensors"));
        let (image, logits) = (&expected["image"], expected["logits"].squeeze(0).unwrap());
        let mut found = 0;
        for variant in ["traced", "traced_open", "traced_11", "captured", "captured_open"] {
            let file = file(&format!("{name}.{variant}"));
            if file.is_file() {
                let model = import(&file, &declared(json!({"patch": sides(image), "classes": organs(logits.dim(0).unwrap())})))
                    .unwrap_or_else(|error| panic!("{error}"))
                    .model;
                must_agree(&scores(&model, image)[0], &logits, &format!("{name}.{variant}"));
                found += 1;
            }
        }
        assert!(found >= 2, "{name}");
    }
}

#[test]
fn axes_in_another_order_change_nothing() {
    let expected = tensors("onnx/nnunet_plain.safetensors");
    let turned = |x: &Tensor| x.permute((0, 1, 4, 3, 2)).unwrap().contiguous().unwrap();
    let image = turned(&expected["image"]);
    let model = import(&file("nnunet_plain.traced_open"), &declared(json!({"patch": sides(&image), "axes": "zyx", "classes": organs(4)})))
        .unwrap()
        .model;
    must_agree(&scores(&model, &image)[0].unsqueeze(0).unwrap(), &turned(&expected["logits"]), "zyx");
}

#[test]
fn a_network_of_slices_whose_classes_overlap_is_shown_one_slice_after_another() {
    let expected = tensors("onnx/flat.safetensors");
    let image = expected["image"].unsqueeze(4).unwrap();
    let classes = json!([{"group": "organ", "classes": {"liver": 1}}, {"group": "cancer", "classes": {"tumor": 14}}]);
    let probability = |channel: usize| expected["logits"].squeeze(0).unwrap().narrow(0, channel, 1).unwrap().unsqueeze(3).unwrap();
    for variant in ["flat.traced_open", "flat.captured", "beside/flat.beside"] {
        let said = json!({"classes": classes, "overlapping": true, "channels": ["tumor", "liver"], "axes": "xy", "patch": [32, 48, 1]});
        let model = import(&file(variant), &declared(said)).unwrap_or_else(|error| panic!("{error}")).model;
        let found = scores(&model, &image);
        for (place, channel) in [(0, 1), (1, 0)] {
            let likely = softmax(&found[place]);
            must_agree(&likely.narrow(0, 1, 1).unwrap(), &probability(channel), variant);
        }
        let groups: Vec<&str> = model.card.outputs.iter().map(|output| output.group.as_str()).collect();
        assert_eq!(groups, ["organ", "cancer"]);
    }
}

/// Probabilities of the channels.
fn softmax(logits: &Tensor) -> Tensor {
    let powers = logits.exp().unwrap();
    powers.broadcast_div(&powers.sum_keepdim(0).unwrap()).unwrap()
}

#[test]
fn probabilities_without_a_sigmoid_at_the_end_become_logits() {
    let expected = tensors("onnx/flat.safetensors");
    let image = expected["image"].unsqueeze(4).unwrap();
    let said = json!({"overlapping": true, "axes": "xy", "patch": [32, 48, 1], "channels": ["liver", "spleen"]});
    let ends_in_sigmoid = import(&file("flat.captured"), &declared(said.clone())).unwrap().model;
    let again = Declared { scores: Scores::Probabilities, ..declared(said) };
    let said_twice = import(&file("flat.captured"), &again).unwrap().model;
    must_agree(&scores(&ends_in_sigmoid, &image)[0], &scores(&said_twice, &image)[0], "a sigmoid that is there is left out");
}

#[test]
fn graphs_that_this_project_has_written_have_their_logits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/graphs/expected");
    for (name, axes, output, channels) in [
        ("teacher", "xyz", "organ", 3),
        ("student", "xy", "organ", 3),
        ("multitalent", "xyz", "logits_0", 3),
        ("by_levels", "xyz", "logits_0", 4),
        ("target_adaptive", "xyz", "logits_0", 4),
        ("multi_head", "xyz", "logits_0", 2),
        ("conditional_input", "xyz", "logits_0", 2),
        ("conditional_decoder", "xyz", "logits_0", 2),
        ("dodnet", "xyz", "logits_0", 4),
        ("dodnet_without_image", "xyz", "logits_0", 4),
        ("per_dataset", "xyz", "logits_0", 2),
    ] {
        let expected = candle_core::safetensors::load(folder.join(format!("{name}.safetensors")), &Device::Cpu).unwrap();
        let single = |k: &usize| expected[&format!("shape.{k}")].to_vec1::<f32>().unwrap()[0] == 1.0;
        let k = (0..2).find(single).unwrap();
        let mut shape: Vec<usize> = expected[&format!("shape.{k}")].to_vec1::<f32>().unwrap().iter().map(|side| *side as usize).collect();
        let of_graph = expected[&format!("{output}.{k}")].to_vec1::<f32>().unwrap();
        shape.resize(5, 1);
        let count = shape.iter().product::<usize>();
        let image =
            Tensor::from_iter((0..count).map(|i| (0.37 * i as f64).sin() as f32), &Device::Cpu).unwrap().reshape(&shape[..]).unwrap();
        let said = json!({"axes": axes, "patch": &shape[2..], "output": output, "overlapping": true, "classes": organs(channels + 1)});
        let model = import(&folder.join(format!("{name}.onnx")), &declared(said)).unwrap_or_else(|error| panic!("{error}")).model;
        let found = scores(&model, &image).remove(0).narrow(0, 1, channels).unwrap();
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().step_by(13).collect();
        let device = &Device::Cpu;
        must_agree(&Tensor::new(found, device).unwrap(), &Tensor::new(of_graph, device).unwrap(), name);
    }
}
