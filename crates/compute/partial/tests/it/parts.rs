//! A batch in parts has the loss and the gradients of the whole, or is refused.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use labels::flare23;
use nets::{DynamicHeadConfig, Network as _, Params, ResidualConfig, TrunkConfig, UNetConfig};
use partial::{Dataset, Datasets, Dice, Difference, Loss, MethodConfig, Model, ModelConfig, Similarity, Task, Truth};
use random::Streams;
use training::Accumulator;

use crate::{dataset, datasets, names};

const SIDE: usize = 16;

/// The datasets of the samples of a batch: the first two have more annotated than the others.
const SAMPLES: [usize; 5] = [0, 2, 1, 2, 0];

fn declared() -> Vec<Dataset> {
    vec![dataset("both", &["liver", "spleen", "tumor"]), dataset("organs", &["liver", "spleen"]), dataset("tumor", &["tumor"])]
}

fn residual() -> ResidualConfig {
    ResidualConfig { features: [4, 4, 4, 8], blocks: [1; 5], groups: 2 }
}

fn unet() -> TrunkConfig {
    TrunkConfig::UNet(UNetConfig { features: vec![4, 6], strides: vec![[2; 3]], blocks: None, first_kernel: [3; 3] })
}

fn dodnet() -> MethodConfig {
    let head = DynamicHeadConfig { depth: 3, width: 4, image_feature: true, task_encoding: true };
    MethodConfig::Dodnet { network: residual(), head }
}

struct Lab {
    datasets: Datasets,
    model: Model,
    params: Params,
    loss: Loss,
}

fn lab(method: MethodConfig, dice: Dice, tasks: &[&[&str]]) -> Lab {
    let (classes, datasets) = (flare23::classes(), datasets(&declared(), &flare23::classes()));
    let loss = Loss { by: method.objective(), dice };
    let tasks = tasks.iter().enumerate().map(|(k, classes)| Task { name: format!("task_{k}"), classes: names(classes) }).collect();
    let model = Model::new(&ModelConfig { method, datasets: declared(), tasks }, &datasets, &classes).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(3), &Device::Cpu).unwrap();
    Lab { datasets, model, params, loss }
}

impl Lab {
    fn accepts_parts(&self) -> bool {
        self.loss.by.check_parts(&self.model, &self.datasets).is_ok()
    }

    /// Loss and gradients of the batch, taken in parts of so many samples.
    fn taken_by(&self, size: usize) -> (f64, GradStore) {
        let voxels = SAMPLES.len() * SIDE.pow(3);
        let image = Tensor::from_iter((0..voxels).map(|i| (i as f32 * 0.013).sin()), &Device::Cpu).unwrap();
        let image = image.reshape((SAMPLES.len(), 1, SIDE, SIDE, SIDE)).unwrap();
        let map = |value: fn(usize) -> u8| {
            Tensor::from_iter((0..voxels).map(value), &Device::Cpu).unwrap().reshape((SAMPLES.len(), SIDE, SIDE, SIDE)).unwrap()
        };
        let groups = [map(|i| [0, 1, 1, 3][i / 40 % 4]), map(|i| u8::from(i % 90 < 9))];
        let (mut loss, mut accumulator) = (0.0, Accumulator::unreached_are_zero());
        for begin in (0..SAMPLES.len()).step_by(size) {
            let length = size.min(SAMPLES.len() - begin);
            let of = |map: &Tensor| map.narrow(0, begin, length).unwrap();
            let (samples, groups) = (&SAMPLES[begin..begin + length], groups.each_ref().map(of));
            let wanted: Vec<Vec<usize>> = samples.iter().map(|&d| self.model.trained_by(&self.datasets, d)).collect();
            let outputs = self.model.forward(&self.params, &of(&image), &wanted, true).unwrap();
            let truth = Truth { groups: &groups, datasets: samples };
            let of_part = self.loss.of(&self.model, &outputs, &truth, &self.datasets).unwrap();
            let share = length as f64 / SAMPLES.len() as f64;
            loss += share * f64::from(of_part.to_scalar::<f32>().unwrap());
            accumulator.add(&self.params, &of_part, share).unwrap();
        }
        (loss, accumulator.into_gradients())
    }
}

/// The greatest difference between gradients, by the greatest of the first.
fn apart(params: &Params, a: &GradStore, b: &GradStore) -> f32 {
    let greatest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let of = |gradients: &GradStore, var: &Var| gradients.get(var).unwrap().clone();
    let most = params.live().map(|(_, var)| greatest(&of(a, &var))).fold(0.0, f32::max);
    params.live().map(|(_, var)| greatest(&(of(a, &var) - of(b, &var)).unwrap())).fold(0.0, f32::max) / most
}

