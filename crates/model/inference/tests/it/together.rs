//! Several files as one model.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use inference::{Manner, Model, VolumeNetwork};
use labels::Classes;
use model_card::{Kind, ModelCard, Output};
use nets::{Precision, Teacher, TeacherConfig};
use serde_json::json;
use volume::Scaling;

use crate::bench::{Bench, FEATURES, Said, card, declared, grid, three_groups};

fn organs() -> Classes {
    declared(&json!([{"group": "organ", "classes": {"liver": 1, "kidney": 200}}]))
}

fn cancer() -> Classes {
    declared(&json!([{"group": "cancer", "classes": {"tumor": 14}}]))
}

fn error(bench: &Bench, models: &[&std::path::PathBuf]) -> String {
    bench.open(models).err().unwrap().to_string()
}

#[test]
fn any_training_s_file_is_a_model() {
    let bench = Bench::new();
    let student = bench.open(&[&bench.student("s", 3, &three_groups(), Said::default())]).unwrap();
    assert!(student.streams() && student.outputs().len() == 3);
    let path = bench.teacher("t", 5, &organs(), Said::default());
    let teacher = bench.open(&[&path]).unwrap();
    assert_eq!((teacher.classes(), teacher.outputs()), (&organs(), &[Output::of_group(&organs(), 0)][..]));
    let shown = bench.shown();
    let expected = bench.volumetric(&path).segment(&shown).unwrap();
    let mut planes = expected[0].axis_iter(ndarray::Axis(2)).map(|plane| plane.t().iter().copied().collect::<Vec<_>>());
    let found = bench.overlaid(&teacher);
    assert!(found.iter().flatten().any(|&label| label > 0));
    assert!(found.into_iter().all(|plane| Some(plane) == planes.next()) && planes.next().is_none());
    let scan = bench.scan();
    assert_eq!(teacher.region(&scan).unwrap(), shown.region);
    assert!(teacher.held_bytes(&shown.region) > 0 && student.held_bytes(&shown.region) == 0);
}

#[test]
fn models_of_different_groups_complement_each_other_the_later_on_top() {
    let bench = Bench::new();
    let organ = bench.teacher("o", 5, &organs(), Said::default());
    let tumor = bench.teacher("c", 6, &cancer(), Said { scaling: Scaling::signed(), ..Said::default() });
    let alone = [&organ, &tumor].map(|path| bench.overlaid(&bench.open(&[path]).unwrap()));
    let over = |lower: usize| {
        let planes = alone[lower].iter().zip(&alone[1 - lower]);
        planes
            .map(|(lower, upper)| lower.iter().zip(upper).map(|(&lower, &upper)| if upper == 0 { lower } else { upper }).collect())
            .collect::<Vec<Vec<u8>>>()
    };
    let both = bench.open(&[&organ, &tumor]).unwrap();
    assert_eq!(bench.overlaid(&both), over(0));
    assert_eq!(both.classes().groups().iter().map(labels::Group::key).collect::<Vec<_>>(), ["organ", "cancer"]);
    assert_eq!(bench.overlaid(&bench.open(&[&tumor, &organ]).unwrap()), over(1));
    // A student and a teacher, where they see the same grid.
    let student = bench.student("s", 3, &cancer(), Said::default());
    let mixed = bench.open(&[&organ, &student]).unwrap();
    let maps = bench.maps(&mixed);
    assert_eq!((mixed.outputs()[1].group.as_str(), maps.maps.len()), ("cancer", 2));
    assert_eq!(maps.maps[1], bench.maps(&bench.open(&[&student]).unwrap()).maps[0]);
}

#[test]
fn the_mean_of_models_that_find_the_same_counts() {
    let bench = Bench::new();
    let organ = |seed: u64| bench.teacher(&format!("o{seed}"), seed, &organs(), Said::default());
    let (one, other) = (organ(5), organ(7));
    let labels = |models: &[&std::path::PathBuf]| bench.overlaid(&bench.open(models).unwrap()).concat();
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    // Where windows overlap, a mean of probabilities is not that of logits.
    let twice = labels(&[&one, &one]);
    assert!(same(&twice, &labels(&[&one])) > 0.9);
    let both = labels(&[&one, &other]);
    assert!(same(&both, &twice) < 1.0, "the other model has a say");
    assert_eq!(both, labels(&[&other, &one]), "and their order has none");
    let tumor = bench.teacher("c", 6, &cancer(), Said::default());
    assert_eq!(bench.open(&[&one, &tumor, &other]).unwrap().outputs().len(), 2);
    let flips = Manner { flips: true, ..Manner::default() };
    let flipped = Model::open(&[one], &flips, &Device::Cpu).unwrap();
    assert!(same(&bench.overlaid(&flipped).concat(), &twice) < 1.0);
}

