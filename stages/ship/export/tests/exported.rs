//! Models of every kind in other hands.

use std::path::PathBuf;

use candle_core::Device;
use export::{Config, Export};
use inference::{Manner, Model, Student};
use labels::Classes;
use model_card::{Kind, Measure, ModelCard, ModelInput, Origin, Output};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use random::Streams;
use serde_json::{Value, json};
use stage_kit::{Entry, Stage as _, StageIo};
use volume::{ModelGrid, Scaling};

const FEATURES: [usize; 6] = [2, 2, 2, 4, 4, 2];

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Random weights in the folder `trained`, as a training writes them.
    fn train(&self, network: &impl Network, card: Option<&ModelCard>) {
        std::fs::create_dir_all(self.path("trained")).unwrap();
        let params = Params::init(&network.parameters(), Streams::new(1), &Device::Cpu).unwrap();
        let metadata = card.map(|card| card.to_metadata().unwrap()).unwrap_or_default();
        params.save(&self.path("trained/weights.safetensors"), &metadata).unwrap();
    }

    fn train_student(&self, card: Option<&ModelCard>) {
        let decoders = [("organ_decoder".to_owned(), 3), ("cancer_decoder".to_owned(), 2)];
        self.train(&DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), card);
    }

    fn train_teacher(&self, network: Value) {
        let config: TeacherConfig = serde_json::from_value(network.clone()).unwrap();
        let organs = classes().only([1, 200].into_iter().collect());
        let outputs = vec![Output::of_group(&organs, 0)];
        let patch = vec![32; 3];
        self.train(&Teacher::new(&config, 3), Some(&ModelCard { network, outputs, classes: organs, ..card(Kind::Teacher, patch) }));
    }

    fn export(&self, params: Value) -> anyhow::Result<()> {
        let config: Config = serde_json::from_value(Entry::of::<Export>().resolve(params)?)?;
        std::fs::create_dir_all(self.path("out"))?;
        let io = StageIo::new("model", [("model", self.path("trained"))], self.path("out"), self.path("work"), 1);
        Export::run(&config, &io)
    }

    fn refused(&self, params: Value) -> String {
        format!("{:#}", self.export(params).unwrap_err())
    }

    /// The strings in a graph stand there as they are.
    fn graph(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("out/model.onnx")).unwrap()).into_owned()
    }

    fn page(&self) -> String {
        std::fs::read_to_string(self.path("out/README.md")).unwrap()
    }

    fn open(&self) -> Model {
        let manner = Manner { partial: Some(partial::open), ..Manner::default() };
        Model::open(&[self.path("out/model.safetensors")], &manner, &Device::Cpu).unwrap()
    }
}

fn classes() -> Classes {
    serde_json::from_value(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
    ]))
    .unwrap()
}

fn card(kind: Kind, patch: Vec<usize>) -> ModelCard {
    let grid = ModelGrid { spacing_mm: [Some(2.0), Some(2.0), None], window_hu: [-200.0, 300.0] };
    let origin = Origin {
        cases: "D_l4".into(),
        validation_score: 0.75,
        measure: Some(Measure::Dice),
        node: Some("M_4".into()),
        key: Some("0123abcd".into()),
        ..Origin::default()
    };
    let outputs = (0..2).map(|group| Output::of_group(&classes(), group)).collect();
    let input = ModelInput { grid, scaling: Scaling::signed(), crop_foreground: true, patch, habits: Default::default() };
    ModelCard { kind, network: json!({"features": FEATURES}), classes: classes(), outputs, input, origin, keep_parts: Default::default() }
}

