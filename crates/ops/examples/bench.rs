//! Times every layer's forward pass and forward plus backward pass on the CPU.
//!
//! `cargo run --release -p ops --example bench [-- FILTER [untuned]]`; `untuned` leaves the allocator as it is.
//! `benches/torch_layers.py` prints the same of PyTorch.
//! Set RAYON_NUM_THREADS to compare with a given number of threads. With one thread, times are of the processor
//! rather than of the clock, so that they mean something on a busy machine too.
#![allow(unsafe_code)]

use candle_core::{DType, Device, Result, Tensor, Var};

/// Name, batch, input and output channels, size, kernel, stride.
type Layer = (&'static str, usize, usize, usize, &'static [usize], usize, usize);

const CONVOLUTIONS: &[Layer] = &[
    ("2d 8x32->32 224 k3", 8, 32, 32, &[224, 224], 3, 1),
    ("2d 8x64->64 112 k3", 8, 64, 64, &[112, 112], 3, 1),
    ("2d 8x128->128 56 k3", 8, 128, 128, &[56, 56], 3, 1),
    ("2d 2x48->128 224 k3", 2, 48, 128, &[224, 224], 3, 1),
    ("2d 16x16->16 96x80 k3", 16, 16, 16, &[96, 80], 3, 1),
    ("2d 16x16->32 48x40 k3", 16, 16, 32, &[48, 40], 3, 1),
    ("2d 8x1->32 224 k3", 8, 1, 32, &[224, 224], 3, 1),
    ("2d 8x32->14 224 k1", 8, 32, 14, &[224, 224], 1, 1),
    ("3d 1x16->16 128 k3", 1, 16, 16, &[128, 128, 128], 3, 1),
    ("3d 1x32->32 96 k3", 1, 32, 32, &[96, 96, 96], 3, 1),
    ("3d 1x32->16 128 k3", 1, 32, 16, &[128, 128, 128], 3, 1),
    ("3d 1x32->64 96 k3 s2", 1, 32, 64, &[96, 96, 96], 3, 2),
    ("3d 1x256->256 12 k3", 1, 256, 256, &[12, 12, 12], 3, 1),
    ("3d 2x8->16 48 k3", 2, 8, 16, &[48, 48, 48], 3, 1),
    ("3d 1x1->16 128 k3", 1, 1, 16, &[128, 128, 128], 3, 1),
];

const TRANSPOSED: &[Layer] =
    &[("up2d 8x64->32 112 k2", 8, 64, 32, &[112, 112], 2, 2), ("up3d 1x64->32 48 k2", 1, 64, 32, &[48, 48, 48], 2, 2)];

/// Name, batch, channels, size.
const MAPS: &[(&str, usize, usize, &[usize])] = &[("2d 8x32 224", 8, 32, &[224, 224]), ("3d 1x16 128", 1, 16, &[128, 128, 128])];

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu)
}

/// A clock: the processor time of the process if it has one worker thread, else the time of day.
fn seconds() -> f64 {
    let clock = if rayon::current_num_threads() == 1 { libc::CLOCK_PROCESS_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn median_ms(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut times = Vec::new();
    let start = seconds();
    while times.len() < 3 || (seconds() - start < 0.8 && times.len() < 30) {
        let begin = seconds();
        run()?;
        times.push((seconds() - begin) * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn report(name: &str, flops: f64, inputs: &[Var], op: impl Fn() -> Result<Tensor>) -> Result<()> {
    let forward = median_ms(|| op().map(drop))?;
    // The gradient of the inner product with a constant tensor is that tensor: no other operation is timed.
    let weights = op()?.detach().ones_like()?;
    let both = median_ms(|| {
        let gradients = (op()? * &weights)?.sum_all()?.backward()?;
        inputs.iter().for_each(|input| drop(gradients.get(input).cloned()));
        Ok(())
    })?;
    let rate = |flops: f64, ms: f64| {
        if flops == 0.0 { String::new() } else { format!("{:6.1} GFLOP/s", flops / ms / 1e6) }
    };
    println!(
        "{name:34} forward {forward:8.2} ms {:14}  forward+backward {both:8.2} ms {:14}",
        rate(flops, forward),
        rate(3.0 * flops, both)
    );
    Ok(())
}

fn main() -> Result<()> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    if std::env::args().nth(2).as_deref() != Some("untuned") {
        ops::tune_process();
    }
    println!("{:?}, {} threads", ops::Isa::current(), rayon::current_num_threads());
    for (transposed, layers) in [(false, CONVOLUTIONS), (true, TRANSPOSED)] {
        for &(name, batch, ci, co, size, kernel, stride) in layers {
            if !name.contains(&filter) {
                continue;
            }
            let x = Var::from_tensor(&random(&[&[batch, ci], size].concat())?)?;
            let channels = if transposed { [ci, co] } else { [co, ci] };
            let w = random(&[channels.to_vec(), vec![kernel; size.len()]].concat())?;
            let (w, b) = (Var::from_tensor(&w)?, Var::from_tensor(&random(&[co])?)?);
            let taps = kernel.pow(size.len() as u32);
            let positions = size.iter().map(|n| if transposed { *n } else { n / stride }).product::<usize>();
            let flops = 2.0 * (batch * ci * co * taps * positions) as f64;
            report(name, flops, &[x.clone(), w.clone(), b.clone()], || {
                if transposed { ops::conv_transpose(&x, &w, Some(&b), stride) } else { ops::conv(&x, &w, Some(&b), stride, kernel / 2) }
            })?;
        }
    }
    for &(name, batch, channels, size) in MAPS {
        if !name.contains(&filter) {
            continue;
        }
        let x = Var::from_tensor(&random(&[&[batch, channels], size].concat())?)?;
        let (g, b) = (Var::from_tensor(&random(&[channels])?)?, Var::from_tensor(&random(&[channels])?)?);
        report(&format!("instance norm, leaky relu {name}"), 0.0, &[x.clone(), g.clone(), b.clone()], || {
            ops::instance_norm_leaky_relu(&x, &g, &b, 1e-5, 0.1)
        })?;
        report(&format!("max pool {name}"), 0.0, std::slice::from_ref(&x), || ops::max_pool2(&x))?;
        let logits = Var::from_tensor(&random(&[&[batch, 14], size].concat())?)?;
        let labels = (random(&[&[batch], size].concat())?.abs()? * 4.0)?.clamp(0f32, 13f32)?.to_dtype(DType::U8)?;
        report(&format!("dice + cross-entropy {batch}x14 {}", size[0]), 0.0, std::slice::from_ref(&logits), || {
            ops::dice_ce(&logits, &labels)
        })?;
    }
    Ok(())
}
