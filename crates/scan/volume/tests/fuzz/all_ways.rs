//! Every way that a file is read in, for whoever makes up files.

use std::path::Path;

use volume::{Box3, Grid, LabelScan, ModelGrid, Scan, nifti};

const MODEL: ModelGrid = ModelGrid { spacing_mm: [Some(1.0), Some(1.0), Some(2.5)], window_hu: [-200.0, 300.0] };

/// Reads a file whole, as labels, and plane by plane onto the model grid and back if that has no more than `most_voxels`.
/// Whether a label map was written.
pub(crate) fn read_in_all_ways(path: &Path, most_voxels: usize) -> bool {
    let _ = nifti::count_labels(path, &[]);
    if let Ok((labels, header)) = nifti::read_labels(path) {
        assert_eq!(labels.grid().shape, header.grid().shape);
    }
    if let Ok((image, _)) = nifti::read_scalar(path) {
        assert!(image.data.iter().all(|value| value.is_finite()));
    }
    let Ok(scan) = Scan::open(path, &MODEL) else { return false };
    if scan.grid().voxels() > most_voxels {
        return false;
    }
    let regions = [scan.foreground(), scan.body()];
    let written = regions.iter().flatten().all(|region| there_and_back(&scan, path, region));
    labels_onto_the_model_grid(path, &scan.header().grid(), &scan.grid());
    written && regions.iter().any(Result::is_ok)
}

/// Every plane of a region onto the model grid, and as many labels back.
fn there_and_back(scan: &Scan, path: &Path, region: &Box3) -> bool {
    let mut planes = scan.planes(region).expect("the file is still there");
    let out = path.with_file_name("case.nii.gz");
    let mut back = scan.labels_to(&out, region).expect("memory is writable");
    while let Some(plane) = planes.next_plane().expect("the file was whole a moment ago") {
        assert!(plane.values.iter().all(|value| (0.0..=1.0).contains(value)));
        let labels: Vec<u8> = plane.values.iter().map(|value| u8::from(*value > 0.5)).collect();
        back.add(plane.z, &labels).expect("memory is writable");
    }
    back.finish().expect("memory is writable");
    let (labels, _) = nifti::read_labels(out).expect("what we write we read");
    labels.grid().shape == scan.header().grid().shape
}

fn labels_onto_the_model_grid(path: &Path, scan: &Grid, model: &Grid) {
    let Ok(labels) = LabelScan::open(path, scan, model) else { return };
    let (Ok(mut planes), mut plane) = (labels.planes(&model.whole()), Vec::new()) else { return };
    while let Ok(Some(_)) = planes.next_plane(&mut plane) {
        assert_eq!(plane.len(), model.shape[0] * model.shape[1]);
    }
}
