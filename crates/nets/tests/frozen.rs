//! Frozen networks give what the networks of training give.

use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Precision, Trained, UNet3d, UNet3dConfig};
use streams::Streams;

fn trained(network: &impl Network, precision: Precision) -> Trained {
    Trained::new(Params::init(&network.parameters(), Streams::new(5), &Device::Cpu).unwrap(), precision)
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
        let network = DualUNet2d::new(&DualUNet2dConfig { features });
        let slices = Tensor::rand(0f32, 1.0, (3, 1, size[0], size[1]), &Device::Cpu).unwrap();
        let expected = trained(&network, Precision::Exact).student(&network, &slices).unwrap();
        for (precision, bound) in BOUNDS {
            let found = trained(&network, precision).student(&network, &slices).unwrap();
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
