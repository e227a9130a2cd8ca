//! DICOM studies as a dataset: a tree of series and segmentations, converted and partitioned.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab::{Lab, copy_folder};

const PACS: &str = "seed: 1
store: store
classes: [{group: organ, classes: {liver: 1, spleen: 2}}]
data: {pacs: scans}
nodes:
  convert:
    stage: convert
    inputs: {scans: data.pacs}
    params: {segments: {liver: 1, spleen: {value: 2, names: [Überlappung]}}}
  partition:
    stage: partition
    inputs: {datasets: {PACS: convert}}
    params: {datasets: {PACS: {layout: {nnunet: {unlabeled: true}}}}, split: {fraction: 0}}
";

/// Two patients: one with two series of which one has labels, and one with labels.
fn lab() -> Lab {
    let (lab, fixtures) = (Lab::new(""), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scan/dicom-series/tests/fixtures"));
    fs::create_dir_all(lab.path("scans")).unwrap();
    for (from, to) in [("explicit", "scans/a"), ("oblique", "scans/b"), ("annotations/odd", "scans/c")] {
        copy_folder(&fixtures.join(from), &lab.path(to));
    }
    for name in ["explicit", "odd"] {
        fs::copy(fixtures.join(format!("annotations/{name}.seg.dcm")), lab.path(&format!("scans/{name}.dcm"))).unwrap();
    }
    fs::write(lab.path("pacs.yaml"), PACS).unwrap();
    lab
}

#[test]
fn series_and_their_segmentations_become_cases_of_a_partition() {
    let lab = lab();
    let run = || lab.run(&["--pipeline", "pacs.yaml"]).must_succeed();
    assert_eq!(run().ran(), ["convert", "partition"]);
    let results = lab.path("store/results/pacs");
    let manifest: Value = serde_json::from_slice(&fs::read(results.join("partition/manifest.json")).unwrap()).unwrap();
    let cases = manifest["cases"].as_array().unwrap();
    let labelled = cases.iter().filter(|case| case["label"].is_string()).count();
    assert_eq!((cases.len(), labelled), (3, 2), "{manifest:#}");
    assert!(cases.iter().any(|case| case["id"] == "O-2"), "{manifest:#}");
    assert!(fs::read_to_string(results.join("convert/about/series.csv")).unwrap().contains("\"Thin, odd\""));
    // What is there is not made again; a study without labels changes no other case.
    assert!(run().ran().is_empty());
    fs::remove_file(lab.path("scans/odd.dcm")).unwrap();
    assert_eq!(run().ran(), ["convert", "partition"]);
    assert_eq!(fs::read_dir(results.join("convert/labelsTr")).unwrap().count(), 1);
}
