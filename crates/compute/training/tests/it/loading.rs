//! Batches from prepared cases.

use std::sync::Arc;

use candle_core::Device;
use labels::{Classes, Regions};
use prepared::{Layout, case_path};
use random::Streams;
use training::{BatchSource, Cut, HostBatch, Loader, Order, Position, Sampler, Sampling, Target, Targets, Trust};

use crate::toy::{cases_of, prepared_cases, slices, source};

/// All parts of all batches, for one rank.
fn all() -> Cut {
    Cut::new(None, &stage_kit::Ranks::Alone)
}

fn drain(mut loader: Loader) -> Vec<HostBatch> {
    std::iter::from_fn(|| loader.next_batch().unwrap()).map(|drawn| drawn.own).collect()
}

#[test]
fn the_loader_hands_out_in_order_what_direct_assembly_gives() {
    let folder = tempfile::tempdir().unwrap();
    let source = Arc::new(slices(folder.path(), Order::EachEpochAnew, 4));
    let direct: Vec<HostBatch> = (0..3)
        .flat_map(|epoch| (0..3).map(move |step| (epoch, step)))
        .map(|(epoch, step)| source.assemble(&source.sampler().epoch(epoch), epoch, step).unwrap())
        .collect();
    assert_eq!(drain(Loader::start(source.clone(), all(), Position { epoch: 0, step: 0 }, 3).unwrap()), direct);
    // A loader that starts in the middle gives the rest, noise included.
    assert_eq!(drain(Loader::start(source.clone(), all(), Position { epoch: 1, step: 2 }, 3).unwrap()), direct[5..]);
    // An epoch of which only the validation is missing has no more batches.
    assert_eq!(drain(Loader::start(source, all(), Position { epoch: 0, step: 3 }, 2).unwrap()), direct[3..6]);
}

#[test]
fn a_loader_may_be_dropped_with_batches_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let source = Arc::new(slices(folder.path(), Order::EachEpochAnew, 1));
    let mut loader = Loader::start(source.clone(), all(), Position { epoch: 0, step: 0 }, 1000).unwrap();
    loader.next_batch().unwrap();
    drop(loader);
    let begun = std::time::Instant::now();
    while Arc::strong_count(&source) > 1 {
        assert!(begun.elapsed().as_secs() < 20, "the thread goes on without anybody listening");
        std::thread::yield_now();
    }
}

#[test]
fn slices_and_their_labels_lie_on_each_other_as_x_by_y_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(folder.path(), Order::AlwaysTheSame, 9);
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap();
    assert_eq!(batch.image.dims(), [9, 1, 12, 12]);
    assert_eq!(batch.labels[0].dims(), [9, 12, 12]);
    for (at, sample) in batch.samples.iter().enumerate().filter(|(_, sample)| sample.case == 0) {
        // Case 0 is 12 by 14: nothing to choose along x, 0 to 2 along y, and its block begins at x = 2, y = 3.
        let y = 3 - sample.start[2] as usize;
        let value =
            |i: usize, j: usize| batch.image.get(at).unwrap().get(0).unwrap().get(i).unwrap().get(j).unwrap().to_scalar::<f32>().unwrap();
        let organ = |i: usize, j: usize| batch.labels[0].get(at).unwrap().get(i).unwrap().get(j).unwrap().to_scalar::<u8>().unwrap();
        assert!((value(2, y) - 0.6).abs() < 1e-4 && value(1, y) < 0.3 && value(2, y - 1) < 0.3);
        assert_eq!((organ(2, y), organ(1, y), organ(2, y - 1)), (1, 0, 0));
    }
    assert!(batch.labels[1].flatten_all().unwrap().to_vec1::<u8>().unwrap().contains(&1));
}

#[test]
fn a_value_that_shows_two_classes_is_a_label_of_both_targets() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(folder.path(), Order::AlwaysTheSame, 9);
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap();
    for (at, intensity) in batch.image.iter().enumerate() {
        let shown = [batch.labels[0][at], batch.labels[1][at]];
        let expected = if *intensity > 0.85 { [1, 1] } else { [u8::from(*intensity > 0.55), 0] };
        assert_eq!(shown, expected, "{intensity}");
    }
}