fn must_say(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_student_goes_out_with_its_page_and_its_graph_on_the_grid_that_it_is_exported_for() {
    let bench = Bench::new();
    bench.train_student(Some(&card(Kind::Student, vec![32, 32])));
    bench
        .export(json!({"grid": {"spacing_mm": [2, 2, 2.5], "window_hu": [-200, 300]}, "onnx": true, "card": {"licence": "cc-by-4.0"}}))
        .unwrap();
    assert_eq!(bench.open().grid().spacing_mm, [Some(2.0), Some(2.0), Some(2.5)]);
    must_say(&bench.page(), &["license: cc-by-4.0", "value: 0.75", "2 mm, 2 mm, 2.5 mm", "`kidney` | 200", "`0123abcd`", "model.onnx"]);
    let graph = bench.graph();
    must_say(
        &graph,
        &["\"spacing_mm\":[2.0,2.0,2.5]", "\"window_hu\":[-200.0,300.0]", "\"orientation\":\"RAS", "\"shift\":0.5", "0123abcd"],
    );
    must_say(&graph, &["{\"class\":\"background\",\"value\":0},{\"class\":\"liver\",\"value\":1},{\"class\":\"kidney\",\"value\":200}"]);
    must_say(&graph, &["\"name\":\"organ\"", "\"name\":\"cancer\"", "\"axes\":[\"batch\",\"channel\",\"x\",\"y\"]"]);
    let once = std::fs::read(bench.path("out/model.onnx")).unwrap();
    bench.export(json!({"grid": {"spacing_mm": [2, 2, 2.5], "window_hu": [-200, 300]}, "onnx": true})).unwrap();
    assert_eq!(std::fs::read(bench.path("out/model.onnx")).unwrap(), once, "the same to the byte");
}

#[test]
fn without_a_card_there_is_no_page_and_the_parameters_say_all() {
    let bench = Bench::new();
    bench.train_student(None);
    bench.export(json!({"onnx": true, "classes": classes(), "network": {"features": FEATURES}, "crop_foreground": true, "window": {"size": [32, 32]},
        "grid": {"spacing_mm": [3, 3, 3], "window_hu": [-100, 100]}})).unwrap();
    assert!(!bench.path("out/README.md").exists());
    must_say(&bench.graph(), &["\"spacing_mm\":[3.0,3.0,3.0]", "\"class\":\"tumor\",\"value\":14"]);
    Student::open(&bench.path("out/model.safetensors"), &Manner::default(), &Device::Cpu).unwrap();
}

#[test]
fn a_teacher_goes_out_as_it_is_and_takes_no_parameters_of_students() {
    let bench = Bench::new();
    bench.train_teacher(json!({"features": FEATURES}));
    bench.export(json!({"onnx": true})).unwrap();
    let read = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert_eq!(read("out/model.safetensors"), read("trained/weights.safetensors"));
    assert_eq!(bench.open().classes().keys_of(bench.open().classes().pattern()), ["liver", "kidney"]);
    must_say(&bench.graph(), &["\"axes\":[\"batch\",\"channel\",\"x\",\"y\",\"z\"]", "\"scores\":\"softmax\"", "\"patch\":[32,32,32]"]);
    must_say(&bench.page(), &["A teacher", "Voxels of a patch: 32 × 32 × 32"]);
    let refused = bench.refused(json!({"precision": "bf16"}));
    must_say(&refused, &["weights.safetensors is a teacher", "all others for a student", "Leave them out"]);
}

#[test]
fn a_model_remembers_which_parts_are_kept() {
    let bench = Bench::new();
    bench.train_teacher(json!({"features": FEATURES}));
    bench.export(json!({"keep_parts": {"liver": "largest"}})).unwrap();
    let kept = bench.open().kept();
    assert_eq!([1, 2].map(|value| kept.says(value)), [true, false]);
    assert_eq!(kept.keep(1, 1.0), volume::Keep::Largest);
    let tensors = |name: &str| candle_core::safetensors::load(bench.path(name), &candle_core::Device::Cpu).unwrap();
    let (ours, trained) = (tensors("out/model.safetensors"), tensors("trained/weights.safetensors"));
    assert_eq!(ours.len(), trained.len());
    for (name, tensor) in &trained {
        let [ours, trained] = [&ours[name], tensor].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(ours, trained, "{name}");
    }
    must_say(&bench.refused(json!({"keep_parts": {"spleen": "largest"}})), &["keep_parts: there is no class `spleen`"]);
}

#[test]
fn a_transformer_is_refused_as_onnx_by_name_and_goes_out_without() {
    let bench = Bench::new();
    bench.train_teacher(json!({"swin_unetr": {"feature_size": 12, "window_size": 2}}));
    must_say(
        &bench.refused(json!({"onnx": true})),
        &["model.safetensors: attention in shifted windows cannot be written as ONNX", "Leave `onnx` out"],
    );
    bench.export(json!({})).unwrap();
    assert!(bench.page().contains("swin_unetr"));
}

#[test]
fn a_model_for_partial_labels_says_whose_definition_each_channel_follows() {
    let bench = Bench::new();
    let network = json!({
        "method": {"multitalent": {"network": {"u_net": {"features": [4, 6], "strides": [[2, 2, 2]]}}, "deep_supervision": false}},
        "datasets": [{"name": "one", "subset": "D", "classes": ["organ"]}, {"name": "two", "subset": "E", "classes": ["kidney", "tumor"]}],
    });
    let config: partial::ModelConfig = serde_json::from_value(network.clone()).unwrap();
    let datasets = partial::Datasets::new(&config.datasets, &classes()).unwrap();
    let model = partial::Model::new(&config, &datasets, &classes()).unwrap();
    let card = ModelCard { network, outputs: Vec::new(), ..card(Kind::Partial, vec![16; 3]) };
    bench.train(&model, Some(&card));
    bench.export(json!({"onnx": true})).unwrap();
    let graph = bench.graph();
    must_say(&graph, &["\"name\":\"logits\",\"scores\":\"sigmoid\"", "{\"class\":\"kidney\",\"value\":200,\"head\":\"one\"}"]);
    must_say(&graph, &["{\"class\":\"kidney\",\"value\":200,\"head\":\"two\"},{\"class\":\"tumor\",\"value\":14,\"head\":\"two\"}"]);
    assert_eq!(bench.open().outputs().len(), 2);
}

#[test]
fn parameters_that_nobody_knows_are_refused() {
    let bench = Bench::new();
    bench.train_student(Some(&card(Kind::Student, vec![32, 32])));
    for params in [json!({"onx": true}), json!({"card": {"license": "x"}}), json!({"window": {"sise": 1}})] {
        let refused = bench.refused(params.clone());
        assert!(refused.contains("unknown field"), "{params}: {refused}");
    }
}
