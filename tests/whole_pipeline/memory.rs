//! What a worker holds of a large scan: each stage that reads scans, on one whose volumes would take several times as much.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use volume::{Affine, Grid, LabelVolume, ScalarVolume, nifti};

use crate::lab::Lab;

/// The inputs of a stage, by their names.
type Inputs = Vec<(&'static str, PathBuf)>;

/// 80 million voxels: 153 MiB of a scan as it is stored, 305 MiB in 32-bit numbers, 76 MiB of a label map.
const SHAPE: [usize; 3] = [400, 400, 500];
const SPACING_MM: [f64; 3] = [0.8, 0.8, 1.0];

/// Writes a file on a grid slice by slice. Its header is that of a file of one slice.
fn write(path: &Path, one_slice: &Path, slices: usize, slice: impl Fn(usize) -> Vec<u8>) {
    let mut header = fs::read(one_slice).unwrap()[..352].to_vec();
    header[46..48].copy_from_slice(&i16::try_from(slices).unwrap().to_le_bytes()); // dim[3]
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut gzip = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    gzip.write_all(&header).unwrap();
    (0..slices).for_each(|z| gzip.write_all(&slice(z)).unwrap());
    gzip.finish().unwrap();
}

fn grid(spacing_mm: [f64; 3], [nx, ny, _]: [usize; 3]) -> Grid {
    Grid { shape: [nx, ny, 1], affine: Affine::from_spacing_mm(spacing_mm, [0.0; 3]) }
}

/// A bar of tissue from the first slice to the last.
fn write_scan(path: &Path, folder: &Path) {
    let one = folder.join("scan.nii");
    nifti::write_scalar_i16(&one, &ScalarVolume::filled(&grid(SPACING_MM, SHAPE), 0.0)).unwrap();
    let value = |voxel: usize| if (2..398).contains(&(voxel % 400)) && (2..398).contains(&(voxel / 400)) { 40i16 } else { -1000 };
    let slice: Vec<u8> = (0..400 * 400).flat_map(|voxel| value(voxel).to_le_bytes()).collect();
    write(path, &one, SHAPE[2], |_| slice.clone());
}

/// A block of each of `labels`, and a stray voxel of the first in two far corners, so that its box is all of the scan.
fn write_labels(path: &Path, folder: &Path, spacing_mm: [f64; 3], shape: [usize; 3], labels: &[u8]) {
    let one = folder.join("labels.nii");
    nifti::write_labels_on(&one, &LabelVolume::filled(&grid(spacing_mm, shape), 0)).unwrap();
    let [nx, ny, nz] = shape;
    write(path, &one, nz, |z| {
        let mut slice = vec![0; nx * ny];
        for (n, label) in labels.iter().enumerate() {
            let rows = slice.chunks_exact_mut(nx).skip(40 + 15 * n).take(12);
            rows.filter(|_| (100..300).contains(&z)).for_each(|row| row[90..210].fill(*label));
        }
        if z == 0 {
            slice[0] = labels[0];
        } else if z == nz - 1 {
            slice[nx * ny - 1] = labels[0];
        }
        slice
    });
}

/// The most MiB that a process has held at once, as Linux tells while it runs.
fn peak_mib(mut command: Command) -> u64 {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let told = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(status.success() && peak > 0, "{told}");
    peak >> 10
}

#[test]
fn no_stage_holds_a_large_scan() {
    let lab = Lab::new("");
    lab.run(&["M_c", "M_o2"]).must_succeed();
    let folder = lab.path("large");
    fs::create_dir_all(folder.join("partition")).unwrap();
    let file = |name: &str| folder.join(name);
    write_scan(&file("images/a_0000.nii.gz"), &folder);
    let classes = labels::flare23::classes();
    let case = json!({
        "id": "a", "dataset": "FLARE23", "annotated": "{1,2,3,4,13,14}", "image": "images/a_0000.nii.gz", "label": "truth/a.nii.gz", "pattern": "{1,2,3,4,13,14}", "subset": "D_l3",
        "split": "training", "shape": SHAPE, "spacing_mm": SPACING_MM,
    });
    fs::write(file("partition/manifest.json"), json!({
        "classes": classes, "regions": {"FLARE23": labels::Regions::plain(classes.pattern())}, "subsets": {"D_l3": ["D_l3"]}, "cases": [case],
    }).to_string()).unwrap();
    write_labels(&file("truth/a.nii.gz"), &folder, SPACING_MM, SHAPE, &[1, 2, 3, 4, 13, 14]);
    write_labels(&file("model/labels/a.nii.gz"), &folder, SPACING_MM, SHAPE, &[1, 2, 3, 4, 13, 14]);
    write_labels(&file("maps/organ/a.nii.gz"), &folder, SPACING_MM, SHAPE, &[1, 2, 3, 4, 13]);
    write_labels(&file("maps/cancer/a.nii.gz"), &folder, SPACING_MM, SHAPE, &[14]);
    write_labels(&file("model_grid/labels/a.nii.gz"), &folder, [1.0; 3], [320, 320, 500], &[1, 2, 3, 14]);

    let weights: [(&str, PathBuf); 2] = [("teachers.M_o2", lab.result("M_o2")), ("teachers.M_c", lab.result("M_c"))];
    let stages: [(&str, u64, Value, Inputs); 5] = [
        (
            "preprocess",
            256,
            json!({"subsets": ["D_l3"], "layout": "volume", "grid": {"spacing_mm": [1, 1, 1], "window_hu": [-200, 300]}, "crop_foreground": true}),
            vec![("datasets.FLARE23", folder.clone()), ("partition", file("partition"))],
        ),
        (
            "evaluate",
            256,
            json!({"classes": classes, "pictures": 1}),
            vec![("truth", file("truth")), ("images", file("images")), ("predictions.M", file("model"))],
        ),
        (
            "pseudo-label",
            128,
            json!({"subsets": ["D_l3"], "window": {"patch": [32, 32, 32], "overlap": 0.0}}),
            [("datasets.FLARE23", folder.clone()), ("partition", file("partition"))].into_iter().chain(weights).collect(),
        ),
        ("overlay", 64, json!({"classes": classes}), vec![("labels", file("maps"))]),
        ("resample-back", 96, json!({}), vec![("labels", file("model_grid")), ("images", file("images"))]),
    ];
    for (stage, most_mib, params, inputs) in stages {
        let (params_file, output) = (file(&format!("{stage}.json")), file(&format!("out-{stage}")));
        fs::write(&params_file, params.to_string()).unwrap();
        let mut command = lab.command(&["stage", stage]);
        command.env("RAYON_NUM_THREADS", "1").arg("--params").arg(params_file).arg("--output").arg(output);
        for (role, path) in inputs {
            command.arg("--input").arg(format!("{role}={}", path.display()));
        }
        let found = peak_mib(command);
        assert!(found <= most_mib, "{stage} has held {found} MiB, expected at most {most_mib}");
        println!("{stage}: {found} MiB");
    }
}
