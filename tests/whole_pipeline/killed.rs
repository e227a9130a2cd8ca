//! Whatever dies amid the work, the next run comes to the same bits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::lab::{Lab, await_that};
use crate::method::parameters;
use crate::transformers;

/// M_1 takes long enough to be met at work.
const LONG_FIRST_STEP: &str = "nodes: {M_1: {params: {fit: {epochs: 60}}}}\n";

fn kill(pid: u32) {
    // The process may have ended this moment; whether it was killed shows in what follows.
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
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

/// All that must not depend on how often the work was interrupted: every weight, and every voxel of every label map.
fn results(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let mut results = BTreeMap::new();
    for model in ["M_1", "M_2", "M_3", "M_4"] {
        results.extend(parameters(&lab.result(model)).into_iter().map(|(name, bytes)| (format!("{model} {name}"), bytes)));
        for (path, bytes) in lab.files(&format!("store/results/lab/resample_back[{model}]")) {
            results.insert(format!("{model} {}", path.file_name().unwrap().display()), bytes);
        }
    }
    results
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
    let (expected, found) = (results(&quiet), results(&lab));
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
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
    let [expected, found] = [&quiet, &lab].map(|lab| parameters(&lab.result("encoder_unetr")));
    assert!(expected == found, "weights differ");
    let [expected, found] = [&quiet, &lab].map(|lab| fs::read(lab.result("encoder_unetr").join("reconstructions.png")).unwrap());
    assert!(expected == found, "reconstructions differ");
}

/// How many kills over the whole method, unless the environment says `FLARE_CRASH_KILLS`.
const KILLS: u64 = 8;

/// Kills at moments that look random and are the same in every test run: the runner, its stage, or both.
#[test]
fn kills_anywhere_in_the_method_cost_no_bit() {
    let quiet = Lab::new("");
    let begun = Instant::now();
    quiet.run(&[]).must_succeed();
    let whole = begun.elapsed();

    let lab = Lab::new("");
    let kills = std::env::var("FLARE_CRASH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for kill_number in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut runner = lab.command(&["run", "-j", "2"]).stderr(Stdio::null()).spawn().unwrap();
        // Spread over the run, whose beginning is done sooner each time.
        std::thread::sleep(whole.mul_f64((random % 1000) as f64 / 1000.0 / kills as f64 * 2.0));
        let stages = processes(&lab.path("store/attempts"));
        if kill_number % 3 != 1 {
            kill(runner.id());
        }
        if kill_number % 3 != 0 {
            stages.into_iter().for_each(kill);
        }
        runner.wait().unwrap();
        let sound = lab.call(&["verify"]);
        assert_eq!(sound.code, Some(0), "after kill {kill_number}: {}", sound.stdout);
    }
    lab.run(&[]).must_succeed();
    let (expected, found) = (results(&quiet), results(&lab));
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
    for node in ["phantom", "partition", "volumes", "pseudo_labels[D_u]", "true_slices[D_l4]", "segment[M_4]", "scores", "steps"] {
        let [expected, found] = [&quiet, &lab].map(|lab| lab.files(&format!("store/results/lab/{node}")).into_values().collect::<Vec<_>>());
        assert!(expected == found, "{node} differs");
    }
}
