//! A folder with scans and models of random weights, and the program that labels them.

use candle_core::Device;
use inference::{Student, StudentParams};
use labels::{Classes, flare23};
use model_card::{Kind, ModelCard, ModelInput, Origin, Output};
use ndarray::{Array3, ShapeBuilder as _};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use random::Streams;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{self, Command};
use volume::{Affine, Grid, LabelVolume, ModelGrid, Orientation, ScalarVolume, Scaling, nifti};

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.model("model", 3, None, Some([32, 32]));
        std::fs::create_dir(bench.path("scans")).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A model of random weights, as `export` writes it.
    pub(crate) fn model(&self, name: &str, seed: u64, smallest_tumor_ml: Option<f64>, size: Option<[usize; 2]>) -> PathBuf {
        let kept: Value = smallest_tumor_ml.map_or_else(|| json!({}), |ml| json!({"cancer": {"ml": ml}}));
        let window = json!({"batch": 4, "size": size});
        let params: StudentParams = serde_json::from_value(json!({"window": window, "keep_parts": kept})).unwrap();
        let model = self.path(&format!("{name}.safetensors"));
        Student::export(&params, &self.student("weights", seed, &flare23::classes()), &model).unwrap();
        model
    }

    /// A student of random weights, as its training writes it.
    pub(crate) fn student(&self, name: &str, seed: u64, classes: &Classes) -> PathBuf {
        let card = card(Kind::Student, classes, vec![32, 32]);
        let decoders: Vec<_> = card.outputs.iter().map(Output::decoder).collect();
        self.save(name, seed, &DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), &card)
    }

    /// A teacher of one group, likewise.
    pub(crate) fn teacher(&self, name: &str, seed: u64, classes: &Classes) -> PathBuf {
        let config: TeacherConfig = serde_json::from_value(json!({"features": FEATURES})).unwrap();
        let card = card(Kind::Teacher, classes, vec![16, 16, 16]);
        self.save(name, seed, &Teacher::new(&config, card.outputs[0].channels()), &card)
    }

    pub(crate) fn save(&self, name: &str, seed: u64, network: &impl Network, card: &ModelCard) -> PathBuf {
        let path = self.path(&format!("{name}.safetensors"));
        let params = Params::init(&network.parameters(), Streams::new(seed), &Device::Cpu).unwrap();
        params.save(&path, &card.to_metadata().unwrap()).unwrap();
        path
    }

    /// A round patient of some texture, in a file of the folder `scans`.
    pub(crate) fn scan(&self, case: &str, shape: [usize; 3], orientation: &str) {
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

    pub(crate) fn predict(&self, output: &str, more: &[&str]) -> process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(self.path("scans")).arg(self.path(output)).arg("--model").arg(self.path("model.safetensors"));
        command.args(["--progress", "lines"]).args(more).output().unwrap()
    }

    pub(crate) fn labels(&self, output: &str, case: &str) -> LabelVolume {
        nifti::read_labels(self.path(&format!("{output}/{case}.nii.gz"))).unwrap().0
    }
}

pub(crate) const FEATURES: [usize; 6] = [4, 4, 4, 8, 8, 4];

pub(crate) fn card(kind: Kind, classes: &Classes, patch: Vec<usize>) -> ModelCard {
    let grid = ModelGrid { spacing_mm: [Some(2.0), Some(2.0), Some(5.0)], window_hu: [-200.0, 300.0] };
    ModelCard {
        kind,
        network: json!({"features": FEATURES}),
        classes: classes.clone(),
        outputs: (0..classes.groups().len()).map(|group| Output::of_group(classes, group)).collect(),
        input: ModelInput { grid, scaling: Scaling::default(), crop_foreground: true, patch, habits: Default::default() },
        origin: Origin { cases: "D_l4".into(), seed: 1, best_epoch: 1, validation_score: 0.5, ..Origin::default() },
        keep_parts: Default::default(),
    }
}

pub(crate) fn must_succeed(output: &process::Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn agreement(a: &LabelVolume, b: &LabelVolume) -> f64 {
    assert_eq!(a.grid(), b.grid());
    a.data.iter().zip(&b.data).filter(|(a, b)| a == b).count() as f64 / a.data.len() as f64
}

pub(crate) fn said(output: &process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn declared(classes: Value) -> Classes {
    serde_json::from_value(classes).unwrap()
}
