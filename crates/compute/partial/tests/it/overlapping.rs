//! Classes of three groups, with values above 14: a kidney that contains its tumor, and an artery that runs through both.

use candle_core::{DType, Device, Tensor};
use model_card::{Kind, ModelCard, ModelInput, Origin};
use nets::{DynamicHeadConfig, Network as _, Params, Precision, ResidualConfig, TrunkConfig, UNetConfig};
use partial::{
    Channel, Class, Datasets, Dice, Loss, MethodConfig, Model, ModelConfig, Objective, Output, PartialTally, Row, Rule, TrainedModel, Truth,
};
use random::Streams;
use volume::ModelGrid;

use crate::{class, dataset, kits};

const SIDE: usize = 8;

/// Which of a row of voxels are kidney, tumor and artery: the tumor lies in the kidney, the artery in both and outside.
const KIDNEY: [u8; 8] = [0, 1, 1, 1, 1, 1, 0, 0];
const TUMOR: [u8; 8] = [0, 0, 0, 1, 1, 0, 0, 0];
const ARTERY: [u8; 8] = [0, 0, 1, 1, 0, 0, 1, 0];

/// The output values that lie on top.
const SHOWN: [u8; 8] = [0, 200, 90, 90, 40, 200, 90, 0];

fn declared() -> Vec<partial::Dataset> {
    vec![dataset("whole", &["kidney", "tumor", "artery"]), dataset("vessels", &["artery"])]
}

fn datasets() -> Datasets {
    crate::datasets(&declared(), &kits())
}

fn config(method: MethodConfig) -> ModelConfig {
    ModelConfig { method, datasets: declared(), tasks: Vec::new() }
}

fn model(method: MethodConfig) -> Model {
    Model::new(&config(method), &datasets(), &kits()).unwrap()
}

fn network() -> TrunkConfig {
    TrunkConfig::UNet(UNetConfig { features: vec![3, 4], strides: vec![[2; 3]], blocks: None, first_kernel: [3; 3], layers: None })
}

fn row(values: impl Fn(usize) -> u8) -> Tensor {
    Tensor::from_iter((0..8).map(values), &Device::Cpu).unwrap().reshape((1, 1, 1, 8)).unwrap()
}

/// The maps of the three groups: kidney is the second organ and tumor the second lesion.
fn groups() -> [Tensor; 3] {
    [row(|i| KIDNEY[i] * 2), row(|i| TUMOR[i] * 2), row(|i| ARTERY[i])]
}

fn channels(keys: &[&str]) -> Vec<Option<Channel>> {
    keys.iter().map(|key| Some(Channel { head: 0, class: class(&kits(), key) })).collect()
}

/// Logits `(1, channels, 1, 1, 8)`, far above 0 where a channel has a 1.
fn sure(maps: &[[u8; 8]]) -> Tensor {
    let values = maps.iter().flatten().map(|&on| if on == 1 { 40f32 } else { -40.0 });
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((1, maps.len(), 1, 1, 8)).unwrap()
}

fn loss(by: Objective, model: &Model, logits: Tensor, channels: Vec<Option<Channel>>) -> f64 {
    let output = Output { logits, rows: vec![Row { sample: 0, channels }], weight: 1.0, features: None };
    let (groups, datasets) = (groups(), datasets());
    let truth = Truth { groups: &groups, datasets: &[0], weights: &[] };
    let loss = Loss { by, dice: Dice::Linear }.of(model, &[output], &truth, &datasets).unwrap();
    f64::from(loss.to_scalar::<f32>().unwrap())
}

#[test]
fn independent_outputs_learn_all_classes_of_a_voxel() {
    let model = model(MethodConfig::Multitalent { network: network(), deep_supervision: false });
    let right = loss(Objective::Sum, &model, sure(&[KIDNEY, TUMOR, ARTERY]), channels(&["kidney", "tumor", "artery"]));
    assert!((right + 3.0).abs() < 1e-4, "three Dice scores of 1 and no entropy: {right}");
    let without_tumor: [u8; 8] = std::array::from_fn(|i| KIDNEY[i] * (1 - TUMOR[i]));
    let wrong = loss(Objective::Sum, &model, sure(&[without_tumor, TUMOR, ARTERY]), channels(&["kidney", "tumor", "artery"]));
    assert!(wrong > right + 1.0, "the kidney's region contains its tumor: {wrong}");
}

