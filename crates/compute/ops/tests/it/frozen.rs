//! Frozen layers against the ones that are trained.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use ops::frozen::{Bf16, Channels, Element, InstanceNorm, Int8, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use ops::{ConvOptions, Isa, with_isa};
use proptest::prelude::*;

use crate::support::{deviation, hold, random, values};

const EPSILON: f64 = 1e-5;
const SLOPE: f64 = 0.1;

/// A small network with every kind of layer: two levels, a skip connection, logits.
struct Weights {
    image: Tensor,
    convs: [Tensor; 3],
    norms: [[Tensor; 2]; 3],
    up: [Tensor; 2],
    head: [Tensor; 2],
}

impl Weights {
    fn new(size: &[usize], [a, b, c]: [usize; 3], classes: usize) -> Self {
        let weight = |seed, co: usize, ci: usize, kernel| random(seed, &[vec![co, ci], vec![kernel; size.len()]].concat());
        let norm = |seed, channels: usize| [random(seed, &[channels]), random(seed + 1, &[channels])];
        Self {
            image: random(1, &[vec![2, 1], size.to_vec()].concat()),
            convs: [weight(2, a, 1, 3), weight(3, b, a, 3), weight(4, c, a + b, 3)],
            norms: [norm(5, a), norm(7, b), norm(9, c)],
            up: [weight(11, b, b, 2), random(12, &[b])],
            head: [weight(13, classes, c, 1), random(14, &[classes])],
        }
    }

    /// The second image's logits in double precision, composed of candle's operations.
    fn trained(&self) -> candle_core::Result<Tensor> {
        let layer = |x: &Tensor, i: usize| {
            let [gamma, beta] = &self.norms[i];
            ops::instance_norm_leaky_relu(&ops::conv(x, &self.convs[i], None, 1, 1)?, gamma, beta, EPSILON, SLOPE)
        };
        let skip = layer(&self.image.narrow(0, 1, 1)?, 0)?;
        let below = layer(&ops::max_pool2(&skip)?, 1)?;
        let raised = ops::conv_transpose(&below, &self.up[0], Some(&self.up[1]), 2)?;
        let missing: Vec<bool> = skip.dims()[2..].iter().map(|n| n % 2 == 1).collect();
        let raised = ops::pad_replicate_end(&raised, &missing)?;
        let x = layer(&ops::concat_channels(&[&skip, &raised])?, 2)?;
        ops::conv(&x, &self.head[0], Some(&self.head[1]), 1, 0)
    }

    fn frozen<E: Element>(&self, method: Method) -> candle_core::Result<Tensor> {
        let single = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let layer = |sources: &[&Map<E>], i: usize| {
            let channels: Vec<Channels> = sources.iter().map(|source| source.channels()).collect();
            // The image has one channel, too few for Winograd's method.
            let method = if i == 0 { Method::Direct } else { method };
            let (y, moments) = PackedConv::<E>::new(&single(&self.convs[i])?, &channels, [1; 3], method)?.run(sources)?;
            let [gamma, beta] = &self.norms[i];
            InstanceNorm::new(&single(gamma)?, &single(beta)?, EPSILON, SLOPE)?.run(y, &moments)
        };
        let skip = layer(&[&Map::of_tensor(&single(&self.image)?, 1)?], 0)?;
        let below = layer(&[&skip.max_pool2()?], 1)?;
        let raised = PackedUpsampling::new(&single(&self.up[0])?, &single(&self.up[1])?)?.run(&below, skip.size())?;
        let x = layer(&[&skip, &raised], 2)?;
        PackedHead::new(&single(&self.head[0])?, &single(&self.head[1])?)?.run(&x)
    }
}

const METHODS: [Method; 2] = [Method::Direct, Method::Winograd];

const NETWORKS: &[(&[usize], [usize; 3], usize)] = &[
    (&[33, 47], [16, 32, 48], 14),
    (&[22, 31], [3, 16, 24], 2),
    (&[64, 29], [32, 20, 128], 33),
    (&[18, 17, 21], [8, 16, 16], 14),
    (&[5, 7, 6], [16, 48, 8], 1),
];

#[test]
fn in_f32_they_give_what_trained_ones_give() -> Result<()> {
    for &(size, channels, classes) in NETWORKS {
        let weights = Weights::new(size, channels, classes);
        let expected = weights.trained()?;
        for isa in Isa::available() {
            for method in METHODS {
                let off = deviation(&with_isa(isa, || weights.frozen::<f32>(method))??, &expected)?;
                ensure!(off < 2e-5, "{isa:?}, {method:?}, {size:?}, {channels:?}: off by {off:.1e}");
            }
        }
    }
    Ok(())
}

