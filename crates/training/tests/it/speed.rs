//! How long the work of the batch thread takes. `cargo test --release -p training -- --ignored --nocapture speed`

use std::time::Instant;

use prepared::Layout;
use training::{Augmentation, Noise, Order, Sampling};

use crate::toy::{prepared_cases, source};

#[test]
#[ignore = "measures the machine"]
fn noise_on_a_patch_of_128_cubed_voxels() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut image = vec![0.5_f32; 1 << 21];
    let fastest = (0..10)
        .map(|seed| {
            let begun = Instant::now();
            pool.install(|| Augmentation { noise: Some(Noise { std: 0.05, seed }), scale: 0.1, shift: 0.1 }.apply(&mut image));
            begun.elapsed()
        })
        .min();
    println!("noise, scale and shift on 128³ voxels, one thread: {fastest:?}");
}

#[test]
#[ignore = "measures the machine"]
fn a_batch_of_128_slices_of_224_by_224() {
    let folder = tempfile::tempdir().unwrap();
    let set = prepared_cases(folder.path(), Layout::Slices, &[[300, 260, 64]; 4], true);
    let source = source(set, Sampling::Slices { shape: [224, 224] }, Order::EachEpochAnew, 128).unwrap();
    let epoch = source.sampler().epoch(0);
    let fastest = (0..2)
        .map(|step| {
            let begun = Instant::now();
            source.assemble(&epoch, 0, step).unwrap();
            begun.elapsed()
        })
        .min();
    println!("read and augment 128 slices of 224×224, all threads: {fastest:?}");
}
