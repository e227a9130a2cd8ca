//! Takes a training step for every line on its standard input, and answers with the seconds that it took:
//! `training_step teacher|student FEATURES SHAPE`, both as numbers with commas; the shape is `b,x,y,z` or `b,x,y`.
//!
//! `benches/training_step.py` runs it beside PyTorch. A step is what a stage of training does with a batch in memory:
//! forward pass, loss, gradients of all parameters, and AdamW.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use labels::{CANCER_CLASSES, ORGAN_CLASSES};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, UNet3d, UNet3dConfig};
use training::{Accumulator, AdamW, AdamWConfig};

fn numbers(text: &str) -> Result<Vec<usize>> {
    text.split(',').map(|number| number.trim().parse().with_context(|| format!("{number:?} in {text:?}"))).collect()
}

/// Takes steps with the loss that `loss` computes of the parameters.
fn steps(network: &impl Network, loss: impl Fn(&Params) -> candle_core::Result<Tensor>) -> Result<()> {
    let params = Params::init(&network.parameters(), streams::Streams::new(1), &Device::Cpu)?;
    let mut optimizer = AdamW::new(&params, AdamWConfig::with_weight_decay(1e-5))?;
    println!("{} parameters", params.all().map(|(_, var)| var.elem_count()).sum::<usize>());
    for line in std::io::stdin().lock().lines() {
        line?;
        let begin = Instant::now();
        let mut gradients = Accumulator::default();
        gradients.add(&params, &loss(&params)?, 1.0)?;
        optimizer.step(&params, &gradients.into_gradients(), 1e-4)?;
        println!("{}", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn main() -> Result<()> {
    ops::tune_process();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, features, shape] = arguments.as_slice() else { bail!("training_step teacher|student FEATURES SHAPE") };
    let features: [usize; 6] = numbers(features)?.try_into().ok().context("six features expected")?;
    let shape = numbers(shape)?;
    ensure!(shape.len() >= 3, "shape b,x,y or b,x,y,z expected");
    let image = Tensor::rand(0f32, 1.0, [&shape[..1], &[1], &shape[1..]].concat(), &Device::Cpu)?;
    let labels = |classes: usize| Tensor::rand(0f32, classes as f32, shape.as_slice(), &Device::Cpu)?.to_dtype(DType::U8);
    let (organs, cancer) = (labels(ORGAN_CLASSES)?, labels(CANCER_CLASSES)?);
    match network.as_str() {
        "teacher" => {
            let network = UNet3d::new(&UNet3dConfig { features }, ORGAN_CLASSES);
            steps(&network, |params| ops::dice_ce(&network.forward(params, &image)?, &organs))
        }
        "student" => {
            let network = DualUNet2d::new(&DualUNet2dConfig { features });
            steps(&network, |params| {
                let features = network.features(params, &image)?;
                let organs = ops::dice_ce(&network.organs(params, &features)?, &organs)?;
                organs + ops::dice_ce(&network.cancer(params, &features)?, &cancer)?
            })
        }
        other => bail!("{other}: teacher or student expected"),
    }
}
