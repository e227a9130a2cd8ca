//! `predict` as a user calls it, with a student of random weights.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use candle_core::Device;
use inference::{Manner, Model, Student, StudentParams};
use labels::{Classes, flare23};
use model_card::{Kind, ModelCard, ModelInput, Origin, Output};
use ndarray::{Array3, ShapeBuilder};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use random::Streams;
use serde_json::{Value, json};
use volume::{Affine, Grid, LabelVolume, ModelGrid, Orientation, ScalarVolume, Scaling, nifti};

/// A folder with models and scans.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.model("model", 3, None, Some([32, 32]));
        std::fs::create_dir(bench.path("scans")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A model of random weights, as `export` writes it.
    fn model(&self, name: &str, seed: u64, smallest_tumor_ml: Option<f64>, size: Option<[usize; 2]>) -> PathBuf {
        let smallest: Value = smallest_tumor_ml.map_or_else(|| json!({}), |ml| json!({ "cancer": ml }));
        let window = json!({"batch": 4, "size": size});
        let params: StudentParams = serde_json::from_value(json!({"window": window, "smallest_part_ml": smallest})).unwrap();
        let model = self.path(&format!("{name}.safetensors"));
        Student::export(&params, &self.student("weights", seed, &flare23::classes()), &model).unwrap();
        model
    }

    /// A student of random weights, as its training writes it.
    fn student(&self, name: &str, seed: u64, classes: &Classes) -> PathBuf {
        let card = card(Kind::Student, classes, vec![32, 32]);
        let decoders: Vec<_> = card.outputs.iter().map(Output::decoder).collect();
        self.save(name, seed, &DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), &card)
    }

    /// A teacher of one group, likewise.
    fn teacher(&self, name: &str, seed: u64, classes: &Classes) -> PathBuf {
        let config: TeacherConfig = serde_json::from_value(json!({"features": FEATURES})).unwrap();
        let card = card(Kind::Teacher, classes, vec![16, 16, 16]);
        self.save(name, seed, &Teacher::new(&config, card.outputs[0].channels()), &card)
    }

    fn save(&self, name: &str, seed: u64, network: &impl Network, card: &ModelCard) -> PathBuf {
        let path = self.path(&format!("{name}.safetensors"));
        let params = Params::init(&network.parameters(), Streams::new(seed), &Device::Cpu).unwrap();
        params.save(&path, &card.to_metadata().unwrap()).unwrap();
        path
    }

    /// A round patient of some texture, in a file of the folder `scans`.
    fn scan(&self, case: &str, shape: [usize; 3], orientation: &str) {
        let grid = Grid { shape, affine: Affine::from_spacing_mm([2.0, 2.2, 3.0], [-40.0, 10.0, 7.0]) };
        let value = |(x, y, z): (usize, usize, usize)| {
            let from_axis = [(x, shape[0]), (y, shape[1])].map(|(i, n)| (i as f64 + 0.5) / n as f64 * 2.0 - 1.0);
            let texture = ((x / 5 + 2 * (y / 4) + 3 * (z / 2)) % 7) as f32;
            if from_axis[0].hypot(from_axis[1]) < 0.8 { 40.0 + 30.0 * texture } else { -1000.0 }
        };
        let image = ScalarVolume { data: Array3::from_shape_fn(shape.f(), value), affine: grid.affine };
        let image = volume::reorient(&image, orientation.parse::<Orientation>().unwrap());
        nifti::write_scalar_i16(self.path(&format!("scans/{case}_0000.nii.gz")), &image).unwrap();
    }

    fn predict(&self, output: &str, more: &[&str]) -> process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(self.path("scans")).arg(self.path(output)).arg("--model").arg(self.path("model.safetensors"));
        command.args(["--progress", "lines"]).args(more).output().unwrap()
    }

    fn labels(&self, output: &str, case: &str) -> LabelVolume {
        nifti::read_labels(self.path(&format!("{output}/{case}.nii.gz"))).unwrap().0
    }
}

const FEATURES: [usize; 6] = [4, 4, 4, 8, 8, 4];

