//! Deep mutual learning: what each part charges, and whom it moves.

use candle_core::{DType, Device, Tensor};
use labels::{Regions, flare23};
use nets::{Network as _, Params, TrunkConfig, UNetConfig};
use partial::{Datasets, Dice, Difference, Loss, MethodConfig, Model, ModelConfig, Objective, Output, Similarity, Truth};
use random::Streams;

use crate::{FIVE, dataset, kits};

const SIDE: usize = 8;

struct Lab {
    datasets: Datasets,
    model: Model,
    params: Params,
    groups: Vec<Tensor>,
}

/// Five organs and the tumor in the first dataset, 13 organs in the second: 5 of 14 classes are shared.
fn lab(full: bool) -> Lab {
    let network =
        TrunkConfig::UNet(UNetConfig { features: vec![3, 4], strides: vec![[2, 2, 2]], blocks: None, first_kernel: [3; 3], layers: None });
    let method = match full {
        true => MethodConfig::MutualFull { network, similarity: Similarity { prediction: 1.0, features: 1.0 } },
        false => MethodConfig::MutualPartial { network, difference: Difference { prediction: 1.0, features: 1.0 } },
    };
    let declared = vec![dataset("five", &[&FIVE[..], &["tumor"]].concat()), dataset("all", &["organ"])];
    let (datasets, classes) = (crate::datasets(&declared, &flare23::classes()), flare23::classes());
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks: Vec::new() }, &datasets, &classes).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(2), &Device::Cpu).unwrap();
    Lab { datasets, model, params, groups: vec![map(|i| [0, 1, 5, 13][i / 9 % 4]), map(|i| u8::from(i % 70 < 4))] }
}

fn map(value: fn(usize) -> u8) -> Tensor {
    Tensor::from_iter((0..SIDE.pow(3)).map(value), &Device::Cpu).unwrap().reshape((1, SIDE, SIDE, SIDE)).unwrap()
}

impl Lab {
    fn outputs(&self) -> Vec<Output> {
        let image = Tensor::from_iter((0..SIDE.pow(3)).map(|i| (i as f32 * 0.13).sin()), &Device::Cpu).unwrap();
        let wanted = [self.model.trained_by(&self.datasets, 1)];
        assert_eq!(wanted[0], [0, 1], "every network sees every sample");
        self.model.forward(&self.params, &image.reshape((1, 1, SIDE, SIDE, SIDE)).unwrap(), &wanted, true).unwrap()
    }

    /// The loss of a sample of the second dataset, and the greatest gradient in each dataset's network.
    fn loss(&self, loss: Loss) -> (f64, [f32; 2]) {
        let truth = Truth { groups: &self.groups, datasets: &[1], weights: &[] };
        let loss = loss.of(&self.model, &self.outputs(), &truth, &self.datasets).unwrap();
        let gradients = loss.backward().unwrap();
        let moved = ["five.", "all."].map(|prefix| {
            let own = self.params.all().filter(|(name, _)| name.starts_with(prefix)).filter_map(|(_, var)| gradients.get(&var));
            own.map(|g| g.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()).fold(0.0, f32::max)
        });
        (f64::from(loss.to_scalar::<f32>().unwrap()), moved)
    }

    /// Where a network's features are strong, of length 1.
    fn attention(&self, head: usize) -> Vec<f64> {
        let features = self.outputs()[head].features.clone().unwrap();
        let strength =
            features.sqr().unwrap().mean(1).unwrap().flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let length = strength.iter().map(|v| v * v).sum::<f64>().sqrt();
        strength.into_iter().map(|v| v / length).collect()
    }

    fn cosine(&self) -> f64 {
        self.attention(0).iter().zip(self.attention(1)).map(|(a, b)| a * b).sum()
    }
}

fn difference(prediction: f64, features: f64) -> Loss {
    Loss { by: Objective::Difference(Difference { prediction, features }), dice: Dice::Linear }
}

fn similarity(prediction: f64, features: f64) -> Loss {
    Loss { by: Objective::Similarity(Similarity { prediction, features }), dice: Dice::Linear }
}