fn check_accepted(lab: &Lab, name: &str) {
    assert!(lab.accepts_parts(), "{name}");
    let (loss, gradients) = lab.taken_by(SAMPLES.len());
    for size in 1..SAMPLES.len() {
        let (in_parts, of_parts) = lab.taken_by(size);
        assert!((in_parts - loss).abs() < 1e-5 * loss.abs(), "{name}, parts of {size}: {in_parts} instead of {loss}");
        let apart = apart(&lab.params, &gradients, &of_parts);
        assert!(apart < 1e-4, "{name}, parts of {size}: {apart}");
    }
}

#[test]
fn accepted_parts_have_the_loss_and_the_gradients_of_the_whole() {
    let (difference, similarity) = (Difference { prediction: 0.5, features: 0.5 }, Similarity { prediction: 0.5, features: 0.5 });
    let single: &[&[&str]] = &[&["liver"], &["spleen"], &["tumor"]];
    let whole: &[&[&str]] = &[&["liver", "spleen"], &["tumor"]];
    let cases: [(MethodConfig, &[&[&str]]); 8] = [
        (dodnet(), single),
        (MethodConfig::MultiHead { network: unet() }, single),
        (MethodConfig::MultiHead { network: unet() }, whole),
        (MethodConfig::Conditional { network: unet() }, whole),
        (MethodConfig::TargetAdaptive { network: unet() }, &[]),
        (MethodConfig::PerDataset { network: unet() }, &[]),
        (MethodConfig::MutualPartial { network: unet(), difference }, &[]),
        (MethodConfig::MutualFull { network: unet(), similarity }, &[]),
    ];
    for (method, tasks) in cases {
        for dice in [Dice::Linear, Dice::Squared] {
            let name = format!("{method:?}, {tasks:?}, {dice:?}");
            check_accepted(&lab(method.clone(), dice, tasks), &name);
        }
    }
}

#[test]
fn refused_parts_have_another_loss() {
    let uneven: &[&[&str]] = &[&["liver", "tumor"], &["spleen"]];
    let cases: [(MethodConfig, &[&[&str]], &str); 5] = [
        (MethodConfig::Multitalent { network: unet(), deep_supervision: false }, &[], "fit.micro_batch: the Dice score"),
        (dodnet(), uneven, "`both` and `tumor` do not have the same part of the classes in place 1 of the tasks annotated"),
        (dodnet(), &[&["liver", "spleen"], &["tumor"]], "`both` and `organs` do not have the same part of the classes in place 2"),
        (MethodConfig::MultiHead { network: unet() }, uneven, "`both` and `tumor` do not have the same part of `task_0` annotated"),
        (MethodConfig::Conditional { network: unet() }, uneven, "`both` and `tumor` do not have the same part of `task_0` annotated"),
    ];
    for (method, tasks, reason) in cases {
        let lab = lab(method.clone(), Dice::Linear, tasks);
        let told = lab.loss.by.check_parts(&lab.model, &lab.datasets).unwrap_err().to_string();
        assert!(told.contains(reason) && told.contains("fit.micro_batch"), "{told}");
        let (whole, in_parts) = (lab.taken_by(SAMPLES.len()).0, lab.taken_by(1).0);
        assert!((whole / in_parts - 1.0).abs() > 1e-4, "{method:?} {tasks:?}: {whole} in one, {in_parts} in parts");
    }
}

/// A sample with a tumor alone counts as much as one with three tasks.
#[test]
fn samples_count_alike_whatever_the_number_of_their_tasks() {
    for method in [dodnet(), MethodConfig::MultiHead { network: unet() }, MethodConfig::Conditional { network: unet() }] {
        let lab = lab(method.clone(), Dice::Linear, &[&["liver"], &["spleen"], &["tumor"]]);
        let wanted = |samples: &[usize]| samples.iter().map(|&d| lab.model.trained_by(&lab.datasets, d)).collect::<Vec<_>>();
        assert_eq!(wanted(&[0, 2]), [vec![0, 1, 2], vec![2]], "tasks");
        let image = Tensor::zeros((2, 1, SIDE, SIDE, SIDE), candle_core::DType::F32, &Device::Cpu).unwrap();
        let outputs = lab.model.forward(&lab.params, &image, &wanted(&[0, 2]), true).unwrap();
        let share = |sample: usize| {
            let rows = outputs.iter().flat_map(|output| &output.rows);
            rows.filter(|row| row.sample == sample).map(|row| row.share).sum::<f64>()
        };
        assert!((share(0) - 0.5).abs() < 1e-12 && (share(1) - 0.5).abs() < 1e-12, "{method:?}");
    }
}
