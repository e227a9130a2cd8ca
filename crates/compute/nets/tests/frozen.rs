//! Frozen networks give what the networks of training give.

use candle_core::{Device, Tensor};
use nets::{
    DualUNet2d, DualUNet2dConfig, Learning, Network, Params, Precision, SwinUnetrConfig, Teacher, TeacherConfig, Trained, UNet3d,
    UNet3dConfig, UNetConfig, UNetLayers, UnetrConfig,
};
use ops::Factors;
use random::Streams;
use random::rand::RngExt as _;

fn trained(network: &impl Network, precision: Precision) -> Trained {
    Trained::new(Params::init(&network.parameters(), Streams::new(5), &Device::Cpu).unwrap(), precision)
}

/// Values that follow from a seed.
fn drawn(seed: u64, dims: &[usize], range: std::ops::Range<f32>) -> Tensor {
    let mut stream = Streams::new(seed).stream("values", &[]);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.random_range(range.clone())).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// The decoders of the paper's student.
fn papers_decoders() -> [(String, usize); 2] {
    [("organ_decoder".to_owned(), 14), ("cancer_decoder".to_owned(), 2)]
}

/// The root mean square of the difference, relative to that of what is expected.
fn relative_difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let square = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    (square((found - expected).unwrap()) / square(expected.clone())).sqrt()
}

/// What `f32` differs by is the order of sums, amplified by Winograd's transformations; of `bf16`, 20 layers of rounding to
/// 8 bits of networks with random weights, whose logits differ little between classes and voxels.
///
/// 8 bits are 256 levels between the ends of a layer's activations, which rounds more coarsely than 8 bits of each number do.
const BOUNDS: [(Precision, f32); 3] = [(Precision::F32, 1e-4), (Precision::Bf16, 4e-2), (Precision::Int8, 2e-1)];

#[test]
fn the_student() {
    for (features, size) in [([16, 24, 32, 48, 64, 16], [49, 71]), ([16, 32, 64, 128, 256, 128], [96, 80])] {
        let network = DualUNet2d::new(&DualUNet2dConfig { features }, &papers_decoders());
        let slices = drawn(1, &[3, 1, size[0], size[1]], 0.0..1.0);
        let expected = trained(&network, Precision::Exact).student(&network, &slices).unwrap();
        for (precision, bound) in BOUNDS {
            let found = trained(&network, precision).student(&network, &slices).unwrap();
            assert_eq!(found.iter().map(|logits| logits.dims()[1]).collect::<Vec<_>>(), [14, 2]);
            for (found, expected) in found.iter().zip(&expected) {
                let off = relative_difference(found, expected);
                assert!(off < bound, "{precision:?}, {features:?}: off by {off:e}");
            }
        }
    }
}

#[test]
fn the_teacher() {
    for (features, size) in [([8, 16, 32, 48, 64, 8], [17, 33, 24]), ([16, 16, 32, 64, 128, 16], [32, 48, 32])] {
        let network = UNet3d::new(&UNet3dConfig { features }, 14);
        let patch = drawn(2, &[1, 1, size[0], size[1], size[2]], 0.0..1.0);
        let expected = trained(&network, Precision::Exact).run(&network, &patch).unwrap();
        for (precision, bound) in BOUNDS {
            let off = relative_difference(&trained(&network, precision).run(&network, &patch).unwrap(), &expected);
            assert!(off < bound, "{precision:?}, {features:?}: off by {off:e}");
        }
    }
}

/// Networks of every other kind, small: steps of 1 and 2, a kernel and a step that have no frozen kernels, channels that fill no vector.
fn others() -> Vec<(&'static str, Teacher, [usize; 3])> {
    let layers = UNetLayers { kernels: vec![[3, 3, 1], [3; 3], [3; 3]], convs: vec![2; 3], decoder_convs: vec![1, 2] };
    let unet = |blocks: Option<[usize; 3]>, layers: Option<UNetLayers>, first_kernel| {
        let (features, strides) = (vec![16, 24, 40], vec![[2, 2, 1], [2; 3]]);
        TeacherConfig::NnUNet(UNetConfig { features, strides, blocks: blocks.map(Vec::from), first_kernel, layers })
    };
    let coarse = UNetConfig { features: vec![12, 20], strides: vec![[4, 2, 2]], blocks: None, first_kernel: [3; 3], layers: None };
    let vit = UnetrConfig { img_size: [32, 16, 48], feature_size: 8, hidden_size: 48, mlp_dim: 96, num_heads: 4 };
    let swin = SwinUnetrConfig { feature_size: 12, window_size: 4, ..SwinUnetrConfig::default() };
    let others = [
        ("plain", unet(None, None, [3; 3]), [24, 16, 10]),
        ("residual", unet(Some([1, 2, 2]), None, [3, 3, 1]), [24, 16, 10]),
        ("averaged", unet(Some([1, 2, 2]), Some(layers.clone()), [3; 3]), [24, 16, 10]),
        ("in layers", unet(None, Some(layers), [3; 3]), [24, 16, 10]),
        ("a kernel of 5", unet(None, None, [5, 3, 3]), [24, 16, 10]),
        ("a step of 4", TeacherConfig::NnUNet(coarse), [24, 16, 10]),
        ("UNETR", TeacherConfig::Unetr(vit), [32, 16, 48]),
        ("Swin UNETR", TeacherConfig::SwinUnetr(swin), [64, 32, 32]),
    ];
    others.map(|(name, config, size)| (name, Teacher::new(&config, 5), size)).into()
}

