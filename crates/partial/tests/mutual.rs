//! Deep mutual learning: what each part charges, and whom it moves.

use candle_core::{DType, Device, Tensor};
use labels::SubsetName;
use nets::{Network as _, Params, TrunkConfig, UNetConfig};
use partial::{Dataset, Datasets, Dice, Difference, Loss, MethodConfig, Model, ModelConfig, Objective, Output, Similarity, Truth};
use streams::Streams;

const SIDE: usize = 8;

struct Lab {
    datasets: Datasets,
    model: Model,
    params: Params,
    organs: Tensor,
    cancer: Tensor,
}

/// Five organs and the tumor in the first dataset, 13 organs in the second: 5 of 14 classes are shared.
fn lab(full: bool) -> Lab {
    let network = TrunkConfig::UNet(UNetConfig { features: vec![3, 4], strides: vec![[2, 2, 2]], blocks: None, first_kernel: [3; 3] });
    let method = match full {
        true => MethodConfig::MutualFull { network, similarity: Similarity { prediction: 1.0, features: 1.0 } },
        false => MethodConfig::MutualPartial { network, difference: Difference { prediction: 1.0, features: 1.0 } },
    };
    let dataset = |name: &str, subset| Dataset { name: name.into(), subset, classes: None };
    let declared = vec![dataset("five", SubsetName::Dl3), dataset("all", SubsetName::Dl1)];
    let datasets = Datasets::new(&declared).unwrap();
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks: Vec::new() }, &datasets).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(2), &Device::Cpu).unwrap();
    let map = |value: fn(usize) -> u8| {
        Tensor::from_iter((0..SIDE.pow(3)).map(value), &Device::Cpu).unwrap().reshape((1, SIDE, SIDE, SIDE)).unwrap()
    };
    Lab { datasets, model, params, organs: map(|i| [0, 1, 5, 13][i / 9 % 4]), cancer: map(|i| u8::from(i % 70 < 4)) }
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
        let truth = Truth { organs: &self.organs, cancer: &self.cancer, datasets: &[1] };
        let loss = loss.of(&self.model, &self.outputs(), &truth, &self.datasets).unwrap();
        let gradients = loss.backward().unwrap();
        let moved = ["five.", "all."].map(|prefix| {
            let own = self.params.all().filter(|(name, _)| name.starts_with(prefix)).filter_map(|(_, var)| gradients.get(var));
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
    let truth = lab.organs.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let mut expected = 0.0;
    for (logits, class) in logits.iter().zip([1u8, 2, 3, 4, 13, 14]) {
        // The sample has organs annotated, and no tumor.
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
