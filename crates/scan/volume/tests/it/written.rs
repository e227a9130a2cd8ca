//! What is written lies on its image, is read back as it was, and appears whole or not at all.

use std::path::Path;

use volume::nifti::{self, Problem};
use volume::{Affine, Grid, LabelVolume, ScalarVolume};

use crate::data::fixture;

fn oblique() -> Grid {
    let affine = Affine::from_columns([[0.6, 0.48, 0.0], [-0.48, 0.6, 0.0], [0.0, 0.0, -2.5]], [-120.5, 88.25, 900.125]);
    Grid { shape: [7, 5, 3], affine }
}

fn labels_on(grid: &Grid) -> LabelVolume {
    let values = (0..grid.voxels()).map(|i| (i % 15) as u8).collect();
    LabelVolume::from_x_fastest(grid, values).unwrap()
}

fn unpacked(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let packed = std::fs::read(path).unwrap();
    match packed.starts_with(&[0x1f, 0x8b]) {
        true => _ = flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap(),
        false => bytes = packed,
    }
    bytes
}

#[test]
fn a_label_map_repeats_the_coordinate_fields_of_its_image_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["type_i2.nii", "qform.nii.gz", "half_turn.nii", "sform_wins.nii", "no_form.nii", "scaled.nii.gz"] {
        let image = fixture("nifti").join(name);
        let header = nifti::read_header(&image).unwrap();
        let labels = labels_on(&header.grid());
        for written in ["labels.nii", "labels.nii.gz"] {
            let path = folder.path().join(written);
            nifti::write_labels(&path, &labels, &header).unwrap();
            let (image, found) = (unpacked(&image), unpacked(&path));
            // Shape, spacing with qfac, units, codes, quaternion, offsets and sform.
            for field in [42..48, 76..92, 123..124, 252..328] {
                assert_eq!(found[field.clone()], image[field.clone()], "{name}: bytes {field:?}");
            }
            assert_eq!(found.len(), 352 + labels.data.len());
            let (again, again_header) = nifti::read_labels(&path).unwrap();
            assert_eq!(again, labels, "{name}");
            assert_eq!(again_header.scaling(), None);
        }
    }
}

#[test]
fn a_header_made_from_a_grid_says_the_same_affine_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.nii");
    for flip in [1.0, -1.0] {
        for turn in volume::Orientation::all() {
            let mut grid = oblique();
            grid.affine.0.iter_mut().take(3).for_each(|row| row[0] *= flip);
            let labels = labels_on(&grid.reoriented(turn));
            nifti::write_labels_on(&path, &labels).unwrap();
            let (again, header) = nifti::read_labels(&path).unwrap();
            assert_eq!(again.data, labels.data);
            assert!(again.grid().approx_eq(&labels.grid()));
            assert_eq!(header.form_codes(), [1, 1]);

            let mut bytes = std::fs::read(&path).unwrap();
            bytes[254] = 0; // without its sform, the file speaks by its quaternion
            std::fs::write(&path, bytes).unwrap();
            let by_quaternion = nifti::read_header(&path).unwrap();
            assert!(by_quaternion.grid().approx_eq(&labels.grid()), "{turn}: {by_quaternion:?}");
        }
    }
}

#[test]
fn a_sheared_grid_is_written_without_a_quaternion() {
    let folder = tempfile::tempdir().unwrap();
    let mut grid = oblique();
    grid.affine.0[0][2] += 0.7;
    let path = folder.path().join("labels.nii.gz");
    nifti::write_labels_on(&path, &labels_on(&grid)).unwrap();
    let header = nifti::read_header(&path).unwrap();
    assert_eq!(header.form_codes(), [1, 0]);
    assert!(header.grid().approx_eq(&grid));
}

#[test]
fn intensities_are_rounded_to_16_bits_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan_0000.nii.gz");
    let grid = Grid { shape: [6, 1, 1], affine: Affine::IDENTITY };
    let values = vec![-3024.0, -32768.4, 32767.4, 0.4, -0.6, 300.0];
    let scan = ScalarVolume::from_x_fastest(&grid, values).unwrap();
    nifti::write_scalar_i16(&path, &scan).unwrap();
    let (again, header) = nifti::read_scalar(&path).unwrap();
    assert_eq!(again.data.into_raw_vec_and_offset().0, [-3024.0, -32768.0, 32767.0, 0.0, -1.0, 300.0]);
    assert_eq!(header.voxel_type(), nifti::VoxelType::I16);
    for wrong in [32768.0, f32::NAN, f32::NEG_INFINITY] {
        let mut scan = scan.clone();
        scan.data[[4, 0, 0]] = wrong;
        let error = nifti::write_scalar_i16(&path, &scan).unwrap_err();
        assert!(matches!(error.problem, Problem::NotI16 { at: [4, 0, 0], .. }), "{error}");
    }
}

#[test]
fn labels_on_another_grid_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let image = nifti::Header::on(&oblique()).unwrap();
    let mut moved = oblique();
    moved.affine.0[2][3] += 0.5;
    for grid in [moved, Grid { shape: [5, 7, 3], ..oblique() }] {
        let path = folder.path().join("labels.nii.gz");
        let error = nifti::write_labels(&path, &labels_on(&grid), &image).unwrap_err();
        assert!(matches!(error.problem, Problem::OtherGrid { .. }), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_failed_write_leaves_nothing_behind_and_the_old_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let labels = labels_on(&oblique());
    // A folder stands where the file should go, so that the last step fails.
    let occupied = folder.path().join("labels.nii.gz");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("other"), "kept").unwrap();
    let error = nifti::write_labels_on(&occupied, &labels).unwrap_err();
    assert!(error.to_string().contains("labels.nii.gz"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["labels.nii.gz"]);

    let missing = folder.path().join("no/such/folder/labels.nii.gz");
    assert!(matches!(nifti::write_labels_on(&missing, &labels).unwrap_err().problem, Problem::Io { .. }));
    for name in ["labels.mha", "labels", "labels.gz"] {
        let error = nifti::write_labels_on(folder.path().join(name), &labels).unwrap_err();
        assert!(matches!(error.problem, Problem::Name), "{error}");
    }
}

#[test]
fn grids_that_no_header_can_say_are_refused() {
    for shape in [[0, 4, 4], [40_000, 1, 1]] {
        let grid = Grid { shape, affine: Affine::IDENTITY };
        assert!(matches!(nifti::Header::on(&grid), Err(Problem::Shape { .. })));
    }
    let grid = Grid { shape: [2; 3], affine: Affine([[f64::NAN; 4]; 4]) };
    assert!(matches!(nifti::Header::on(&grid), Err(Problem::Affine(_))));
}