#[test]
fn models_that_do_not_go_together_are_refused_with_both_values() {
    let bench = Bench::new();
    let organ = bench.teacher("o", 5, &organs(), Said::default());
    let liver = declared(&json!([{"group": "organ", "classes": {"liver": 1}}]));
    let fewer = bench.teacher("few", 5, &liver, Said::default());
    let said = error(&bench, &[&organ, &fewer]);
    assert!(said.contains("o.safetensors finds organ {liver: 1, kidney: 200}, and") && said.contains("finds organ {liver: 1};"), "{said}");
    let student = bench.student("s", 3, &three_groups(), Said::default());
    let said = error(&bench, &[&student, &organ]);
    assert!(said.contains("growth {stone: 15, cyst: 255}") && said.contains("o.safetensors finds organ"), "{said}");

    let mut coarser = grid();
    coarser.spacing_mm[1] = Some(4.0);
    for classes in [organs(), cancer()] {
        let apart = bench.teacher("g", 6, &classes, Said { grid: coarser, ..Said::default() });
        let said = error(&bench, &[&organ, &apart]);
        assert!(said.contains("grid.spacing_mm [2, 2, 5] and [2, 4, 5]"), "{said}");
        let whole = bench.teacher("w", 6, &classes, Said { crop_foreground: false, ..Said::default() });
        assert!(error(&bench, &[&organ, &whole]).contains("crop_foreground true and false"));
    }
    let flat = bench.student("f", 3, &organs(), Said::default());
    assert!(error(&bench, &[&organ, &flat]).contains("shown scans differently: volumes and slices"));
    // Another class of the same value.
    let clash = bench.teacher("v", 6, &declared(&json!([{"group": "vessel", "classes": {"aorta": 1}}])), Said::default());
    let said = error(&bench, &[&organ, &clash]);
    assert!(said.contains("cannot work together") && said.contains("v.safetensors"), "{said}");
    assert!(error(&bench, &[]).contains("no model"));
}

/// Stands in for a model of `train-partial`.
struct Partial(Teacher, nets::Params, Vec<Output>);

impl VolumeNetwork for Partial {
    fn outputs(&self) -> &[Output] {
        &self.2
    }

    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![self.0.forward(&self.1, patch)?.squeeze(0)?])
    }
}

fn network() -> Teacher {
    let config: TeacherConfig = serde_json::from_value(json!({"features": FEATURES})).unwrap();
    Teacher::new(&config, 3)
}

type Opened = std::result::Result<Box<dyn VolumeNetwork>, Box<dyn std::error::Error + Send + Sync>>;

fn open_partial(path: &Path, card: &ModelCard, _: Precision, device: &Device) -> Opened {
    use nets::Network as _;
    let params = nets::Params::init(&network().parameters(), random::Streams::new(0), device)?;
    params.load(path)?;
    Ok(Box::new(Partial(network(), params, vec![Output::of_group(&card.classes, 0)])))
}

#[test]
fn models_of_train_partial_need_who_knows_them() {
    let bench = Bench::new();
    let mut said = card(Kind::Partial, json!({}), &organs(), vec![16, 16, 16], Said::default());
    said.outputs.clear();
    let partial = bench.save("p", 5, &network(), Some(said));
    let refused = error(&bench, &[&partial]);
    assert!(refused.contains("p.safetensors is a model of `train-partial`") && refused.contains("pseudo-label"), "{refused}");
    let manner = Manner { partial: Some(open_partial), ..Manner::default() };
    let opened = Model::open(&[partial], &manner, &Device::Cpu).unwrap();
    let teacher = bench.teacher("t", 5, &organs(), Said::default());
    let exact = Manner { precision: Some(Precision::Exact), ..Manner::default() };
    let expected = Model::open(&[teacher], &exact, &Device::Cpu).unwrap();
    assert_eq!(bench.overlaid(&opened), bench.overlaid(&expected));
}

#[test]
fn other_precisions_label_nearly_alike() {
    let bench = Bench::new();
    let teacher = bench.teacher("t", 5, &organs(), Said::default());
    let labels = |precision| {
        let manner = Manner { precision: Some(precision), ..Manner::default() };
        bench.overlaid(&Model::open(std::slice::from_ref(&teacher), &manner, &Device::Cpu).unwrap()).concat()
    };
    let expected = labels(Precision::F32);
    for precision in [Precision::Bf16, Precision::Int8] {
        let found = labels(precision);
        let same = found.iter().zip(&expected).filter(|(found, expected)| found == expected).count();
        assert!(same * 10 > expected.len() * 9, "{precision}: {same} of {} voxels have the label of f32", expected.len());
    }
}

#[test]
fn weights_that_say_nothing_are_no_model() {
    let bench = Bench::new();
    let silent = bench.save("w", 5, &network(), None);
    let said = error(&bench, &[&silent]);
    assert!(said.contains("w.safetensors does not say what it is") && said.contains("`export`"), "{said}");
}
