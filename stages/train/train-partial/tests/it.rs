//! Trainings on three small datasets whose label maps mean different things: kidneys that are labelled with their tumors, livers with
//! theirs, and arteries; classes of three groups, with values above 14.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use dataset::{Case, MANIFEST_FILE, Manifest, Split};
use labels::{Classes, LabelPattern, Regions};
use ndarray::Array3;
use nets::Precision;
use partial::TrainedModel;
use prepared::{CaseArrays, CaseInfo, CropBox, GridRecord, INDEX_FILE, Index, LabelSource, Layout, PreparedCase, case_path, write_case};
use serde_json::{Value, json};
use stage_kit::{DeviceChoice, Ranks, Stage, StageIo, write_atomic, write_atomic_text};
use train_partial::{Config, TrainPartial};

const SIDE: usize = 16;

fn classes() -> Classes {
    let groups = json!([
        {"group": "organ", "classes": {"kidney": 200, "liver": 17}},
        {"group": "lesion", "classes": {"tumor": 40}},
        {"group": "vessel", "classes": {"artery": 90}},
    ]);
    serde_json::from_value(groups).unwrap()
}

fn regions(dataset: &str) -> Regions {
    let values: &[(&str, &[u8])] = match dataset {
        "kits" => &[("kidney", &[1, 2]), ("tumor", &[2])],
        "lits" => &[("liver", &[1, 2]), ("tumor", &[2])],
        _ => &[("artery", &[7])],
    };
    let values = values.iter().map(|&(key, values)| (key.to_owned(), values.to_vec())).collect();
    Regions::declared(&classes(), &values, &[]).unwrap()
}

/// A block with a core, in the values of the dataset.
fn labels(dataset: &str) -> Array3<u8> {
    let inside = |at: [usize; 3], margin: usize| at.iter().all(|i| (margin..SIDE - margin).contains(i));
    Array3::from_shape_fn((SIDE, SIDE, SIDE), |(x, y, z)| match (inside([x, y, z], 3), inside([x, y, z], 6)) {
        (false, _) => 0,
        (_, core) if dataset == "vessels" => 7 * u8::from(core),
        (_, core) => 1 + u8::from(core),
    })
}

/// The labels of a dataset, and all other classes with them, as if a model had found them in a slab across the block: each group in
/// one map.
fn completed(dataset: &str) -> (Array3<u8>, Regions) {
    let (product, factors) = Regions::product(&classes()).unwrap();
    let truth = regions(dataset);
    let labels = labels(dataset).map(|&label| truth.shown_by(label));
    let complete = Array3::from_shape_fn(labels.dim(), |at| {
        let place = |(group, factor): (usize, &u8)| {
            let values = classes().groups()[group].values();
            let shown = values.iter().position(|&value| labels[at].contains(value)).map_or(0, |place| place + 1);
            let found = if at.0 < SIDE / 2 { values.len() } else { 0 };
            if shown > 0 { shown as u8 * factor } else { found as u8 * factor }
        };
        factors.iter().enumerate().map(place).sum()
    });
    (complete, product)
}

struct Study {
    folder: tempfile::TempDir,
    /// Whether models have labelled what annotators did not look for.
    completed: bool,
}

