//! Whatever dies amid the work, the next run comes to the same bits.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, await_that};
use crate::transformers;

/// M_1 takes long enough to be met at work.
const LONG_FIRST_STEP: &str = "nodes: {M_1: {params: {fit: {epochs: 60}}}}\n";

fn kill(pid: u32) {
    send("-KILL", pid);
}

fn send(signal: &str, pid: u32) {
    // The process may have ended this moment; whether it was killed shows in what follows.
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The processes with `needle` in their command line.
fn processes(needle: &Path) -> Vec<u32> {
    let needle = needle.display().to_string();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| String::from_utf8_lossy(&line(pid)).contains(&needle)).collect()
}

/// Epochs behind the checkpoint of an attempt.
fn epochs(attempt: &Path) -> Option<u64> {
    let text = fs::read_to_string(attempt.join("work/checkpoint/state.json")).ok()?;
    let state: serde_json::Value = serde_json::from_str(&text).ok()?;
    find_epoch(&state)
}

fn find_epoch(value: &serde_json::Value) -> Option<u64> {
    match value.get("position") {
        Some(position) => position.get("epoch")?.as_u64(),
        None => value.as_object()?.values().find_map(find_epoch),
    }
}

/// Every file of every result, but for those about the work (`about/`: times).
fn results(lab: &Lab) -> BTreeMap<PathBuf, Vec<u8>> {
    let view = lab.path("store/results/lab");
    let files = lab.files("store/results/lab").into_iter();
    let inside = files.map(|(path, bytes)| (path.strip_prefix(&view).unwrap().to_owned(), bytes));
    inside.filter(|(path, _)| !path.iter().any(|part| part == "about")).collect()
}

/// Of every node that has a result, the digest in its record.
fn outputs(lab: &Lab) -> BTreeMap<String, String> {
    let links = fs::read_dir(lab.path("store/results/lab")).into_iter().flatten().map(|link| link.unwrap().path());
    let output = |link: PathBuf| {
        let key = link.read_link().unwrap().file_name().unwrap().display().to_string();
        let record = fs::read_to_string(lab.path(&format!("store/records/{key}.json"))).ok()?;
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        Some((link.file_name().unwrap().display().to_string(), record["output"].as_str().unwrap().to_owned()))
    };
    // What a kill has left in place of a link is none.
    links.filter(|link| !link.file_name().unwrap().display().to_string().starts_with('.')).filter_map(output).collect()
}

#[track_caller]
fn assert_same(expected: &BTreeMap<PathBuf, Vec<u8>>, found: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (path, bytes) in expected {
        assert!(found[path] == *bytes, "{} differs", path.display());
    }
}

#[test]
fn a_killed_runner_and_a_killed_stage_cost_no_bit() {
    let quiet = Lab::new(LONG_FIRST_STEP);
    quiet.run(&["scores", "steps"]).must_succeed();

    let lab = Lab::new(LONG_FIRST_STEP);
    // First the runner dies, and takes its stage with it.
    let mut runner = lab.command(&["run", "scores", "steps"]).stderr(Stdio::null()).spawn().unwrap();
    let attempt = lab.attempt("M_1");
    await_that("three epochs", || epochs(&attempt).filter(|&epoch| epoch >= 3));
    kill(runner.id());
    assert_eq!(runner.wait().unwrap().code(), None, "killed and not finished");
    await_that("the end of the orphan", || processes(&attempt).is_empty().then_some(()));
    let reached = epochs(&attempt).unwrap();
    assert!((3..60).contains(&reached), "the kill came after epoch {reached}");

    // Then the stage dies under a new runner.
    let mut runner = lab.command(&["run", "scores", "steps"]).stderr(Stdio::null()).spawn().unwrap();
    await_that("more epochs", || epochs(&attempt).filter(|&epoch| epoch >= reached + 3));
    processes(&attempt).into_iter().for_each(kill);
    assert_eq!(runner.wait().unwrap().code(), Some(1), "a stage that is killed is a failure, which the runner survives");

    let last = lab.run(&["scores", "steps"]).must_succeed();
    assert!(last.stderr.contains("M_1: goes on where it was interrupted"), "{}", last.stderr);
    assert!(!last.stderr.contains("M_1: epoch 1/60"), "epochs that were finished are not done again");
    assert_same(&results(&quiet), &results(&lab));
}

