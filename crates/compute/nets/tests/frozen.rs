//! Frozen networks give what the networks of training give.

use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Learning, Network, Params, Precision, Trained, UNet3d, UNet3dConfig};
use ops::{Factors, Isa};
use random::Streams;

fn trained(network: &impl Network, precision: Precision) -> Trained {
    Trained::new(Params::init(&network.parameters(), Streams::new(5), &Device::Cpu).unwrap(), precision)
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
const BOUNDS: [(Precision, f32); 2] = [(Precision::F32, 1e-4), (Precision::Bf16, 4e-2)];

#[test]
fn the_student() {
    for (features, size) in [([16, 24, 32, 48, 64, 16], [49, 71]), ([16, 32, 64, 128, 256, 128], [96, 80])] {
        let network = DualUNet2d::new(&DualUNet2dConfig { features }, &papers_decoders());
        let slices = Tensor::rand(0f32, 1.0, (3, 1, size[0], size[1]), &Device::Cpu).unwrap();
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
        let patch = Tensor::rand(0f32, 1.0, (1, 1, size[0], size[1], size[2]), &Device::Cpu).unwrap();
        let expected = trained(&network, Precision::Exact).teacher(&network, &patch).unwrap();
        for (precision, bound) in BOUNDS {
            let off = relative_difference(&trained(&network, precision).teacher(&network, &patch).unwrap(), &expected);
            assert!(off < bound, "{precision:?}, {features:?}: off by {off:e}");
        }
    }
}

/// Layers are shared out by rows, tiles and channels; threads outnumber the tasks of the deep layers, and fall short of those of
/// the others.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let [organs, cancer] = papers_decoders();
    let three = [organs, cancer, ("vessel_decoder".to_owned(), 5)];
    let student = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &three);
    let teacher = UNet3d::new(&UNet3dConfig { features: [8, 16, 32, 64, 128, 16] }, 14);
    let image = |shape: &[usize]| Tensor::rand(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let (small, large, patch) = (image(&[3, 1, 64, 48]), image(&[1, 1, 176, 208]), image(&[1, 1, 32, 32, 24]));
    for (precision, _) in BOUNDS {
        let run = |threads: usize| -> Vec<Vec<f32>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let of_student = trained(&student, precision);
                let slices = [&small, &large].into_iter().flat_map(|slices| of_student.student(&student, slices).unwrap());
                let logits = slices.chain([trained(&teacher, precision).teacher(&teacher, &patch).unwrap()]);
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
    let random = |upper: f32, dims: &[usize]| Tensor::rand(0f32, upper, dims, &Device::Cpu).unwrap();
    let dims = [slices, size[0], size[1]];
    let labels = [14.0, 2.0].map(|classes| random(classes, &dims).to_dtype(candle_core::DType::U8).unwrap());
    (random(1.0, &[slices, 1, size[0], size[1]]), labels)
}

/// How far the loss is from what is expected, and all gradients together, relative to their length.
fn distances(found: &[(String, Tensor)], expected: &[(String, Tensor)]) -> [f32; 2] {
    let all = |step: &[(String, Tensor)]| {
        let gradients = step.iter().filter(|(name, _)| name != "loss" && name != "logits");
        Tensor::cat(&gradients.map(|(_, gradient)| gradient.flatten_all().unwrap()).collect::<Vec<_>>(), 0).unwrap()
    };
    [relative_difference(&found[0].1, &expected[0].1), relative_difference(&all(found), &all(expected))]
}

/// Networks with random weights have activations near the kink of LeakyReLU and pairs near a tie of max pooling, where rounding picks
/// another derivative; how far that goes is measured, by the kernels of training with another set of instructions in f32, and by these
/// kernels in bf16. What is frozen may take a step no more than twice as far. The network of `small`, which has no such places, is held
/// to rounding alone.
#[test]
fn a_student_that_is_frozen_in_part_learns_as_by_the_kernels_of_training() {
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &papers_decoders());
    let (slices, labels) = batch(2, [64, 48]);
    for live in ["organ_decoder.", "down_4.", "upcat_3."] {
        let params = |factors: Factors| {
            let mut params = Params::init(&network.parameters(), Streams::new(5), &Device::Cpu).unwrap();
            params.set_live(|name| name.starts_with(live));
            params.set_factors(factors);
            params
        };
        let take = |learning: Learning| step(&learning, &network, &slices, &labels);
        let expected = take(Learning::Tensors(params(Factors::F32)));
        let others = Isa::available().into_iter().map(|isa| {
            let step = ops::with_isa(isa, || take(Learning::Tensors(params(Factors::F32)))).unwrap();
            distances(&step, &expected)
        });
        let furthest = others.fold([1e-6f32; 2], |furthest, here| [furthest[0].max(here[0]), furthest[1].max(here[1])]);
        let in_bf16 = distances(&take(Learning::Tensors(params(Factors::Bf16))), &expected);
        for (factors, bound) in [(Factors::F32, furthest), (Factors::Bf16, in_bf16)] {
            let found = distances(&take(Learning::new(params(factors))), &expected);
            println!("{live} {factors:?}: loss and gradients are off by {found:?}, by the kernels of training {bound:?}");
            assert!(found[1] < 2.0 * bound[1], "{live} {factors:?}: gradients are off by {found:?}, {bound:?} allowed half");
            assert!(found[0] < 2.0 * bound[0].max(1e-5), "{live} {factors:?}: the loss is off by {found:?}, {bound:?}");
        }
    }
}

#[test]
fn what_is_learned_in_part_does_not_depend_on_the_number_of_threads() {
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &papers_decoders());
    for (size, live) in [([64, 48], "organ_decoder."), ([144, 128], "upcat_3.")] {
        let (slices, labels) = batch(3, size);
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