impl Study {
    /// Two cases of each dataset for training and one for validation; a further one of `vessels` has no labels.
    fn new(completed: bool) -> Self {
        let study = Self { folder: tempfile::tempdir().unwrap(), completed };
        let mut manifest = Manifest { classes: classes(), regions: BTreeMap::new(), subsets: BTreeMap::new(), cases: Vec::new() };
        let mut index = Index {
            layout: Layout::Volume,
            spacing_mm: [Some(1.0); 3],
            window_hu: [-200.0, 300.0],
            crop_foreground: false,
            classes: classes(),
            regions: Vec::new(),
            cases: Vec::new(),
        };
        for dataset in ["kits", "lits", "vessels"] {
            manifest.regions.insert(dataset.into(), regions(dataset));
            manifest.subsets.insert(dataset.into(), vec![dataset.into()]);
            for number in 0..3 {
                let split = if number == 2 { Split::Validation } else { Split::Training };
                study.add(&mut manifest, &mut index, dataset, &format!("{dataset}_{number}"), split, true);
            }
        }
        study.add(&mut manifest, &mut index, "vessels", "vessels_unlabelled", Split::Training, false);
        manifest.subsets.insert("D".into(), manifest.subsets.keys().cloned().collect());
        write_atomic_text(&study.path("partition").join(MANIFEST_FILE), &serde_json::to_string(&manifest).unwrap()).unwrap();
        write_atomic_text(&study.path("prepared").join(INDEX_FILE), &serde_json::to_string(&index).unwrap()).unwrap();
        study
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn add(&self, manifest: &mut Manifest, index: &mut Index, dataset: &str, id: &str, split: Split, labelled: bool) {
        let annotated = if labelled { regions(dataset).classes() } else { LabelPattern::EMPTY };
        let image = labels(dataset).mapv(|label| f32::from(label) / 8.0);
        let (labels, regions) = if self.completed { completed(dataset) } else { (labels(dataset), regions(dataset)) };
        let grid = GridRecord { shape: [SIDE; 3], affine: [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.], [0., 0., 0., 1.]] };
        let info = CaseInfo {
            id: id.into(),
            dataset: dataset.into(),
            layout: Layout::Volume,
            subset: dataset.into(),
            spacing_mm: [1.0; 3],
            grid,
            original_grid: grid,
            crop: CropBox { start: [0; 3], shape: [SIDE; 3] },
            window_hu: [-200.0, 300.0],
            annotated: if self.completed { classes().pattern() } else { annotated },
            regions,
            source: labelled.then_some(LabelSource::True),
            trust: None,
        };
        let path = case_path(&self.path("prepared"), id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let arrays = CaseArrays::new(image.view(), labelled.then(|| labels.view()));
        write_atomic(&path, |file| Ok(write_case(file, &arrays, &info)?)).unwrap();
        index.add(&PreparedCase::open(&path).unwrap(), split);
        manifest.cases.push(Case {
            id: id.into(),
            dataset: dataset.into(),
            image: format!("{id}_0000.nii.gz").into(),
            label: labelled.then(|| format!("{id}.nii.gz").into()),
            pattern: annotated,
            subset: dataset.into(),
            annotated,
            split,
            shape: [SIDE; 3],
            spacing_mm: [1.0; 3],
            cuts: Vec::new(),
        });
    }

    fn io(&self, name: &str) -> StageIo {
        let inputs = ["prepared", "partition"].map(|role| (role, self.path(role)));
        StageIo { device: DeviceChoice::Cpu, ..StageIo::new(name, inputs, self.path(name), self.path(&format!("{name}_work")), 1) }
    }

    /// The trained model, or why there is none.
    fn train(&self, name: &str, config: Value) -> Result<TrainedModel, String> {
        let config: Config = serde_json::from_value(config).unwrap();
        let trained = TrainPartial::check(&config).and_then(|()| TrainPartial::run(&config, &self.io(name)));
        trained.map_err(|error| format!("{error:#}"))?;
        Ok(TrainedModel::load(&weights(&self.path(name)), Precision::F32, &Device::Cpu).unwrap())
    }
}

fn weights(folder: &Path) -> std::path::PathBuf {
    folder.join("weights.safetensors")
}

fn network() -> Value {
    json!({"u_net": {"features": [4, 6], "strides": [[2, 2, 2]]}})
}

/// A training of a step or two of a method, with further parameters in place of others.
fn config(method: &Value, model: &Value, more: &Value) -> Value {
    let mut config = json!({
        "model": {"method": method},
        "patch": [8, 8, 8],
        "patches_per_case": 1,
        "foreground": {"probability": 0.8, "margin": 1},
        "augment": {"noise": {"probability": 0, "std": 0}, "scale": {"probability": 0, "range": 0}, "shift": {"probability": 0, "range": 0}},
        "fit": {"batch_size": 3, "epochs": 1, "learning_rate": 1e-2, "schedule": {"polynomial": {"power": 0.9}}, "weight_decay": 0,
            "select": "lowest_loss"},
    });
    for (field, value) in model.as_object().unwrap() {
        config["model"][field] = value.clone();
    }
    for (field, value) in more.as_object().unwrap() {
        match (config.get_mut(field), value.as_object()) {
            (Some(Value::Object(old)), Some(new)) => old.extend(new.clone()),
            _ => config[field] = value.clone(),
        }
    }
    config
}

fn methods() -> Vec<(&'static str, Value)> {
    let head = json!({"depth": 3, "width": 4});
    let residual = json!({"features": [4, 4, 4, 8], "blocks": [1, 1, 1, 1, 1], "groups": 2});
    vec![
        ("dodnet", json!({"dodnet": {"network": residual, "head": head}})),
        ("multitalent", json!({"multitalent": {"network": network(), "deep_supervision": false}})),
        ("multi_head", json!({"multi_head": {"network": network()}})),
        ("conditional", json!({"conditional": {"network": network()}})),
        ("conditional_decoder", json!({"conditional": {"network": network(), "told": "decoder"}})),
        ("target_adaptive", json!({"target_adaptive": {"network": network()}})),
        ("per_dataset", json!({"per_dataset": {"network": network()}})),
        ("mutual_partial", json!({"mutual_partial": {"network": network(), "difference": {"prediction": 0.1, "features": 0.1}}})),
    ]
}

/// Trains by so many ranks, which are threads here; returns the bytes of the model and of the curve.
fn train_together(study: &Study, name: &str, config: &Config, size: usize) -> [Vec<u8>; 2] {
    // The model says who trained it.
    let io = StageIo { node: "together".into(), ..study.io(name) };
    std::thread::scope(|scope| {
        let ranks = |ranks: Ranks| StageIo { ranks, ..io.clone() };
        let ranks: Vec<StageIo> = Ranks::in_threads(size).into_iter().map(ranks).collect();
        let threads: Vec<_> =
            ranks.into_iter().map(|io| scope.spawn(move || TrainPartial::run(config, &io).map_err(|e| format!("{e:#}")))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    ["weights.safetensors", "curve.csv"].map(|file| std::fs::read(io.output.join(file)).unwrap())
}

/// Among the methods are one whose loss takes sums over the whole batch, ones with heads that a part of a batch does not reach, and one
/// whose networks learn from each other.
#[test]
fn any_number_of_processes_trains_every_method_to_the_bytes_of_one() {
    let study = Study::new(false);
    for (name, method) in methods() {
        let patch = if name == "dodnet" { [16, 16, 16] } else { [8, 8, 8] };
        // Six samples in batches of five and one, in parts of two: 3 parts, then 1.
        let config = config(&method, &json!({}), &json!({"patch": patch, "fit": {"batch_size": 5, "micro_batch": 2, "epochs": 2}}));
        let config: Config = serde_json::from_value(config).unwrap();
        let alone = train_together(&study, &format!("{name}_1"), &config, 1);
        for size in [2, 3] {
            assert!(train_together(&study, &format!("{name}_{size}"), &config, size) == alone, "{name}, {size} processes");
        }
    }
}

#[test]
fn every_method_trains_on_the_datasets_that_the_manifest_has_and_comes_back_from_its_file() {
    let study = Study::new(false);
    for (name, method) in methods() {
        let patch = if name == "dodnet" { [16, 16, 16] } else { [8, 8, 8] };
        let trained = study.train(name, config(&method, &json!({}), &json!({"patch": patch}))).unwrap();
        let found: Vec<(&str, &[u8])> = trained.outputs().iter().map(|output| (output.group.as_str(), &output.values[..])).collect();
        assert_eq!(found, [("organ", &[17, 200][..]), ("lesion", &[40]), ("vessel", &[90])], "{name}");
        assert!(trained.card.classes == classes() && trained.card.outputs.is_empty());
        let annotated: Vec<(&str, &[String])> =
            trained.config.datasets.iter().map(|dataset| (dataset.name.as_str(), dataset.classes.as_deref().unwrap())).collect();
        let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        let (kits, lits, vessels) = (keys(&["kidney", "tumor"]), keys(&["liver", "tumor"]), keys(&["artery"]));
        assert_eq!(annotated, [("kits", &kits[..]), ("lits", &lits), ("vessels", &vessels)]);
        let curve = std::fs::read_to_string(study.path(name).join("curve.csv")).unwrap();
        assert!(curve.contains("_artery") && curve.contains("_tumor"), "{curve}");
    }
}

#[test]
fn intensities_may_be_shown_otherwise() {
    let study = Study::new(false);
    let (_, method) = &methods()[2];
    let plain = study.train("plain", config(method, &json!({}), &json!({}))).unwrap();
    let signed = study.train("signed", config(method, &json!({}), &json!({"normalisation": "signed"}))).unwrap();
    assert!(plain.card.input.scaling.is_plain() && signed.card.input.scaling == volume::Scaling::signed());
}

#[test]
fn classes_beyond_the_tasks_are_no_classes_of_the_model() {
    let study = Study::new(false);
    let model = json!({"tasks": [{"name": "organs", "classes": ["organ"]}, {"name": "vessels", "classes": ["artery"]}]});
    let (_, method) = &methods()[2];
    let trained = study.train("organs", config(method, &model, &json!({}))).unwrap();
    assert_eq!(trained.card.classes.keys_of(trained.card.classes.pattern()), ["liver", "artery", "kidney"], "by value");
    assert_eq!(trained.outputs().len(), 2);
}

#[test]
fn what_contradicts_the_data_is_told() {
    let study = Study::new(false);
    let (_, method) = &methods()[2];
    let fails = |model: Value, more: Value, parts: &[&str]| {
        let error = study.train("failed", config(method, &model, &more)).err().unwrap();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}: {parts:?}");
    };
    let dataset = |subset: &str, classes: &[&str]| json!({"datasets": [{"name": "a", "subset": subset, "classes": classes}]});
    fails(dataset("kits", &["spleen"]), json!({}), &["dataset `a`, classes: there is no class `spleen`", "liver, tumor, artery, kidney"]);
    fails(dataset("brats", &["tumor"]), json!({}), &["model.datasets, subset: there is no subset brats", "kits"]);
    fails(
        dataset("kits", &["artery"]),
        json!({}),
        &["case kits_0: the dataset `a` declares that artery is annotated", "has tumor, kidney alone"],
    );
    fails(
        json!({}),
        json!({"sampling": {"shares": {"kits": 1}}}),
        &["sampling.shares has shares of kits; the datasets are kits, lits, vessels"],
    );
    fails(json!({}), json!({"trust": "soft"}), &["trust: `soft` has no meaning here", "take `hard`"]);
    fails(json!({}), json!({"trust": "hard"}), &["trust: nobody has weighed the labels of these cases"]);
    let both = json!({"datasets": [{"name": "a", "subset": "kits"}, {"name": "b", "subset": "D"}]});
    fails(both, json!({}), &["cases of kits belong to the datasets `a` and `b`"]);
}

#[test]
fn parts_of_a_batch_change_rounding_and_nothing_else() {
    let study = Study::new(false);
    let sgd = |size: Value| json!({"fit": {"micro_batch": size, "optimizer": {"sgd": {"momentum": 0.9, "nesterov": true}}}});
    let tasks = json!({"tasks": [{"name": "all", "classes": ["organ", "tumor", "artery"]}]});
    for (name, method, model) in [("multitalent", &methods()[1].1, json!({})), ("multi_head", &methods()[2].1, tasks)] {
        let train = |name: &str, size: Value| study.train(name, config(method, &model, &sgd(size))).unwrap();
        let (whole, parts) = (train(&format!("{name}_whole"), Value::Null), train(&format!("{name}_parts"), json!(1)));
        for (parameter, value) in whole.weights.params().all() {
            let (a, b) = (value.as_tensor(), parts.weights.params().get(parameter).unwrap());
            let greatest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            // Two steps at a rate of 1e-2, whose gradients agree to 1e-5.
            assert!(greatest(&(a - &b).unwrap()) < 1e-5 * (1.0 + greatest(a)), "{name}: {parameter}");
        }
        let losses = [&whole, &parts].map(|trained| trained.card.origin.validation_score);
        assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[0].abs().max(1.0), "{name}: {losses:?}");
    }
}

#[test]
fn full_networks_need_what_models_have_completed() {
    let method = json!({"mutual_full": {"network": network(), "similarity": {"prediction": 1, "features": 0.1}}});
    let config = || config(&method, &json!({}), &json!({"fit": {"micro_batch": 1}}));
    let error = Study::new(false).train("full", config()).err().unwrap();
    let told =
        ["case kits_0: the second stage of mutual learning needs every class labelled, and liver, artery is not", "labels of a first"];
    assert!(told.iter().all(|part| error.contains(part)), "{error}");
    let trained = Study::new(true).train("full", config()).unwrap();
    assert_eq!(trained.model.heads().iter().map(|head| head.classes.len()).collect::<Vec<_>>(), [4; 3], "all classes for each dataset");
    let annotated = trained.config.datasets.iter().map(|dataset| dataset.classes.as_ref().unwrap().len());
    assert_eq!(annotated.collect::<Vec<_>>(), [2, 2, 1], "and of each the true ones are known");
}
