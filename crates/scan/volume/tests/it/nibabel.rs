//! Files that nibabel wrote are read as nibabel reads them (tests/fixtures/make.py).

use volume::nifti;

use crate::data::{Tensors, distance, fixture};

fn nifti_fixtures() -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(fixture("nifti")).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 20, "fixtures are missing");
    paths
}

#[test]
fn every_voxel_type_byte_order_and_affine_reads_as_in_nibabel() {
    let expected = Tensors::open(&fixture("nifti.safetensors"));
    for path in nifti_fixtures() {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let name = file.split('.').next().unwrap();
        let (found, header) = nifti::read_scalar(&path).unwrap();
        let affine = expected.affine(&format!("affine.{name}"));
        assert!(distance(&found.affine, &affine) < 1e-5, "{file}: {:?}, expected {affine:?}", found.affine);
        let data = expected.volume(&format!("data.{name}"), affine, |v| v as f32);
        assert_eq!(found.data, data.data, "{file}");
        assert_eq!(nifti::read_header(&path).unwrap(), header, "{file}");
        assert_eq!(header.grid(), found.grid(), "{file}");
    }
}

#[test]
fn labels_are_read_from_any_type_and_other_values_are_refused() {
    for path in nifti_fixtures() {
        let (scalar, _) = nifti::read_scalar(&path).unwrap();
        let is_label = |v: f32| v.fract() == 0.0 && (0.0..=255.0).contains(&v);
        match nifti::read_labels(&path) {
            Ok((labels, _)) => assert_eq!(labels.data.mapv(f32::from), scalar.data, "{}", path.display()),
            Err(error) => {
                let nifti::Problem::NotALabel { value, at } = error.problem else { panic!("{error}") };
                assert_eq!(scalar.data[at], value as f32, "{}", path.display());
                assert!(!is_label(scalar.data[at]), "{}", path.display());
                let text = error.to_string();
                assert!(text.contains(path.to_str().unwrap()) && text.contains("0 to 255"), "{text}");
            }
        }
    }
}

#[test]
fn orientations_are_those_of_nibabel() {
    let tensors = Tensors::open(&fixture("orientations.safetensors"));
    let (affines, axes) = (tensors.values("affines"), tensors.values("orientations"));
    assert_eq!(affines.len() / 16, 300);
    for (matrix, axes) in affines.chunks_exact(16).zip(axes.chunks_exact(6)) {
        let affine = volume::Affine(std::array::from_fn(|r| std::array::from_fn(|c| matrix[4 * r + c])));
        let found = affine.orientation();
        for axis in 0..3 {
            assert_eq!(found.world_axis(axis) as f64, axes[2 * axis], "{affine:?}: {found}");
            assert_eq!(found.is_positive(axis), axes[2 * axis + 1] > 0.0, "{affine:?}: {found}");
        }
    }
}
