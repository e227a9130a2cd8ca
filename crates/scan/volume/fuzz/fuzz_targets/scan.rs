//! Any bytes as a scan: read whole, as labels, and slice by slice on its way to the model grid and back.
//!
//! The first byte says whether the rest is a file as it is or is packed by gzip first, so that what lies behind a sound
//! checksum is reached too.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
#[path = "../../tests/fuzz/all_ways.rs"]
mod all_ways;

/// Small enough for thousands of tries a second.
const MOST_VOXELS: usize = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("case_0000.nii.gz");
    let packed = if how % 2 == 0 { bytes.to_vec() } else { gzip(bytes) };
    std::fs::write(&path, packed).expect("a file in memory");
    all_ways::read_in_all_ways(&path, MOST_VOXELS);
});

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory is writable")
}
