//! Models of random weights and a patient of some texture, in a folder.

use std::path::{Path, PathBuf};

use candle_core::Device;
use inference::{LabelMaps, Manner, Model, ModelError, ShownScan, SlidingWindow, VolumeParams, Volumetric};
use labels::Classes;
use model_card::{Kind, ModelCard, ModelInput, Origin, Output};
use ndarray::{Array3, ShapeBuilder as _};
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params, Teacher, TeacherConfig};
use random::Streams;
use serde_json::{Value, json};
use volume::{Affine, ModelGrid, ScalarVolume, Scaling, Scan, nifti};

pub(crate) const FEATURES: [usize; 6] = [4, 4, 4, 8, 8, 4];
pub(crate) const SPACING_MM: [f64; 3] = [2.0, 2.0, 5.0];

/// Three groups, with values far beyond the number of classes.
pub(crate) fn three_groups() -> Classes {
    declared(&json!([
        {"group": "organ", "classes": {"liver": 1, "kidney": 200}},
        {"group": "cancer", "classes": {"tumor": 14}},
        {"group": "growth", "classes": {"cyst": 255, "stone": 15}},
    ]))
}

pub(crate) fn declared(classes: &Value) -> Classes {
    serde_json::from_value(classes.clone()).unwrap()
}

pub(crate) fn grid() -> ModelGrid {
    ModelGrid { spacing_mm: SPACING_MM.map(Some), window_hu: [-200.0, 300.0] }
}

pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// What is said of a model in its card.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub(crate) grid: ModelGrid,
    pub(crate) scaling: Scaling,
    pub(crate) crop_foreground: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self { grid: grid(), scaling: Scaling::default(), crop_foreground: true }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write_scan();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_scan(&self) {
        let shape = [52, 44, 9];
        let value = |(x, y, z): (usize, usize, usize)| {
            let from_axis = [(x, shape[0]), (y, shape[1])].map(|(i, n)| (i as f64 + 0.5) / n as f64 * 2.0 - 1.0);
            let texture = ((x / 5 + 2 * (y / 4) + 3 * z) % 7) as f32;
            if from_axis[0].hypot(from_axis[1]) < 0.8 { 40.0 + 30.0 * texture } else { -1000.0 }
        };
        let image = ScalarVolume { data: Array3::from_shape_fn(shape.f(), value), affine: Affine::from_spacing_mm(SPACING_MM, [0.0; 3]) };
        nifti::write_scalar_i16(self.path("a_0000.nii.gz"), &image).unwrap();
    }

    pub(crate) fn scan(&self) -> Scan {
        Scan::open(&self.path("a_0000.nii.gz"), &grid()).unwrap()
    }

    pub(crate) fn shown(&self) -> ShownScan {
        ShownScan::read(&self.scan(), true, self.folder.path()).unwrap()
    }

    /// A student, as a training writes it.
    pub(crate) fn student(&self, name: &str, seed: u64, classes: &Classes, said: Said) -> PathBuf {
        let card = card(Kind::Student, json!({"features": FEATURES}), classes, vec![32, 32], said);
        let decoders: Vec<_> = card.outputs.iter().map(Output::decoder).collect();
        self.save(name, seed, &DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), Some(card))
    }

    /// A teacher of one group, as a training writes it.
    pub(crate) fn teacher(&self, name: &str, seed: u64, classes: &Classes, said: Said) -> PathBuf {
        let network = json!({"features": FEATURES});
        let config: TeacherConfig = serde_json::from_value(network.clone()).unwrap();
        let card = card(Kind::Teacher, network, classes, vec![16, 16, 16], said);
        self.save(name, seed, &Teacher::new(&config, card.outputs[0].channels()), Some(card))
    }

    pub(crate) fn save(&self, name: &str, seed: u64, network: &impl Network, card: Option<ModelCard>) -> PathBuf {
        let path = self.path(&format!("{name}.safetensors"));
        let params = Params::init(&network.parameters(), Streams::new(seed), &Device::Cpu).unwrap();
        params.save(&path, &card.map(|card| card.to_metadata().unwrap()).unwrap_or_default()).unwrap();
        path
    }

    pub(crate) fn volumetric(&self, path: &Path) -> Volumetric {
        Volumetric::load(&VolumeParams::default(), path, &Device::Cpu).unwrap()
    }

    pub(crate) fn open(&self, models: &[&PathBuf]) -> Result<Model, ModelError> {
        Model::open(&models.iter().map(|path| (*path).clone()).collect::<Vec<_>>(), &Manner::default(), &Device::Cpu)
    }

    /// The labels of the patient.
    pub(crate) fn maps(&self, model: &Model) -> LabelMaps {
        let scan = self.scan();
        model.label_maps(&scan, &model.region(&scan).unwrap(), false, self.folder.path()).unwrap()
    }

    /// The same as one map, as planes give it.
    pub(crate) fn overlaid(&self, model: &Model) -> Vec<Vec<u8>> {
        let (scan, mut planes) = (self.scan(), Vec::new());
        let region = model.region(&scan).unwrap();
        model
            .label(&scan, &region, false, self.folder.path(), |plane| {
                planes.push(plane.labels.overlaid()?);
                Ok::<_, ModelError>(())
            })
            .unwrap();
        planes
    }
}

pub(crate) fn card(kind: Kind, network: Value, classes: &Classes, patch: Vec<usize>, said: Said) -> ModelCard {
    let Said { grid, scaling, crop_foreground } = said;
    ModelCard {
        kind,
        network,
        classes: classes.clone(),
        outputs: (0..classes.groups().len()).map(|group| Output::of_group(classes, group)).collect(),
        input: ModelInput { grid, scaling, crop_foreground, patch, habits: Default::default() },
        origin: Origin { cases: "D".into(), seed: 1, best_epoch: 1, validation_score: 0.5, ..Origin::default() },
        keep_parts: Default::default(),
    }
}

pub(crate) fn window() -> SlidingWindow {
    SlidingWindow { patch: [16, 16, 16], overlap: 0.5 }
}

/// The values that label maps show.
pub(crate) fn values<'a>(maps: impl IntoIterator<Item = &'a u8>) -> Vec<u8> {
    maps.into_iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
