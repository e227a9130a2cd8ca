//! How intensities are shown to a network, and what its card says of it.

use model_card::{Kind, Measure, ModelCard};
use prepared::Layout;
use stage_kit::{Known, StageIo};
use training::{
    AugmentConfig, BatchSource, Best, FitConfig, Fitted, Normalisation, Order, Run, Sampling, Select, Sources, Target, Trust, card,
};
use volume::Scaling;

use crate::toy::{classes, paper_augmentation, prepared_cases, source, targets};
use crate::trust::io;

/// A slice of every case without random changes.
fn batch(source: &BatchSource) -> Vec<f32> {
    source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().image
}

fn slices(folder: &std::path::Path) -> BatchSource {
    let set = prepared_cases(folder, Layout::Slices, &[[12, 14, 4], [16, 12, 3]], true);
    source(set, Sampling::Slices { shape: [20, 20] }, Order::AlwaysTheSame, 7).unwrap()
}

#[test]
fn images_are_scaled_to_the_window_to_both_sides_of_zero_or_to_what_is_labelled() {
    let folder = tempfile::tempdir().unwrap();
    let (source, io) = (slices(folder.path()), io(&folder.path().join("io"), &[], &[]));
    let plain = batch(&source);
    let scaled = |normalisation: Normalisation| {
        let scaling = normalisation.scaling(source.set(), &io).unwrap();
        (scaling, batch(&source.clone().scaled(scaling)))
    };
    assert_eq!(scaled(Normalisation::Unit), (Scaling::default(), plain.clone()));
    let (_, signed) = scaled(Normalisation::Signed);
    assert!(plain.iter().zip(&signed).all(|(plain, signed)| (2.0 * plain - 1.0 - signed).abs() < 1e-6));
    assert!(signed.contains(&-1.0), "air around a case is as dark as air in it");

    // Blocks of 8 x 8 and 7 x 8 voxels in 4 and 3 slices, with cores of 4 x 4 and 3 x 4.
    let (scaling, foreground) = scaled(Normalisation::Foreground);
    let (cores, all) = (f64::from(4 * 16 + 3 * 12), f64::from(4 * 64 + 3 * 56));
    let mean = (0.9 * cores + 0.6 * (all - cores)) / all;
    let deviation = 0.3 * (cores / all * (1.0 - cores / all)).sqrt();
    for (found, expected) in [(scaling.clip[0], 0.6), (scaling.clip[1], 0.9), (scaling.shift, mean), (scaling.scale, deviation)] {
        assert!((f64::from(found) - expected).abs() < 1e-5, "{found} instead of {expected}");
    }
    let [dark, bright] = [0.6, 0.9].map(|value| (value - mean) / deviation);
    assert!(foreground.iter().all(|&value| f64::from(value) >= dark - 1e-3 && f64::from(value) <= bright + 1e-3));
    assert!((f64::from(foreground[0]) - dark).abs() < 1e-3, "air is clipped to the darkest of what is labelled");
}

#[test]
fn the_training_cases_decide_for_both_sides_and_the_card_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let io = io(folder.path(), &[], &[1]);
    let fit: FitConfig = serde_json::from_str(
        r#"{"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "schedule": {"polynomial": {"power": 0.9}}, "weight_decay": 0, "select": "lowest_loss"}"#,
    )
    .unwrap();
    let both = targets(&[0, 1], Trust::Unused);
    let sources = Sources::open(&io, "D_l1", Sampling::Slices { shape: [12, 12] }, both, paper_augmentation(), &fit, None).unwrap();
    let training_cases = sources.training.set().clone();
    let Sources { training, validation } = sources.normalised(Normalisation::Foreground, &io).unwrap();
    let scaling = Normalisation::Foreground.scaling(&training_cases, &io).unwrap();
    assert_ne!(scaling, Normalisation::Foreground.scaling(validation.set(), &io).unwrap());
    assert_eq!((training.model_input().scaling, validation.model_input().scaling), (scaling, scaling));

    let best = Best { epoch: 3, score: 0.5 };
    let fitted = Fitted { weights: Default::default(), best, curve: Vec::new(), mirrored: [false, true, true] };
    let run = Run::of(
        &StageIo { known: Known { key: Some("key".into()), digests: [("prepared".into(), "tree:1".into())].into() }, ..io },
        "it".into(),
    )
    .unwrap();
    let origin = fitted.origin("D_l1".into(), 7, Select::HighestDice, &run);
    assert_eq!((origin.node.as_deref(), origin.key.as_deref(), origin.measure), (Some("student"), Some("key"), Some(Measure::Dice)));
    assert_eq!(origin.mirrored, Some([false, true, true]));
    assert_eq!(origin.inputs["prepared"], "tree:1", "as the runner says");
    assert!(origin.inputs["partition"].starts_with("tree:"), "and read where it does not: {:?}", origin.inputs);
    let card = |outputs: Vec<Target>| card(Kind::Student, 1.into(), &classes(), outputs, training.model_input(), origin.clone());
    let tumors = card(vec![Target::of_group(&classes(), 1)]);
    assert_eq!((tumors.classes.keys_of(tumors.classes.pattern()), tumors.input.scaling), (vec!["core".to_owned()], scaling));
    assert_eq!(card(Vec::new()).classes, classes(), "without outputs the heads say what is found");
    let read = ModelCard::of(&tumors.to_metadata().unwrap().into_iter().collect(), folder.path()).unwrap();
    assert_eq!(read, Some(tumors));
}

#[test]
fn labels_that_do_not_differ_in_their_intensity_cannot_decide() {
    let folder = tempfile::tempdir().unwrap();
    let io = io(&folder.path().join("io"), &[], &[]);
    let regions = labels::Regions::plain(classes().pattern());
    for values in [[0, 0], [30, 140]] {
        let set = crate::toy::cases_of(&folder.path().join(values[0].to_string()), &classes(), &regions, classes().pattern(), &values);
        let error = Normalisation::Foreground.scaling(&set, &io).unwrap_err().to_string();
        let expected = format!("the {} labelled voxels of the 1 training cases do not; take `unit` or `signed`", values[0] / 15);
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn noise_comes_after_the_scaling() {
    let folder = tempfile::tempdir().unwrap();
    let plain = slices(folder.path());
    let shift = AugmentConfig { shift: Some(training::RangeConfig { probability: 1.0, range: 0.1 }), ..AugmentConfig::default() };
    let shift = shift.for_boxes(plain.sampler().sampling(), Normalisation::Unit).unwrap();
    let scaling = Scaling { shift: 0.5, scale: 0.001, ..Scaling::default() };
    let source =
        BatchSource::new(plain.set().clone(), plain.sampler().clone(), plain.targets().clone(), Some(shift), random::Streams::new(5));
    let (shifted, scaled) = (batch(&source.unwrap().scaled(scaling)), batch(&plain.scaled(scaling)));
    assert!(shifted != scaled && shifted.iter().zip(&scaled).all(|(a, b)| (a - b).abs() < 0.11));
}
