//! However a batch is cut, its parts have the loss and the gradients of the whole; and what each class counts in it.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use labels::flare23;
use nets::{DynamicHeadConfig, Network as _, Params, ResidualConfig, TrunkConfig, UNetConfig};
use partial::{Dataset, Datasets, Dice, Difference, Loss, MethodConfig, Model, ModelConfig, Output, Similarity, Task, Told, Truth, Whole};
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
    TrunkConfig::UNet(UNetConfig { features: vec![4, 6, 6], strides: vec![[2; 3]; 2], blocks: None, first_kernel: [3; 3], layers: None })
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

/// Images and labels of a batch; with `trust`, every third tumor label is not trusted.
struct Batch {
    image: Tensor,
    groups: [Tensor; 2],
    weights: [Option<Tensor>; 2],
}

fn batch(trust: bool) -> Batch {
    let voxels = SAMPLES.len() * SIDE.pow(3);
    let shape = (SAMPLES.len(), SIDE, SIDE, SIDE);
    let image = Tensor::from_iter((0..voxels).map(|i| (i as f32 * 0.013).sin()), &Device::Cpu).unwrap();
    let map = |value: fn(usize) -> u8| Tensor::from_iter((0..voxels).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap();
    let weights = Tensor::from_iter((0..voxels).map(|i| f32::from(u8::from(i % 3 > 0))), &Device::Cpu).unwrap().reshape(shape).unwrap();
    Batch {
        image: image.reshape((SAMPLES.len(), 1, SIDE, SIDE, SIDE)).unwrap(),
        groups: [map(|i| [0, 1, 1, 3][i / 40 % 4]), map(|i| u8::from(i % 90 < 9))],
        weights: [None, trust.then_some(weights)],
    }
}

impl Lab {
    fn outputs(&self, image: &Tensor, samples: &[usize]) -> Vec<Output> {
        let wanted: Vec<Vec<usize>> = samples.iter().map(|&d| self.model.trained_by(&self.datasets, d)).collect();
        self.model.forward(&self.params, image, &wanted, true).unwrap()
    }

    /// Loss and gradients of the batch, taken in parts of so many samples.
    fn taken_by(&self, size: usize, batch: &Batch) -> (f64, GradStore) {
        let starts: Vec<usize> = (0..SAMPLES.len()).step_by(size).collect();
        let part = |begin: usize| {
            let length = size.min(SAMPLES.len() - begin);
            let of = |map: &Tensor| map.narrow(0, begin, length).unwrap();
            let weights = batch.weights.each_ref().map(|map| map.as_ref().map(of));
            (of(&batch.image), &SAMPLES[begin..begin + length], batch.groups.each_ref().map(of), weights)
        };
        let mut whole = Whole::of(&SAMPLES);
        if self.loss.is_of_whole_batches() && starts.len() > 1 {
            let sums = starts.iter().map(|&begin| {
                let (image, samples, groups, weights) = part(begin);
                let truth = Truth { groups: &groups, datasets: samples, weights: &weights };
                self.loss.sums(&self.outputs(&image, samples), &truth, &self.datasets).unwrap()
            });
            whole = whole.with_sums(sums.collect());
        }
        let (mut loss, mut accumulator) = (0.0, Accumulator::unreached_are_zero());
        for (place, &begin) in starts.iter().enumerate() {
            let (image, samples, groups, weights) = part(begin);
            let truth = Truth { groups: &groups, datasets: samples, weights: &weights };
            let outputs = self.outputs(&image, samples);
            let of_part = self.loss.of_part(&self.model, &outputs, &truth, &self.datasets, (&whole, place)).unwrap();
            loss += f64::from(of_part.to_scalar::<f32>().unwrap());
            accumulator.add(&self.params, &of_part, 1.0).unwrap();
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

fn methods() -> Vec<(MethodConfig, Vec<&'static [&'static str]>)> {
    let (difference, similarity) = (Difference { prediction: 0.5, features: 0.5 }, Similarity { prediction: 0.5, features: 0.5 });
    let single: Vec<&[&str]> = vec![&["liver"], &["spleen"], &["tumor"]];
    // Tasks of which some datasets have a part annotated.
    let uneven: Vec<&[&str]> = vec![&["liver", "tumor"], &["spleen"]];
    let conditional = |told| MethodConfig::Conditional { network: unet(), told };
    vec![
        (dodnet(), single.clone()),
        (dodnet(), uneven.clone()),
        (MethodConfig::Multitalent { network: unet(), deep_supervision: false }, vec![]),
        (MethodConfig::Multitalent { network: unet(), deep_supervision: true }, vec![]),
        (MethodConfig::MultiHead { network: unet() }, single),
        (MethodConfig::MultiHead { network: unet() }, uneven.clone()),
        (conditional(Told::Input), uneven.clone()),
        (conditional(Told::Decoder), uneven),
        (MethodConfig::TargetAdaptive { network: unet() }, vec![]),
        (MethodConfig::PerDataset { network: unet() }, vec![]),
        (MethodConfig::MutualPartial { network: unet(), difference }, vec![]),
        (MethodConfig::MutualFull { network: unet(), similarity }, vec![]),
    ]
}

#[test]
fn parts_have_the_loss_and_the_gradients_of_the_whole_however_it_is_cut() {
    for (method, tasks) in methods() {
        for (dice, trust) in [(Dice::Linear, false), (Dice::Squared, true)] {
            let name = format!("{method:?}, {tasks:?}, {dice:?}");
            let (lab, batch) = (lab(method.clone(), dice, &tasks), batch(trust));
            let (loss, gradients) = lab.taken_by(SAMPLES.len(), &batch);
            for size in [1, 3] {
                let (in_parts, of_parts) = lab.taken_by(size, &batch);
                // Sums over the batch are rounded in another order, to 6e-8 of terms of which some cancel.
                assert!((in_parts - loss).abs() < 1e-5 * loss.abs(), "{name}, parts of {size}: {in_parts} instead of {loss}");
                let apart = apart(&lab.params, &gradients, &of_parts);
                assert!(apart < 1e-4, "{name}, parts of {size}: {apart}");
            }
        }
    }
}

#[test]
fn labels_without_trust_change_neither_loss_nor_gradients() {
    for (method, tasks) in methods() {
        let lab = lab(method.clone(), Dice::Linear, &tasks);
        let mut changed = batch(true);
        let plain = lab.taken_by(SAMPLES.len(), &changed);
        let trusted = changed.weights[1].as_ref().unwrap().gt(0f32).unwrap();
        let others = changed.groups[1].eq(0u8).unwrap();
        changed.groups[1] = trusted.where_cond(&changed.groups[1], &others).unwrap();
        let (loss, gradients) = lab.taken_by(SAMPLES.len(), &changed);
        assert!(loss == plain.0 && apart(&lab.params, &plain.1, &gradients) == 0.0, "{method:?}: {loss} and {}", plain.0);
        let (without, _) = lab.taken_by(SAMPLES.len(), &batch(false));
        assert!(loss != without, "{method:?}: trusted labels count");
    }
}

/// The loss where every class of every sample has the same one, scaled: what a class of a sample counts.
fn weight(method: &MethodConfig, tasks: &[&[&str]], sample: usize, key: &str) -> f64 {
    let lab = lab(method.clone(), Dice::Linear, tasks);
    let image = Tensor::zeros((SAMPLES.len(), 1, SIDE, SIDE, SIDE), candle_core::DType::F32, &Device::Cpu).unwrap();
    let nothing = Tensor::zeros((SAMPLES.len(), SIDE, SIDE, SIDE), candle_core::DType::U8, &Device::Cpu).unwrap();
    let groups = [nothing.clone(), nothing];
    // Only logits of the class in that sample say yes, so surely that its loss is 1 + 40 beside others that are 1.
    let says = |output: &Output| {
        let logits = output.rows.iter().map(|row| {
            let on = |about: &Option<partial::Channel>| {
                let is = about.is_some_and(|about| lab.model.classes().key_of(about.class.value()) == key && row.sample == sample);
                Tensor::full(if is { 40f32 } else { -40.0 }, (1, 1, SIDE, SIDE, SIDE), &Device::Cpu).unwrap()
            };
            Tensor::cat(&row.channels.iter().map(on).collect::<Vec<_>>(), 1).unwrap()
        });
        Tensor::cat(&logits.collect::<Vec<_>>(), 0).unwrap()
    };
    let outputs: Vec<Output> =
        lab.outputs(&image, &SAMPLES).into_iter().map(|output| Output { logits: says(&output), ..output.detached() }).collect();
    let truth = Truth { groups: &groups, datasets: &SAMPLES, weights: &[] };
    let loss = lab.loss.of(&lab.model, &outputs, &truth, &lab.datasets).unwrap().to_scalar::<f32>().unwrap();
    (f64::from(loss) - 1.0) / 40.0
}

/// As DoDNet's authors weight their two channels, organs and tumors, in every method that its paper compares.
#[test]
fn organs_and_tumors_count_alike_however_classes_are_cut_into_tasks() {
    let whole: Vec<&[&str]> = vec![&["liver", "spleen", "tumor"]];
    let single: Vec<&[&str]> = vec![&["liver"], &["spleen"], &["tumor"]];
    let conditional = MethodConfig::Conditional { network: unet(), told: Told::Input };
    let per_dataset = MethodConfig::PerDataset { network: unet() };
    for (method, tasks) in [
        (dodnet(), &single),
        (dodnet(), &whole),
        (MethodConfig::MultiHead { network: unet() }, &single),
        (conditional, &whole),
        (per_dataset, &whole),
    ] {
        // Three of the five samples have organs annotated, two each, and four have the tumor.
        for (sample, key, expected) in
            [(0, "liver", 1.0 / 12.0), (2, "spleen", 1.0 / 12.0), (0, "tumor", 1.0 / 8.0), (1, "tumor", 1.0 / 8.0), (1, "liver", 0.0)]
        {
            let found = weight(&method, tasks, sample, key);
            assert!((found - expected).abs() < 1e-5, "{method:?}, {tasks:?}: {key} of sample {sample} counts {found}");
        }
    }
}