/// Fresh residual blocks begin as their skips, so that scales are drawn anew.
fn scales_drawn(network: &impl Network, seed: u64) -> Params {
    let params = Params::init(&network.parameters(), Streams::new(seed), &Device::Cpu).unwrap();
    for (name, var) in params.all().filter(|(name, _)| name.ends_with("norm.weight")) {
        params.set(name, &drawn(seed, var.dims(), 0.5..1.5)).unwrap();
    }
    params
}

#[test]
fn networks_of_other_kinds() {
    for (name, network, [d, h, w]) in others() {
        let patch = drawn(3, &[1, 1, d, h, w], 0.0..1.0);
        let params = scales_drawn(&network, 5);
        let expected = network.forward(&params, &patch).unwrap().detach();
        let mut trained = Trained::new(params, Precision::Exact);
        for (precision, bound) in BOUNDS {
            trained = Trained::new(trained.into_params(), precision);
            let off = relative_difference(&trained.run(&network, &patch).unwrap(), &expected);
            assert!(off < bound, "{name}, {precision:?}: off by {off:e}");
        }
    }
}

/// The least of some batches tells, as for the student below.
#[test]
fn networks_of_other_kinds_learn_in_part_as_by_the_kernels_of_training() {
    let rules: [&[&str]; 3] = [&["decoder", "head", "out"], &["head", "out"], &["encoder.1", "encoder2", "swinViT.layers2"]];
    for (name, network, [d, h, w]) in others() {
        for live in rules {
            let mut least = f32::INFINITY;
            for seed in 0..4 {
                let patch = drawn(seed, &[1, 1, d, h, w], 0.0..1.0);
                let labels = (patch.squeeze(1).unwrap() * 5.0).unwrap().to_dtype(candle_core::DType::U8).unwrap();
                let mut params = scales_drawn(&network, seed);
                params.set_live(|name| live.iter().any(|part| name.starts_with(part)));
                let by_tensors = Learning::by_tensors(params);
                let take = |learning: &Learning| {
                    let logits = learning.run(&network, &patch).unwrap();
                    let gradients = ops::dice_ce(&logits, &labels).unwrap().backward().unwrap();
                    let of_live = learning.params().live().map(|(name, var)| (name.to_owned(), gradients.get(&var).unwrap().clone()));
                    [("logits".to_owned(), logits.detach())].into_iter().chain(of_live).collect::<Vec<_>>()
                };
                let expected = take(&by_tensors);
                let [logits, gradients] = distances(&take(&Learning::new(by_tensors.into_params())), &expected);
                assert!(logits < 1e-4, "{name}, {live:?}: logits are off by {logits:e}");
                least = least.min(gradients);
            }
            assert!(least < 1e-3, "{name}, {live:?}: gradients are off by {least:e} at least, in every batch");
        }
    }
}

/// Layers are shared out by rows, tiles and channels; threads outnumber the tasks of the deep layers, and fall short of those of
/// the others.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let [organs, cancer] = papers_decoders();
    let three = [organs, cancer, ("vessel_decoder".to_owned(), 5)];
    let student = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 48, 64, 96, 32] }, &three);
    let teacher = UNet3d::new(&UNet3dConfig { features: [8, 16, 32, 48, 64, 16] }, 14);
    let image = |shape: &[usize]| drawn(4, shape, 0.0..1.0);
    let (small, large, patch) = (image(&[3, 1, 64, 48]), image(&[1, 1, 128, 144]), image(&[1, 1, 32, 32, 24]));
    for (precision, _) in BOUNDS {
        let run = |threads: usize| -> Vec<Vec<f32>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let of_student = trained(&student, precision);
                let slices = [&small, &large].into_iter().flat_map(|slices| of_student.student(&student, slices).unwrap());
                let logits = slices.chain([trained(&teacher, precision).run(&teacher, &patch).unwrap()]);
                logits.map(|logits| logits.flatten_all().unwrap().to_vec1().unwrap()).collect()
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{precision:?}: results differ in some bits");
    }
}

