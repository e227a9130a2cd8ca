//! Any bytes as a scan: read whole, as labels, and slice by slice on its way to the model grid and back.
//!
//! The first byte says whether the rest is a file as it is or is packed by gzip first, so that what lies behind a sound
//! checksum is reached too.

#![no_main]

use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use volume::{ModelGrid, Scan, nifti};

/// Small enough for thousands of tries a second.
const MOST_VOXELS: usize = 1 << 18;

const MODEL: ModelGrid = ModelGrid { spacing_mm: [Some(1.0), Some(1.0), Some(2.5)], window_hu: [-200.0, 300.0] };

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("case_0000.nii.gz");
    let packed = if how % 2 == 0 { bytes.to_vec() } else { gzip(bytes) };
    std::fs::write(&path, packed).expect("a file in memory");
    let _ = nifti::read_labels(&path);
    if let Ok((image, _)) = nifti::read_scalar(&path) {
        assert!(image.data.iter().all(|value| value.is_finite()));
    }
    there_and_back(&path);
});

/// Every plane onto the model grid, and as many labels back.
fn there_and_back(path: &Path) {
    let Ok(scan) = Scan::open(path, &MODEL) else { return };
    if scan.grid().voxels() > MOST_VOXELS {
        return;
    }
    for region in [scan.foreground(), scan.body()].into_iter().flatten() {
        let mut planes = scan.planes(&region).expect("the file is still there");
        let mut back = scan.labels_to(&path.with_file_name("case.nii.gz"), &region).expect("memory is writable");
        while let Some(plane) = planes.next_plane().expect("the file was whole a moment ago") {
            let labels: Vec<u8> = plane.values.iter().map(|value| u8::from(*value > 0.5)).collect();
            back.add(plane.z, &labels).expect("memory is writable");
        }
        back.finish().expect("memory is writable");
        let (labels, _) = nifti::read_labels(path.with_file_name("case.nii.gz")).expect("what we write we read");
        assert_eq!(labels.grid().shape, scan.header().grid().shape);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory is writable")
}
