//! Our side of `benches/side_by_side.py`: prepares one piece of work, and does it once for every line on its standard input,
//! answering with the seconds that it took.
//!
//!     contestant layer conv|up KERNEL FROM TO SHAPE WAY      a layer; SHAPE is b,x,y or b,x,y,z
//!     contestant network teacher|student|unetr|swin_unetr FEATURES SHAPE WAY  a network; FEATURES of a UNETR are its feature and
//!                                                            hidden sizes, perceptron and heads, of a Swin UNETR its feature size
//!     contestant peak f32|bf16|int8                            what the processor can do at most; answers GFLOP/s
//!
//! WAY is `f32`, `bf16`, `int8` (frozen, forward), `step`, `step-bf16` (layer: forward and gradients; network: a training step),
//! `step=PATTERN`, `step-bf16=PATTERN` (of a student or a teacher whose other parameters are frozen; a student's decoders without any
//! that moves have no part in the loss) or `candle` (candle's own convolution, forward).

use std::io::BufRead;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use nets::{
    DualUNet2d, DualUNet2dConfig, Learning, Network, Params, Precision, SwinUnetrConfig, Teacher, TeacherConfig, Trained, UNet3dConfig,
    UnetrConfig,
};
use ops::frozen::{Bf16, Element, Int8, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use ops::{ConvOptions, Factors};
use training::{Accumulator, FreezePlan, Optimizer, OptimizerConfig};

/// Channels of the outputs of the paper's student: background with 13 organs, and background with tumors.
const DECODERS: [(&str, usize); 2] = [("organ_decoder", 14), ("cancer_decoder", 2)];

const USAGE: &str = "contestant layer|network|peak ...; see the head of this example";

fn numbers(text: &str) -> Result<Vec<usize>> {
    text.split(',').map(|number| number.trim().parse().with_context(|| format!("{number:?} in {text:?}"))).collect()
}

fn random(dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::randn(0f32, 0.1, dims, &Device::Cpu)
}

/// Does the work for every line of standard input.
fn compete<T>(mut work: impl FnMut() -> Result<T>) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let begin = seconds();
        drop(work()?);
        println!("{}", seconds() - begin);
    }
    Ok(())
}

