//! Damaged and contradictory files. `partition` leaves bad cases out and says why; a stage that finds damage later names
//! the case, finishes the others, and fails.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use volume::{LabelVolume, nifti};

use crate::lab::Lab;

/// The first case of a list that `partition` wrote.
fn first_case(lab: &Lab, list: &str) -> String {
    fs::read_to_string(lab.result("partition").join(list)).unwrap().lines().next().unwrap().to_owned()
}

fn label_path(lab: &Lab, case: &str) -> PathBuf {
    let corrected = lab.path(&format!("FLARE/labelsTr2200/20230507-fix/{case}.nii.gz"));
    if corrected.is_file() { corrected } else { lab.path(&format!("FLARE/labelsTr2200/{case}.nii.gz")) }
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// Makes the scan one of 32-bit floats, with `value` somewhere inside.
fn put_float(path: &Path, value: f32) {
    let (image, _) = nifti::read_scalar(path).unwrap();
    let mut file = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(fs::File::open(path).unwrap()), &mut file).unwrap();
    file.truncate(352);
    file[70..74].copy_from_slice(&[16, 0, 32, 0]); // datatype and bitpix: float32
    file[112..120].fill(0); // scl_slope, scl_inter: none
    let x_fastest = image.data.t();
    let mut values: Vec<f32> = x_fastest.iter().copied().collect();
    values[1000] = value;
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let mut gzip = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    gzip.write_all(&file).unwrap();
    gzip.finish().unwrap();
}

#[test]
fn partition_leaves_bad_label_maps_out_with_their_reasons_and_the_good_go_on() {
    let lab = Lab::with_own_data("");
    lab.run(&["partition"]).must_succeed();
    let [short, cut, strange] = ["D_l1.txt", "D_l2.txt", "D_l4.txt"].map(|list| first_case(&lab, list));
    let (labels, _) = nifti::read_labels(label_path(&lab, &short)).unwrap();
    let shorter = LabelVolume { data: labels.data.slice_move(ndarray::s![1.., .., ..]), affine: labels.affine };
    nifti::write_labels_on(label_path(&lab, &short), &shorter).unwrap();
    cut_in_half(&label_path(&lab, &cut));
    let (mut labels, header) = nifti::read_labels(label_path(&lab, &strange)).unwrap();
    labels.data[[3, 4, 5]] = 17;
    nifti::write_labels(label_path(&lab, &strange), &labels, &header).unwrap();

    let run = lab.run(&["true_slices"]);
    assert_eq!(run.code, Some(1), "everything is done, and cases were left out: {}", run.stderr);
    for [case, found, expected, remedy] in [
        [short.as_str(), "shape [", "the image's shape [", "find the label map that belongs to the image"],
        [cut.as_str(), "truncated: ", "a whole NIfTI-1 file", "repair the file"],
        [strange.as_str(), "17 (1 voxels)", "declared are 0 and", ""],
    ] {
        let parts = [&format!("case {case}: labelsTr2200/"), found, expected, remedy].map(str::to_owned);
        let told = run.stderr.lines().filter(|line| parts.iter().all(|part| line.contains(part.as_str()))).count();
        assert_eq!(told, 1, "{case} is told once:\n{}", run.stderr);
    }
    let listed = fs::read_to_string(lab.result("partition").join("about/left_out.md")).unwrap();
    let good = fs::read_to_string(lab.result("partition").join("manifest.json")).unwrap();
    for case in [&short, &cut, &strange] {
        assert!(listed.contains(case.as_str()) && !good.contains(case.as_str()), "{case}:\n{listed}");
        let prepared = format!("cases/{case}.zarr.zip");
        assert!(["D_l1", "D_l4"].iter().all(|subset| !lab.result(&format!("true_slices[{subset}]")).join(&prepared).exists()));
    }
    assert_eq!(good.matches("\"id\"").count(), 7, "the other seven of ten cases are used:\n{good}");

    let again = lab.run(&["true_slices"]);
    assert_eq!((again.code, again.ran().len()), (Some(1), 0), "as long as they are left out, it is said: {}", again.stderr);
    assert!(again.stderr.contains(&format!("partition: left out 3 cases:\n  case {short}: ")) || again.stderr.contains("left out 3 cases"));
    assert!(lab.call(&["status"]).stdout.contains("3 findings left cases out"));
    let accepted = format!("partition.exclude=[{short}, {cut}, {strange}]");
    let run = lab.run(&["true_slices", "--set", &accepted]).must_succeed();
    assert!(run.stderr.contains("does without 3 cases, as `exclude` says"), "{}", run.stderr);
}

#[test]
fn damaged_scans_are_named_with_their_voxel_and_the_training_is_kept() {
    let lab = Lab::with_own_data("");
    let scan = |number: u8| lab.path(&format!("FLARE/validation/FLARE23Ts_000{number}_0000.nii.gz"));
    let whole = [1, 2].map(|number| fs::read(scan(number)).unwrap());
    lab.run(&["M_4"]).must_succeed();
    fs::create_dir(lab.path("scans")).unwrap();
    for (index, damage) in [(0, "NaN"), (1, "inf"), (2, "cut"), (3, "none")] {
        let path = lab.path(&format!("scans/{damage}_0000.nii.gz"));
        fs::write(&path, &whole[index % 2]).unwrap();
        match damage {
            "NaN" => put_float(&path, f32::NAN),
            "inf" => put_float(&path, f32::INFINITY),
            "cut" => cut_in_half(&path),
            _ => {}
        }
    }

    let scans = ["--data", "test_images=scans"];
    let run = lab.run(&[&["segment[M_4]"], &scans[..]].concat());
    run.must_fail(
        1,
        &[
            "  case NaN: ",
            "scans/NaN_0000.nii.gz: 1 voxels are NaN, infinite or beyond ±1e10, the first, NaN, at [",
            "replace them before use",
        ],
    );
    run.must_fail(1, &["  case inf: ", "scans/inf_0000.nii.gz: 1 voxels are NaN, infinite or beyond ±1e10, the first, inf, at ["]);
    run.must_fail(1, &["  case cut: ", "scans/cut_0000.nii.gz: truncated: ", "copy or download the file again"]);
    run.must_fail(1, &["segment[M_4]: 3 of 4 cases failed; the others are done and kept:"]);
    assert_eq!(run.ran(), ["segment[M_4]"], "the training is not lost");
    assert!(lab.attempt("segment[M_4]").join("output/organ/none.nii.gz").is_file(), "neither is the good scan");

    for damage in ["NaN", "inf", "cut"] {
        fs::write(lab.path(&format!("scans/{damage}_0000.nii.gz")), &whole[0]).unwrap();
    }
    let run = lab.run(&[&["resample_back[M_4]"], &scans[..]].concat()).must_succeed();
    assert_eq!(run.ran(), ["overlay[M_4]", "resample_back[M_4]", "segment[M_4]"]);
}

#[test]
fn one_bad_training_scan_costs_itself() {
    let lab = Lab::with_own_data("");
    put_float(&lab.path("FLARE/unlabeledTr1800/FLARE23_2201_0000.nii.gz"), f32::NAN);
    let run = lab.run(&["M_o2"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.ran().contains(&"M_o2"), "the rest goes on");
    let told = "case FLARE23_2201: unlabeledTr1800/FLARE23_2201_0000.nii.gz: 1 voxels are NaN, infinite or beyond ±1e10";
    assert!(run.stderr.contains("partition: left out 1 case:") && run.stderr.contains(told), "{}", run.stderr);
    assert!(run.stderr.contains("1 findings left cases out"), "{}", run.stderr);
}
