//! What prepared cases cost: bytes of a voxel on disk, and boxes that are read in a second.
//!
//! ```text
//! cargo run --release -p prepared --example loader -- FOLDER [SECONDS] [THREADS]
//! ```
//!
//! FOLDER is an output of `preprocess`, or any folder with a folder `cases`. Boxes lie anywhere inside of cases, each in a case
//! that is opened anew: crops of 224×224 of one slice in the layout `slices`, patches of 128×128×128 in the layout `volume`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prepared::{CASES_FOLDER, Layout, PreparedCase};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("give a folder of prepared cases")?;
    let number = |place: usize, otherwise: u64| arguments.get(place).map_or(Ok(otherwise), |text| text.parse());
    let (seconds, threads) = (number(1, 5)?, number(2, 2)?);
    let mut paths =
        std::fs::read_dir(Path::new(folder).join(CASES_FOLDER))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, Failure>>()?;
    paths.sort();
    for path in &paths {
        let case = PreparedCase::open(path)?;
        let voxels = case.shape().iter().product::<usize>() as f64;
        println!("{}: {:?}, {:.3} bytes a voxel", case.info().id, case.shape(), std::fs::metadata(path)?.len() as f64 / voxels);
    }
    let first = PreparedCase::open(paths.first().ok_or("there are no cases")?)?;
    let (what, shape) = match first.layout() {
        Layout::Slices => ("crops", [1, 224, 224]),
        Layout::Volume => ("patches", [128; 3]),
    };
    for with_labels in [true, false] {
        let begun = Instant::now();
        let boxes = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..threads)
                .map(|thread| {
                    let paths = &paths;
                    scope.spawn(move || read(paths, shape, with_labels, thread, Duration::from_secs(seconds)))
                })
                .collect();
            let all = |reader: std::thread::ScopedJoinHandle<'_, _>| reader.join().map_err(|_| Failure::from("a thread panicked"))?;
            readers.into_iter().map(all).collect::<Result<Vec<(u64, f64)>, Failure>>()
        })?;
        let (number, busy) = boxes.iter().fold((0, 0.0), |(number, busy), (of_thread, time)| (number + of_thread, busy + time));
        let rates = [begun.elapsed().as_secs_f64(), busy / threads as f64].map(|seconds| number as f64 / seconds);
        let labels = if with_labels { "with" } else { "without" };
        println!(
            "{:.0} {what} of {shape:?} a second on {threads} threads, {:.0} where nobody else uses their cores, {labels} labels",
            rates[0], rates[1]
        );
    }
    Ok(())
}

/// Reads boxes until the time is over; how many, and the seconds that this thread ran.
fn read(paths: &[PathBuf], shape: [usize; 3], with_labels: bool, seed: u64, time: Duration) -> Result<(u64, f64), Failure> {
    // Knuth's generator: good enough for places, and no dependency.
    let mut state = seed + 1;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let (begun, mut boxes) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let case = PreparedCase::open(&paths[below(paths.len())])?;
        let start = std::array::from_fn(|axis| below(case.shape()[axis].saturating_sub(shape[axis]) + 1) as isize);
        let patch = if with_labels { case.read_box(start, shape) } else { case.read_image(start, shape) };
        std::hint::black_box(patch?);
        boxes += 1;
    }
    // The first number is nanoseconds on a core.
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok((boxes, ran.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9))
}
