//! What a patient is labelled, and what changes nothing of it.

use candle_core::Device;
use labels::flare23;
use ndarray::{Array3, ShapeBuilder as _};
use nets::Precision;
use serde_json::Value;
use volume::{Affine, Orientation, ScalarVolume, nifti};

use crate::bench::{Bench, agreement, must_succeed, said};

#[test]
fn orientation_does_not_matter_to_what_a_patient_is_labelled() {
    let bench = Bench::new();
    let orientations = ["RAS", "LPS", "LPI", "PLS", "SAR"];
    orientations.iter().for_each(|orientation| bench.scan(orientation, [61, 50, 23], orientation));
    must_succeed(&bench.predict("out", &["--exact"]));
    let expected = bench.labels("out", "RAS");
    assert!(expected.data.iter().any(|&label| label > 0));
    for orientation in orientations {
        let found = volume::reorient(&bench.labels("out", orientation), Orientation::RAS);
        assert_eq!(found.data, expected.data, "{orientation}");
    }
}

#[test]
fn values_that_are_no_hounsfield_units_are_warned_of() {
    let bench = Bench::new();
    bench.scan("hu", [61, 50, 23], "LPS");
    let (image, _) = nifti::read_scalar(bench.path("scans/hu_0000.nii.gz")).unwrap();
    for (case, slope, intercept) in [("stored", 1.0, 1024.0), ("inverted", -1.0, 0.0), ("zero", 0.0, 0.0)] {
        let image = ScalarVolume { data: image.data.mapv(|hu| slope * hu + intercept), affine: image.affine };
        nifti::write_scalar_i16(bench.path(&format!("scans/{case}_0000.nii.gz")), &image).unwrap();
    }
    for more in [&[][..], &["--exact"], &["--exact", "--clean-up"]] {
        let output = bench.predict(&format!("out{}", more.len()), more);
        must_succeed(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        let warned =
            |case: &str| text.lines().filter(|line| line.contains("warning: ") && line.contains(&format!("{case}_0000.nii.gz"))).count();
        assert_eq!(["hu", "stored", "inverted", "zero"].map(warned), [0, 1, 1, 1], "{more:?}: {text}");
        assert!(text.contains("intercept (scl_inter) to -1024"), "{text}");
    }
}

#[test]
fn shortcuts_change_little_and_nothing_outside_the_patient_is_labelled() {
    let bench = Bench::new();
    // Whole slices, so that the box around the patient decides what the network is shown.
    bench.model("model", 3, None, None);
    bench.scan("a", [90, 80, 12], "LPS");
    must_succeed(&bench.predict("exact", &["--exact"]));
    must_succeed(&bench.predict("quick", &["--precision", "f32"]));
    let exact = bench.labels("exact", "a");
    for (name, precision, least) in [("bf16", Precision::Bf16, 0.97), ("int8", Precision::Int8, 0.9)] {
        let run = bench.predict(name, &["--exact", "--precision", name]);
        must_succeed(&run);
        let warned = String::from_utf8_lossy(&run.stderr).contains(&format!("does not multiply {name}"));
        assert_eq!(warned, precision.doubt(&Device::Cpu).is_some(), "{name}: a warning where it is slow");
        let same = agreement(&exact, &bench.labels(name, "a"));
        assert!(same > least, "random weights are on the fence everywhere, and still {same} of the voxels agree in {name}");
        assert!(same < 1.0, "{name} is not f32");
    }
    let quick = bench.labels("quick", "a");
    for ((x, y, _), &label) in quick.data.indexed_iter() {
        let far = |i: usize, n: usize| ((i as f64 + 0.5) / n as f64 * 2.0 - 1.0).abs();
        // Beyond 20 mm of the patient, whose radius is 0.8 of the half side.
        assert!(label == 0 || far(x, 90) < 1.05 || far(y, 80) < 1.05);
    }
}

#[test]
fn small_parts_go_when_asked() {
    let bench = Bench::new();
    bench.scan("a", [64, 64, 20], "LPI");
    must_succeed(&bench.predict("all", &["--exact"]));
    must_succeed(&bench.predict("clean", &["--exact", "--clean-up"]));
    let (all, clean) = (bench.labels("all", "a"), bench.labels("clean", "a"));
    let gone = all.data.iter().zip(&clean.data).filter(|(a, b)| a != b).count();
    assert!(gone > 0 && all.data.iter().zip(&clean.data).all(|(a, b)| a == b || *b == 0), "parts go, nothing comes");

    bench.model("model", 3, Some(1e6), Some([32, 32]));
    must_succeed(&bench.predict("no_tumor", &["--exact"]));
    assert!(all.data.iter().any(|&label| label == flare23::TUMOR));
    assert!(bench.labels("no_tumor", "a").data.iter().all(|&label| label != flare23::TUMOR), "none has a thousand litres");
}

#[test]
fn volumes_in_a_sheared_scan_are_those_of_its_voxels() {
    let bench = Bench::new();
    let mut affine = Affine::from_spacing_mm([2.0, 2.2, 3.0], [0.0; 3]);
    // A gantry tilted by 25 degrees.
    affine.0[1][2] = 1.4;
    let value = |(x, y, _): (usize, usize, usize)| if (4..36).contains(&x) && (4..36).contains(&y) { (x * y % 97) as f32 } else { -1000.0 };
    let image = ScalarVolume { data: Array3::from_shape_fn([40, 40, 9].f(), value), affine };
    nifti::write_scalar_i16(bench.path("scans/a_0000.nii.gz"), &image).unwrap();
    must_succeed(&bench.predict("out", &["--statistics"]));
    let statistics: Value = serde_json::from_slice(&std::fs::read(bench.path("out/a.json")).unwrap()).unwrap();
    let mut labelled = 0;
    for of in statistics["classes"].as_object().unwrap().values() {
        let (voxels, ml) = (of["voxels"].as_f64().unwrap(), of["volume_ml"].as_f64().unwrap());
        assert!((ml - voxels * 2.0 * 2.2 * 3.0 / 1000.0).abs() < 1e-4 * ml.max(1e-3), "{of}");
        labelled += voxels as usize;
    }
    assert!(labelled > 0);
}

#[test]
fn classes_that_are_not_asked_for_are_background() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    must_succeed(&bench.predict("all", &["--exact"]));
    must_succeed(&bench.predict("some", &["--exact", "--only", "spleen", "tumor", "--statistics", "--names"]));
    let (all, some) = (bench.labels("all", "a").data, bench.labels("some", "a").data);
    let kept = |label: u8| if [3, 14].contains(&label) { label } else { 0 };
    assert!(all.iter().zip(&some).all(|(&all, &some)| some == kept(all)));
    let csv = std::fs::read_to_string(bench.path("some/a.csv")).unwrap();
    assert!(csv.starts_with("class,name,label,voxels,volume_ml,mean_hu,sd_hu\nspleen,Spleen,3,") && csv.lines().count() == 3, "{csv}");
    let refused = bench.predict("none", &["--only", "splen"]);
    assert!(said(&refused).contains("only: ") && said(&refused).contains("splen"), "{}", said(&refused));
}
