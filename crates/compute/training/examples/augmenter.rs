//! Changes boxes at random and prints the processor time for each: the side of `benches/augment.py` that is ours.
//!
//! `augmenter FILE BOX PATCH CONFIG SAMPLES`: FILE has the image of BOX voxels (`200x200x200`, or `300x300` for a slice) in single
//! precision, and then its labels. Its middle is changed as CONFIG says, in JSON. One thread does all.

use std::collections::BTreeMap;

use prepared::{Layout, Patch};
use random::Streams;
use training::{AugmentConfig, Normalisation, Sampling};

fn main() {
    ops::tune_process();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, whole, patch, config, samples] = &arguments[..] else { panic!("FILE BOX PATCH CONFIG SAMPLES") };
    let sizes = |text: &str| text.split('x').map(|size| size.parse().unwrap()).collect::<Vec<usize>>();
    let (layout, sampling, shape, whole) = match (sizes(patch)[..].to_vec(), sizes(whole)) {
        (patch, whole) if patch.len() == 2 => {
            (Layout::Slices, Sampling::Slices { shape: [patch[0], patch[1]] }, [1, patch[0], patch[1]], [1, whole[0], whole[1]])
        }
        (patch, whole) => {
            let shape = [patch[0], patch[1], patch[2]];
            (Layout::Volume, Sampling::Patches { per_case: 1, shape }, shape, [whole[0], whole[1], whole[2]])
        }
    };
    let bytes = std::fs::read(file).unwrap();
    let (image, labels) = bytes.split_at(whole.iter().product::<usize>() * 4);
    let image = image.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let source = Patch { shape: whole, image, labels: Some(labels.to_vec()), trust: BTreeMap::new() };
    let config: AugmentConfig = serde_json::from_str(config).unwrap();
    let augment = config.for_boxes(sampling, Normalisation::Foreground).unwrap();
    let start = [0, 1, 2].map(|axis| ((whole[axis] - shape[axis]) / 2) as isize);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    let (mut sum, mut time) = (0.0, 0.0);
    let mut change = |sample: u64| {
        // What is not resampled is read as it is, which is not counted; nor is the reading of the larger box.
        let mut plain = middle(&source, start, shape);
        let begun = seconds();
        let drawn = augment.draw(&Streams::new(1), &[sample]);
        if let Some(resampling) = drawn.geometry.resampling(layout, [1.0; 3]) {
            plain = resampling.apply(&source, [0; 3], start, shape);
        }
        drawn.apply(&mut plain.image, shape, layout);
        time += seconds() - begun;
        sum += plain.image[plain.image.len() / 2];
        time
    };
    pool.install(|| {
        let (warm, samples) = (change(u64::MAX), samples.parse().unwrap());
        let last = (0..samples).map(&mut change).last().unwrap_or(warm);
        println!("{}", (last - warm) / samples as f64);
    });
    assert!(sum.is_finite());
}

fn middle(source: &Patch, start: [isize; 3], shape: [usize; 3]) -> Patch {
    let [i, j, k] = start.map(|start| start as usize);
    let mut made = Patch { shape, image: Vec::new(), labels: Some(Vec::new()), trust: BTreeMap::new() };
    for (i, j) in (i..i + shape[0]).flat_map(|i| (j..j + shape[1]).map(move |j| (i, j))) {
        let row = (i * source.shape[1] + j) * source.shape[2] + k..;
        made.image.extend_from_slice(&source.image[row.clone()][..shape[2]]);
        made.labels.as_mut().unwrap().extend_from_slice(&source.labels.as_ref().unwrap()[row][..shape[2]]);
    }
    made
}

/// Processor time of this process.
#[allow(unsafe_code)]
fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
