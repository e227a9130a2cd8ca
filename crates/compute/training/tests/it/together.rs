//! Several ranks train as one does, to the bit. Here they are threads, each with a network, an optimizer and batches of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use candle_core::{Device, Tensor};
use prepared::Layout;
use random::Streams;
use stage_kit::Ranks;
use training::{
    BatchSource, CurveRow, FitConfig, Fitted, FreezePlan, Interrupted, Order, Run, Sampler, Sampling, Tally, Trust, Validation, fit,
    validate,
};

use crate::resume::{SELDOM, config, run};
use crate::toy::{Toy, slices, targets, weighed_cases};

/// What becomes of each rank.
type Ended = anyhow::Result<Option<(Fitted, Toy)>>;

/// What each of so many ranks makes of its work.
fn together<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = Ranks::in_threads(size).into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A training by so many ranks, of which `change` may make what it likes.
fn train(folder: &Path, config: &FitConfig, size: usize, interval: Duration, change: impl Fn(&mut Run, &Toy) + Sync) -> Vec<Ended> {
    together(size, |ranks| {
        let source = slices(&folder.join(format!("prepared{}", ranks.rank())), Order::EachEpochAnew, config.batch_size);
        let mut toy = Toy::new(&source);
        FreezePlan { live: vec!["encoder.*".into(), "organ_decoder.*".into()] }.apply(&mut toy.params).unwrap();
        let mut run = Run { ranks, ..run(folder, interval) };
        change(&mut run, &toy);
        let fitted = fit(config, &toy, source, &run)?;
        Ok(fitted.map(|fitted| (fitted, toy)))
    })
}

/// Weights to the bit, and the curve without its times; they come from the first rank, and the others have none.
fn outcome(ended: Vec<Ended>) -> (Vec<(String, Vec<u32>)>, Vec<CurveRow>) {
    let mut ended = ended.into_iter().map(Result::unwrap);
    let (fitted, toy) = ended.next().flatten().unwrap();
    assert!(ended.all(|other| other.is_none()));
    let bits = |(name, values): (String, Vec<f32>)| (name, values.into_iter().map(f32::to_bits).collect());
    let curve = fitted.curve.into_iter().map(|row| CurveRow { seconds: 0.0, peak_mib: None, ..row }).collect();
    (toy.values().into_iter().map(bits).collect(), curve)
}

fn untouched(_: &mut Run, _: &Toy) {}

#[test]
fn any_number_of_ranks_trains_to_the_bits_of_one() {
    // Batches of 4, 4 and 1 slices: their parts do not come out even, and in the last one most ranks have nothing to do.
    let clipped =
        FitConfig { optimizer: training::OptimizerConfig::Sgd { momentum: 0.9, nesterov: true }, clip_gradient: Some(0.5), ..config() };
    for (config, most) in
        [(config(), 2), (FitConfig { micro_batch: Some(1), ..config() }, 4), (FitConfig { micro_batch: Some(2), ..clipped }, 2)]
    {
        let folder = tempfile::tempdir().unwrap();
        let expected = outcome(train(folder.path(), &config, 1, SELDOM, untouched));
        for size in 2..=most {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(outcome(train(folder.path(), &config, size, SELDOM, untouched)), expected, "{size} ranks");
        }
    }
}

#[test]
fn a_rank_that_dies_ends_the_others_and_the_next_run_comes_to_the_same_bits_with_any_number() {
    let config = FitConfig { micro_batch: Some(1), ..config() };
    let folder = tempfile::tempdir().unwrap();
    let expected = outcome(train(folder.path(), &config, 1, SELDOM, untouched));
    for (interval, dying, calls) in [(Duration::ZERO, 1, 1), (Duration::ZERO, 2, 2), (Duration::ZERO, 0, 5), (SELDOM, 1, 4), (SELDOM, 0, 2)]
    {
        let folder = tempfile::tempdir().unwrap();
        let ended = train(folder.path(), &config, 3, interval, |run, toy| {
            toy.calls_left.set(if run.ranks.rank() == dying { calls } else { u64::MAX });
        });
        for (rank, ended) in ended.into_iter().enumerate() {
            let error = ended.err().map(|error| format!("{error:#}")).unwrap();
            assert!(error.contains(if rank == dying { "killed" } else { "has ended before its work was done" }), "{rank}: {error}");
        }
        for size in [2, 3] {
            // What a run with two ranks has saved, one with three goes on from.
            let ended = train(folder.path(), &config, size, interval, |_, toy| toy.calls_left.set(if size == 2 { 1 } else { u64::MAX }));
            if size == 3 {
                assert_eq!(outcome(ended), expected, "rank {dying} dies after {calls} losses, checkpoints every {interval:?}");
            }
        }
    }
}

#[test]
fn whichever_rank_is_asked_to_end_all_end_after_the_same_step() {
    let config = FitConfig { micro_batch: Some(1), ..config() };
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = outcome(train(whole.path(), &config, 1, SELDOM, untouched));
    let asked = |run: &mut Run, _: &Toy| run.stop = Arc::new(AtomicBool::new(run.ranks.rank() == 1));
    let mut ended = train(folder.path(), &config, 2, SELDOM, asked).into_iter();
    let interrupted = ended.next().unwrap().err().unwrap().downcast::<Interrupted>().unwrap();
    assert_eq!((interrupted.epoch, interrupted.step), (1, 1));
    assert!(ended.all(|other| other.unwrap().is_none()));
    assert_eq!(outcome(train(folder.path(), &config, 2, SELDOM, untouched)), expected);
}

#[test]
fn more_ranks_than_parts_are_refused_by_name() {
    let error = config().check_processes(3).unwrap_err().to_string();
    assert!(error.starts_with("processes is 3, and a batch of 4 samples has 2 parts to share out; take at most 2"), "{error}");
    let whole = FitConfig { micro_batch: None, ..config() };
    whole.check_processes(1).unwrap();
    assert!(whole.check_processes(2).unwrap_err().to_string().contains("1 part to share out"));
}

/// Weighted voxels are no whole numbers, so that their sums depend on the order. Cores alone are found.
#[test]
fn any_number_of_ranks_validates_to_the_bits_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let set = weighed_cases(folder.path(), Layout::Slices, &[[20, 20, 7], [24, 18, 5], [16, 22, 4]], true, &[100, 30, 77]);
    let sampling = Sampling::Slices { shape: [16, 16] };
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(sampling, Order::AlwaysTheSame, shapes, 3, None, Streams::new(5)).unwrap();
    let source = BatchSource::new(set, sampler, targets(&[0, 1], Trust::Soft), None, Streams::new(5)).unwrap();
    let validation = |ranks: Ranks| -> Validation {
        let names = ["background", "something"].map(str::to_owned);
        let tallies = vec![Tally::new(&names, false), Tally::new(&names, true)];
        validate(&source, &Device::Cpu, &ranks, tallies, |batch| {
            let logits = Tensor::cat(&[((&batch.image * 0.0)? + 0.7)?, batch.image.clone()], 1)?;
            Ok(vec![(logits.clone(), batch.truth(0)?), (logits, batch.truth(1)?)])
        })
        .unwrap()
    };
    let alone = validation(Ranks::Alone);
    assert!(alone.dice > 0.1 && alone.dice < 0.99, "{}", alone.dice);
    for size in [2, 3, 4] {
        assert_eq!(together(size, validation), vec![alone.clone(); size], "{size} ranks");
    }
}
