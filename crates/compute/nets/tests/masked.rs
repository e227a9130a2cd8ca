//! Encoders that learn from hidden cubes: what they see, what they learn by, and what is made of it.

use candle_core::{Device, Tensor, Var};
use nets::{DecoderConfig, Hidden, Masked, Network, Params, SwinUnetrConfig, TeacherConfig, UNet3dConfig, UnetrConfig, patches};
use random::{Streams, normal};

const DECODER: DecoderConfig = DecoderConfig { width: 8, depth: 1, heads: 2 };

/// Both kinds on patches of a few cubes, with what hides all but some of them in two images.
fn cases() -> Vec<(&'static str, Masked, [usize; 3], Hidden)> {
    let unetr = UnetrConfig { img_size: [32, 32, 16], feature_size: 2, hidden_size: 12, mlp_dim: 16, num_heads: 2 };
    let swin = SwinUnetrConfig { feature_size: 4, depths: [2, 1, 1, 1], num_heads: [1, 2, 2, 2], window_size: 5 };
    [("MAE", TeacherConfig::Unetr(unetr), [32, 32, 16]), ("SimMIM", TeacherConfig::SwinUnetr(swin), [64, 64, 32])]
        .map(|(name, config, size)| {
            let hidden = Hidden::new(&[vec![true, false, true, true], vec![true, true, true, false]]).unwrap();
            (name, Masked::new(&config, size, &DECODER).unwrap(), size, hidden)
        })
        .into()
}

fn noise(dims: &[usize], seed: u64) -> Tensor {
    let mut stream = Streams::new(seed).stream("test", &[]);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| normal(&mut stream)).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn images(size: [usize; 3], seed: u64) -> Tensor {
    noise(&[2, 1, size[0], size[1], size[2]], seed)
}

fn params(network: &Masked) -> Params {
    Params::init(&network.parameters(), Streams::new(3), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_is_hidden_is_not_seen_and_what_is_shown_is() {
    for (name, network, size, hidden) in cases() {
        let params = params(&network);
        let (image, other) = (images(size, 1), images(size, 2));
        let shown = network.shown(&image, &hidden).unwrap();
        let elsewhere = (&other - network.shown(&other, &hidden).unwrap()).unwrap();
        let predict = |image: &Tensor| values(&network.predict(&params, image, &hidden).unwrap());
        let expected = predict(&image);
        assert_eq!(expected.len(), 6 * network.side().pow(3), "{name}: six cubes are hidden");
        assert!(predict(&(shown + elsewhere).unwrap()) == expected, "{name}: other hidden cubes");
        assert!(predict(&other) != expected, "{name}: other shown cubes");
    }
}

#[test]
fn a_reconstruction_keeps_what_was_shown() {
    for (name, network, size, hidden) in cases() {
        let (params, image) = (params(&network), images(size, 1));
        let cubes = |image: &Tensor| patches(image, network.side()).unwrap().flatten_to(1).unwrap().to_vec2::<f32>().unwrap();
        let whole = network.reconstruct(&params, &image, &hidden).unwrap();
        let [truth, shown, whole] = [cubes(&image), cubes(&network.shown(&image, &hidden).unwrap()), cubes(&whole)];
        for cube in 0..8 {
            if [1, 7].contains(&cube) {
                assert!(whole[cube] == truth[cube] && shown[cube] == truth[cube], "{name}: cube {cube} was shown");
            } else {
                assert!(whole[cube] != truth[cube] && shown[cube].iter().all(|&v| v == 0.0), "{name}: cube {cube} was hidden");
            }
        }
    }
}

/// The loss along the direction of its own gradient rises as fast as the gradient is long.
#[test]
fn every_parameter_has_the_gradient_that_differences_tell() {
    for (name, network, size, hidden) in cases() {
        let (params, image) = (params(&network), images(size, 1));
        // A head that says more, so that what the encoder does shows in 24 bits.
        let (_, head) = params.all().find(|(name, _)| *name == "decoder.predict.weight").unwrap();
        head.set(&(head.as_detached_tensor() * 30.0).unwrap()).unwrap();
        let loss = || network.loss(&params, &image, &hidden).unwrap();
        let gradients = loss().backward().unwrap();
        let live: Vec<(&str, Var)> = params.live().collect();
        for part in ["decoder.", "decoder.mask_token", "patch_embed", "attn.qkv.weight", "norm2", "mlp"] {
            let chosen = live.iter().filter(|(name, _)| name.contains(part));
            let steps: Vec<(&Var, Tensor, Tensor)> = chosen
                .map(|(name, var)| {
                    let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("no gradient of {name}"));
                    (var, var.copy().unwrap().detach(), gradient.clone())
                })
                .collect();
            let length = steps
                .iter()
                .map(|(_, _, g)| f64::from(g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()))
                .sum::<f64>()
                .sqrt();
            let at = |step: f64| {
                for (var, start, gradient) in &steps {
                    var.set(&(start + (gradient * (step / length)).unwrap()).unwrap()).unwrap();
                }
                f64::from(loss().to_scalar::<f32>().unwrap())
            };
            // A weight of the embedding counts thousands of voxels at once.
            let step = if part == "patch_embed" && name == "MAE" { 2e-5 } else { 1e-3 / length.clamp(0.1, 1.0) };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            at(0.0);
            // The loss has 24 bits, and that of SimMIM bends where a voxel is met.
            println!("{name}, {part}: gradient {length}, difference {difference}");
            assert!((difference / length - 1.0).abs() < 3e-2, "{name}, {part}: gradient {length}, difference {difference}");
        }
    }
}

#[test]
fn networks_and_masks_that_make_no_sense_are_refused() {
    let unet = TeacherConfig::UNet(UNet3dConfig { features: [4; 6] });
    let error = Masked::new(&unet, [32; 3], &DECODER).err().unwrap();
    assert!(error.contains("give unetr or swin_unetr"), "{error}");
    let unetr = TeacherConfig::Unetr(UnetrConfig { img_size: [32; 3], ..UnetrConfig::default() });
    assert!(Masked::new(&unetr, [32; 3], &DecoderConfig { heads: 3, ..DECODER }).err().unwrap().contains("must divide width 8"));
    assert!(Hidden::new(&[]).is_err() && Hidden::new(&[vec![true; 4]]).is_err() && Hidden::new(&[vec![false; 4]]).is_err());
    assert!(Hidden::new(&[vec![true, false], vec![false, false]]).is_err());
    let (_, network, size, _) = cases().remove(0);
    let few = Hidden::new(&[vec![true, false]]).unwrap();
    assert!(network.loss(&params(&network), &images(size, 1), &few).is_err());
}