fn card(kind: Kind, classes: &Classes, patch: Vec<usize>) -> ModelCard {
    let grid = ModelGrid { spacing_mm: [Some(2.0), Some(2.0), Some(5.0)], window_hu: [-200.0, 300.0] };
    ModelCard {
        kind,
        network: json!({"features": FEATURES}),
        classes: classes.clone(),
        outputs: (0..classes.groups().len()).map(|group| Output::of_group(classes, group)).collect(),
        input: ModelInput { grid, scaling: Scaling::default(), crop_foreground: true, patch, habits: Default::default() },
        origin: Origin { cases: "D_l4".into(), seed: 1, best_epoch: 1, validation_score: 0.5, ..Origin::default() },
    }
}

fn must_succeed(output: &process::Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn agreement(a: &LabelVolume, b: &LabelVolume) -> f64 {
    assert_eq!(a.grid(), b.grid());
    a.data.iter().zip(&b.data).filter(|(a, b)| a == b).count() as f64 / a.data.len() as f64
}

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
    must_succeed(&bench.predict("bf16", &["--exact", "--precision", "bf16"]));
    let exact = bench.labels("exact", "a");
    let bf16 = agreement(&exact, &bench.labels("bf16", "a"));
    assert!(bf16 > 0.97, "random weights are on the fence everywhere, and still {bf16} of the voxels agree");
    assert!(bf16 < 1.0, "bf16 is not f32");
    let quick = bench.labels("quick", "a");
    for ((x, y, _), &label) in quick.data.indexed_iter() {
        let far = |i: usize, n: usize| ((i as f64 + 0.5) / n as f64 * 2.0 - 1.0).abs();
        // Beyond 20 mm of the patient, whose radius is 0.8 of the half side.
        assert!(label == 0 || far(x, 90) < 1.05 || far(y, 80) < 1.05);
    }
}

#[test]
fn an_ensemble_of_one_model_twice_is_that_model_and_flips_are_a_mean() {
    let bench = Bench::new();
    // Whole slices: where windows overlap, a mean of probabilities is not that of logits.
    bench.model("model", 3, None, None);
    bench.scan("a", [64, 64, 9], "RAS");
    must_succeed(&bench.predict("one", &["--exact"]));
    must_succeed(&bench.predict("twice", &["--exact", "--model", bench.path("model.safetensors").to_str().unwrap()]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("twice", "a")) > 0.9999, "but for ties of rounding");
    let other = bench.model("other", 4, None, None);
    must_succeed(&bench.predict("both", &["--exact", "--model", other.to_str().unwrap()]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("both", "a")) < 0.99, "the other model has a say");
    must_succeed(&bench.predict("flips", &["--exact", "--flips"]));
    assert!(agreement(&bench.labels("one", "a"), &bench.labels("flips", "a")) < 0.99);

    let apart = bench.model("apart", 4, Some(1.0), None);
    let refused = bench.predict("none", &["--model", apart.to_str().unwrap()]);
    assert!(
        !refused.status.success() && said(&refused).contains("smallest_part_ml {} and {\"cancer\": 1.0}; models that work together"),
        "{}",
        said(&refused)
    );
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

/// Files that are no scans, and what is said of each.
fn hostile(scans: &Path) -> Vec<(&'static str, &'static str)> {
    let good = scans.join("good_0000.nii.gz");
    let bytes = std::fs::read(&good).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(scans.join(format!("{name}_0000.nii.gz")), bytes).unwrap();
    let plain = {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
        plain
    };
    let changed = |at: usize, field: &[u8]| {
        let mut plain = plain.clone();
        plain[at..at + field.len()].copy_from_slice(field);
        plain
    };
    let dims = |dims: [i16; 8]| changed(40, &dims.map(i16::to_le_bytes).concat());
    put("truncated", &bytes[..bytes.len() / 2]);
    put("corrupted", &{
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xa5);
        bytes
    });
    put("text", b"this is not a scan");
    put("empty", b"");
    put("lying", &dims([3, 640, 600, 90, 1, 1, 1, 1]));
    put("huge", &dims([3, 32767, 32767, 32767, 1, 1, 1, 1]));
    put("four", &dims([4, 8, 8, 4, 5, 1, 1, 1]));
    put("rgb", &changed(70, &128i16.to_le_bytes()));
    put("nan_affine", &changed(280, &f32::NAN.to_le_bytes()));
    put("zero_spacing", &changed(280, &[0; 48]));
    put("air", &{
        let mut plain = plain.clone();
        plain[352..].chunks_exact_mut(2).for_each(|voxel| voxel.copy_from_slice(&(-1000i16).to_le_bytes()));
        plain
    });
    // A bomb: 200 million bytes of air in a thousandth of that, and a header that says so.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut bomb, &dims([3, 500, 500, 400, 1, 1, 1, 1])[..352]).unwrap();
    let air = (-1000i16).to_le_bytes().repeat(1 << 20);
    std::io::copy(&mut std::io::Read::take(air.repeat(96).as_slice(), 200_000_000), &mut bomb).unwrap();
    put("bomb", &bomb.finish().unwrap());
    std::fs::create_dir(scans.join("folder_0000.nii.gz")).unwrap();
    vec![
        ("truncated", "truncated"),
        ("corrupted", "damaged"),
        ("text", "too few for a NIfTI header"),
        ("empty", "too few for a NIfTI header"),
        ("lying", "truncated"),
        ("huge", "more than the"),
        ("four", "more than one volume"),
        ("rgb", "RGB"),
        ("nan_affine", "affine"),
        ("zero_spacing", "affine"),
        ("air", "expected a body"),
        ("bomb", "expected a body"),
        ("folder", "directory"),
    ]
}

