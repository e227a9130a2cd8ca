//! Kills at random moments, and the ways in which other runners are known to break: the end is what it would have been.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::{Lab, await_that, files, processes, send};

/// Words, two stages that work case by case, a stage with checkpoints, and one that waits for all of it.
const DAG: &str = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4 w5 w6 w7}}
  loud: {stage: shout, inputs: {texts: a/words}, params: {delay_ms: 25}}
  louder: {stage: shout, inputs: {texts: loud/loud}, params: {delay_ms: 25, mark: '!'}}
  j: {stage: join, params: {glue: ' ', delay_ms: 20}, inputs: {parts: {a: louder/loud}}}
  m: {stage: measure, inputs: {what: j}}
";

/// How many kills, unless the environment says `PIPELINE_CRASH_KILLS`.
const KILLS: usize = 50;

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn results(lab: &Lab) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&lab.path("work/results/pipeline"))
}

/// The files that only one side has, or that have other contents, with both.
fn differences(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    let names: BTreeSet<&PathBuf> = found.keys().chain(expected.keys()).collect();
    let differ = names.into_iter().filter(|name| found.get(*name) != expected.get(*name));
    let text = |files: &BTreeMap<PathBuf, Vec<u8>>, name| files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    differ.map(|name| format!("{}: {:?} in place of {:?}", name.display(), text(found, name), text(expected, name))).collect()
}

#[test]
fn whatever_is_killed_and_whenever_the_end_is_the_same() {
    let quiet = Lab::new(DAG);
    let begun = Instant::now();
    quiet.run(&[]).must_succeed();
    let whole = begun.elapsed();
    let expected = results(&quiet);

    let kills = std::env::var("PIPELINE_CRASH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut lab = Lab::new(DAG);
    let (mut met, mut finished) = (0, 0);
    for kill in 0..kills {
        let mut runner = lab.start(&["-j", "2"]);
        std::thread::sleep(Duration::from_micros(random.below(u64::try_from(whole.as_micros()).unwrap())));
        let stages = processes(&lab.path("work/attempts"));
        let what = random.below(4);
        met += usize::from(!stages.is_empty());
        match what {
            0 => send("-KILL", runner.id()),
            1 => stages.iter().for_each(|&stage| send("-KILL", stage)),
            2 => {
                send("-KILL", runner.id());
                stages.iter().for_each(|&stage| send("-KILL", stage));
            }
            _ => send("-TERM", runner.id()),
        }
        let code = runner.wait().unwrap().code();
        // Nothing that was published is torn or mixed, whatever was cut off just now.
        let sound = lab.call(&["verify"]);
        assert_eq!(sound.code, Some(0), "kill {kill} of kind {what}: {sound:?}");
        if code == Some(0) || kill + 1 == kills {
            lab.run(&[]).must_succeed();
            assert_eq!(differences(&results(&lab), &expected), [""; 0], "kill {kill} of kind {what}: the results differ");
            assert_eq!(fs::read_dir(lab.path("work/attempts")).unwrap().count(), 0, "nothing is left to do");
            assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
            finished += 1;
            lab = Lab::new(DAG);
        }
    }
    // Half of the time goes to starting processes, and more on a machine with other work.
    assert!(met * 5 > kills && finished > 0, "of {kills} kills {met} met a stage at work, and {finished} runs came to an end");
}

/// DVC: the trainer of a killed run lives on, and a second one writes into the same folder.
/// Snakemake: the next run refuses, and `--unlock` is not enough.
#[test]
fn the_next_run_after_a_kill_needs_no_help_and_never_meets_an_orphan() {
    let lab = Lab::new(DAG);
    let expected = {
        let quiet = Lab::new(DAG);
        quiet.run(&[]).must_succeed();
        results(&quiet)
    };
    let mut runner = lab.start(&[]);
    lab.await_checkpoint("W1!");
    runner.kill().unwrap();
    // At once, while the kernel may still be clearing up.
    let second = lab.run(&[]).must_succeed();
    runner.wait().unwrap();
    assert_eq!(second.stderr.lines().filter(|line| line.starts_with("j: goes on")).count(), 1, "{}", second.stderr);
    assert!(processes(&lab.path("work/attempts")).is_empty());
    assert!(results(&lab) == expected);
}

/// Snakemake takes nine minutes to end on SIGTERM with 4,000 jobs ready.
#[test]
fn a_runner_with_much_to_do_ends_when_it_is_asked() {
    let numbers: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let nodes = format!(
        "  j: {{foreach: {{n: [{}]}}, stage: join, params: {{glue: n$n, delay_ms: 50}}, inputs: {{parts: {{a: a/words}}}}}}\n",
        numbers.join(", ")
    );
    let lab = Lab::new(&format!("seed: 1\nstore: work\nnodes:\n  a: {{stage: words, params: {{text: w0 w1}}}}\n{nodes}"));
    let mut runner = lab.start(&["-j", "4"]);
    await_that("a stage at work", || (!processes(&lab.path("work/attempts")).is_empty()).then_some(()));
    let begun = Instant::now();
    send("-TERM", runner.id());
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Nextflow goes by path, time and size; and a clock that was set back gives times that were there before.
#[test]
fn a_change_is_seen_even_if_size_and_time_are_those_of_before() {
    let lab = Lab::new("seed: 1\nstore: work\ndata: {texts: texts}\nnodes:\n  loud: {stage: shout, inputs: {texts: data.texts}}\n");
    for (text, ahead) in [("one", 0), ("two", 0), ("six", 3600)] {
        lab.write("texts/a.txt", "old");
        let time = fs::metadata(lab.path("texts/a.txt")).unwrap().modified().unwrap() + Duration::from_secs(ahead);
        let set = || File::options().append(true).open(lab.path("texts/a.txt")).unwrap().set_modified(time).unwrap();
        set();
        // Long enough for the index to take the file for settled.
        std::thread::sleep(Duration::from_millis(1100));
        lab.run(&[]).must_succeed();
        lab.write("texts/a.txt", text);
        set();
        lab.run(&[]).must_succeed();
        assert_eq!(lab.read("work/results/pipeline/loud/loud/a.txt"), text.to_uppercase());
    }
}

/// A stage must not read one thing and be recorded with another.
#[test]
fn a_file_that_changes_while_it_is_read_is_not_recorded() {
    let lab = Lab::new(
        "seed: 1\nstore: work\ndata: {texts: texts}\nnodes:\n  loud: {stage: shout, inputs: {texts: data.texts}, params: {delay_ms: 700}}\n",
    );
    lab.write("texts/a.txt", "before");
    let mut runner = lab.start(&[]);
    await_that("the stage at work", || (!processes(&lab.path("work/attempts")).is_empty()).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    lab.write("texts/a.txt", "after!");
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    lab.run(&[]).must_succeed();
    assert_eq!(lab.read("work/results/pipeline/loud/loud/a.txt"), "AFTER!");
    lab.write("texts/a.txt", "before");
    lab.run(&[]).must_succeed();
    assert_eq!(lab.read("work/results/pipeline/loud/loud/a.txt"), "BEFORE");
}