/// The paper's student in its third step, or what else of it is live: logits of the decoders and gradients of the live parameters.
fn step(learning: &Learning, network: &DualUNet2d, slices: &Tensor, labels: &[Tensor]) -> Vec<(String, Tensor)> {
    let logits = learning.student(network, slices, &[0, 1]).unwrap();
    let losses = logits.iter().zip(labels).map(|(logits, labels)| ops::dice_ce(logits, labels).unwrap());
    let loss = losses.reduce(|a, b| (a + b).unwrap()).unwrap();
    let gradients = loss.backward().unwrap();
    let of_live = learning.params().live().map(|(name, var)| (name.to_owned(), gradients.get(&var).unwrap().clone()));
    let others = [("loss".to_owned(), loss.detach())].into_iter().chain(logits.iter().map(|logits| ("logits".to_owned(), logits.detach())));
    others.chain(of_live).collect()
}

/// Slices and labels of both decoders.
fn batch(slices: usize, size: [usize; 2]) -> (Tensor, [Tensor; 2]) {
    let random = |upper: f32, dims: &[usize]| drawn(5, dims, 0.0..upper);
    let dims = [slices, size[0], size[1]];
    let labels = [14.0, 2.0].map(|classes| random(classes, &dims).to_dtype(candle_core::DType::U8).unwrap());
    (random(1.0, &[slices, 1, size[0], size[1]]), labels)
}

/// How far logits are from what is expected, and all gradients together, relative to their length.
fn distances(found: &[(String, Tensor)], expected: &[(String, Tensor)]) -> [f32; 2] {
    let all = |step: &[(String, Tensor)], logits: bool| {
        let chosen = step.iter().filter(|(name, _)| name != "loss" && (name == "logits") == logits);
        Tensor::cat(&chosen.map(|(_, tensor)| tensor.flatten_all().unwrap()).collect::<Vec<_>>(), 0).unwrap()
    };
    [true, false].map(|logits| relative_difference(&all(found, logits), &all(expected, logits)))
}

/// Frozen kernels sum in another order, which moves logits by 3e-6. Where an activation lies so near the kink of LeakyReLU, or two so near
/// a tie of max pooling, that this picks another derivative, gradients move by 1e-4 to 8e-3; elsewhere by 2e-6 to 4e-5. Measured over 12
/// batches of each plan, 5 had such a place. A wrong gradient would move those of every batch, so that the least of 12 tells.
#[test]
fn a_student_that_is_frozen_in_part_learns_as_by_the_kernels_of_training() {
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &papers_decoders());
    for live in ["organ_decoder.", "upcat_3.", "down_4."] {
        let mut least = f32::INFINITY;
        for seed in 0..12 {
            let (slices, labels) = seeded_batch(seed, 32);
            let take = |factors: Factors, frozen: bool| {
                let mut params = Params::init(&network.parameters(), Streams::new(5 + seed), &Device::Cpu).unwrap();
                params.set_live(|name| name.starts_with(live));
                params.set_factors(factors);
                let learning = if frozen { Learning::new(params) } else { Learning::by_tensors(params) };
                step(&learning, &network, &slices, &labels)
            };
            let expected = take(Factors::F32, false);
            let [logits, gradients] = distances(&take(Factors::F32, true), &expected);
            assert!(logits < 1e-5, "{live}, batch {seed}: logits are off by {logits:e}");
            least = least.min(gradients);
            if seed == 0 {
                let [logits, _] = distances(&take(Factors::Bf16, true), &expected);
                assert!(logits < BOUNDS[1].1, "{live} in bf16: logits are off by {logits:e}");
            }
        }
        assert!(least < 1e-4, "{live}: gradients are off by {least:e} at least, in every batch");
    }
}

/// A slice and labels that follow from the seed, so that what a batch has near a kink does not change from run to run.
fn seeded_batch(seed: u64, side: usize) -> (Tensor, [Tensor; 2]) {
    let values = drawn(seed, &[side * side], 0.0..1.0);
    let tensor = |factor: f64, dims: &[usize]| (&values * factor).unwrap().reshape(dims).unwrap();
    let labels = [14.0, 2.0].map(|classes| tensor(classes, &[1, side, side]).to_dtype(candle_core::DType::U8).unwrap());
    (tensor(1.0, &[1, 1, side, side]), labels)
}

#[test]
fn what_is_learned_in_part_does_not_depend_on_the_number_of_threads() {
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 48, 64, 96, 32] }, &papers_decoders());
    for (size, live) in [([64, 48], "organ_decoder."), ([144, 128], "upcat_3.")] {
        let (slices, labels) = batch(2, size);
        for factors in [Factors::F32, Factors::Bf16] {
            let run = |threads: usize| -> Vec<Vec<f32>> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut params = Params::init(&network.parameters(), Streams::new(5), &Device::Cpu).unwrap();
                    params.set_live(|name| name.starts_with(live));
                    params.set_factors(factors);
                    let found = step(&Learning::new(params), &network, &slices, &labels);
                    found.iter().map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
                })
            };
            let one = run(1);
            assert!(one == run(2) && one == run(7), "{live} {factors:?}: results differ in some bits");
        }
    }
}