#[test]
fn of_exclusive_classes_that_of_the_last_group_counts() {
    let model = model(MethodConfig::TargetAdaptive { network: network() });
    assert_eq!(model.heads()[0].classes, Class::within(&kits(), [40, 90, 200].into_iter().collect()), "what is annotated anywhere");
    let shown = |value: u8| SHOWN.map(|shown| u8::from(shown == value));
    let logits = sure(&[shown(0), shown(200), shown(40), shown(90)]);
    let all: Vec<_> = std::iter::once(None).chain(channels(&["kidney", "tumor", "artery"])).collect();
    let right = loss(Objective::Merged, &model, logits.clone(), all.clone());
    assert!(right.abs() < 1e-3, "{right}");
    let mut tally = PartialTally::new(&model);
    let output = Output { logits, rows: vec![Row { sample: 0, channels: all }], weight: 1.0, features: None };
    let groups = groups();
    let truth = Truth { groups: &groups, datasets: &[0], weights: &[] };
    tally.add(&model, &[output], &truth, &datasets(), (&Tensor::new(0f32, &Device::Cpu).unwrap(), 1)).unwrap();
    let validation = tally.validation(&model);
    assert_eq!(validation.dice, 1.0);
    let names: Vec<&str> = validation.details.iter().map(|detail| detail.name.as_str()).collect();
    assert_eq!(names, ["dice_all_kidney", "dice_all_tumor", "dice_all_artery"]);
}

/// The output values that lie on top where each group shows the class of its greatest score.
fn shown(model: &Model, scores: &[Tensor]) -> Vec<u8> {
    let mut labels = vec![0; scores[0].elem_count() / scores[0].dims()[0]];
    for (output, scores) in model.outputs().iter().zip(scores) {
        let channels = ops::argmax_channels(&scores.unsqueeze(0).unwrap()).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let values = output.value_of_channel();
        let upper: Vec<u8> = channels.into_iter().map(|channel| values[usize::from(channel)]).collect();
        labels::overlay(&mut labels, &upper).unwrap();
    }
    labels
}

#[test]
fn every_group_has_scores_and_later_ones_lie_above() {
    for (method, logits, background) in [
        (MethodConfig::Multitalent { network: network(), deep_supervision: false }, sure(&[KIDNEY, TUMOR, ARTERY]), false),
        (
            MethodConfig::TargetAdaptive { network: network() },
            sure(&[0, 200, 40, 90].map(|value| SHOWN.map(|s| u8::from(s == value)))),
            true,
        ),
    ] {
        let model = model(method);
        let outputs = model.outputs();
        let found: Vec<(&str, &[u8])> = outputs.iter().map(|output| (output.group.as_str(), &output.values[..])).collect();
        assert_eq!(found, [("organ", &[200][..]), ("lesion", &[40]), ("vessel", &[90])], "nobody knows livers and cysts");
        let about = channels(&["kidney", "tumor", "artery"]);
        let channels = if background { std::iter::once(None).chain(about).collect() } else { about };
        let output = Output { logits, rows: vec![Row { sample: 0, channels }], weight: 1.0, features: None };
        let scores = Rule::default().scores(&model, &[output]).unwrap();
        assert_eq!(shown(&model, &scores), SHOWN);
    }
}

#[test]
fn exclusive_scores_overlay_to_the_greatest_of_all() {
    let model = model(MethodConfig::TargetAdaptive { network: network() });
    let logits =
        Tensor::from_iter((0..4 * 64).map(|i| (i as f32 * 1.7).sin() * 3.0), &Device::Cpu).unwrap().reshape((1, 4, 4, 4, 4)).unwrap();
    let greatest = ops::argmax_channels(&logits).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let expected: Vec<u8> = greatest.into_iter().map(|channel| [0, 200, 40, 90][usize::from(channel)]).collect();
    let channels = std::iter::once(None).chain(channels(&["kidney", "tumor", "artery"])).collect();
    let output = Output { logits, rows: vec![Row { sample: 0, channels }], weight: 1.0, features: None };
    let scores = Rule::default().scores(&model, &[output]).unwrap();
    assert_eq!(shown(&model, &scores), expected);
    assert!([200, 40, 90, 0].iter().all(|value| expected.contains(value)));
}