#[test]
fn hostile_files_are_named_and_the_others_go_on() {
    let bench = Bench::new();
    bench.scan("good", [40, 36, 7], "LPS");
    bench.scan("one_slice", [40, 36, 1], "LPS");
    let expected = hostile(&bench.path("scans"));
    let output = bench.predict("out", &["--journal"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (case, reason) in expected {
        let line =
            said.lines().rfind(|line| line.contains(&format!("case {case}: "))).unwrap_or_else(|| panic!("no word of {case}: {said}"));
        assert!(line.contains(reason) && line.contains(&format!("{case}_0000.nii.gz")), "{line}");
        assert!(!line.contains("internal error"), "{line}");
        assert!(!bench.path(&format!("out/{case}.nii.gz")).exists());
    }
    let there: Vec<_> =
        ["good", "one_slice", "bomb"].into_iter().filter(|case| bench.path(&format!("out/{case}.nii.gz")).exists()).collect();
    assert!(there.starts_with(&["good", "one_slice"]), "{there:?}");
    let left: Vec<_> = std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn a_model_is_installed_beside_the_program_and_nothing_else_is() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    std::fs::create_dir(bench.path("bin")).unwrap();
    let program = bench.path("bin/predict");
    // By a process of its own: children of other tests would inherit a file open for writing, and it could not be run.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_predict")).arg(&program).status().unwrap().success());
    let run = |args: &[&str]| Command::new(&program).args(args).current_dir(bench.folder.path()).output().unwrap();
    let without = run(&["scans", "out"]);
    let how = ["bin/model.safetensors; name one by --model FILE", "predict --install FILE", "flare run model"];
    assert!(!without.status.success() && how.iter().all(|part| said(&without).contains(part)), "{}", said(&without));
    let silent = candle_core::Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("a", silent)].into(), bench.path("silent.safetensors")).unwrap();
    assert!(said(&run(&["--install", "silent.safetensors"])).contains("does not say what it is"), "weights that say nothing");
    assert!(!bench.path("bin/model.safetensors").exists());
    must_succeed(&run(&["--install", "model.safetensors"]));
    must_succeed(&run(&["scans", "out"]));
    let own = Model::open(&[bench.path("bin/model.safetensors")], &Manner::default(), &Device::Cpu);
    assert!(own.is_ok() && bench.path("out/a.nii.gz").exists());
}

