//! Frozen networks give what the networks of training give.

use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Precision, Trained, UNet3d, UNet3dConfig};
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