/// A model with random weights, in a file.
fn saved(method: MethodConfig, path: &std::path::Path) -> (Model, Params) {
    let config = config(method);
    let model = Model::new(&config, &datasets(), &kits()).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(5), &Device::Cpu).unwrap();
    let classes = kits().only(model.pattern());
    let card = ModelCard {
        kind: Kind::Partial,
        network: serde_json::to_value(config.about(&classes)).unwrap(),
        classes,
        outputs: Vec::new(),
        input: ModelInput {
            grid: ModelGrid { spacing_mm: [Some(1.0); 3], window_hu: [-200.0, 300.0] },
            scaling: volume::Scaling::default(),
            crop_foreground: false,
            patch: vec![SIDE; 3],
            habits: Default::default(),
        },
        origin: Origin { cases: "kits".into(), seed: 1, best_epoch: 1, validation_score: 0.5, ..Origin::default() },
        keep_parts: Default::default(),
    };
    params.save(path, &card.to_metadata().unwrap()).unwrap();
    (model, params)
}

fn patch() -> Tensor {
    let patch = Tensor::from_iter((0..SIDE.pow(3)).map(|i| (i as f32 * 0.3).sin()), &Device::Cpu).unwrap();
    patch.reshape((1, 1, SIDE, SIDE, SIDE)).unwrap()
}

#[test]
fn a_model_comes_back_from_its_card_alone() {
    let (folder, patch) = (tempfile::tempdir().unwrap(), patch());
    let path = folder.path().join("weights.safetensors");
    let (model, params) = saved(MethodConfig::PerDataset { network: network() }, &path);
    let trained = TrainedModel::load(&path, Precision::Exact, &Device::Cpu).unwrap();
    assert_eq!(trained.outputs(), model.outputs());
    let values = |scores: &[Tensor]| -> Vec<Vec<f32>> { scores.iter().map(|s| s.flatten_all().unwrap().to_vec1().unwrap()).collect() };
    let outputs = model.forward(&params, &patch, &[vec![0, 1]], false).unwrap();
    let expected = values(&Rule::default().scores(&model, &outputs).unwrap());
    let scores = trained.scores(&patch).unwrap();
    assert_eq!(values(&scores), expected);
    assert!(scores.iter().all(|scores| scores.dims() == [2, SIDE, SIDE, SIDE] && scores.dtype() == DType::F32));
    let sure = Rule { threshold: 0.75, ..Rule::default() };
    let scores = trained.labelling_by(sure).unwrap().scores(&patch).unwrap();
    assert!(values(&scores).iter().all(|scores| scores[..SIDE.pow(3)].iter().all(|&score| score == 0.75)), "the background's score");
}

/// U-Nets have packed kernels, of any precision; what they differ by is rounding.
#[test]
fn trained_models_compute_with_any_numbers_that_they_have_kernels_for() {
    let (folder, patch) = (tempfile::tempdir().unwrap(), patch());
    let path = folder.path().join("weights.safetensors");
    let (features, strides) = (vec![16, 24], vec![[2; 3]]);
    let wide = TrunkConfig::UNet(UNetConfig { features, strides, blocks: None, first_kernel: [3; 3], layers: None });
    let (model, params) = saved(MethodConfig::PerDataset { network: wide }, &path);
    let all = [(0..model.heads().len()).collect()];
    let flat = |output: &Output| output.logits.flatten_all().unwrap();
    let logits = |outputs: Vec<Output>| Tensor::cat(&outputs.iter().map(flat).collect::<Vec<_>>(), 0).unwrap();
    let expected = logits(model.forward(&params, &patch, &all, false).unwrap());
    for (precision, bound) in [(Precision::F32, 1e-4), (Precision::Bf16, 4e-2), (Precision::Int8, 2e-1)] {
        let found = logits(TrainedModel::load(&path, precision, &Device::Cpu).unwrap().pass(&patch, &all).unwrap());
        let square = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let off = (square((&found - &expected).unwrap()) / square(expected.clone())).sqrt();
        assert!(off < bound, "{precision}: off by {off:e}");
    }

    let head = DynamicHeadConfig { depth: 3, width: 4, image_feature: true, task_encoding: true };
    saved(MethodConfig::Dodnet { network: ResidualConfig { features: [4, 4, 4, 8], blocks: [1; 5], groups: 2 }, head }, &path);
    for precision in [Precision::Bf16, Precision::Int8] {
        let error = TrainedModel::load(&path, precision, &Device::Cpu).err().unwrap().to_string();
        assert!(
            error.contains("weights.safetensors computes in single precision alone") && error.contains(&precision.to_string()),
            "{error}"
        );
    }
    assert!(TrainedModel::load(&path, Precision::Auto, &Device::Cpu).is_ok());
}
