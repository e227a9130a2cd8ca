//! The networks against PyTorch and MONAI: outputs, losses, every gradient, and thirty steps of training.
//!
//! The reference values (tens of megabytes) are looked for in `GOLDEN_DIR`, else in the reference data beside the
//! checkout; each file's metadata says how it was made.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use nets::{DualUNet2d, DualUNet2dConfig, Learning, Network, Params, UNet3d, UNet3dConfig};
use ops::Factors;
use random::Streams;

type Tensors = HashMap<String, Tensor>;

/// The tensors of a reference file and where it is, if it is there.
fn golden(name: &str) -> Option<(PathBuf, Tensors)> {
    let path = references::golden(name)?;
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    Some((path, tensors))
}

/// The tensors of `name.safetensors`, where it is, and the same computed in 64 bits.
fn golden_with_64_bits(name: &str) -> Option<(PathBuf, Tensors, Tensors)> {
    let (path, tensors) = golden(&format!("{name}.safetensors"))?;
    Some((path, tensors, golden(&format!("{name}.f64.safetensors"))?.1))
}

/// The largest difference, relative to the largest value of `expected`.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (flat(found), flat(expected));
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-12f32, |m, v| m.max(v.abs()));
    let apart = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(found.iter().all(|v| v.is_finite()));
    f64::from(apart / largest)
}

/// The distance between two tensors, relative to the length of `expected` (Euclidean norms).
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    let norm = |t: &Tensor| f64::from(t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
    norm(&(found - expected).unwrap()) / norm(expected).max(1e-12)
}

/// So many times as far from the values in 64 bits as PyTorch's own in 32 bits may ours be. The derivatives of LeakyReLU and max
/// pooling jump, and rounding decides on which side of a jump some of the 10⁷ activations fall: the distance is PyTorch's own
/// to measure, and differs from seed to seed. The formulas themselves are held to 1e-4 on small networks without such activations.
const AS_PYTORCH: f64 = 1.5;

/// Gradients are as near to those in 64 bits as PyTorch's are. For a single one that turns on luck, since an activation that falls
/// to the other side of a jump here may not do so there, and 2e-6 becomes 2e-4: hence each is held against PyTorch's furthest,
/// and the ratio of the two distances by its median. Gradients of the bias before an instance norm are zero but for rounding, and
/// are held against the scale of all gradients.
fn check_gradients(params: &Params, gradients: &GradStore, golden: &Tensors, golden64: &Tensors) {
    let largest = golden64.iter().filter(|(name, _)| name.starts_with("grad64.")).fold(0f32, |m, (_, t)| m.max(max_abs(t)));
    let mut distances = Vec::new();
    for (name, var) in params.all() {
        let exact = &golden64[&format!("grad64.{name}")];
        let found = gradients.get(&var).unwrap_or_else(|| panic!("no gradient of {name}"));
        if name.ends_with("conv.bias") && name.contains(".conv_") {
            assert!(max_abs(found) < 1e-4 * largest, "{name}: {} of {largest}", max_abs(found));
        } else {
            distances.push((distance(found, exact), distance(&golden[&format!("grad.{name}")], exact), name));
        }
    }
    let pytorchs = distances.iter().fold(0.0, |most: f64, (_, theirs, _)| most.max(*theirs));
    let (ours, _, name) = distances.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let mut ratios: Vec<f64> = distances.iter().map(|(ours, theirs, _)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("gradients are up to {ours:e} from those in 64 bits ({name}), PyTorch's up to {pytorchs:e}; median of the ratios {median:.3}");
    assert!(*ours < AS_PYTORCH * pytorchs, "gradient of {name}: {ours:e} from that in 64 bits, PyTorch's up to {pytorchs:e}");
    assert!(median < AS_PYTORCH, "half of the gradients are {median} times as far from those in 64 bits as PyTorch's");
}

fn max_abs(t: &Tensor) -> f32 {
    t.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn scalar(t: &Tensor) -> f64 {
    f64::from(t.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0])
}

fn loaded(network: &impl Network, path: &std::path::Path) -> Params {
    let params = Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap();
    params.load(path).unwrap();
    params
}

fn paper_student() -> DualUNet2d {
    let decoders = [("organ_decoder".to_owned(), 14), ("cancer_decoder".to_owned(), 2)];
    DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &decoders)
}

#[test]
fn the_teacher_agrees_in_logits_loss_and_gradients() {
    let Some((path, golden, golden64)) = golden_with_64_bits("teacher_unet3d") else { return };
    let teacher = UNet3d::new(&UNet3dConfig { features: [16, 16, 32, 64, 128, 16] }, 14);
    let params = loaded(&teacher, &path);
    let logits = teacher.forward(&params, &golden["input"]).unwrap();
    assert!(difference(&logits, &golden["logits"]) < 1e-4);
    let loss = ops::dice_ce(&logits, &golden["target"].squeeze(1).unwrap()).unwrap();
    assert!((scalar(&loss) / scalar(&golden["loss"]) - 1.0).abs() < 1e-4);
    check_gradients(&params, &loss.backward().unwrap(), &golden, &golden64);
}