#[test]
fn one_scan_of_any_name_gets_the_label_map_that_is_asked_for() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    must_succeed(&bench.predict("out", &[]));
    let expected = std::fs::read(bench.path("out/a.nii.gz")).unwrap();
    std::fs::rename(bench.path("scans/a_0000.nii.gz"), bench.path("scan.nii.gz")).unwrap();
    let run = |scan: &str, output: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.args([scan, output, "--model", "model.safetensors"]).args(more).current_dir(bench.folder.path()).output().unwrap()
    };
    let more = ["--preview", "--journal"];
    must_succeed(&run("scan.nii.gz", "new/folder/x.nii.gz", &more));
    assert_eq!(std::fs::read(bench.path("new/folder/x.nii.gz")).unwrap(), expected);
    let mut there: Vec<_> = std::fs::read_dir(bench.path("new/folder")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["journal.jsonl", "x.nii.gz", "x.png"]);
    assert!(std::fs::read_to_string(bench.path("new/folder/journal.jsonl")).unwrap().contains(r#""labels":"x.nii.gz""#));
    assert!(said(&run("scan.nii.gz", "new/folder/x.nii.gz", &more)).contains("1 of 1 cases were there already"), "again");
    must_succeed(&run("scan.nii.gz", "x.nii", &[]));
    assert_eq!(
        nifti::read_labels(bench.path("x.nii")).unwrap().0.data,
        bench.labels("out", "a").data,
        "plain, in the folder that one is in"
    );

    bench.scan("b", [40, 36, 7], "LPS");
    bench.scan("c", [40, 36, 7], "LPS");
    let refused = run("scans", "new/y.nii.gz", &[]);
    assert!(!refused.status.success() && said(&refused).contains("name a folder for label maps") && !bench.path("new/y.nii.gz").exists());
    let scan = std::fs::read(bench.path("scan.nii.gz")).unwrap();
    for itself in ["scan.nii.gz", "./scan.nii.gz", "new/../scan.nii.gz"] {
        let onto_itself = run("scan.nii.gz", itself, &[]);
        assert!(!onto_itself.status.success() && said(&onto_itself).contains("is an input"), "{}", said(&onto_itself));
        assert_eq!(std::fs::read(bench.path("scan.nii.gz")).unwrap(), scan);
    }
    must_succeed(&run("scan.nii.gz", "x.seg.nrrd", &[]));
    let contradiction = run("scan.nii.gz", "y.mha", &["--format", "nrrd"]);
    assert!(said(&contradiction).contains("y.mha is a file in the format mha, and nrrd is asked for"), "{}", said(&contradiction));
}

fn said(output: &process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_label_map_counts_as_done_only_if_it_is_what_was_asked_for() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    bench.scan("b", [36, 40, 6], "RAS");
    let bytes = |output: &str| ["a", "b"].map(|case| std::fs::read(bench.path(&format!("{output}/{case}.nii.gz"))).unwrap());
    // What `predict` leaves in a folder with other results is what it leaves in an empty one.
    let mut runs = 0;
    let mut asked = |more: &[&str], there: &str| {
        let over = bench.predict("out", more);
        must_succeed(&over);
        assert!(said(&over).contains(there), "{}", said(&over));
        runs += 1;
        let fresh = format!("fresh{runs}");
        must_succeed(&bench.predict(&fresh, more));
        assert_eq!(bytes("out"), bytes(&fresh));
        assert_eq!(std::fs::read_dir(bench.path("out")).unwrap().count(), 2, "label maps and nothing else");
    };
    asked(&[], "");
    asked(&[], "2 of 2 cases were there already, made from the same inputs and parameters");
    asked(&["--flips"], "2 of 2 cases are made anew");
    bench.model("model", 4, None, Some([32, 32]));
    asked(&["--flips"], "2 of 2 cases are made anew");
    let other = bench.model("other", 5, None, Some([32, 32]));
    asked(&["--flips", "--model", other.to_str().unwrap()], "2 of 2 cases are made anew");
    asked(&[], "2 of 2 cases are made anew");
    bench.scan("a", [40, 36, 8], "LPS");
    asked(
        &[],
        "1 of 2 cases are made anew, because what was there was made from something else, is not all there, or has changed since: a",
    );
    let whole = std::fs::read(bench.path("out/b.nii.gz")).unwrap();
    for damaged in [&whole[..0], &whole[..whole.len() / 2], &bytes("out")[0][..]] {
        std::fs::write(bench.path("out/b.nii.gz"), damaged).unwrap();
        asked(&[], "1 of 2 cases were there already");
    }
}

#[test]
fn no_scan_is_overwritten_where_label_maps_go_to_the_folder_of_the_scans() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    bench.scan("a_0000", [40, 36, 7], "LPS");
    let scan = std::fs::read(bench.path("scans/a_0000.nii.gz")).unwrap();
    let output = bench.predict("scans", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("case a_0000: its output") && said.contains("a_0000.nii.gz is an input of case a;"), "{said}");
    assert_eq!(std::fs::read(bench.path("scans/a_0000.nii.gz")).unwrap(), scan);
    assert_eq!(bench.labels("scans", "a").grid().shape, [40, 36, 7]);
}