/// A clock: the processor time of the process if it has one worker thread, so that a busy machine does not matter, else the
/// time of day.
#[allow(unsafe_code)]
fn seconds() -> f64 {
    let clock = if rayon::current_num_threads() == 1 { libc::CLOCK_PROCESS_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// A convolution that keeps the size, or a transposed one that doubles it.
struct Layer {
    up: bool,
    kernel: usize,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
}

impl Layer {
    fn new(kind: &str, kernel: usize, from: usize, to: usize, shape: &[usize]) -> Result<Self> {
        let up = match kind {
            "conv" => false,
            "up" => true,
            _ => bail!("{kind}: conv or up expected"),
        };
        let channels = if up { [from, to] } else { [to, from] };
        Ok(Self {
            up,
            kernel,
            weight: random(&[channels.to_vec(), vec![kernel; shape.len() - 1]].concat())?,
            bias: random(&[to])?,
            x: random(&[&shape[..1], &[from], &shape[1..]].concat())?,
        })
    }

    fn run(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, factors: Factors) -> candle_core::Result<Tensor> {
        if self.up {
            return ops::conv_transpose(x, weight, Some(bias), 2);
        }
        ops::conv_with(x, weight, Some(bias), ConvOptions { factors, ..ConvOptions::new(1, self.kernel / 2) })
    }

    fn step(&self, factors: Factors) -> Result<()> {
        let [x, weight, bias] = [Var::from_tensor(&self.x)?, Var::from_tensor(&self.weight)?, Var::from_tensor(&self.bias)?];
        // An image takes no gradient.
        let x = if self.x.dim(1)? == 1 { x.as_detached_tensor() } else { x.as_tensor().clone() };
        // Begins with a gradient of ones, as PyTorch is told to.
        compete(|| Ok(self.run(&x, &weight, &bias, factors)?.backward()?))
    }

    fn candle(&self) -> Result<()> {
        ensure!(self.x.rank() == 4, "candle has no convolution in 3-D");
        compete(|| {
            let y = match self.up {
                true => self.x.conv_transpose2d(&self.weight, 0, 0, 2, 1)?,
                false => self.x.conv2d(&self.weight, self.kernel / 2, 1, 1, 1)?,
            };
            Ok(y)
        })
    }

    fn frozen<E: Element>(&self) -> Result<()> {
        let maps: Vec<Map<E>> = (0..self.x.dim(0)?).map(|i| Map::of_tensor(&self.x, i)).collect::<candle_core::Result<_>>()?;
        if self.up {
            let layer = PackedUpsampling::new(&self.weight, &self.bias)?;
            return compete(|| {
                maps.iter().try_for_each(|x| {
                    layer.run(x, x.size().map(|side| if side == 1 { 1 } else { 2 * side })).map(drop).map_err(anyhow::Error::from)
                })
            });
        }
        if self.kernel == 1 {
            let layer = PackedHead::new(&self.weight, &self.bias)?;
            return compete(|| maps.iter().try_for_each(|x| layer.run(x).map(drop).map_err(anyhow::Error::from)));
        }
        let method = Method::fastest::<E>(&self.weight, maps[0].size(), [1; 3]);
        let layer = PackedConv::<E>::new(&self.weight, &[maps[0].channels()], [1; 3], method)?;
        compete(|| maps.iter().try_for_each(|x| layer.run(&[x]).map(drop).map_err(anyhow::Error::from)))
    }
}

/// Takes training steps with the loss that `loss` computes: what a stage of training does with a batch in memory, forward pass,
/// loss, gradients of the live parameters, and AdamW.
fn steps(network: &impl Network, factors: Factors, plan: &FreezePlan, loss: impl Fn(&Learning) -> Result<Tensor>) -> Result<()> {
    let mut params = Params::init(&network.parameters(), random::Streams::new(1), &Device::Cpu)?;
    params.set_factors(factors);
    plan.apply(&mut params)?;
    let weights = Learning::new(params);
    let params = weights.params();
    let mut optimizer = Optimizer::new(OptimizerConfig::AdamW, 1e-5, params)?;
    compete(|| {
        let mut gradients = Accumulator::default();
        gradients.add(params, &loss(&weights)?, 1.0)?;
        Ok(optimizer.step(&gradients.into_gradients(), 1e-4)?)
    })
}

fn trained(network: &impl Network, precision: Precision) -> Result<Trained> {
    Ok(Trained::new(Params::init(&network.parameters(), random::Streams::new(1), &Device::Cpu)?, precision))
}

/// A teacher by the numbers of its size.
fn teacher(kind: &str, features: &[usize], shape: &[usize]) -> Result<Teacher> {
    let config = match (kind, features, shape) {
        ("teacher", features, _) => TeacherConfig::UNet(UNet3dConfig { features: features.try_into().context("six features expected")? }),
        ("unetr", &[feature_size, hidden_size, mlp_dim, num_heads], &[_, d, h, w]) => {
            TeacherConfig::Unetr(UnetrConfig { img_size: [d, h, w], feature_size, hidden_size, mlp_dim, num_heads })
        }
        ("swin_unetr", &[feature_size], _) => TeacherConfig::SwinUnetr(SwinUnetrConfig { feature_size, ..SwinUnetrConfig::default() }),
        _ => bail!("{kind} of {features:?} on {shape:?}: teacher, unetr or swin_unetr expected, with as many numbers as it takes"),
    };
    Ok(Teacher::new(&config, DECODERS[0].1))
}

/// What a network is to do.
enum Way {
    Infer(Precision),
    Train(Factors, FreezePlan),
}

impl Way {
    fn new(text: &str) -> Result<Self> {
        let (way, plan) = match text.split_once('=') {
            Some((way, pattern)) => (way, FreezePlan { live: vec![pattern.to_owned()] }),
            None => (text, FreezePlan::all_live()),
        };
        Ok(match way {
            "f32" => Self::Infer(Precision::F32),
            "bf16" => Self::Infer(Precision::Bf16),
            "int8" => Self::Infer(Precision::Int8),
            "step" => Self::Train(Factors::F32, plan),
            "step-bf16" => Self::Train(Factors::Bf16, plan),
            _ => bail!("{way}: f32, bf16, int8, step or step-bf16 expected"),
        })
    }
}

fn network(kind: &str, features: &[usize], shape: &[usize], way: &str) -> Result<()> {
    let image = Tensor::rand(0f32, 1.0, [&shape[..1], &[1], &shape[1..]].concat(), &Device::Cpu)?;
    let labels = |classes: usize| Tensor::rand(0f32, classes as f32, shape, &Device::Cpu)?.to_dtype(DType::U8);
    let [organs, cancer] = DECODERS.map(|(_, channels)| labels(channels));
    let (organs, cancer) = (organs?, cancer?);
    if kind != "student" {
        let network = teacher(kind, features, shape)?;
        return match Way::new(way)? {
            Way::Train(factors, plan) => {
                steps(&network, factors, &plan, |weights| Ok(ops::dice_ce(&weights.run(&network, &image)?, &organs)?))
            }
            Way::Infer(precision) => {
                let trained = trained(&network, precision)?;
                compete(|| Ok(trained.run(&network, &image)?))
            }
        };
    }
    let config = DualUNet2dConfig { features: features.try_into().context("six features expected")? };
    let network = DualUNet2d::new(&config, &DECODERS.map(|(name, channels)| (name.to_owned(), channels)));
    match Way::new(way)? {
        Way::Train(factors, plan) => {
            let specs = network.parameters();
            let live = plan.select(specs.iter().map(|spec| spec.name.as_str()))?;
            let moves = |decoder: &usize| live.iter().any(|name| name.starts_with(DECODERS[*decoder].0));
            let decoders: Vec<usize> = (0..DECODERS.len()).filter(moves).collect();
            steps(&network, factors, &plan, |weights| {
                let losses = weights.student(&network, &image, &decoders)?.into_iter().zip(&decoders);
                let losses = losses.map(|(logits, &decoder)| ops::dice_ce(&logits, [&organs, &cancer][decoder]));
                let sum = losses.reduce(|a, b| a? + b?).context("no decoder moves")?;
                Ok(sum?)
            })
        }
        Way::Infer(precision) => {
            let trained = trained(&network, precision)?;
            compete(|| Ok(trained.student(&network, &image)?))
        }
    }
}

/// Multiplies registers with each other and nothing else, on all threads: GFLOP/s that no kernel can exceed.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod peak {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::seconds;

    /// Independent sums, so that no instruction waits for another.
    const SUMS: usize = 24;
    const ROUNDS: usize = 2_000_000;

    macro_rules! rounds {
        ($name:ident, $features:literal, $flops:literal, $sum:ty, $zero:expr, $step:expr) => {
            /// Floating-point operations.
            #[target_feature(enable = $features)]
            unsafe fn $name() -> usize {
                let mut sums: [$sum; SUMS] = [$zero; SUMS];
                let x = black_box($zero);
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        *sum = $step(*sum, x);
                    }
                }
                black_box(sums);
                ROUNDS * SUMS * $flops
            }
        };
    }
    rounds!(avx2, "avx2,fma", 16, __m256, _mm256_setzero_ps(), |sum, x| _mm256_fmadd_ps(x, x, sum));
    rounds!(avx512, "avx512f", 32, __m512, _mm512_setzero_ps(), |sum, x| _mm512_fmadd_ps(x, x, sum));
    rounds!(bf16, "avx512f,avx512bf16", 64, __m512, _mm512_setzero_ps(), |sum, x: __m512| {
        // SAFETY: both are 512 bits.
        let x: __m512bh = unsafe { std::mem::transmute(x) };
        _mm512_dpbf16_ps(sum, x, x)
    });

    rounds!(int8, "avx512f,avx512vnni", 128, __m512i, _mm512_setzero_si512(), |sum, x| _mm512_dpbusd_epi32(sum, x, x));

    fn measure(rounds: unsafe fn() -> usize) -> f64 {
        let run = || {
            let begin = seconds();
            // SAFETY: the caller has found the instructions.
            let flops: usize = rayon::broadcast(|_| unsafe { rounds() }).into_iter().sum();
            flops as f64 / (seconds() - begin) / 1e9
        };
        (0..5).map(|_| run()).fold(0.0, f64::max)
    }

    /// Of vector instructions; AMX is not measured.
    pub(super) fn peak(number: &str) -> Option<f64> {
        match number {
            "f32" if is_x86_feature_detected!("avx512f") => Some(measure(avx512)),
            "f32" if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => Some(measure(avx2)),
            "int8" if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") => Some(measure(int8)),
            "bf16" if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") => Some(measure(bf16)),
            _ => None,
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    pub(super) fn peak(_: &str) -> Option<f64> {
        None
    }
}

fn main() -> Result<()> {
    ops::tune_process();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["layer", kind, kernel, from, to, shape, way] => {
            let layer = Layer::new(kind, kernel.parse()?, from.parse()?, to.parse()?, &numbers(shape)?)?;
            match way {
                "f32" => layer.frozen::<f32>(),
                "bf16" => layer.frozen::<Bf16>(),
                "int8" => layer.frozen::<Int8>(),
                "step" => layer.step(Factors::F32),
                "step-bf16" => layer.step(Factors::Bf16),
                "candle" => layer.candle(),
                _ => bail!("{way}: f32, bf16, int8, step, step-bf16 or candle expected"),
            }
        }
        ["network", kind, features, shape, way] => network(kind, &numbers(features)?, &numbers(shape)?, way),
        ["peak", number] => {
            match peak::peak(number) {
                Some(peak) => println!("{peak}"),
                None => println!("unknown"),
            }
            Ok(())
        }
        _ => bail!(USAGE),
    }
}