/// The root mean square of the difference, relative to that of what is expected.
fn relative(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let (found, expected) = (values(found)?, values(expected)?);
    let error: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
    Ok((error / expected.iter().map(|b| b.powi(2)).sum::<f64>()).sqrt())
}

#[test]
fn in_bf16_they_differ_by_rounding() -> Result<()> {
    for &(size, channels, classes) in NETWORKS {
        let weights = Weights::new(size, channels, classes);
        let expected = weights.trained()?;
        for isa in Isa::available() {
            for method in METHODS {
                let off = relative(&with_isa(isa, || weights.frozen::<Bf16>(method))??, &expected)?;
                // A rounding to 8 bits is off by 1.6e-3 of the value in the mean square; a handful of them lie on every
                // path, and twice as many with Winograd's method.
                ensure!(off < 1e-2, "{isa:?}, {method:?}, {size:?}, {channels:?}: off by {off:.1e}");
            }
        }
    }
    Ok(())
}

#[test]
fn in_8_bits_they_differ_by_rounding() -> Result<()> {
    for &(size, channels, classes) in NETWORKS {
        let weights = Weights::new(size, channels, classes);
        let expected = weights.trained()?;
        for isa in Isa::available() {
            let off = relative(&with_isa(isa, || weights.frozen::<Int8>(Method::Direct))??, &expected)?;
            // Activations of some 4 deviations on either side are off by 1 % in the mean square, weights by half of that; a handful
            // of both lie on every path.
            ensure!(off < 4e-2, "{isa:?}, {size:?}, {channels:?}: off by {off:.1e}");
        }
    }
    Ok(())
}

/// Whole numbers that are levels of 8 bits are rounded nowhere on the way, whatever the instructions.
#[test]
fn whole_numbers_of_8_bits_are_summed_exactly() -> Result<()> {
    // Numbers from `low` to `high`, which are both there, and zeros.
    let whole = |seed, dims: &[usize], low: f64, high: f64| -> Result<Tensor> {
        let random = values(&random(seed, dims))?;
        let span = random.iter().fold(0f64, |most, value| most.max(value.abs()));
        let mut numbers: Vec<f64> = random.iter().map(|value| ((value / span + 1.0) / 2.0 * (high - low) + low).round()).collect();
        // Both ends are in each channel of weights, and somewhere in a map.
        let per_channel = dims[1..].iter().product::<usize>();
        numbers.chunks_exact_mut(per_channel).for_each(|numbers| (numbers[0], numbers[1]) = (low, high));
        Ok(Tensor::from_vec(numbers, dims, &candle_core::Device::Cpu)?)
    };
    for (size, [first, second, out]) in [(vec![13, 21], [3, 24, 40]), (vec![5, 4, 19], [16, 7, 16]), (vec![9, 30], [1, 32, 5])] {
        let image = |seed, channels: usize, low, high| whole(seed, &[vec![1, channels], size.clone()].concat(), low, high);
        let (x, y) = (image(1, first, -100.0, 155.0)?, image(2, second, -10.0, 245.0)?);
        // Small enough for sums of 16 bits, which are rounded once, at the end.
        let weight = (whole(3, &[vec![out, first + second], vec![3; size.len()]].concat(), -127.0, 90.0)? / 1024.0)?;
        let expected = ops::conv(&ops::concat_channels(&[&x, &y])?, &weight, None, 1, 1)?.to_dtype(DType::F16)?;
        for isa in Isa::available() {
            let found = with_isa(isa, || {
                let single = |tensor: &Tensor| tensor.to_dtype(DType::F32);
                let (x, y) = (Map::<Int8>::of_tensor(&single(&x)?, 0)?, Map::<Int8>::of_tensor(&single(&y)?, 0)?);
                let layer = PackedConv::<Int8>::new(&single(&weight)?, &[x.channels(), y.channels()], [1; 3], Method::Direct)?;
                layer.run(&[&x, &y])?.0.to_tensor()
            })??;
            ensure!(values(&found)? == values(&expected)?, "{isa:?}, {size:?}: off by {:.1e}", deviation(&found, &expected)?);
        }
    }
    Ok(())
}

