//! Real scans: they read, and their voxels go through the model's grid and back.

use std::time::Instant;

use volume::{Orientation, nifti, reorient, resample_linear, resample_nearest};

use crate::data::ct;

#[test]
fn every_real_scan_reads_and_lies_where_its_labels_lie() {
    for case in ["ts_example_ct", "ts_example_ct_sm", "msd_spleen2crop"] {
        let Some(scan) = ct(&format!("{case}_0000.nii.gz")) else { continue };
        let Some(labels) = ct(&format!("{case}.nii.gz")) else { continue };
        let (scan, _) = nifti::read_scalar(scan).unwrap();
        let (labels, _) = nifti::read_labels(labels).unwrap();
        assert!(scan.grid().approx_eq(&labels.grid()), "{case}");
        assert!(labels.data.iter().any(|&l| l > 0) && labels.data.iter().all(|&l| l <= 14), "{case}");
        let bone_or_air = scan.data.iter().filter(|v| **v > 200.0 || **v < -500.0).count();
        assert!(bone_or_air > scan.data.len() / 100, "{case} is not in Hounsfield units");
    }
}

#[test]
fn an_abdomen_goes_to_the_model_grids_and_its_labels_come_back() {
    let Some(path) = ct("CRLM-CT-1004_0000.nii.gz") else { return };
    let mut clock = Instant::now();
    let mut lap = |what: &str| {
        println!("{what}: {:.0} ms", clock.elapsed().as_secs_f64() * 1e3);
        clock = Instant::now();
    };
    let (scan, header) = nifti::read_scalar(&path).unwrap();
    lap("read");
    assert_eq!(scan.grid(), header.grid());
    let turned = reorient(&scan, Orientation::RAS);
    lap("reorient");
    for spacing_mm in [[1.0, 1.0, 2.5], [1.0; 3]] {
        let target = turned.grid().with_spacing_mm(spacing_mm);
        let image = resample_linear(&turned, &target);
        lap(&format!("linear to {spacing_mm:?}"));
        let labels = volume::LabelVolume { data: image.data.mapv(|v| u8::from(v > -200.0)), affine: image.affine };
        lap("threshold");
        let back = reorient(&resample_nearest(&labels, &turned.grid()), scan.grid().orientation());
        lap("labels back and reorient");
        assert!(back.grid().approx_eq(&scan.grid()));
        let pairs = ndarray::Zip::from(&back.data).and(&scan.data);
        let same = pairs.fold(0, |n, &label, &v| n + usize::from((label == 1) == (v > -200.0)));
        assert!(same as f64 > 0.9 * scan.data.len() as f64, "only {same} voxels come back");
        let folder = tempfile::tempdir().unwrap();
        lap("compare");
        nifti::write_labels(folder.path().join("labels.nii.gz"), &back, &header).unwrap();
        lap("write");
    }
}
