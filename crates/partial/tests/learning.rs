//! Every method learns all classes from two datasets of which each has others annotated: the organs in one, the tumor in the other.

use candle_core::{Device, Tensor};
use labels::SubsetName;
use nets::{DynamicHeadConfig, Network as _, Params, ResidualConfig, TrunkConfig, UNetConfig};
use partial::{Class, Combine, Dataset, Datasets, Dice, Difference, Loss, MethodConfig, Model, ModelConfig, Rule, Task, Truth};
use streams::rand::RngExt as _;
use streams::{Stream, Streams, normal};
use training::{Accumulator, AdamW, AdamWConfig};

const SIDE: usize = 16;
const STEPS: u64 = 150;

fn class(key: &str) -> Class {
    Class::try_from(key.to_owned()).unwrap()
}

/// Image, organs and cancer of a patient: a grey liver, a brighter spleen, and a tumor, brighter yet, beside them.
fn patient(stream: &mut Stream) -> [Tensor; 3] {
    let mut start = || -> [usize; 3] { std::array::from_fn(|_| stream.random_range(0..3)) };
    let (liver, spleen, tumor) = (start(), start().map(|s| s + 7), start());
    let inside = |at: [usize; 3], start: [usize; 3], length: usize| (0..3).all(|k| (start[k]..start[k] + length).contains(&at[k]));
    let tumor = [tumor[0] + 10, tumor[1], tumor[2] + 2];
    let mut maps = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..SIDE.pow(3) {
        let at = [i / SIDE / SIDE, i / SIDE % SIDE, i % SIDE];
        let organ = if inside(at, liver, 7) { 1 } else { 3 * u8::from(inside(at, spleen, 6)) };
        let cancer = u8::from(inside(at, tumor, 4));
        let value = if cancer == 1 { 1.0 } else { [0.0, 0.35, 0.0, 0.7][usize::from(organ)] };
        maps.0.push(value + 0.03 * normal(stream));
        maps.1.push(if cancer == 1 { 0 } else { organ });
        maps.2.push(cancer);
    }
    let shape = (1, SIDE, SIDE, SIDE);
    [
        Tensor::from_vec(maps.0, (1, 1, SIDE, SIDE, SIDE), &Device::Cpu).unwrap(),
        Tensor::from_vec(maps.1, shape, &Device::Cpu).unwrap(),
        Tensor::from_vec(maps.2, shape, &Device::Cpu).unwrap(),
    ]
}

fn methods() -> Vec<MethodConfig> {
    let residual = ResidualConfig { features: [6, 6, 8, 8], blocks: [1; 5], groups: 2 };
    let network = || TrunkConfig::Residual(residual.clone());
    let unet = || {
        let config = UNetConfig { features: vec![6, 8, 8], strides: vec![[2; 3]; 2], blocks: Some(vec![1, 1, 1]), first_kernel: [3; 3] };
        TrunkConfig::UNet(config)
    };
    let head = DynamicHeadConfig { depth: 3, width: 8, image_feature: true, task_encoding: true };
    vec![
        MethodConfig::Dodnet { network: residual.clone(), head },
        MethodConfig::Multitalent { network: unet(), deep_supervision: true },
        MethodConfig::MultiHead { network: network() },
        MethodConfig::Conditional { network: unet() },
        MethodConfig::TargetAdaptive { network: network() },
        MethodConfig::PerDataset { network: unet() },
        MethodConfig::MutualPartial { network: unet(), difference: Difference { prediction: 0.1, features: 0.1 } },
    ]
}

/// Dice scores of liver, spleen and tumor of a patient that training has not seen.
fn learnt(method: MethodConfig) -> [f64; 3] {
    let loss = Loss { by: method.objective(), dice: Dice::Linear };
    let dataset = |name: &str, subset, keys: &[&str]| Dataset {
        name: name.into(),
        subset,
        classes: Some(keys.iter().map(|key| class(key)).collect()),
    };
    let declared = vec![dataset("organs", SubsetName::Dl2, &["liver", "spleen"]), dataset("cancer", SubsetName::Dl4, &["tumor"])];
    let datasets = Datasets::new(&declared).unwrap();
    let tasks = declared.iter().map(|d| Task { name: d.name.clone(), classes: d.classes.clone().unwrap() }).collect();
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks }, &datasets).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(4), &Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(&params, AdamWConfig::with_weight_decay(0.0)).unwrap();
    let wanted: Vec<Vec<usize>> = (0..2).map(|d| model.trained_by(&datasets, d)).collect();
    for step in 0..STEPS {
        let mut stream = Streams::new(1).stream("patients", &[step]);
        let two = [patient(&mut stream), patient(&mut stream)];
        let map = |k: usize| Tensor::cat(&[&two[0][k], &two[1][k]], 0).unwrap();
        let (organs, cancer) = (map(1), map(2));
        let outputs = model.forward(&params, &map(0), &wanted, true).unwrap();
        let truth = Truth { organs: &organs, cancer: &cancer, datasets: &[0, 1] };
        let loss = loss.of(&model, &outputs, &truth, &datasets).unwrap();
        let mut accumulator = Accumulator::default();
        accumulator.add(&params, &loss, 1.0).unwrap();
        let rate = 1e-2 * (1.0 - step as f64 / STEPS as f64);
        optimizer.step(&params, &accumulator.into_gradients(), rate).unwrap();
    }
    let [image, organs, cancer] = patient(&mut Streams::new(2).stream("patients", &[0]));
    let all = vec![(0..model.heads().len()).collect()];
    let outputs = model.forward(&params, &image, &all, false).unwrap();
    let scores = Rule { combine: Combine::Mean, threshold: 0.5 }.scores(&model, &outputs).unwrap();
    let [found_organs, found_cancer] = scores.map(|scores| ops::argmax_channels(&scores.unsqueeze(0).unwrap()).unwrap());
    let values = |map: &Tensor| map.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let dice = |found: &Tensor, truth: &Tensor, label: u8| {
        let (found, truth) = (values(found), values(truth));
        let count = |of: &dyn Fn(usize) -> bool| (0..found.len()).filter(|&i| of(i)).count() as f64;
        2.0 * count(&|i| found[i] == label && truth[i] == label) / (count(&|i| found[i] == label) + count(&|i| truth[i] == label))
    };
    [dice(&found_organs, &organs, 1), dice(&found_organs, &organs, 3), dice(&found_cancer, &cancer, 1)]
}

#[test]
fn every_method_learns_what_its_datasets_together_know() {
    for method in methods() {
        let name = format!("{method:?}");
        let scores = learnt(method);
        println!("{scores:.3?} {name}");
        assert!(scores.iter().all(|&score| score > 0.8), "{name}: {scores:?}");
    }
}
