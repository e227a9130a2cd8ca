//! The package as Python loads it: the library that cargo has built beside this test, and the Python files. `test_flare.py` asks it.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use labels::flare23;
use model_card::{Kind, ModelCard, ModelInput, Origin, Output};
use ndarray::{Array3, ShapeBuilder};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use predict::Predict;
use random::Streams;
use serde_json::json;
use stage_kit::{Entry, StageIo};
use volume::{Affine, ModelGrid, ScalarVolume, Scaling, nifti};

const FEATURES: [usize; 6] = [4, 4, 4, 8, 8, 4];

/// Lays the package out as an installed one is.
fn lay_out(site: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/flare");
    let package = site.join("flare");
    std::fs::create_dir(&package).unwrap();
    for entry in std::fs::read_dir(here).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), package.join(entry.file_name())).unwrap();
    }
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let built = [deps.clone(), deps.join("..")].map(|folder| folder.join("lib_flare.so")).into_iter().find(|path| path.exists());
    std::fs::copy(built.expect("cargo builds the library before its tests"), package.join("_flare.abi3.so")).unwrap();
}

fn save(network: &impl Network, kind: Kind, patch: Vec<usize>, path: &Path) {
    let classes = flare23::classes();
    let card = ModelCard {
        kind,
        network: json!({"features": FEATURES}),
        outputs: (0..classes.groups().len())
            .take(if kind == Kind::Teacher { 1 } else { 2 })
            .map(|k| Output::of_group(&classes, k))
            .collect(),
        classes,
        input: ModelInput {
            grid: ModelGrid { spacing_mm: [Some(2.0), Some(2.0), Some(5.0)], window_hu: [-200.0, 300.0] },
            scaling: Scaling::default(),
            crop_foreground: true,
            patch,
            habits: Default::default(),
        },
        origin: Origin { cases: "D".into(), seed: 1, best_epoch: 1, validation_score: 0.5, ..Origin::default() },
        keep_parts: Default::default(),
    };
    let params = Params::init(&network.parameters(), Streams::new(3), &Device::Cpu).unwrap();
    params.save(path, &card.to_metadata().unwrap()).unwrap();
}

/// Models of random weights, a round patient, and the labels that `predict` finds.
fn bench(folder: &Path) {
    let classes = flare23::classes();
    let decoders: Vec<_> = (0..2).map(|k| Output::of_group(&classes, k).decoder()).collect();
    let student = DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders);
    save(&student, Kind::Student, vec![32, 32], &folder.join("student.safetensors"));
    let config: TeacherConfig = serde_json::from_value(json!({"features": FEATURES})).unwrap();
    let teacher = Teacher::new(&config, Output::of_group(&classes, 0).channels());
    save(&teacher, Kind::Teacher, vec![16, 16, 16], &folder.join("teacher.safetensors"));
    let value = |(x, y, z): (usize, usize, usize)| {
        let from_axis = (x as f32 / 30.0 - 1.0).hypot(y as f32 / 25.0 - 1.0);
        if from_axis < 0.8 { 40.0 + 30.0 * ((x / 5 + 2 * (y / 4) + 3 * (z / 2)) % 7) as f32 } else { -1000.0 }
    };
    let affine = Affine::from_spacing_mm([-2.0, 2.2, 3.0], [40.0, 10.0, 7.0]);
    std::fs::create_dir(folder.join("scans")).unwrap();
    let scan = ScalarVolume { data: Array3::from_shape_fn([61, 50, 23].f(), value), affine };
    nifti::write_scalar_i16(folder.join("scans/a_0000.nii.gz"), &scan).unwrap();
    for model in ["student", "teacher"] {
        let inputs = [("images", folder.join("scans")), ("model", folder.join(format!("{model}.safetensors")))];
        let io = StageIo::new("predict", inputs, folder.join(model), folder.join("work"), 1);
        std::fs::create_dir_all(&io.work).unwrap();
        Entry::of::<Predict>().run(json!({"exact": true}), &io).unwrap();
    }
}

#[test]
fn the_package_labels_arrays_as_predict_labels_files() {
    let python = std::env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let asked = Command::new(&python).args(["-c", "import numpy, nibabel, pytest"]).output();
    if !asked.is_ok_and(|asked| asked.status.success()) {
        references::skipped("the Python package; set PYTHON to a Python with numpy, nibabel and pytest");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    bench(folder.path());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/test_flare.py");
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(tests);
    command.env("PYTHONPATH", folder.path()).env("PYTHONDONTWRITEBYTECODE", "1").env("BENCH", folder.path());
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
}
