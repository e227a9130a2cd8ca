//! Agreement with another implementation in Rust, the crate `nifti`: each reads what the other writes.

use nifti::writer::WriterOptions;
use nifti::{IntoNdArray as _, NiftiHeader, NiftiObject as _, ReaderOptions};
use volume::nifti::VoxelType;
use volume::{Affine, Grid, LabelVolume, Orientation, ScalarVolume};

/// Oblique, anisotropic, and of a different size along each axis.
fn grid(orientation: Orientation) -> Grid {
    let affine = Affine::from_columns([[0.6, 0.48, 0.0], [-0.48, 0.6, 0.0], [0.0, 0.0, -2.5]], [-120.5, 88.25, 900.125]);
    Grid { shape: [7, 5, 3], affine }.reoriented(orientation)
}

fn sform(header: &NiftiHeader) -> [[f32; 4]; 3] {
    [header.srow_x, header.srow_y, header.srow_z]
}

fn rows(grid: &Grid) -> [[f32; 4]; 3] {
    std::array::from_fn(|row| grid.affine.0[row].map(|value| value as f32))
}

#[test]
fn it_reads_the_label_maps_and_scans_that_we_write() {
    let folder = tempfile::tempdir().unwrap();
    for (orientation, name) in Orientation::all().zip(["map.nii", "map.nii.gz"].into_iter().cycle()) {
        let (grid, path) = (grid(orientation), folder.path().join(name));
        let labels = LabelVolume::from_x_fastest(&grid, (0..105).map(|i| i % 15).collect()).unwrap();
        volume::nifti::write_labels_on(&path, &labels).unwrap();
        let found = ReaderOptions::new().read_file(&path).unwrap();
        assert_eq!(found.header().dim().unwrap(), grid.shape.map(|side| side as u16));
        assert_eq!((found.header().datatype, found.header().sform_code, found.header().qform_code), (2, 1, 1));
        assert_eq!(sform(found.header()), rows(&grid), "{orientation}");
        assert_eq!(found.into_volume().into_ndarray::<u8>().unwrap(), labels.data.into_dyn(), "{orientation}");

        let scan = ScalarVolume::from_x_fastest(&grid, (0..105).map(|i| i as f32 * 40.0 - 1024.0).collect()).unwrap();
        volume::nifti::write_scalar_i16(&path, &scan).unwrap();
        let found = ReaderOptions::new().read_file(&path).unwrap();
        assert_eq!(found.header().datatype, 4);
        assert_eq!(found.into_volume().into_ndarray::<f32>().unwrap(), scan.data.into_dyn(), "{orientation}");
    }
}

#[test]
fn we_read_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    for (orientation, name) in Orientation::all().zip(["scan.nii", "scan.nii.gz"].into_iter().cycle()) {
        let (grid, path) = (grid(orientation), folder.path().join(name));
        let [srow_x, srow_y, srow_z] = rows(&grid);
        let header = NiftiHeader { srow_x, srow_y, srow_z, sform_code: 2, qform_code: 0, ..NiftiHeader::default() };
        let scan = ScalarVolume::from_x_fastest(&grid, (0..105).map(|i| i as f32 * 40.5 - 1024.0).collect()).unwrap();
        WriterOptions::new(&path).reference_header(&header).write_nifti(&scan.data).unwrap();
        let (found, header) = volume::nifti::read_scalar(&path).unwrap();
        assert_eq!(found.data, scan.data, "{orientation}");
        assert!(found.grid().approx_eq(&grid), "{orientation}");
        assert_eq!((header.voxel_type(), header.form_codes()), (VoxelType::F32, [2, 0]));

        let labels = scan.data.mapv(|hu| (hu > 0.0) as u8 * 14);
        WriterOptions::new(&path).write_nifti(&labels).unwrap();
        assert_eq!(volume::nifti::read_labels(&path).unwrap().0.data, labels, "{orientation}");
    }
}