#[test]
fn a_killed_pre_training_costs_no_bit() {
    let long = "nodes: {encoder_unetr: {params: {fit: {epochs: 30, max_steps_per_epoch: 2}}}}\n";
    let [quiet, lab] = [transformers::lab(long), transformers::lab(long)];
    quiet.run(&["encoder_unetr"]).must_succeed();
    let mut runner = lab.command(&["run", "encoder_unetr"]).stderr(Stdio::null()).spawn().unwrap();
    let attempt = lab.attempt("encoder_unetr");
    await_that("two epochs", || epochs(&attempt).filter(|&epoch| epoch >= 2));
    kill(runner.id());
    assert_eq!(runner.wait().unwrap().code(), None, "killed and not finished");
    await_that("the end of the orphan", || processes(&attempt).is_empty().then_some(()));
    let last = lab.run(&["encoder_unetr"]).must_succeed();
    assert!(last.stderr.contains("encoder_unetr: goes on where it was interrupted"), "{}", last.stderr);
    assert_same(&results(&quiet), &results(&lab));
}

/// How many kills over the whole method, unless the environment says `FLARE_CRASH_KILLS`.
const KILLS: u64 = 50;

/// What looks after a store.
const VERBS: [&[&str]; 3] = [&["gc"], &["verify"], &["unlock", "--force"]];

/// Starts a verb, and kills it if it is still at work after `milliseconds`.
fn start_and_kill(lab: &Lab, verb: &[&str], milliseconds: u64) {
    let mut process = lab.command(verb).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(milliseconds));
    kill(process.id());
    process.wait().unwrap();
}

/// Kills at moments that look random and are the same in every test run: the runner, its stage, both, or in good order, and beside
/// it and after it what looks after the store. After each of them all that has a result has the one that it must have; a run
/// that comes to its end has all of it.
#[test]
fn kills_anywhere_in_the_method_cost_no_bit() {
    let quiet = Lab::new("");
    let begun = Instant::now();
    quiet.run(&["-j", "2"]).must_succeed();
    let whole = begun.elapsed();
    let (expected, expected_outputs) = (results(&quiet), outputs(&quiet));

    let kills = std::env::var("FLARE_CRASH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut lab = Lab::new("");
    let (mut met, mut finished) = (0, 0);
    for kill_number in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut runner = lab.command(&["run", "-j", "2"]).stderr(Stdio::null()).spawn().unwrap();
        // A third of a run at most, so that the whole is gone through a few times.
        let moment = whole.mul_f64((random % 1000) as f64 / 3000.0);
        let [beside, after] = [8, 16].map(|bits| VERBS[(random >> bits) as usize % VERBS.len()]);
        std::thread::sleep(moment / 2);
        // Done before the kill, or killed with the runner at work.
        start_and_kill(&lab, beside, (random >> 24) % 40);
        std::thread::sleep(moment / 2);
        let stages = processes(&lab.path("store/attempts"));
        met += u64::from(!stages.is_empty());
        let (the_runner, its_stages) = [("-KILL", ""), ("", "-KILL"), ("-KILL", "-KILL"), ("-TERM", "")][(random >> 32) as usize % 4];
        if !the_runner.is_empty() {
            send(the_runner, runner.id());
        }
        if !its_stages.is_empty() {
            stages.into_iter().for_each(|stage| send(its_stages, stage));
        }
        let code = runner.wait().unwrap().code();
        start_and_kill(&lab, after, (random >> 40) % 20);
        let sound = lab.call(&["verify"]);
        assert_eq!(sound.code, Some(0), "after kill {kill_number}: {}", sound.stdout);
        for (node, output) in outputs(&lab) {
            assert_eq!(output, expected_outputs[&node], "{node} after kill {kill_number}");
        }
        if code == Some(0) || kill_number + 1 == kills {
            lab.run(&[]).must_succeed();
            assert_same(&expected, &results(&lab));
            assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
            finished += 1;
            lab = Lab::new("");
        }
    }
    // Some of the time goes to starting processes, and more on a machine with other work.
    assert!(met * 5 > kills && finished > 1, "of {kills} kills {met} met a stage at work, and {finished} runs came to an end");
}
