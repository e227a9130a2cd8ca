//! What is written beside label maps, and what memory it takes.

use labels::flare23;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use volume::nifti;

use crate::bench::{Bench, must_succeed};

#[test]
fn pictures_figures_and_a_journal_are_there_when_asked_for() {
    let bench = Bench::new();
    bench.scan("a", [64, 60, 9], "LPS");
    must_succeed(&bench.predict("out", &["--preview", "--statistics", "--journal"]));
    let labels = bench.labels("out", "a");
    let read = |name: &str| std::fs::read(bench.path(&format!("out/{name}"))).unwrap();
    assert!(read("a.png").starts_with(b"\x89PNG"));
    let statistics: Value = serde_json::from_slice(&read("a.json")).unwrap();
    let (image, _) = nifti::read_scalar(bench.path("scans/a_0000.nii.gz")).unwrap();
    assert_eq!(statistics["classes"].as_object().unwrap().len(), 14);
    for class in flare23::classes().all() {
        let (of, class) = (&statistics["classes"][&class.key], class.value);
        assert_eq!(of["label"], class);
        let inside: Vec<f64> =
            labels.data.iter().zip(&image.data).filter(|(label, _)| **label == class).map(|(_, &hu)| f64::from(hu)).collect();
        let ml = inside.len() as f64 * labels.grid().voxel_mm3() / 1000.0;
        assert!((of["volume_ml"].as_f64().unwrap() - ml).abs() < 1e-6 * ml.max(1.0), "{class}: {of}, {ml} mL");
        match inside.len() {
            0 => assert!(of["mean_hu"].is_null()),
            n => assert!((of["mean_hu"].as_f64().unwrap() - inside.iter().sum::<f64>() / n as f64).abs() < 1e-3),
        }
    }
    let journal = String::from_utf8(read("journal.jsonl")).unwrap();
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "the run and its case");
    assert_eq!(lines[0]["run"]["models"][0]["blake3"].as_str().unwrap().len(), 64);
    assert_eq!((&lines[1]["case"], &lines[1]["error"]), (&Value::from("a"), &Value::Null));
}

/// The greatest memory that a run ever took, in MiB.
fn peak_mib(bench: &Bench, output: &str) -> f64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_predict"))
        .arg(bench.path("scans"))
        .arg(bench.path(output))
        .args(["--model", bench.path("model.safetensors").to_str().unwrap(), "--threads", "1", "--progress", "lines"])
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak: f64 = 0.0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = kib.map_or(peak, |kib| peak.max(kib / 1024.0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_depend_on_the_length_of_the_scan() {
    let [short, long] = [60, 700].map(|slices| {
        let bench = Bench::new();
        bench.scan("a", [64, 64, slices], "LPS");
        peak_mib(&bench, "out")
    });
    // Held whole, 640 more slices of 64×64 would be 10 MiB in single precision, and 3 as labels.
    assert!(long < short + 5.0, "60 slices take {short:.1} MiB, 700 take {long:.1} MiB");
}