#[test]
fn without_mutual_learning_a_network_learns_its_own_dataset_alone() {
    for (lab, loss) in [(lab(false), difference(0.0, 0.0)), (lab(true), similarity(0.0, 0.0))] {
        let (_, [five, all]) = lab.loss(loss);
        assert!(five == 0.0 && all > 0.0, "{loss:?}: {five} {all}");
    }
}

#[test]
fn a_network_is_charged_for_its_classes_where_true_labels_show_others() {
    let lab = lab(false);
    let (alone, _) = lab.loss(difference(0.0, 0.0));
    let (with, [five, _]) = lab.loss(difference(2.0, 0.0));
    assert!(five > 0.0, "the other network is moved");
    let logits = lab.outputs()[0].logits.squeeze(0).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let truth = lab.groups[0].flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let mut expected = 0.0;
    // The sample has organs annotated, and no tumor. A tumor may lie in an organ: it is not charged for that.
    for (logits, class) in logits.iter().zip(flare23::FIVE_ORGANS) {
        let elsewhere: Vec<usize> = (0..truth.len()).filter(|&i| truth[i] != 0 && truth[i] != class).collect();
        let p: f64 = elsewhere.iter().map(|&i| 1.0 / (1.0 + f64::from(-logits[i]).exp())).sum();
        expected += p / (elsewhere.len() as f64 + 1.0) / 6.0;
    }
    assert!((with - alone - 2.0 * expected).abs() < 1e-5, "{with} - {alone}, 2 × {expected}");
}

#[test]
fn networks_of_different_classes_are_charged_for_looking_at_the_same_places() {
    let lab = lab(false);
    let (alone, _) = lab.loss(difference(0.0, 0.0));
    let (with, [five, all]) = lab.loss(difference(0.0, 3.0));
    let expected = 3.0 * (1.0 - 5.0 / 14.0) * lab.cosine();
    assert!((with - alone - expected).abs() < 1e-5, "{with} - {alone}, {expected}");
    assert!(five > 0.0 && all > 0.0, "both are moved apart");
}

#[test]
fn full_networks_learn_true_labels_of_others_and_where_the_best_one_looks() {
    let lab = lab(true);
    let (alone, _) = lab.loss(similarity(0.0, 0.0));
    let (with, [five, _]) = lab.loss(similarity(1.0, 0.0));
    assert!(with > alone && five > 0.0, "the network of the other dataset learns this one's labels");
    let (with, moved) = lab.loss(similarity(0.0, 3.0));
    assert!((with - alone - 3.0 * (1.0 - lab.cosine())).abs() < 1e-5);
    let (_, without) = lab.loss(similarity(0.0, 0.0));
    // One of them is the best, and is moved no more than before.
    let moved_more = [0, 1].map(|k| (moved[k] - without[k]).abs() > 1e-9);
    assert_eq!(moved_more.iter().filter(|&&more| more).count(), 1, "{moved:?} {without:?}");
}

#[test]
fn full_networks_say_that_they_need_all_labels() {
    assert!(lab(true).model.needs_all_labels() && !lab(false).model.needs_all_labels());
    assert!(lab(true).model.heads().iter().all(|head| head.classes.len() == 14));
}

