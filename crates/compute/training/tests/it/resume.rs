//! The loop: what it leaves behind, and what a kill does to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use training::{
    AfterWarmup, Best, CURVE_FILE, CurveRow, Diverged, EVENT_FILE, FitConfig, Fitted, FreezePlan, Interrupted, LrSchedule, Order,
    PLOT_FILE, Run, Select, UntilStill, fit,
};

use crate::toy::{Toy, slices};

pub(crate) fn config() -> FitConfig {
    FitConfig {
        epochs: 3,
        until_still: None,
        batch_size: 4,
        batch_dice: false,
        micro_batch: Some(3),
        max_steps_per_epoch: None,
        learning_rate: 1e-2,
        schedule: LrSchedule::Polynomial { power: 0.9 },
        optimizer: training::OptimizerConfig::AdamW,
        clip_gradient: None,
        weight_decay: 1e-5,
        select: Select::LowestLoss,
        precision: training::TrainingPrecision::F32,
    }
}

pub(crate) fn run(folder: &Path, checkpoint_interval: Duration) -> Run {
    Run {
        node: "toy".into(),
        output: folder.join("output"),
        checkpoints: folder.join("checkpoint"),
        report: stage_kit::Report::default(),
        identity: "seed 5".into(),
        key: None,
        inputs: Default::default(),
        checkpoint_interval,
        stop: Arc::default(),
        ranks: stage_kit::Ranks::Alone,
    }
}

pub(crate) const SELDOM: Duration = Duration::from_secs(3600);

/// Trains in `folder`, failing after `calls` losses.
fn train(folder: &Path, config: &FitConfig, interval: Duration, calls: u64) -> anyhow::Result<(Fitted, Toy)> {
    train_as(config, &run(folder, interval), folder, calls)
}

fn train_as(config: &FitConfig, run: &Run, folder: &Path, calls: u64) -> anyhow::Result<(Fitted, Toy)> {
    let source = slices(&folder.join("prepared"), Order::EachEpochAnew, config.batch_size);
    let mut toy = Toy::new(&source);
    FreezePlan { live: vec!["encoder.*".into(), "organ_decoder.*".into()] }.apply(&mut toy.params).unwrap();
    toy.calls_left.set(calls);
    let fitted = fit(config, &toy, source, run)?.unwrap();
    Ok((fitted, toy))
}

/// Everything that must not depend on kills: all but wall time.
#[derive(Debug, PartialEq)]
struct Outcome {
    weights: Vec<(String, Vec<f32>)>,
    best: Best,
    curve: Vec<CurveRow>,
}

fn outcome((fitted, toy): (Fitted, Toy)) -> Outcome {
    let curve = fitted.curve.into_iter().map(|row| CurveRow { seconds: 0.0, peak_mib: None, ..row }).collect();
    Outcome { weights: toy.values(), best: fitted.best, curve }
}

/// The files that make the result: all but those about the work.
fn result_files(folder: &Path) -> Vec<Vec<u8>> {
    let names: std::collections::BTreeSet<_> =
        std::fs::read_dir(folder.join("output")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["about", CURVE_FILE, PLOT_FILE]);
    [CURVE_FILE, PLOT_FILE].map(|name| std::fs::read(folder.join("output").join(name)).unwrap()).into()
}

#[test]
fn a_killed_and_resumed_training_ends_with_the_same_bits() {
    let whole = tempfile::tempdir().unwrap();
    let expected = outcome(train(whole.path(), &config(), SELDOM, u64::MAX).unwrap());
    // An epoch is 3 batches of 4, 4 and 1 slices in parts of at most 3, which makes 5 losses.
    for (interval, kills) in [(Duration::ZERO, vec![3, 1, 4, 2]), (Duration::ZERO, vec![1; 6]), (SELDOM, vec![7, 6]), (SELDOM, vec![2])] {
        let folder = tempfile::tempdir().unwrap();
        for calls in &kills {
            let error = train(folder.path(), &config(), interval, *calls).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some("killed"), "after {calls} of {kills:?}");
        }
        let resumed = outcome(train(folder.path(), &config(), interval, u64::MAX).unwrap());
        assert_eq!(resumed, expected, "kills after {kills:?} losses, checkpoints every {interval:?}");
        let events = |folder: &Path| std::fs::metadata(folder.join("output/about").join(EVENT_FILE)).unwrap().len();
        assert_eq!(events(folder.path()), events(whole.path()), "no event is lost or written twice");
        assert!(result_files(folder.path()) == result_files(whole.path()), "the files are the same to the byte");
    }
}

