//! Which models label: students, teachers, models for partial labels, graphs of other programs, several together.

use candle_core::{Device, Tensor};
use inference::{Manner, Model};
use labels::flare23;
use model_card::{Kind, ModelCard, Origin};
use nets::{DualUNet2d, DualUNet2dConfig, Network as _, Params};
use random::Streams;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::bench::{Bench, FEATURES, agreement, card, declared, must_succeed, said};

#[test]
fn an_ensemble_of_one_model_twice_is_that_model_and_flips_are_a_mean() {
    let bench = Bench::new();
    // Whole slices: where windows overlap, a mean of probabilities is not that of logits.
    bench.model("model", 3, None, None);
    bench.scan("a", [64, 64, 9], "RAS");
    must_succeed(&bench.predict("one", &["--exact"]));
    must_succeed(&bench.predict("twice", &["--exact", "--model", bench.path("model.safetensors").to_str().unwrap()]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("twice", "a")) > 0.9999, "but for ties of rounding");
    let other = bench.model("other", 4, None, None);
    must_succeed(&bench.predict("both", &["--exact", "--model", other.to_str().unwrap()]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("both", "a")) < 0.99, "the other model has a say");
    must_succeed(&bench.predict("flips", &["--exact", "--flips"]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("flips", "a")) < 0.99);

    let apart = bench.model("apart", 4, Some(1.0), None);
    let refused = bench.predict("none", &["--model", apart.to_str().unwrap()]);
    assert!(
        !refused.status.success() && said(&refused).contains("keep_parts {} and {14: Ml(1.0)}; models that work together"),
        "{}",
        said(&refused)
    );
}

#[test]
fn flips_of_a_model_that_has_seen_no_mirror_images_are_warned_of() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "RAS");
    let doubt = "model.safetensors: `flips` mirrors along x and y, and the training of this model along y: ";
    let flipped = bench.predict("unknown", &["--flips"]);
    must_succeed(&flipped);
    assert!(!said(&flipped).contains("`flips`"), "nobody knows what it has seen: {}", said(&flipped));
    let card = card(Kind::Student, &flare23::classes(), vec![32, 32]);
    let card = ModelCard { origin: Origin { mirrored: Some([false, true, false]), ..card.origin }, ..card };
    let decoders: Vec<_> = card.outputs.iter().map(model_card::Output::decoder).collect();
    bench.save("model", 3, &DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), &card);
    let flipped = bench.predict("seen", &["--flips"]);
    must_succeed(&flipped);
    assert!(said(&flipped).contains("warning: ") && said(&flipped).contains(doubt), "{}", said(&flipped));
    assert!(!said(&bench.predict("plain", &[])).contains("`flips`"), "nobody asks for them");
}

#[test]
fn a_model_is_installed_beside_the_program_and_nothing_else_is() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    std::fs::create_dir(bench.path("bin")).unwrap();
    let program = bench.path("bin/predict");
    // By a process of its own: children of other tests would inherit a file open for writing, and it could not be run.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_predict")).arg(&program).status().unwrap().success());
    let run = |args: &[&str]| Command::new(&program).args(args).current_dir(bench.folder.path()).output().unwrap();
    let without = run(&["scans", "out"]);
    let how = ["bin/model.safetensors; name one by --model FILE", "predict --install FILE", "flare run model"];
    assert!(!without.status.success() && how.iter().all(|part| said(&without).contains(part)), "{}", said(&without));
    let silent = candle_core::Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("a", silent)].into(), bench.path("silent.safetensors")).unwrap();
    assert!(said(&run(&["--install", "silent.safetensors"])).contains("does not say what it is"), "weights that say nothing");
    assert!(!bench.path("bin/model.safetensors").exists());
    must_succeed(&run(&["--install", "model.safetensors"]));
    must_succeed(&run(&["scans", "out"]));
    let own = Model::open(&[bench.path("bin/model.safetensors")], &Manner::default(), &Device::Cpu);
    assert!(own.is_ok() && bench.path("out/a.nii.gz").exists());
}

#[test]
fn what_a_training_writes_is_a_model_with_its_own_classes() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    let classes = declared(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": {"value": 200, "name": "A kidney"}}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255}},
    ]));
    std::fs::create_dir(bench.path("training")).unwrap();
    bench.student("training/weights", 3, &classes);
    let run = |output: &str, model: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path(output)).arg("--model").arg(bench.path(model));
        must_succeed(&command.args(["--progress", "lines"]).args(more).output().unwrap());
    };
    run("out", "training", &["--statistics", "--preview", "--clean-up"]);
    let labels = bench.labels("out", "a");
    assert!(labels.data.iter().all(|label| [0, 1, 14, 200, 255].contains(label)) && labels.data.iter().any(|&label| label > 14));
    let statistics: Value = serde_json::from_slice(&std::fs::read(bench.path("out/a.json")).unwrap()).unwrap();
    let keys: Vec<&String> = statistics["classes"].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4);
    assert_eq!((&statistics["classes"]["kidney"]["label"], &statistics["classes"]["kidney"]["name"]), (&json!(200), &json!("A kidney")));
    assert!(bench.path("out/a.png").exists());
}