/// What is charged of the networks of kidney, tumor and artery where a sample is truly of tumor alone, in this order. Kidneys may
/// be labelled with the tumors in them.
fn charged_for_a_tumor(kidney: &[u8]) -> [f32; 3] {
    let network =
        TrunkConfig::UNet(UNetConfig { features: vec![3, 4], strides: vec![[2, 2, 2]], blocks: None, first_kernel: [3; 3], layers: None });
    let method = MethodConfig::MutualPartial { network, difference: Difference { prediction: 1.0, features: 0.0 } };
    let declared = vec![dataset("kidneys", &["kidney"]), dataset("tumors", &["tumor", "cyst"]), dataset("vessels", &["artery"])];
    let values = [("kidney".to_owned(), kidney.to_vec()), ("tumor".to_owned(), vec![2]), ("artery".to_owned(), vec![3])].into();
    let regions = Regions::declared(&kits(), &values, &[]).unwrap();
    let datasets = crate::datasets(&declared, &kits()).labelled_by([&regions]);
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks: Vec::new() }, &datasets, &kits()).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(2), &Device::Cpu).unwrap();
    let image = Tensor::zeros((1, 1, SIDE, SIDE, SIDE), DType::F32, &Device::Cpu).unwrap();
    let outputs = model.forward(&params, &image, &[vec![0, 1, 2]], true).unwrap();
    let groups = [map(|_| 0), map(|i| u8::from(i % 5 == 0) * 2), map(|_| 0)];
    let truth = Truth { groups: &groups, datasets: &[1], weights: &[] };
    let gradients = difference(1.0, 0.0).of(&model, &outputs, &truth, &datasets).unwrap().backward().unwrap();
    ["kidneys.", "tumors.", "vessels."].map(|prefix| {
        let own = params.all().filter(|(name, _)| name.starts_with(prefix)).filter_map(|(_, var)| gradients.get(&var));
        own.map(|g| g.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()).fold(0.0, f32::max)
    })
}

#[test]
fn a_class_is_not_charged_where_it_may_lie_in_another_or_contain_it() {
    let [kidney, tumor, artery] = charged_for_a_tumor(&[1]);
    assert!(kidney > 0.0, "no kidney is labelled where its tumor is");
    assert!(tumor > 0.0, "the network of the sample's own dataset learns its labels");
    assert_eq!(artery, 0.0, "an artery may run through a tumor, which is of an earlier group");
    let [kidney, tumor, artery] = charged_for_a_tumor(&[1, 2]);
    assert!(kidney == 0.0 && tumor > 0.0 && artery == 0.0, "a kidney is labelled with its tumor: {kidney} {tumor} {artery}");
}

/// What the network of tumors is charged where a sample truly shows an organ and nobody looked for tumors, with the tumors' declaration.
fn charged_in_an_organ(tumors: &str, organ: u8) -> f64 {
    let groups =
        format!(r#"[{{"group": "organ", "classes": {{"liver": 1, "spleen": 2}}}}, {{"group": "lesion", "classes": {{{tumors}}}}}]"#);
    let classes: labels::Classes = serde_json::from_str(&groups).unwrap();
    let network =
        TrunkConfig::UNet(UNetConfig { features: vec![3, 4], strides: vec![[2, 2, 2]], blocks: None, first_kernel: [3; 3], layers: None });
    let method = MethodConfig::MutualPartial { network, difference: Difference { prediction: 1.0, features: 0.0 } };
    let declared = vec![dataset("organs", &["liver", "spleen"]), dataset("tumors", &["tumor"])];
    let datasets = crate::datasets(&declared, &classes);
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks: Vec::new() }, &datasets, &classes).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(2), &Device::Cpu).unwrap();
    let image = Tensor::zeros((1, 1, SIDE, SIDE, SIDE), DType::F32, &Device::Cpu).unwrap();
    let outputs = model.forward(&params, &image, &[vec![0, 1]], true).unwrap();
    let organs = (map(|i| u8::from(i % 5 == 0)) * f64::from(organ)).unwrap();
    let groups = [organs, map(|_| 0)];
    let truth = Truth { groups: &groups, datasets: &[0], weights: &[] };
    let loss = |of: Loss| f64::from(of.of(&model, &outputs, &truth, &datasets).unwrap().to_scalar::<f32>().unwrap());
    loss(difference(1.0, 0.0)) - loss(difference(0.0, 0.0))
}

#[test]
fn classes_say_where_a_tumor_may_lie_and_it_is_charged_elsewhere_alone() {
    let liver_tumor = r#""tumor": {"value": 14, "within": ["liver"]}"#;
    assert_eq!(charged_in_an_organ(r#""tumor": 14"#, 1), 0.0, "in any organ, unless something else is said");
    assert_eq!(charged_in_an_organ(liver_tumor, 1), 0.0);
    assert!(charged_in_an_organ(liver_tumor, 2) > 0.0, "a tumor of the liver is none in the spleen");
}
