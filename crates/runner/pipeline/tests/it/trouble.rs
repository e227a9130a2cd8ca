//! Failures, kills and two runners: what is finished stays, and the rest goes on where it was.

use std::time::Instant;

use crate::lab::{Lab, PIPELINE, await_that, processes, send};

/// `j` joins ten words, a fifth of a second each.
const SLOW: &str = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4 w5 w6 w7 w8 w9}}
  j: {stage: join, params: {glue: '', delay_ms: 200}, inputs: {parts: {a: a/words}}}
";

const JOINED: &str = "w0w1w2w3w4w5w6w7w8w9";

#[test]
fn a_failure_names_the_reason_keeps_what_is_finished_and_leaves_what_depends_on_it() {
    let lab = Lab::new(PIPELINE);
    let failed = lab.run(&["--set", "j.fails_at=two", "--keep-going"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("j: FAILED: the stage ended with code 1"), "{}", failed.stderr);
    assert!(failed.stderr.contains("error: j: the word two cannot be joined"), "{}", failed.stderr);
    assert!(failed.stderr.contains("3 done, 1 failed, 1 left in "), "{}", failed.stderr);
    let told: Vec<&str> = failed.stderr.lines().rev().skip(1).take_while(|line| line.contains("FAILED")).collect();
    assert!(told.len() == 1 && told[0].starts_with("j: FAILED") && told[0].contains("/log.txt"), "it ends with what failed: {told:?}");
    let status = lab.call(&["status", "--set", "j.fails_at=two"]).stdout;
    assert!(
        status.contains("failed  ") && status.contains("the stage ended with code 1; ") && status.contains("; see `toy log j`"),
        "{status}"
    );
    assert!(status.contains("error: j: the word two cannot be joined"), "{status}");
    let explained = lab.call(&["explain", "j", "--set", "j.fails_at=two"]).stdout;
    assert!(explained.contains("its latest attempt failed: ") && explained.contains("cannot be joined; see `toy log j`"), "{explained}");
    assert!(lab.call(&["log", "j", "--set", "j.fails_at=two"]).stdout.contains("cannot be joined"));
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["j", "m"], "the others were finished");
}

#[test]
fn without_keep_going_nothing_new_is_started_after_a_failure() {
    let lab = Lab::new(PIPELINE);
    let failed = lab.run(&["--set", "j.fails_at=two"]);
    assert_eq!(failed.code, Some(1));
    assert!(!lab.path("work/results/pipeline/c").exists(), "c stands after j in the file");
}

#[test]
fn a_stage_that_dies_goes_on_from_its_checkpoint() {
    let lab = Lab::new(SLOW);
    let mut runner = lab.start(&[]);
    let attempt = lab.await_checkpoint("w1");
    for pid in processes(&attempt) {
        send("-KILL", pid);
    }
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    let second = lab.run(&[]).must_succeed();
    assert!(second.stderr.contains("j: goes on where it was interrupted"), "{}", second.stderr);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
    assert!(!lab.call(&["log", "j"]).stdout.ends_with("0 of 10 words were joined before\n"), "the checkpoint was used");
    assert!(!attempt.exists(), "checkpoints go when the result is there");
}

#[test]
fn a_killed_runner_leaves_no_orphan_and_the_next_run_uses_the_same_attempt() {
    let lab = Lab::new(SLOW);
    let mut runner = lab.start(&[]);
    let attempt = lab.await_checkpoint("w1");
    assert_eq!(processes(&attempt).len(), 1);
    runner.kill().unwrap();
    runner.wait().unwrap();
    await_that("end of the orphan", || processes(&attempt).is_empty().then_some(()));
    let second = lab.run(&[]).must_succeed();
    assert!(second.stderr.contains("j: goes on where it was interrupted"), "{}", second.stderr);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn a_runner_that_is_asked_to_stop_ends_its_stage_and_says_how_to_go_on() {
    for signal in ["-INT", "-TERM"] {
        let lab = Lab::new(SLOW);
        let mut runner = lab.start(&[]);
        let attempt = lab.await_checkpoint("w1");
        let begun = Instant::now();
        send(signal, runner.id());
        assert_eq!(runner.wait().unwrap().code(), Some(130));
        assert!(begun.elapsed().as_secs() < 5, "the stage ends when it is asked");
        assert!(processes(&attempt).is_empty());
        assert!(!lab.path("work/results/pipeline/j").exists());
        lab.run(&[]).must_succeed();
        assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
    }
}

#[test]
fn a_second_runner_does_not_do_the_same_work_and_names_the_first() {
    let lab = Lab::new(&SLOW.replace("200", "500"));
    let mut first = lab.start(&[]);
    lab.await_checkpoint("w0");
    let second = lab.run(&[]);
    assert_eq!(second.code, Some(4), "{second:?}");
    assert!(second.stderr.contains(&format!("j: locked: process {} on ", first.id())), "{}", second.stderr);
    // Other work in the same store is no conflict.
    lab.run(&["--set", "j.delay_ms=0"]).must_succeed();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn nodes_that_do_not_read_each_other_run_side_by_side() {
    let pipeline = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4}}
  j: {foreach: {n: [x, y, z, u]}, stage: join, params: {glue: $n, delay_ms: 100}, inputs: {parts: {a: a/words}}}
";
    let lab = Lab::new(pipeline);
    let mut runner = lab.start(&["-j", "4"]);
    let stages = || processes(&lab.path("work/attempts")).len();
    await_that("stages side by side", || (stages() >= 2).then_some(()));
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    for n in ["x", "y", "z", "u"] {
        assert_eq!(lab.read(&format!("work/results/pipeline/j[{n}]/joined.txt")), ["w0", "w1", "w2", "w3", "w4"].join(n));
    }
}

#[test]
fn nodes_keep_to_the_memory_that_they_ask_for() {
    let pipeline = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3}}
  j:
    foreach: {n: [x, y]}
    stage: join
    params: {glue: $n, delay_ms: 100}
    inputs: {parts: {a: a/words}}
    resources: {memory: 900 TB}
";
    let lab = Lab::new(pipeline);
    let begun = Instant::now();
    lab.run(&["-j", "2"]).must_succeed();
    assert!(begun.elapsed().as_millis() > 2 * 400, "one after the other");
    lab.write("wrong.yaml", &pipeline.replace("900 TB", "900"));
    let wrong = lab.run(&["--pipeline", "wrong.yaml"]);
    assert!(wrong.stderr.contains("wrong.yaml:10: nodes.j.resources.memory: 900 is no memory, such as `16 GB`"), "{}", wrong.stderr);
}
