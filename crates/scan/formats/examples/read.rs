//! Reads every slice of scans, as `predict` does, and prints the time and the memory that it takes:
//!
//!     cargo run --release -p formats --features dicom --example read -- SCAN…
//!
//! A scan is a file in any format, or the folder of one DICOM series.

use std::path::{Path, PathBuf};
use std::time::Instant;

use formats::{Format, ScanFiles};
use volume::SourceError;

fn read(path: &Path) -> Result<(), SourceError> {
    let begun = Instant::now();
    let format = Format::of_file(path).unwrap_or(Format::Dicom);
    let source = ScanFiles::at(path, format).open()?;
    let (mut slices, mut slice, mut count, mut sum) = (source.slices()?, Vec::new(), 0, 0.0);
    while slices.next_slice(&mut slice)? {
        count += 1;
        sum += slice.iter().map(|value| f64::from(*value)).sum::<f64>();
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    println!("{}: {count} slices, sum {sum} HU, {:.2} s, peak memory {peak}", path.display(), begun.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), SourceError> {
    std::env::args_os().skip(1).map(PathBuf::from).try_for_each(|path| read(&path))
}
