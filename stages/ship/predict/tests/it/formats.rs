//! Scans and label maps in every format.

use std::path::Path;
use std::process::Command;
use volume::nifti;

use crate::bench::{Bench, must_succeed, said};

/// The same CT in every format, each in a folder of its own.
fn formats_of_one_ct(bench: &Bench) -> [(&'static str, &'static str); 4] {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crates/scan");
    let put = |from: &str, to: &str| {
        std::fs::create_dir_all(bench.path(to).parent().unwrap()).unwrap();
        std::fs::copy(crates.join(from), bench.path(to)).unwrap();
    };
    put("formats/tests/fixtures/ct.nii.gz", "nifti/any name.nii.gz");
    put("formats/tests/fixtures/ct.nrrd", "nrrd/any name.nrrd");
    put("formats/tests/fixtures/detached.mhd", "mha/any name.mhd");
    put("formats/tests/fixtures/detached.zraw", "mha/detached.zraw");
    for entry in std::fs::read_dir(crates.join("dicom-series/tests/fixtures/oblique")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        put(&format!("dicom-series/tests/fixtures/oblique/{name}"), &format!("dicom/any name/{name}"));
    }
    [("nifti", "any name.nii.gz"), ("nrrd", "any name.seg.nrrd"), ("mha", "any name.mha"), ("dicom", "any name.dcm")]
}

#[test]
fn a_scan_gets_the_same_labels_in_whatever_format_it_comes() {
    let bench = Bench::new();
    let run = |format: &str, output: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path(format)).arg(bench.path(output)).arg("--model").arg(bench.path("model.safetensors"));
        command.args(["--exact", "--progress", "lines"]).args(more).output().unwrap()
    };
    let labels = |output: &str| nifti::read_labels(bench.path(output).join("any name.nii.gz")).unwrap();
    let formats = formats_of_one_ct(&bench);
    for (format, name) in formats {
        must_succeed(&run(format, &format!("own-{format}"), &["--statistics", "--tables"]));
        let mut left: Vec<_> = std::fs::read_dir(bench.path(&format!("own-{format}")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = ["any name.csv", "any name.ctbl", "any name.json", "any name.label", name];
        expected.sort_unstable();
        assert_eq!(left, expected);
        must_succeed(&run(format, &format!("as-nifti-{format}"), &["--format", "nifti"]));
        let ((found, header), (expected, first)) = (labels(&format!("as-nifti-{format}")), labels("as-nifti-nifti"));
        assert_eq!(found.data, expected.data, "{format}");
        assert!(header.grid().approx_eq(&first.grid()), "{format}");
        assert!(found.data.iter().any(|&label| label > 0));
        let statistics = |format: &str| std::fs::read_to_string(bench.path(&format!("own-{format}/any name.csv"))).unwrap();
        let (found, expected) = (statistics(format), statistics("nifti"));
        for (found, expected) in found.lines().zip(expected.lines()) {
            // Volumes differ in the digits that a header of 32 bits has not.
            let without =
                |line: &str| line.split(',').enumerate().filter(|(k, _)| *k != 4).map(|(_, field)| field.to_owned()).collect::<Vec<_>>();
            assert_eq!(without(found), without(expected), "{format}");
        }
    }
    let refused = run("nrrd", "none", &["--format", "dicom"]);
    assert!(said(&refused).contains("refers to the images of a DICOM series, and this scan is in the format nrrd"), "{}", said(&refused));
    let segmentation = std::fs::read(bench.path("own-dicom/any name.dcm")).unwrap();
    assert_eq!(&segmentation[128..132], b"DICM");
    must_succeed(&run("dicom", "again", &[]));
    assert_eq!(std::fs::read(bench.path("again/any name.dcm")).unwrap(), segmentation, "the same labels are the same file");
}