#[test]
fn teachers_of_different_groups_label_a_scan_together() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPI");
    let organs = bench.teacher("organs", 3, &declared(json!([{"group": "organ", "classes": {"liver": 1, "kidney": 200}}])));
    let tumors = bench.teacher("tumors", 4, &declared(json!([{"group": "cancer", "classes": {"tumor": 14}}])));
    let run = |output: &str, models: &[&PathBuf]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path(output)).args(["--exact", "--progress", "lines"]);
        command.args(models.iter().flat_map(|model| [OsStr::new("--model"), model.as_os_str()])).output().unwrap()
    };
    for (output, models) in [("both", &[&organs, &tumors][..]), ("organs", &[&organs]), ("tumors", &[&tumors])] {
        must_succeed(&run(output, models));
    }
    let [both, organ, tumor] = ["both", "organs", "tumors"].map(|output| bench.labels(output, "a").data);
    assert!(both.iter().zip(organ.iter().zip(&tumor)).all(|(&both, (&organ, &tumor))| both == if tumor == 0 { organ } else { tumor }));
    assert!(both.iter().any(|&label| label > 0));
    let fewer = bench.teacher("fewer", 3, &declared(json!([{"group": "organ", "classes": {"liver": 1}}])));
    let refused = run("none", &[&organs, &fewer]);
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("organ {liver: 1, kidney: 200}, and") && text.contains("organ {liver: 1};"),
        "{text}"
    );
    let left: Vec<_> = std::fs::read_dir(bench.path("both")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.nii.gz"], "a large scan goes into a file without a name");
}

#[test]
fn a_model_of_train_partial_labels_a_scan_too() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    let classes = declared(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
    ]));
    let network = json!({
        "method": {"target_adaptive": {"network": {"residual": {"features": [4, 4, 4, 8], "blocks": [1, 1, 1, 1, 1], "groups": 2}}}},
        "datasets": [{"name": "all", "subset": "D", "classes": ["organ", "cancer"]}],
    });
    let config: partial::ModelConfig = serde_json::from_value(network.clone()).unwrap();
    let datasets = partial::Datasets::new(&config.datasets, &classes).unwrap();
    let model = partial::Model::new(&config, &datasets, &classes).unwrap();
    let card = ModelCard { network, outputs: Vec::new(), ..card(Kind::Partial, &classes, vec![16, 16, 16]) };
    bench.save("model", 3, &model, &card);
    must_succeed(&bench.predict("out", &["--exact"]));
    let labels = bench.labels("out", "a");
    assert!(labels.data.iter().all(|label| [0, 1, 14, 200].contains(label)) && labels.data.iter().any(|&label| label > 0));
}

#[test]
fn a_graph_of_another_program_labels_a_scan_too() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    let classes = declared(json!([{"group": "organ", "classes": {"liver": 1}}]));
    // Scores of background and liver: 0.5 and the intensity.
    let graph = json!({
        "image": [1, 1, 16, 16, 16], "weights": {"graph/w": [2, 1, 1, 1, 1], "graph/b": [2]}, "outputs": [1],
        "steps": [{"op": {"conv": {"walk": {"stride": [1, 1, 1], "padding": [0, 0, 0]}, "groups": 1}}, "of": [0, "graph/w", "graph/b"]}],
    });
    let spec = |name: &str, shape: &[usize]| nets::ParamSpec { name: name.into(), shape: shape.into(), init: nets::Init::Zeros };
    let params = Params::init(&[spec("graph/w", &[2, 1, 1, 1, 1]), spec("graph/b", &[2])], Streams::new(0), &Device::Cpu).unwrap();
    params.set("graph/w", &Tensor::new(&[0f32, 1.0], &Device::Cpu).unwrap().reshape((2, 1, 1, 1, 1)).unwrap()).unwrap();
    params.set("graph/b", &Tensor::new(&[0.5f32, 0.0], &Device::Cpu).unwrap()).unwrap();
    let network = json!({"graph": {}});
    let mut metadata = ModelCard { network, ..card(Kind::Graph, &classes, vec![16, 16, 16]) }.to_metadata().unwrap();
    metadata.insert("graph".into(), graph.to_string());
    params.save(&bench.path("model.safetensors"), &metadata).unwrap();
    must_succeed(&bench.predict("out", &["--exact"]));
    let labels = bench.labels("out", "a").data;
    let share = labels.iter().filter(|&&label| label == 1).count() as f64 / labels.len() as f64;
    assert!((0.1..0.5).contains(&share) && labels.iter().all(|label| *label < 2), "{share}");
}

#[test]
fn a_model_describes_itself_and_weights_without_a_card_say_so() {
    let bench = Bench::new();
    let describe = |model: &str| Command::new(env!("CARGO_BIN_EXE_predict")).arg("--describe").arg(bench.path(model)).output().unwrap();
    let told = describe("model.safetensors");
    must_succeed(&told);
    let text = String::from_utf8(told.stdout).unwrap();
    for part in [
        "A student",
        "`liver` | 1 | Liver",
        "Spacing along x, y, z: 2 mm, 2 mm, 5 mm",
        "-200 to 300 HU",
        "Cases: D_l4",
        "after epoch 1: 0.5",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let network = DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &[("organ_decoder".to_owned(), 2)]);
    let params = Params::init(&network.parameters(), Streams::new(1), &Device::Cpu).unwrap();
    params.save(&bench.path("plain.safetensors"), &Default::default()).unwrap();
    let refused = describe("plain.safetensors");
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("plain.safetensors does not say how it was trained"), "{error}");
}