/// Three groups, whose classes have values above those of the 14 of FLARE23, and a dataset of other values again.
#[test]
fn each_target_numbers_its_own_classes_whatever_the_values_of_the_dataset() {
    let classes: Classes = serde_json::from_str(
        r#"[{"group": "organ", "classes": {"liver": 100, "kidney": 20, "spleen": 3}}, {"group": "vessel", "classes": {"aorta": 50}},
            {"group": "lesion", "classes": {"cyst": 255, "tumor": 60}}]"#,
    )
    .unwrap();
    let declared =
        [("liver", vec![5, 9]), ("kidney", vec![200, 201, 202]), ("aorta", vec![77]), ("tumor", vec![9, 201]), ("cyst", vec![202])];
    let regions = Regions::declared(&classes, &declared.map(|(key, values)| (key.to_owned(), values)).into(), &[6]).unwrap();
    let values = [0, 5, 6, 9, 77, 200, 201, 202];
    let folder = tempfile::tempdir().unwrap();
    // Everything that the dataset declares is annotated; the spleen is not.
    let set = cases_of(folder.path(), &classes, &regions, regions.classes(), &values);
    let whole = Sampling::Patches { per_case: 1, shape: [8, 1, 1] };
    let sampler = || Sampler::new(whole, Order::AlwaysTheSame, vec![[8, 1, 1]], 1, None, Streams::new(1)).unwrap();
    let labels = |source: BatchSource| source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().labels;

    let target = |group: &str, values: &[u8]| Target { group: group.into(), values: values.to_vec(), decoder: None };
    let outputs = vec![target("lesion", &[60, 255]), target("organ", &[100, 20]), target("organ", &[20])];
    let targets = Targets { outputs, trust: Trust::Unused };
    let found = labels(BatchSource::new(set.clone(), sampler(), targets, None, Streams::new(1)).unwrap());
    assert_eq!(found, [[0, 0, 0, 1, 0, 0, 1, 2], [0, 1, 0, 1, 0, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1, 1]]);

    let all_organs = Targets { outputs: vec![Target::of_group(&classes, 0)], trust: Trust::Unused };
    let error = BatchSource::new(set.clone(), sampler(), all_organs, None, Streams::new(1)).unwrap_err().to_string();
    assert!(error.contains("case one has no labels of spleen, and the training learns the group `organ`"), "{error}");
    let both = Targets { outputs: vec![target("mixed", &[100, 60])], trust: Trust::Unused };
    let error = BatchSource::new(set.clone(), sampler(), both, None, Streams::new(1)).unwrap_err().to_string();
    assert!(error.contains("case one: the value 9 is one of `liver` and of `tumor`"), "{error}");

    // By group, in order of the values; the spleen counts as background.
    let found = labels(BatchSource::partly_labelled(set, sampler(), None, Streams::new(1)).unwrap());
    assert_eq!(found, [[0, 3, 0, 3, 0, 2, 2, 2], [0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 2]]);
}

#[test]
fn the_labels_of_teachers_are_taken_apart_into_their_groups() {
    let classes = labels::flare23::classes();
    let (regions, factors) = Regions::product(&classes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Nothing, the liver, a tumor in the liver, a tumor in no organ, the left kidney.
    let values = [[0, 0], [1, 0], [1, 1], [0, 1], [13, 0]].map(|[organ, tumor]| organ * factors[0] + tumor * factors[1]);
    let set = cases_of(folder.path(), &classes, &regions, classes.pattern(), &values);
    let whole = Sampling::Patches { per_case: 1, shape: [5, 1, 1] };
    let sampler = Sampler::new(whole, Order::AlwaysTheSame, vec![[5, 1, 1]], 1, None, Streams::new(1)).unwrap();
    let source = BatchSource::partly_labelled(set, sampler, None, Streams::new(1)).unwrap();
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap();
    assert_eq!(batch.labels, [[0, 1, 1, 0, 13], [0, 0, 1, 1, 0]]);
}

#[test]
fn patches_of_a_case_smaller_than_the_patch_are_padded_with_zeros_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = prepared_cases(folder.path(), Layout::Volume, &[[12, 12, 4]], true);
    let source = source(set, Sampling::Patches { per_case: 2, shape: [8, 16, 8] }, Order::AlwaysTheSame, 4).unwrap();
    let batch = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap();
    assert_eq!((batch.samples.len(), batch.spatial.as_slice()), (2, &[8, 16, 8][..]));
    for (index, organ) in batch.labels[0].iter().enumerate() {
        let (y, z) = (index / 8 % 16, index % 8);
        if !(2..14).contains(&y) || !(2..6).contains(&z) {
            assert_eq!((*organ, batch.image[index]), (0, 0.0), "y {y}, z {z}");
        }
    }
    assert!(batch.image.iter().any(|&v| v > 0.5));
}

#[test]
fn augmentation_changes_images_and_leaves_labels() {
    let folder = tempfile::tempdir().unwrap();
    let plain = slices(folder.path(), Order::AlwaysTheSame, 9);
    let set = plain.set().clone();
    let augmented =
        BatchSource::new(set, plain.sampler().clone(), plain.targets().clone(), Some(crate::toy::paper_augmentation()), Streams::new(5))
            .unwrap();
    let get = |source: &BatchSource| source.assemble(&source.sampler().epoch(0), 0, 0).unwrap();
    let (plain, augmented) = (get(&plain), get(&augmented));
    assert_eq!((&plain.labels, &plain.samples), (&augmented.labels, &augmented.samples));
    let changed = plain.image.chunks(144).zip(augmented.image.chunks(144)).filter(|(a, b)| a != b).count();
    assert!((4..=9).contains(&changed), "three chances of one half each change most of 9 samples, found {changed}");
}

#[test]
fn a_damaged_case_is_named_with_its_file_and_ends_the_batches() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(folder.path(), Order::EachEpochAnew, 4);
    let path = case_path(folder.path(), "case1");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut loader = Loader::start(Arc::new(source), all(), Position { epoch: 0, step: 0 }, 1).unwrap();
    let error = loop {
        match loader.next_batch() {
            Ok(batch) => assert!(batch.is_some(), "the damage went unnoticed"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("case case1") && error.contains("case1.zarr.zip"), "{error}");
    assert!(loader.next_batch().unwrap().is_none());
}

#[test]
fn cases_without_the_labels_or_in_the_other_layout_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let set = prepared_cases(folder.path(), Layout::Volume, &[[12, 12, 4]], false);
    let error = source(set.clone(), Sampling::Slices { shape: [8, 8] }, Order::EachEpochAnew, 1).unwrap_err().to_string();
    assert!(error.contains("layout Volume"), "{error}");
    let error = source(set, Sampling::Patches { per_case: 1, shape: [8, 8, 8] }, Order::EachEpochAnew, 1).unwrap_err().to_string();
    assert!(error.contains("case case0 has no labels of core, and the training learns the group `cancer`"), "{error}");
}
