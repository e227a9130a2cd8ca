//! The losses against PyTorch (`losses.py` made the expected values), and what is masked.

use candle_core::{DType, Device, Tensor, Var};
use labels::flare23;
use nets::{TrunkConfig, UNetConfig};
use partial::{Channel, Class, Datasets, Dice, Loss, MethodConfig, Model, ModelConfig, Objective, Output, Row, Truth};

use crate::{FIVE, class, dataset};

/// Organs and the tumor in the first dataset, the tumor alone in the second.
fn datasets(organs: &[&str]) -> Datasets {
    crate::datasets(&[dataset("both", &[organs, &["tumor"]].concat()), dataset("tumor", &["tumor"])], &flare23::classes())
}

/// A model that learns from these datasets.
fn model(datasets: &Datasets) -> Model {
    let network = UNetConfig { features: vec![2, 2], strides: vec![[2; 3]], blocks: None, first_kernel: [3; 3], layers: None };
    let method = MethodConfig::PerDataset { network: TrunkConfig::UNet(network) };
    let declared = datasets.declared().to_vec();
    Model::new(&ModelConfig { method, datasets: declared, tasks: Vec::new() }, datasets, &flare23::classes()).unwrap()
}

/// Organs and cancer.
fn maps() -> [Tensor; 2] {
    let map = |value: fn(u32) -> u8| Tensor::from_iter((0..48).map(value), &Device::Cpu).unwrap().reshape((2, 2, 3, 4)).unwrap();
    [map(|i| [0, 1, 4, 1, 0][i as usize % 5]), map(|i| u8::from(i % 7 == 3))]
}

fn waves(channels: usize, height: f64) -> Var {
    let values = (0..2 * channels * 24).map(|i| (height * (0.7 * i as f64).sin()) as f32);
    Var::from_tensor(&Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((2, channels, 2, 3, 4)).unwrap()).unwrap()
}

/// The loss, and its gradient.
fn loss(loss: Loss, logits: &Var, channels: &[Option<Channel>], datasets: &Datasets) -> (f64, Tensor) {
    let rows = (0..2).map(|sample| Row { sample, channels: channels.to_vec() }).collect();
    let output = Output { logits: logits.as_tensor().clone(), rows, weight: 1.0, features: None };
    let loss = loss.of(&model(datasets), &[output], &Truth { groups: &maps(), datasets: &[0, 1], weights: &[] }, datasets).unwrap();
    let gradient = loss.backward().unwrap().get(logits).unwrap().clone();
    (f64::from(loss.to_scalar::<f32>().unwrap()), gradient)
}

fn projection(gradient: &Tensor) -> f64 {
    let values = gradient.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    values.iter().enumerate().map(|(i, g)| g * (i as f64).cos()).sum()
}

fn check(of: Loss, logits: &Var, channels: &[Option<Channel>], organs: &[&str], expected: [f64; 2]) -> Tensor {
    let (value, gradient) = loss(of, logits, channels, &datasets(organs));
    assert!((value / expected[0] - 1.0).abs() < 1e-6, "{of:?}: {value} instead of {}", expected[0]);
    assert!(
        (projection(&gradient) / expected[1] - 1.0).abs() < 1e-5,
        "{of:?}: gradient {} instead of {}",
        projection(&gradient),
        expected[1]
    );
    gradient
}

#[test]
fn losses_and_gradients_are_pytorchs_and_what_is_not_annotated_gets_exactly_none() {
    let channels = ["liver", "tumor"].map(|key| Some(Channel { head: 0, class: class(&flare23::classes(), key) }));
    let cases = [
        (Objective::Mean, Dice::Linear, [1.94740967, 0.04114357]),
        (Objective::Mean, Dice::Squared, [1.90035006, 0.0432499177]),
        (Objective::Sum, Dice::Linear, [3.17958156, 0.153942781]),
        (Objective::Sum, Dice::Squared, [3.07391281, 0.158746359]),
    ];
    for (by, dice, expected) in cases {
        let of = Loss { by, dice };
        let gradient = check(of, &waves(2, 3.0), &channels, &["liver"], expected);
        let of_channel = |sample: usize, channel: usize| {
            gradient.narrow(0, sample, 1).unwrap().narrow(1, channel, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert!(of_channel(1, 0).iter().all(|&g| g == 0.0), "{of:?}: the second sample has no liver annotated");
        for (sample, channel) in [(0, 0), (0, 1), (1, 1)] {
            assert!(of_channel(sample, channel).iter().any(|&g| g != 0.0));
        }
    }
}

#[test]
fn classes_that_are_not_annotated_count_as_background() {
    let all = Class::within(&flare23::classes(), flare23::classes().pattern());
    let channels: Vec<_> = std::iter::once(None).chain(all.into_iter().map(|class| Some(Channel { head: 0, class }))).collect();
    for (dice, expected) in [(Dice::Linear, [2.25461661, -0.121096146]), (Dice::Squared, [2.2261484, -0.127957337])] {
        check(Loss { by: Objective::Merged, dice }, &waves(15, 2.0), &channels, &FIVE, expected);
    }
}

#[test]
fn lower_levels_learn_from_the_nearest_labels() -> candle_core::Result<()> {
    let channels = [Some(Channel { head: 0, class: class(&flare23::classes(), "liver") })];
    // At half the width every other voxel counts; the logits say liver just where there is one.
    let groups = maps();
    let nearest = groups[0].index_select(&Tensor::new(&[0u32, 2], &Device::Cpu)?, 3)?;
    let logits = ((nearest.eq(1u8)?.to_dtype(DType::F32)? * 80.0)? - 40.0)?.unsqueeze(1)?;
    let rows = vec![Row { sample: 0, channels: channels.to_vec() }];
    let output = Output { logits: logits.narrow(0, 0, 1)?, rows, weight: 1.0, features: None };
    let truth = Truth { groups: &groups, datasets: &[0, 1], weights: &[] };
    let sum = Loss { by: Objective::Sum, dice: Dice::Linear };
    let datasets = datasets(&FIVE);
    let loss = sum.of(&model(&datasets), &[output], &truth, &datasets)?.to_scalar::<f32>()?;
    assert!((loss + 1.0).abs() < 1e-5, "a Dice score of 1 and no entropy: {loss}");
    Ok(())
}
