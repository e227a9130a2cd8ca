//! Orientation and resampling agree with MONAI (tests/fixtures/make.py, and a real CT beside the checkout).

use ndarray::Array3;
use volume::{LabelVolume, Orientation, ScalarVolume, Volume, reorient, resample_linear, resample_nearest};

use crate::data::{Tensors, ct, distance, fixture, golden};

/// Asserts that the values differ by `tolerance` at most.
fn assert_near(found: &Array3<f32>, expected: &Array3<f32>, tolerance: f32, what: &str) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    let worst = ndarray::Zip::from(found).and(expected).fold(0.0f32, |worst, a, b| worst.max((a - b).abs()));
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

/// Asserts that labels differ only where the target's voxel centre lies halfway between two voxels of the source.
fn assert_labels<T>(found: &LabelVolume, expected: &Array3<u8>, source: &Volume<T>, what: &str) {
    assert_eq!(found.data.dim(), expected.dim(), "{what}");
    let to_source = source.affine.inverse() * found.affine;
    let mut ties = 0;
    for ((x, y, z), &label) in found.data.indexed_iter() {
        if label != expected[[x, y, z]] {
            let place = to_source.apply(&[x as f64, y as f64, z as f64]);
            let is_tie = place.iter().any(|p| ((p - p.floor()) - 0.5).abs() < 1e-4);
            assert!(is_tie, "{what}: label {label} at {:?}, expected {}", [x, y, z], expected[[x, y, z]]);
            ties += 1;
        }
    }
    println!("{what}: {ties} ties of {} voxels decided otherwise", expected.len());
}

#[test]
fn spacing_agrees_on_flipped_swapped_oblique_and_sheared_grids() {
    let tensors = Tensors::open(&fixture("monai.safetensors"));
    let cases: Vec<String> = tensors.names().iter().filter_map(|n| n.strip_suffix(".spacing").map(str::to_owned)).collect();
    assert_eq!(cases.len(), 9);
    for name in cases {
        let tensor = |part: &str| format!("{name}.{part}");
        let affine = tensors.affine(&tensor("affine"));
        let spacing = tensors.values(&tensor("spacing"));
        let image: ScalarVolume = tensors.volume("image", affine, |v| v as f32);
        let label: LabelVolume = tensors.volume("label", affine, |v| v as u8);

        let turned = reorient(&label, Orientation::RAS);
        assert_eq!(turned.data, tensors.volume(&tensor("turned"), affine, |v| v as u8).data, "{name}");
        assert!(distance(&turned.affine, &tensors.affine(&tensor("turned_affine"))) < 1e-9, "{name}");

        let target = turned.grid().with_spacing_mm([spacing[0], spacing[1], spacing[2]]);
        let target_affine = tensors.affine(&tensor("image_affine"));
        assert!(distance(&target.affine, &target_affine) < 1e-6, "{name}: {target:?} {target_affine:?}");
        let found = resample_linear(&reorient(&image, Orientation::RAS), &target);
        let expected: ScalarVolume = tensors.volume(&tensor("image"), affine, |v| v as f32);
        assert_near(&found.data, &expected.data, 0.02, &name);

        let resampled = resample_nearest(&turned, &target);
        let expected: LabelVolume = tensors.volume(&tensor("label"), target.affine, |v| v as u8);
        assert_labels(&resampled, &expected.data, &turned, &name);

        let back = resample_nearest(&expected, &turned.grid());
        let expected_back: LabelVolume = tensors.volume(&tensor("back"), affine, |v| v as u8);
        let expected_turned = reorient(&expected_back, Orientation::RAS);
        assert_labels(&back, &expected_turned.data, &expected, &format!("{name} back"));
        assert_eq!(reorient(&back, label.grid().orientation()).grid().shape, label.grid().shape);
    }
}

#[test]
fn linear_resampling_agrees_onto_a_grid_turned_against_the_source() {
    let tensors = Tensors::open(&fixture("monai.safetensors"));
    let image: ScalarVolume = tensors.volume("image", tensors.affine("onto.affine"), |v| v as f32);
    let target = tensors.affine("onto.target");
    let expected: ScalarVolume = tensors.volume("onto.image", target, |v| v as f32);
    let found = resample_linear(&image, &expected.grid());
    assert_near(&found.data, &expected.data, 0.02, "onto");
}

#[test]
fn a_real_ct_is_preprocessed_and_sent_back_as_by_monai() {
    let Some(golden) = golden("preprocess_msd_spleen2crop.safetensors") else { return };
    let Some(scan) = ct("msd_spleen2crop_0000.nii.gz") else { return };
    let Some(labels) = ct("msd_spleen2crop.nii.gz") else { return };
    let golden = Tensors::open(&golden);
    let (scan, _) = volume::nifti::read_scalar(scan).unwrap();
    let (labels, _) = volume::nifti::read_labels(labels).unwrap();
    let scan = reorient(&scan, Orientation::RAS);
    let turned = reorient(&labels, Orientation::RAS);
    for (name, spacing_mm) in [("1mm", [1.0; 3]), ("2p5mm", [1.0, 1.0, 2.5])] {
        let target = scan.grid().with_spacing_mm(spacing_mm);
        let affine = golden.affine(&format!("affine_{name}"));
        assert!(distance(&target.affine, &affine) < 1e-5, "{name}: {target:?}, expected {affine:?}");
        let mut image = resample_linear(&scan, &target);
        volume::window(&mut image, [-200.0, 300.0]);
        let expected = golden.volume(&format!("image_{name}"), affine, |v| v as f32);
        assert_near(&image.data, &expected.data, 2e-3, name);
        if name == "1mm" {
            let expected = golden.volume("label_1mm", affine, |v| v as u8);
            assert_labels(&resample_nearest(&turned, &target), &expected.data, &turned, name);
        } else {
            let there = resample_nearest(&turned, &target);
            let back = resample_nearest(&there, &turned.grid());
            let expected = golden.volume("label_back_from_2p5mm", turned.affine, |v| v as u8);
            assert_labels(&back, &expected.data, &there, "back");
        }
    }
}