#[test]
fn sums_beyond_what_8_bits_keep_are_refused() -> Result<()> {
    let single = |seed, dims: &[usize]| random(seed, dims).to_dtype(DType::F32);
    let image = Map::<Int8>::of_tensor(&single(1, &[1, 16, 8, 8])?, 0)?;
    let large = (single(2, &[16, 16, 3, 3])? * 1e5)?;
    let (raw, moments) = PackedConv::<Int8>::new(&large, &[image.channels()], [1; 3], Method::Direct)?.run(&[&image])?;
    let vector = single(3, &[16])?;
    let of_conv = InstanceNorm::new(&vector, &vector, EPSILON, SLOPE)?.run::<Int8>(raw, &moments).err();
    let up = PackedUpsampling::<Int8>::new(&(single(4, &[16, 16, 2, 2])? * 1e5)?, &vector)?;
    for error in [of_conv, up.run(&image, [1, 16, 16]).err()] {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("65504 at most are kept; compute in f32"), "{error}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let single = |seed, dims: &[usize]| random(seed, dims).to_dtype(DType::F32);
    let image = Map::<f32>::of_tensor(&single(1, &[1, 1, 8, 8])?, 0)?;
    let (one, map) = (image.channels(), Map::<f32>::of_tensor(&single(1, &[1, 2, 8, 8])?, 0)?);
    let two = map.channels();
    assert!(Map::<f32>::of_tensor(&single(1, &[1, 2, 8])?, 0).is_err());
    let conv = |dims: &[usize], channels, method| PackedConv::<f32>::new(&single(1, dims)?, &[channels], [1; 3], method);
    let striding = |stride, method| PackedConv::<f32>::new(&single(1, &[4, 2, 3, 3])?, &[two], stride, method);
    assert!(striding([1, 3, 3], Method::Direct).is_err(), "steps of 3");
    assert!(striding([1, 2, 2], Method::Winograd).is_err(), "steps of 2");
    assert!(conv(&[4, 3, 3, 3], one, Method::Direct).is_err(), "channels that do not add up");
    assert!(conv(&[4, 1, 5, 5], one, Method::Direct).is_err(), "a kernel of 5");
    assert!(conv(&[4, 1, 3, 3], one, Method::Winograd).is_err(), "a single channel");
    assert!(conv(&[4, 2, 1, 1], two, Method::Winograd).is_err(), "a kernel of 1");
    let deep = conv(&[4, 1, 3, 3, 3], one, Method::Direct)?;
    assert!(deep.run(&[&image]).is_err(), "a volume's kernel has no room in an image");
    assert!(deep.run(&[&map]).is_err() && deep.run(&[]).is_err());
    assert!(image.max_pool2().is_err(), "a single channel is no vector");
    let head = PackedHead::<f32>::new(&single(1, &[2, 1, 1, 1])?, &single(1, &[2])?)?;
    assert!(head.run(&image).is_err() && head.run(&map).is_err());
    let up = PackedUpsampling::<f32>::new(&single(1, &[1, 3, 2, 2])?, &single(1, &[3])?)?;
    assert!(up.run(&image, [1, 16, 16]).is_err());
    assert!(PackedUpsampling::<f32>::new(&single(1, &[1, 3, 3, 2])?, &single(1, &[3])?).is_err(), "steps of 3");
    assert!(image.add_leaky_relu(&image, 0.1).is_err(), "a single channel is no vector");
    assert!(map.add_leaky_relu(&Map::of_tensor(&single(1, &[1, 2, 8, 9])?, 0)?, 0.1).is_err(), "maps of two sizes");
    assert!(map.add_leaky_relu(&map, 1.5).is_err(), "a slope above 1");
    Ok(())
}

#[test]
fn a_map_holds_what_a_tensor_holds() -> Result<()> {
    for dims in [vec![2, 3, 5, 7], vec![2, 17, 4, 3, 6], vec![2, 1, 9, 1]] {
        let tensor = random(1, &dims).to_dtype(DType::F32)?;
        let back = Map::<f32>::of_tensor(&tensor, 1)?.to_tensor()?;
        assert_eq!(values(&back)?, values(&tensor.narrow(0, 1, 1)?)?);
        let maps = [0, 1].map(|i| Map::<f32>::of_tensor(&tensor, i));
        let maps = maps.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        let batch = Map::to_batch(&maps.iter().collect::<Vec<_>>())?;
        assert_eq!((batch.dims(), values(&batch)?), (&dims[..], values(&tensor)?));
    }
    let map = |dims: &[usize]| Map::<f32>::of_tensor(&random(1, dims).to_dtype(DType::F32)?, 0);
    assert!(Map::<f32>::to_batch(&[]).is_err(), "no image");
    assert!(Map::to_batch(&[&map(&[1, 2, 4, 4])?, &map(&[1, 2, 4, 5])?]).is_err(), "images of two sizes");
    assert!(Map::to_batch(&[&map(&[1, 2, 4, 4])?, &map(&[1, 3, 4, 4])?]).is_err(), "images of two numbers of channels");
    Ok(())
}

/// A convolution of one or two maps, small in every way.
#[derive(Debug)]
struct Draw {
    size: Vec<usize>,
    sources: Vec<usize>,
    out_channels: usize,
    kernel: usize,
    /// Along each axis that the maps have.
    stride: Vec<usize>,
    seed: u64,
}

fn draws() -> impl Strategy<Value = Draw> {
    let sizes = prop::collection::vec(1..20usize, 2..4);
    let sources = prop::collection::vec(1..36usize, 1..3);
    let strides = prop::collection::vec(1..3usize, 3);
    let parts = (sizes, sources, 1..70usize, prop::sample::select(vec![1, 3]), strides, any::<u64>());
    parts.prop_map(|(size, sources, out_channels, kernel, stride, seed)| {
        let stride = stride[..size.len()].to_vec();
        Draw { size, sources, out_channels, kernel, stride, seed }
    })
}

/// Values along depth, height and width; `none` along the depth of an image.
fn three(values: &[usize], none: usize) -> [usize; 3] {
    let mut all = [none; 3];
    all[3 - values.len()..].copy_from_slice(values);
    all
}

impl Draw {
    /// The results of every method that has such a kernel, and what they should be.
    fn run<E: Element>(&self) -> Result<(Vec<(Method, Tensor)>, Tensor)> {
        let dims = |channels: usize| [vec![1, channels], self.size.clone()].concat();
        let tensors: Vec<Tensor> = self.sources.iter().zip(self.seed..).map(|(&channels, seed)| random(seed, &dims(channels))).collect();
        let channels = self.sources.iter().sum();
        let weight = random(self.seed ^ 1, &[vec![self.out_channels, channels], vec![self.kernel; self.size.len()]].concat());
        let (stride, side) = (three(&self.stride, 1), self.kernel / 2);
        let options = ConvOptions { stride, padding: three(&vec![side; self.size.len()], 0), ..ConvOptions::new(1, 0) };
        let expected = ops::conv_with(&Tensor::cat(&tensors, 1)?, &weight, None, options)?;
        let maps: Vec<Map<E>> =
            tensors.iter().map(|tensor| Map::of_tensor(&tensor.to_dtype(DType::F32)?, 0)).collect::<candle_core::Result<_>>()?;
        let maps: Vec<&Map<E>> = maps.iter().collect();
        let mut found = Vec::new();
        for method in METHODS {
            let fits = method == Method::Direct || self.kernel == 3 && stride == [1; 3] && !self.sources.contains(&1);
            if fits {
                let channels: Vec<Channels> = maps.iter().map(|map| map.channels()).collect();
                let conv = PackedConv::new(&weight.to_dtype(DType::F32)?, &channels, stride, method)?;
                found.push((method, conv.run(&maps)?.0.to_tensor()?));
            }
        }
        Ok((found, expected))
    }
}

#[test]
fn convolutions_of_any_maps_are_those_of_joined_tensors() -> Result<()> {
    hold(40, &draws(), |draw| {
        for isa in Isa::available() {
            let (found, expected) = with_isa(isa, || draw.run::<f32>())??;
            for (method, found) in found {
                let off = deviation(&found, &expected)?;
                ensure!(off < 2e-5, "f32, {isa:?}, {method:?}: off by {off:.1e}");
            }
            let (found, expected) = with_isa(isa, || draw.run::<Bf16>())??;
            for (method, found) in found {
                let off = deviation(&found, &expected)?;
                // Inputs, weights and results are rounded to 8 bits, and with Winograd's method what is between them.
                ensure!(off < 3e-2, "bf16, {isa:?}, {method:?}: off by {off:.1e}");
            }
        }
        Ok(())
    })
}

/// How far the sum of two maps is off, relative to the largest value.
fn off_by<E: Element>([a, b]: [&Tensor; 2], slope: f32, expected: &Tensor) -> Result<f64> {
    deviation(&Map::<E>::of_tensor(a, 0)?.add_leaky_relu(&Map::of_tensor(b, 0)?, slope)?.to_tensor()?, expected)
}

#[test]
fn sums_of_maps_are_those_of_tensors() -> Result<()> {
    for (dims, slope) in [(vec![1, 3, 7, 9], 0.01), (vec![1, 16, 4, 5, 6], 1.0), (vec![1, 40, 3, 1, 11], 0.0)] {
        let [a, b] = [1, 2].map(|seed| random(seed, &dims).to_dtype(DType::F32));
        let (a, b) = (a?, (b? * 3.0)?);
        let sum = (&a + &b)?;
        let expected = (sum.relu()? - (sum.neg()?.relu()? * slope)?)?;
        for isa in Isa::available() {
            let off = |isa| -> Result<[f64; 3]> {
                let (slope, of) = (slope as f32, [&a, &b]);
                with_isa(isa, || {
                    Ok([off_by::<f32>(of, slope, &expected)?, off_by::<Bf16>(of, slope, &expected)?, off_by::<Int8>(of, slope, &expected)?])
                })?
            };
            // The order of sums, a rounding to 8 bits of each number, 256 levels.
            for (off, bound) in off(isa)?.into_iter().zip([1e-6, 1e-2, 2e-2]) {
                ensure!(off < bound, "{isa:?}, {dims:?}: off by {off:.1e}, {bound:e} allowed");
            }
        }
    }
    Ok(())
}

#[test]
fn means_of_boxes_are_those_of_tensors() -> Result<()> {
    let x = random(1, &[1, 20, 5, 6, 9]).to_dtype(DType::F32)?;
    for window in [[1, 2, 2], [2, 2, 2], [5, 3, 1]] {
        let [d, h, w]: [usize; 3] = std::array::from_fn(|a| [5, 6, 9][a] / window[a]);
        let part = x.narrow(2, 0, d * window[0])?.narrow(3, 0, h * window[1])?.narrow(4, 0, w * window[2])?.contiguous()?;
        let boxes = part.reshape(&[20, d, window[0], h, window[1], w, window[2]][..])?;
        let expected = boxes.mean((2, 4, 6))?.unsqueeze(0)?;
        for isa in Isa::available() {
            let off = deviation(&with_isa(isa, || Map::<f32>::of_tensor(&x, 0)?.average(window)?.to_tensor())??, &expected)?;
            ensure!(off < 1e-6, "{isa:?}, {window:?}: off by {off:.1e}");
            let off = deviation(&with_isa(isa, || Map::<Int8>::of_tensor(&x, 0)?.average(window)?.to_tensor())??, &expected)?;
            ensure!(off < 2e-2, "{isa:?}, {window:?} in 8 bits: off by {off:.1e}");
        }
    }
    let single = Map::<f32>::of_tensor(&random(1, &[1, 1, 4, 4]).to_dtype(DType::F32)?, 0)?;
    assert!(single.average([1, 2, 2]).is_err() && Map::<f32>::of_tensor(&x, 0)?.average([6, 1, 1]).is_err());
    Ok(())
}

/// Steps of 1 along some axes, as networks for anisotropic voxels have them.
#[test]
fn transposed_convolutions_of_any_steps_are_those_of_tensors() -> Result<()> {
    for (size, kernel) in [([3, 4, 5], [1, 2, 2]), ([3, 4, 5], [2, 2, 1]), ([2, 3, 4], [2, 1, 2]), ([2, 3, 4], [1, 1, 1])] {
        let single = |seed, dims: &[usize]| random(seed, dims).to_dtype(DType::F32);
        let (x, bias) = (single(1, &[&[1, 12], &size[..]].concat())?, single(3, &[20])?);
        let weight = single(2, &[&[12, 20], &kernel[..]].concat())?;
        let options = ConvOptions { stride: kernel, ..ConvOptions::new(1, 0) };
        let expected = ops::conv_transpose_with(&x, &weight, Some(&bias), options, [0; 3])?;
        for isa in Isa::available() {
            let found = with_isa(isa, || {
                let layer = PackedUpsampling::<f32>::new(&weight, &bias)?;
                layer.run(&Map::of_tensor(&x, 0)?, layer.raised(size))?.to_tensor()
            })??;
            let off = deviation(&found, &expected)?;
            ensure!(off < 2e-5, "{isa:?}, {kernel:?}: off by {off:.1e}");
        }
    }
    Ok(())
}