#[test]
fn so_does_one_with_momentum_and_clipped_gradients() {
    let optimizer = training::OptimizerConfig::Sgd { momentum: 0.99, nesterov: true };
    let schedule = LrSchedule::PolynomialByEpoch { power: 0.9 };
    let config = FitConfig { optimizer, clip_gradient: Some(0.5), schedule, ..config() };
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = outcome(train(whole.path(), &config, SELDOM, u64::MAX).unwrap());
    for calls in [3, 4] {
        assert!(train(folder.path(), &config, Duration::ZERO, calls).is_err());
    }
    assert_eq!(outcome(train(folder.path(), &config, Duration::ZERO, u64::MAX).unwrap()), expected);
}

#[test]
fn a_training_that_is_asked_to_end_after_every_step_ends_with_the_same_bits() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = outcome(train(whole.path(), &config(), SELDOM, u64::MAX).unwrap());
    let asked = Run { stop: Arc::new(AtomicBool::new(true)), ..run(folder.path(), SELDOM) };
    let mut ends = Vec::new();
    let last = loop {
        match train_as(&config(), &asked, folder.path(), u64::MAX) {
            Ok(last) => break outcome(last),
            Err(error) => ends.push(error.downcast::<Interrupted>().map(|end| (end.epoch, end.step)).unwrap()),
        }
    };
    assert_eq!(ends, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]);
    assert_eq!(last, expected);
}

#[test]
fn a_finished_training_is_read_back_without_another_step() {
    let folder = tempfile::tempdir().unwrap();
    let first = outcome(train(folder.path(), &config(), SELDOM, u64::MAX).unwrap());
    std::fs::remove_file(folder.path().join("output").join(CURVE_FILE)).unwrap();
    assert_eq!(outcome(train(folder.path(), &config(), SELDOM, 0).unwrap()), first);
    assert!(folder.path().join("output").join(CURVE_FILE).is_file());
}

#[test]
fn training_learns_leaves_its_curves_and_returns_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let config = FitConfig { epochs: 20, learning_rate: 5e-2, micro_batch: None, ..config() };
    let (fitted, toy) = train(folder.path(), &config, SELDOM, u64::MAX).unwrap();
    let losses: Vec<f64> = fitted.curve.iter().map(|row| row.validation.loss).collect();
    // The frozen random cancer decoder keeps its share of the loss.
    assert!(losses[19] < 0.9 * losses[0], "{losses:?}");
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(fitted.best.score, lowest);
    assert_eq!(losses[fitted.best.epoch as usize - 1], lowest);
    assert_eq!(
        training::Trainable::validate(&toy, &stage_kit::Ranks::Alone).unwrap().loss,
        lowest,
        "the model is left with the best weights"
    );
    let output = folder.path().join("output");
    assert_eq!(std::fs::read_to_string(output.join(CURVE_FILE)).unwrap().lines().count(), 21);
    assert!(std::fs::read_to_string(output.join(PLOT_FILE)).unwrap().starts_with("<svg"));
}

#[test]
fn the_best_epoch_is_not_the_last_when_training_goes_wrong() {
    let folder = tempfile::tempdir().unwrap();
    // A rate that rises to 3 over the epochs: the first are good, the last are wild.
    let schedule = LrSchedule::Warmup { epochs: 6, then: AfterWarmup::Constant };
    let config = FitConfig { epochs: 6, learning_rate: 3.0, schedule, select: Select::HighestDice, ..config() };
    let (fitted, toy) = train(folder.path(), &config, SELDOM, u64::MAX).unwrap();
    let dice: Vec<f64> = fitted.curve.iter().map(|row| row.validation.dice).collect();
    assert!(fitted.best.epoch < 6 && dice.iter().all(|&dice| dice <= fitted.best.score), "{dice:?}");
    assert_eq!(training::Trainable::validate(&toy, &stage_kit::Ranks::Alone).unwrap().dice, fitted.best.score);
}

#[test]
fn a_loss_that_is_no_number_stops_training_with_the_place_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(&folder.path().join("prepared"), Order::EachEpochAnew, 4);
    let toy = Toy::new(&source);
    let broken = (toy.params.get("organ_decoder.weight").unwrap() * f64::NAN).unwrap();
    toy.params.set("organ_decoder.weight", &broken).unwrap();
    let error = fit(&config(), &toy, source, &run(folder.path(), SELDOM)).unwrap_err();
    assert!(error.downcast_ref::<Diverged>().is_some_and(|d| (d.epoch, d.step) == (1, 1)));
    assert!(
        error.to_string().contains("the loss became NaN in epoch 1, step 1") && error.to_string().contains("lower `learning_rate`"),
        "{error}"
    );
}

