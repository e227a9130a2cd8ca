//! What trust in labels does to batches, to the choice of cases and to a training.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use dataset::{Case, MANIFEST_FILE, Manifest, Split};
use ops::DiceCe;
use prepared::Layout;
use random::Streams;
use stage_kit::StageIo;
use training::{Batch, BatchSource, FitConfig, Order, Sampler, Sampling, Sources, Targets, Trust};

use crate::toy::{classes, paper_augmentation, targets, weighed_cases};

const SHAPES: [[usize; 3]; 3] = [[12, 14, 4], [16, 12, 3], [10, 12, 2]];
const SLICES: Sampling = Sampling::Slices { shape: [12, 12] };

/// All nine slices of the three cases, of which the first two have been weighed.
fn batch(folder: &Path, trust: Trust) -> Batch {
    let set = weighed_cases(folder, Layout::Slices, &SHAPES, true, &[51, 0]);
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(SLICES, Order::AlwaysTheSame, shapes, 9, None, Streams::new(5)).unwrap();
    let source = BatchSource::new(set, sampler, targets(&[0, 1], trust), None, Streams::new(5)).unwrap();
    source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap()
}

#[test]
fn labels_count_as_far_as_they_are_trusted_or_fully_or_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = batch(folder.path(), Trust::Unused);
    assert!(plain.weights.iter().all(Option::is_none));
    for (trust, doubtful) in [(Trust::Hard, 1.0), (Trust::Soft, 0.2)] {
        let batch = batch(folder.path(), trust);
        assert_eq!(batch.samples, plain.samples, "the same cases give the same samples");
        let organs = batch.weights[0].as_ref().unwrap().to_vec3::<f32>().unwrap();
        let cancer = batch.weights[1].as_ref().unwrap().to_vec3::<f32>().unwrap();
        for (at, sample) in batch.samples.iter().enumerate() {
            for x in 0..12 {
                let voxel = sample.start[1] + x as isize;
                let inside = (0..SHAPES[sample.case][0] as isize).contains(&voxel);
                // Air around a case is trusted, and what nobody has weighed.
                let (organ, tumor) = match (sample.case, inside) {
                    (2, _) | (_, false) => (1.0, 1.0),
                    (0, true) if voxel % 2 == 0 => (doubtful, 0.0),
                    (0, true) => (1.0, 0.0),
                    _ => (0.0, 0.0),
                };
                assert_eq!((organs[at][x][5], cancer[at][x][5]), (organ, tumor), "case {}, x {voxel}, {trust:?}", sample.case);
            }
        }
        let part = &batch.micro_batches(4).unwrap()[1];
        assert_eq!(part.truth(0).unwrap().weights.unwrap().to_vec3::<f32>().unwrap(), organs[4..8]);
    }
}

#[test]
fn a_sample_without_trust_leaves_a_loss_by_sample_unchanged_but_for_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), Trust::Hard);
    let logits = batch.image.repeat((1, 2, 1, 1)).unwrap();
    let truth = batch.truth(0).unwrap();
    let loss = DiceCe { squared: true, batch: false };
    let of = |at: usize| {
        let part = batch.micro_batches(1).unwrap()[at].truth(0).unwrap();
        f64::from(loss.loss(&logits.narrow(0, at, 1).unwrap(), part.target()).unwrap().to_scalar::<f32>().unwrap())
    };
    let whole = f64::from(loss.loss(&logits, truth.target()).unwrap().to_scalar::<f32>().unwrap());
    assert!((whole - (0..9).map(of).sum::<f64>() / 9.0).abs() < 1e-6, "a batch may be taken in parts");
}

/// The inputs of a training on cases of D_l1, of which those on `validation` are on the other side of the split.
pub(crate) fn io(folder: &Path, trust: &[u8], validation: &[usize]) -> StageIo {
    weighed_cases(&folder.join("prepared"), Layout::Slices, &SHAPES, true, trust);
    let case = |number: usize| Case {
        id: format!("case{number}"),
        image: "image.nii.gz".into(),
        label: None,
        dataset: "toy".into(),
        pattern: classes().pattern(),
        annotated: classes().pattern(),
        subset: "D_l1".into(),
        split: if validation.contains(&number) { Split::Validation } else { Split::Training },
        shape: [1; 3],
        spacing_mm: [1.0; 3],
        cuts: Vec::new(),
    };
    let subsets = BTreeMap::from([("D_l1".to_owned(), vec!["D_l1".to_owned()])]);
    let manifest = Manifest { classes: classes(), regions: BTreeMap::new(), subsets, cases: (0..3).map(case).collect() };
    let manifest = serde_json::to_string(&manifest).unwrap();
    stage_kit::write_atomic_text(&folder.join("partition").join(MANIFEST_FILE), &manifest).unwrap();
    StageIo::new("student", ["prepared", "partition"].map(|role| (role, folder.join(role))), folder.join("output"), folder.join("work"), 1)
}

fn open(io: &StageIo, targets: Targets) -> anyhow::Result<[Vec<String>; 2]> {
    let fit: FitConfig = serde_json::from_str(
        r#"{"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "schedule": {"polynomial": {"power": 0.9}}, "weight_decay": 0, "select": "lowest_loss"}"#,
    )?;
    let sources = Sources::open(io, "D_l1", SLICES, targets, paper_augmentation(), &fit, None)?;
    let ids = |source: &BatchSource| source.set().cases().iter().map(|case| case.id.clone()).collect();
    Ok([ids(&sources.training), ids(&sources.validation)])
}

#[test]
fn a_case_of_which_no_label_is_trusted_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let cases = |numbers: &[usize]| numbers.iter().map(|number| format!("case{number}")).collect::<Vec<_>>();
    let two_weighed = io(folder.path(), &[51, 0], &[2]);
    assert_eq!(open(&two_weighed, targets(&[0, 1], Trust::Unused)).unwrap(), [cases(&[0, 1]), cases(&[2])]);
    assert_eq!(open(&two_weighed, targets(&[0, 1], Trust::Soft)).unwrap(), [cases(&[0]), cases(&[2])]);
    let error = open(&two_weighed, targets(&[1], Trust::Hard)).unwrap_err().to_string();
    assert!(error.contains("no training case of D_l1") && error.contains("lower the bounds of `trust`"), "{error}");
    let in_doubt = io(folder.path(), &[51, 51, 0], &[2]);
    assert_eq!(open(&in_doubt, targets(&[0], Trust::Hard)).unwrap(), [cases(&[0, 1]), cases(&[0, 1])], "no case to validate on");
}

#[test]
fn trust_that_nobody_has_put_into_labels_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&io(folder.path(), &[], &[2]), targets(&[0, 1], Trust::Soft)).unwrap_err().to_string();
    assert!(error.contains("nobody has weighed the labels of D_l1") && error.contains("`pseudo-label`"), "{error}");
}