#[test]
fn the_student_agrees_in_both_decoders_and_all_gradients() {
    let Some((path, golden, golden64)) = golden_with_64_bits("student_dual2d") else { return };
    let student = paper_student();
    let params = loaded(&student, &path);
    let logits = student.logits(&params, &golden["input"], &[0, 1]).unwrap();
    let mut sum = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
    for (logits, part) in logits.iter().zip(["organ", "cancer"]) {
        assert!(difference(logits, &golden[&format!("{part}_logits")]) < 1e-4, "{part}");
        let loss = ops::dice_ce(logits, &golden[&format!("{part}_target")].squeeze(1).unwrap()).unwrap();
        assert!((scalar(&loss) / scalar(&golden[&format!("{part}_loss")]) - 1.0).abs() < 1e-4, "{part}");
        sum = (sum + loss).unwrap();
    }
    check_gradients(&params, &sum.backward().unwrap(), &golden, &golden64);
}

/// How far the losses of thirty steps are from those in 64 bits, the furthest of each phase: ours, and PyTorch's in 32 bits or by autocast.
struct Apart {
    ours: [f64; 3],
    pytorchs: [f64; 3],
}

fn thirty_steps(factors: Factors) -> Option<Apart> {
    let (path, golden, golden64) = golden_with_64_bits("student_trajectory")?;
    let student = paper_student();
    let mut params = loaded(&student, &path);
    params.set_factors(factors);
    let mut found = Vec::new();
    for (phase, live) in ["", "organ_decoder.", "cancer_decoder."].into_iter().enumerate() {
        params.set_live(|name| name.starts_with(live));
        let before: BTreeMap<String, Vec<f32>> = values(&params);
        let mut moments: BTreeMap<String, [Var; 2]> = params
            .live()
            .map(|(name, var)| (name.to_owned(), [0, 1].map(|_| Var::zeros(var.dims(), candle_core::DType::F32, &Device::Cpu).unwrap())))
            .collect();
        let learning = Learning::new(params);
        for step in 0..10 {
            // Each phase begins its batches and its schedule anew.
            let pick = |name: &str| golden[name].get(step % 4).unwrap();
            let decoders = [&[0, 1][..], &[0], &[1]][phase];
            let logits = learning.student(&student, &pick("inputs"), decoders).unwrap();
            let target = |decoder: usize| pick(["organ_targets", "cancer_targets"][decoder]).squeeze(1).unwrap();
            let losses = logits.iter().zip(decoders).map(|(logits, &decoder)| ops::dice_ce(logits, &target(decoder)).unwrap());
            let loss = losses.reduce(|a, b| (a + b).unwrap()).unwrap();
            found.push(scalar(&loss));
            let gradients = loss.backward().unwrap();
            let lr = 5e-4 * (1.0 - step as f64 / 10.0).powf(0.9);
            let hyper = ops::AdamW { weight_decay: 1e-5, ..ops::AdamW::with_lr(lr) };
            for (name, var) in learning.params().live() {
                let [m, v] = moments.get_mut(name).unwrap();
                ops::adamw_step(&var, gradients.get(&var).unwrap(), m, v, &hyper, step + 1).unwrap();
            }
        }
        params = learning.into_params();
        for (name, values) in values(&params) {
            let moved = values != before[&name];
            // The bias before an instance norm has no effect, and its gradient is rounding noise.
            let idle = name.contains(".conv_") && name.ends_with("conv.bias");
            assert!(moved == name.starts_with(live) || idle && !moved, "phase {phase}: {name} moved: {moved}");
        }
    }
    let wide = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let exact = wide(&golden64["losses64"]);
    let pytorchs = if factors == Factors::F32 { wide(&golden["losses"]) } else { wide(&golden64["losses_autocast_bf16"]) };
    let furthest = |losses: &[f64]| {
        let apart: Vec<f64> = losses.iter().zip(&exact).map(|(loss, exact)| (loss / exact - 1.0).abs()).collect();
        [0, 10, 20].map(|first| apart[first..first + 10].iter().copied().fold(0.0, f64::max))
    };
    let apart = Apart { ours: furthest(&found), pytorchs: furthest(&pytorchs) };
    println!("relative distance of the losses from 64 bits: ours {:?}, PyTorch's {:?}", apart.ours, apart.pytorchs);
    Some(apart)
}

#[test]
fn thirty_steps_with_frozen_parts_follow_pytorch() {
    let Some(Apart { ours, pytorchs }) = thirty_steps(Factors::F32) else { return };
    for (ours, pytorchs) in ours.iter().zip(&pytorchs) {
        assert!(*ours < AS_PYTORCH * pytorchs, "{ours:e}, PyTorch in 32 bits {pytorchs:e}");
    }
}

#[test]
fn in_bf16_they_stay_near() {
    let Some(Apart { ours, pytorchs }) = thirty_steps(Factors::Bf16) else { return };
    for (ours, pytorchs) in ours.iter().zip(&pytorchs) {
        // Autocast rounds other numbers than we do, so that the two go apart from 64 bits on ways of their own.
        assert!(*ours < 3.0 * pytorchs, "{ours:e}, PyTorch's autocast {pytorchs:e}");
    }
    assert!(ours[0] > 1e-6, "nothing was rounded: {ours:?}");
}

fn values(params: &Params) -> BTreeMap<String, Vec<f32>> {
    params.all().map(|(name, var)| (name.to_owned(), var.flatten_all().unwrap().to_vec1().unwrap())).collect()
}