#[test]
fn files_that_a_killed_run_had_not_finished_are_removed() {
    let bench = Bench::new();
    bench.scan("a", [64, 64, 700], "LPS");
    let unfinished = || {
        let entries = std::fs::read_dir(bench.path("out")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    let end_amid_work = |signal: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path("out")).arg("--model").arg(bench.path("model.safetensors"));
        let mut child = command.args(["--progress", "lines", "--threads", "1"]).spawn().unwrap();
        while unfinished() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ends before it can be ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(!child.wait().unwrap().success());
    };
    end_amid_work("-TERM");
    assert_eq!(unfinished(), 0, "asked to end, it removes its own");
    end_amid_work("-KILL");
    assert_eq!(unfinished(), 1);
    must_succeed(&bench.predict("out", &[]));
    let left: Vec<_> = std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.nii.gz"]);
}

#[test]
fn a_name_that_steers_a_terminal_is_shown_harmlessly() {
    let bench = Bench::new();
    std::fs::write(bench.path("scans/x\u{1b}[2J\r\u{202e}_0000.nii.gz"), "no scan").unwrap();
    let said = said(&bench.predict("out", &[]));
    assert!(said.contains(r"x\u{1b}[2J\r\u{202e}"), "{said}");
    assert!(!said.contains(['\u{1b}', '\r', '\u{202e}']), "{said:?}");
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

fn declared(classes: Value) -> Classes {
    serde_json::from_value(classes).unwrap()
}

#[test]
fn what_a_training_writes_is_a_model_with_its_own_classes() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    let classes = declared(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": {"value": 200, "name": "A kidney"}}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255}},
    ]));
    std::fs::create_dir(bench.path("training")).unwrap();
    bench.student("training/weights", 3, &classes);
    let run = |output: &str, model: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path(output)).arg("--model").arg(bench.path(model));
        must_succeed(&command.args(["--progress", "lines"]).args(more).output().unwrap());
    };
    run("out", "training", &["--statistics", "--preview", "--clean-up"]);
    let labels = bench.labels("out", "a");
    assert!(labels.data.iter().all(|label| [0, 1, 14, 200, 255].contains(label)) && labels.data.iter().any(|&label| label > 14));
    let statistics: Value = serde_json::from_slice(&std::fs::read(bench.path("out/a.json")).unwrap()).unwrap();
    let keys: Vec<&String> = statistics["classes"].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4);
    assert_eq!((&statistics["classes"]["kidney"]["label"], &statistics["classes"]["kidney"]["name"]), (&json!(200), &json!("A kidney")));
    assert!(bench.path("out/a.png").exists());
}

#[test]
fn teachers_of_different_groups_label_a_scan_together() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPI");
    let organs = bench.teacher("organs", 3, &declared(json!([{"group": "organ", "classes": {"liver": 1, "kidney": 200}}])));
    let tumors = bench.teacher("tumors", 4, &declared(json!([{"group": "cancer", "classes": {"tumor": 14}}])));
    let run = |output: &str, models: &[&PathBuf]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path(output)).args(["--exact", "--progress", "lines"]);
        command.args(models.iter().flat_map(|model| [OsStr::new("--model"), model.as_os_str()])).output().unwrap()
    };
    for (output, models) in [("both", &[&organs, &tumors][..]), ("organs", &[&organs]), ("tumors", &[&tumors])] {
        must_succeed(&run(output, models));
    }
    let [both, organ, tumor] = ["both", "organs", "tumors"].map(|output| bench.labels(output, "a").data);
    assert!(both.iter().zip(organ.iter().zip(&tumor)).all(|(&both, (&organ, &tumor))| both == if tumor == 0 { organ } else { tumor }));
    assert!(both.iter().any(|&label| label > 0));
    let fewer = bench.teacher("fewer", 3, &declared(json!([{"group": "organ", "classes": {"liver": 1}}])));
    let refused = run("none", &[&organs, &fewer]);
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("organ {liver: 1, kidney: 200}, and") && text.contains("organ {liver: 1};"),
        "{text}"
    );
    let left: Vec<_> = std::fs::read_dir(bench.path("both")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.nii.gz"], "a large scan goes into a file without a name");
}