#[test]
fn weights_that_are_no_numbers_never_reach_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let source = slices(&folder.path().join("prepared"), Order::EachEpochAnew, 4);
    let toy = Toy::new(&source);
    // candle's relu turns NaN into 0, so the loss of this network does not tell.
    let broken = (toy.params.get("encoder.bias").unwrap() * f64::NAN).unwrap();
    toy.params.set("encoder.bias", &broken).unwrap();
    let error = fit(&config(), &toy, source, &run(folder.path(), SELDOM)).unwrap_err().to_string();
    assert!(error.contains("`encoder.bias` became NaN in epoch 1, step 3"), "{error}");
    assert!(!folder.path().join("checkpoint").join(training::STATE_FILE).exists());
}

#[test]
fn a_training_ends_once_its_validation_stands_still_whether_it_is_killed_or_not() {
    // No epoch gains as much as that on the first one.
    let still = UntilStill { patience: 2, gain: 10.0, cool_down: 2 };
    let schedule = LrSchedule::Warmup { epochs: 0, then: AfterWarmup::Constant };
    let config = FitConfig { epochs: 20, until_still: Some(still), schedule, ..config() };
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = outcome(train(whole.path(), &config, SELDOM, u64::MAX).unwrap());
    // Two epochs of three steps fall along half a cosine; a row tells the rate of its last step.
    let rates: Vec<f64> = expected.curve.iter().map(|row| row.learning_rate / config.learning_rate).collect();
    let fallen = |step: f64| 0.5 * (1.0 + (std::f64::consts::PI * step / 6.0).cos());
    for (rate, expected) in rates.iter().zip([1.0, 1.0, 1.0, fallen(2.0), fallen(5.0)]) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?}");
    }
    assert_eq!(rates.len(), 5);
    for calls in [16, 4, 1] {
        assert!(train(folder.path(), &config, Duration::ZERO, calls).is_err());
    }
    assert_eq!(outcome(train(folder.path(), &config, SELDOM, u64::MAX).unwrap()), expected);
    let error = FitConfig { schedule: LrSchedule::Polynomial { power: 0.9 }, ..config }.check().unwrap_err().to_string();
    assert!(error.contains("write `schedule: {warmup: {epochs: N}}`"), "{error}");
}

#[test]
fn a_checkpoint_of_other_parameters_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), &config(), Duration::ZERO, 2).is_err());
    let error = train(folder.path(), &FitConfig { epochs: 4, ..config() }, SELDOM, u64::MAX).err().unwrap().to_string();
    assert!(error.contains("another training") && error.contains("\"epochs\":3") && error.contains("\"epochs\":4"), "{error}");
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let refused = |config: FitConfig| config.check().unwrap_err().to_string();
    assert_eq!(refused(FitConfig { batch_size: 0, ..config() }), "batch_size is 0; it must be at least 1");
    assert_eq!(refused(FitConfig { learning_rate: -1.0, ..config() }), "learning_rate is -1; it must be above 0");
    assert!(refused(FitConfig { weight_decay: f64::NAN, ..config() }).contains("weight_decay"));
    assert!(config().check().is_ok());
}

#[test]
fn a_checkpoint_belongs_to_the_inputs_that_it_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = folder.path().join("prepared");
    std::fs::create_dir(&prepared).unwrap();
    let identity = |planned: bool, case: &str| {
        std::fs::write(prepared.join("case"), case).unwrap();
        let alone = stage_kit::StageIo::new("toy", [("prepared", &prepared)], folder.path().join("output"), folder.path(), 5);
        let io = stage_kit::StageIo { planned, ..alone };
        Run::of(&io, "seed 5".into()).unwrap().identity
    };
    let one = identity(false, "one");
    assert_eq!(identity(false, "one"), one);
    assert_ne!(identity(false, "two"), one);
    assert_eq!(identity(true, "one"), "seed 5", "the folder of a planned run is that of its inputs already");
    // A training on one does not go on from the other's checkpoint.
    let of = |identity: String| Run { identity, ..run(folder.path(), Duration::ZERO) };
    let two = identity(false, "two");
    assert!(train_as(&config(), &of(one), folder.path(), 5).is_err());
    let error = train_as(&config(), &of(two), folder.path(), 5).err().unwrap();
    assert!(error.to_string().contains("is of another training"), "{error}");
}
