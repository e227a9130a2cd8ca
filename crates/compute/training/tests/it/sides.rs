//! Samples that are rotated, zoomed and mirrored on their way from prepared cases: left and right, and the same bits each time.

use std::path::Path;

use labels::{Classes, LabelPattern, Regions};
use prepared::Layout;
use random::Streams;
use serde_json::json;
use training::{AugmentConfig, BatchError, BatchSource, HostBatch, Normalisation, Order, Sampler, Sampling, Target, Targets, Trust};

use crate::toy::{cases_of, targets, weighed_cases};

fn kidneys() -> Classes {
    serde_json::from_value(json!([{"group": "organ", "classes": {"right_kidney": 2, "liver": 5, "left_kidney": 13}}])).unwrap()
}

/// A case of one row along x.
const ROW: [u8; 8] = [0, 13, 13, 5, 5, 5, 0, 2];

fn row(folder: &Path, annotated: LabelPattern, values: &[u8], axes: &[&str]) -> Result<BatchSource, BatchError> {
    let classes = kidneys();
    let set = cases_of(folder, &classes, &Regions::plain(classes.pattern()), annotated, &ROW);
    let sampling = Sampling::Patches { per_case: 1, shape: [8, 1, 1] };
    let sampler = Sampler::new(sampling, Order::EachEpochAnew, vec![[8, 1, 1]], 1, None, Streams::new(1)).unwrap();
    let config: AugmentConfig = serde_json::from_value(json!({"mirror": {"probability": 1, "axes": axes}})).unwrap();
    let augment = config.for_boxes(sampling, Normalisation::Unit).unwrap();
    let outputs = vec![Target { group: "organ".into(), values: values.to_vec(), decoder: None }];
    BatchSource::new(set, sampler, Targets { outputs, trust: Trust::Unused }, Some(augment), Streams::new(1))
}

fn labels(source: &BatchSource) -> Vec<u8> {
    source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().labels[0].clone()
}

#[test]
fn in_a_mirror_image_the_left_kidney_is_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let every = kidneys().pattern();
    let (right, liver, left) = (1, 2, 3);
    let all = [2, 5, 13];
    assert_eq!(labels(&row(folder.path(), every, &all, &["y"]).unwrap()), [0, left, left, liver, liver, liver, 0, right]);
    assert_eq!(labels(&row(folder.path(), every, &all, &["x"]).unwrap()), [left, 0, liver, liver, liver, right, right, 0]);
    // A training for the right kidney alone learns from the left one's mirror image.
    assert_eq!(labels(&row(folder.path(), every, &[2], &["x", "z"]).unwrap()), [0, 0, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn who_knows_one_side_alone_is_not_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let right = LabelPattern::of(2).union(LabelPattern::of(5));
    let refused = |axes: &[&str]| row(folder.path(), right, &[2, 5], axes).map(|_| ()).map_err(|error| error.to_string());
    let error = refused(&["x"]).unwrap_err();
    assert!(error.contains("augment.mirror: case one: right_kidney is annotated, and left_kidney") && error.contains("`axes`"), "{error}");
    assert_eq!(refused(&["y", "z"]), Ok(()));
    // Nobody asks which side the liver is on.
    assert!(row(folder.path(), right, &[5], &["x"]).is_ok());
    let classes: Classes = serde_json::from_value(json!([{"group": "organ", "classes": {"adrenal_r": 2}}])).unwrap();
    let set = cases_of(folder.path(), &classes, &Regions::plain(classes.pattern()), classes.pattern(), &[0, 2]);
    let sampling = Sampling::Patches { per_case: 1, shape: [2, 1, 1] };
    let sampler = Sampler::new(sampling, Order::EachEpochAnew, vec![[2, 1, 1]], 1, None, Streams::new(1)).unwrap();
    let config: AugmentConfig = serde_json::from_value(json!({"preset": "nnunet"})).unwrap();
    let augment = config.for_boxes(sampling, Normalisation::Unit).unwrap();
    let error = BatchSource::partly_labelled(set, sampler, Some(augment), Streams::new(1)).unwrap_err().to_string();
    assert!(error.contains("`adrenal_r` would be `adrenal_l`") && error.contains("mirror: adrenal_r"), "{error}");
}

/// Batches of cases with trust, of which everything changes that can.
fn all_changes(folder: &Path, layout: Layout, sampling: Sampling) -> BatchSource {
    let set = weighed_cases(folder, layout, &[[24, 20, 9], [30, 22, 12]], true, &[100, 30]);
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(sampling, Order::EachEpochAnew, shapes, 2, None, Streams::new(5)).unwrap();
    let config = json!({"preset": "nnunet", "rotation": {"probability": 0.9}, "zoom": {"probability": 0.9}, "noise": {"probability": 0.5, "std": 0.1},
        "blur": {"probability": 0.5}, "low_resolution": {"probability": 0.5}, "contrast": {"probability": 0.5}, "gamma": {"probability": 0.5}});
    let augment = serde_json::from_value::<AugmentConfig>(config).unwrap().for_boxes(sampling, Normalisation::Unit).unwrap();
    BatchSource::new(set, sampler, targets(&[0, 1], Trust::Soft), Some(augment), Streams::new(5)).unwrap()
}

#[test]
fn changed_samples_follow_from_seed_and_place_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Sampling::Patches { per_case: 3, shape: [16, 16, 8] };
    for (layout, sampling) in [(Layout::Volume, patches), (Layout::Slices, Sampling::Slices { shape: [16, 16] })] {
        let folder = folder.path().join(format!("{layout:?}"));
        std::fs::create_dir(&folder).unwrap();
        let source = all_changes(&folder, layout, sampling);
        let batches = |threads: usize, steps: &[u64]| -> Vec<HostBatch> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let epoch = source.sampler().epoch(4);
            pool.install(|| steps.iter().map(|&step| source.assemble(&epoch, 4, step).unwrap()).collect())
        };
        let whole = batches(1, &[0, 1, 2]);
        assert_eq!(whole, batches(3, &[0, 1, 2]));
        assert_eq!(whole[2..], batches(2, &[2]), "a resumed training begins in the middle");
        for batch in &whole {
            assert!(batch.image.iter().all(|value| value.is_finite() && value.abs() < 3.0));
            assert!(batch.labels.iter().flatten().all(|label| *label <= 1));
            let allowed = |weight: f32| [0.0, 30.0, 100.0, 255.0].iter().any(|trust| (weight * 255.0 - trust).abs() < 1e-3);
            assert!(batch.weights[0].iter().flatten().all(|&weight| allowed(weight)), "trust is that of some voxel");
        }
        let found = whole.iter().flat_map(|batch| &batch.labels[0]).filter(|label| **label == 1).count();
        assert!(found > 100, "{found} voxels of the organ");
    }
}