#[test]
fn a_model_of_train_partial_labels_a_scan_too() {
    let bench = Bench::new();
    bench.scan("a", [61, 50, 23], "LPS");
    let classes = declared(json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
    ]));
    let network = json!({
        "method": {"target_adaptive": {"network": {"residual": {"features": [4, 4, 4, 8], "blocks": [1, 1, 1, 1, 1], "groups": 2}}}},
        "datasets": [{"name": "all", "subset": "D", "classes": ["organ", "cancer"]}],
    });
    let config: partial::ModelConfig = serde_json::from_value(network.clone()).unwrap();
    let datasets = partial::Datasets::new(&config.datasets, &classes).unwrap();
    let model = partial::Model::new(&config, &datasets, &classes).unwrap();
    let card = ModelCard { network, outputs: Vec::new(), ..card(Kind::Partial, &classes, vec![16, 16, 16]) };
    bench.save("model", 3, &model, &card);
    must_succeed(&bench.predict("out", &["--exact"]));
    let labels = bench.labels("out", "a");
    assert!(labels.data.iter().all(|label| [0, 1, 14, 200].contains(label)) && labels.data.iter().any(|&label| label > 0));
}

#[test]
fn a_model_describes_itself_and_weights_without_a_card_say_so() {
    let bench = Bench::new();
    let describe = |model: &str| Command::new(env!("CARGO_BIN_EXE_predict")).arg("--describe").arg(bench.path(model)).output().unwrap();
    let told = describe("model.safetensors");
    must_succeed(&told);
    let text = String::from_utf8(told.stdout).unwrap();
    for part in [
        "A student",
        "`liver` | 1 | Liver",
        "Spacing along x, y, z: 2 mm, 2 mm, 5 mm",
        "-200 to 300 HU",
        "Cases: D_l4",
        "after epoch 1: 0.5",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let network = DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &[("organ_decoder".to_owned(), 2)]);
    let params = Params::init(&network.parameters(), Streams::new(1), &Device::Cpu).unwrap();
    params.save(&bench.path("plain.safetensors"), &Default::default()).unwrap();
    let refused = describe("plain.safetensors");
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("plain.safetensors does not say how it was trained"), "{error}");
}

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

#[test]
fn files_of_any_name_are_scans_and_what_belongs_to_others_is_passed_over() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    let scan = bench.path("scans/a_0000.nii.gz");
    for name in ["other.nii.gz", "patient_2019.nii.gz", "patient_2020.nii.gz", "a_0001.nii.gz", "a.nii.gz"] {
        std::fs::copy(&scan, bench.path(&format!("scans/{name}"))).unwrap();
    }
    std::fs::write(bench.path("scans/a.seg.nrrd"), "a segmentation").unwrap();
    let output = bench.predict("out", &[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let mut left: Vec<_> =
        std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["a.nii.gz", "other.nii.gz", "patient_2019.nii.gz", "patient_2020.nii.gz"]);
    assert!(text.contains("case a_0001: ") && text.contains("another channel of a; expected one CT a case"), "{text}");
    assert!(text.contains("passes over 2 other entries, which cannot be a scan: a.nii.gz, a.seg.nrrd"), "{text}");
    let alone = Command::new(env!("CARGO_BIN_EXE_predict"))
        .args([bench.path("scans/other.nii.gz"), bench.path("one")])
        .arg("--model")
        .arg(bench.path("model.safetensors"))
        .output()
        .unwrap();
    must_succeed(&alone);
    assert!(bench.path("one/other.nii.gz").exists());
}
