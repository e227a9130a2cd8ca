//! The U-Nets with trunks and heads against PyTorch; `unet.py` made the expected values. Weights follow from a formula.

use candle_core::{Device, Tensor};
use nets::{NnUNet, Params, Trunk, TrunkConfig, UNetConfig, UNetLayers};
use random::Streams;

/// Mean size, projection on a cosine, first and last value of the logits of both levels.
type Expected = [[f64; 4]; 2];

const PLAIN: Expected = [[0.30465511, 0.0098086953, -0.034116036, -0.036997871], [0.53509337, 0.013621077, -0.24522795, -0.45958168]];
const RESIDUAL: Expected = [[0.77726002, -0.016772024, 0.0073046955, -2.21781], [0.707071, -0.0061148409, -0.22939441, -1.2285557]];

fn fill(params: &Params) {
    for (k, (name, var)) in params.all().enumerate() {
        let dims = var.dims();
        let (shift, scale) = match dims.len() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.05),
            _ => (0.0, (2.0 * dims[0] as f64 / var.elem_count() as f64).sqrt()),
        };
        let value = |i: usize| (shift + scale * (0.7 * i as f64 + 1.3 * k as f64).sin()) as f32;
        params.set(name, &Tensor::from_iter((0..var.elem_count()).map(value), &Device::Cpu).unwrap().reshape(dims).unwrap()).unwrap();
    }
}

fn summary(logits: &Tensor) -> [f64; 4] {
    let values: Vec<f64> = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
    let mean = |value: &dyn Fn(usize) -> f64| (0..values.len()).map(value).sum::<f64>() / values.len() as f64;
    [mean(&|i| values[i].abs()), mean(&|i| values[i] * (i as f64).cos()), values[0], values[values.len() - 1]]
}

#[test]
fn plain_and_residual_u_nets_agree_with_pytorch() {
    for (blocks, count, expected) in [(None, 8704, PLAIN), (Some(vec![1, 2, 1]), 9788, RESIDUAL)] {
        let config =
            UNetConfig { features: vec![4, 6, 8], strides: vec![[2, 2, 2], [2, 2, 1]], blocks, first_kernel: [3, 3, 1], layers: None };
        let config = TrunkConfig::UNet(config);
        config.check([16, 12, 8]).unwrap();
        let trunk = Trunk::new(&config, 1);
        let heads = (0..2).flat_map(|level| trunk.head_parameters("", level, 3));
        let specs: Vec<_> = trunk.encoder_parameters("").into_iter().chain(trunk.decoder_parameters("")).chain(heads).collect();
        let params = Params::init(&specs, Streams::new(0), &Device::Cpu).unwrap();
        assert_eq!(params.count(), count);
        fill(&params);
        let image = Tensor::from_iter((0..1536).map(|i| (0.37 * f64::from(i)).sin() as f32), &Device::Cpu).unwrap();
        let image = image.reshape((1, 1, 16, 12, 8)).unwrap();
        let decoded = trunk.decode(&params, "", &trunk.encode(&params, "", &image).unwrap()).unwrap();
        for (level, expected) in expected.into_iter().enumerate() {
            let found = summary(&trunk.head(&params, "", level, &decoded[level]).unwrap());
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 2e-5, "{config:?}, level {level}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn multitalents_networks_have_the_sizes_of_its_paper() {
    let strides = vec![[2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 1]];
    let config = UNetConfig { features: vec![30, 60, 120, 240, 320, 320], strides, blocks: None, first_kernel: [3; 3], layers: None };
    assert!(config.check().is_ok());
    assert_eq!(config.reduction(), [32, 32, 16]);
    // Its patch of 96×192×192 slices by rows by columns is 192×192×96 here.
    assert!(TrunkConfig::UNet(config).check([192, 192, 96]).is_ok());
}

#[test]
fn networks_that_are_declared_level_by_level_multiply_as_often_as_pytorch_counts() {
    // The networks of `crates/model/foreign/tests/fixtures`, along x, y, z.
    let by_levels = |kernels, convs, decoder_convs| Some(UNetLayers { kernels, convs, decoder_convs });
    let plain = UNetConfig {
        features: vec![4, 6, 8],
        strides: vec![[2, 2, 1], [2, 2, 2]],
        blocks: None,
        first_kernel: [3; 3],
        layers: by_levels(vec![[3, 3, 1], [3; 3], [3; 3]], vec![2, 1, 2], vec![1, 2]),
    };
    let residual = UNetConfig {
        features: vec![4, 6, 6],
        strides: vec![[1, 2, 2], [2; 3]],
        blocks: Some(vec![1, 2, 1]),
        first_kernel: [3; 3],
        layers: by_levels(vec![[1, 3, 3], [3; 3], [3; 3]], vec![1; 3], vec![1, 1]),
    };
    for (config, classes, patch, expected) in [(plain, 4, [12, 16, 8], 2_312_448), (residual, 3, [8, 12, 16], 3_226_752)] {
        config.check().unwrap();
        assert_eq!(NnUNet::new(&config, classes).macs(patch), expected, "{config:?}");
    }
}
