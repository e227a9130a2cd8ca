//! Disks that are full, read-only or gone: a clear message, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::lab::{Lab, Outcome, PIPELINE, await_that, processes};

/// Runs the program where no file may grow beyond a KiB, which it meets as it meets a full disk: results are small here,
/// and records do not fit.
fn without_room(lab: &Lab, arguments: &[&str]) -> Outcome {
    let program = lab.command(arguments);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    limited.current_dir(lab.path(""));
    Lab::outcome(limited)
}

/// Nextflow: errors of writing to the cache are swallowed in a run that looks successful.
#[test]
fn a_record_that_cannot_be_written_is_a_failure_and_the_next_run_goes_on() {
    for (pipeline, node) in [
        (PIPELINE, "a"),
        ("seed: 1\nstore: work\ndata: {texts: texts}\nnodes:\n  loud: {stage: shout, inputs: {texts: data.texts}}\n", "loud"),
    ] {
        let lab = Lab::new(pipeline);
        let long = "x".repeat(900);
        lab.write("texts/a.txt", "a");
        lab.write("texts/b.txt", "b");
        let set = format!("{node}.{}={long}", if node == "a" { "without" } else { "mark" });
        let full = without_room(&lab, &["run", "--set", &set]);
        assert_eq!(full.code, Some(1), "{full:?}");
        assert!(full.stderr.contains("cannot write ") && full.stderr.contains("check that the disk has room"), "{}", full.stderr);
        assert!(!lab.path(&format!("work/results/pipeline/{node}")).exists());
        lab.run(&["--set", &set]).must_succeed();
        assert_eq!(lab.call(&["verify"]).code, Some(0));
    }
}

/// As somebody whom the permissions of files concern, even if the tests are run by root.
fn as_nobody(lab: &Lab, arguments: &[&str]) -> Outcome {
    let program = lab.command(arguments);
    if !rustix::process::geteuid().is_root() {
        return Lab::outcome(program);
    }
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program.get_program()).args(program.get_args());
    other.current_dir(lab.path(""));
    Lab::outcome(other)
}

#[test]
fn a_store_that_cannot_be_written_can_still_be_looked_at_and_is_named_by_a_run() {
    let lab = Lab::new(PIPELINE);
    let set_all = |mode: u32| {
        for folder in walkdir::WalkDir::new(lab.path("")).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_dir()) {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    lab.run(&["a"]).must_succeed();
    fs::remove_file(lab.path("work/index")).ok();
    set_all(0o555);
    let run = as_nobody(&lab, &["run"]);
    let looks =
        [["status", "--json"].as_slice(), &["explain", "j"], &["log", "a"], &["run", "--dry-run"]].map(|look| as_nobody(&lab, look));
    set_all(0o755);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("work") && run.stderr.contains("Permission denied"), "{}", run.stderr);
    for (look, code) in looks.iter().zip([0, 0, 0, 3]) {
        assert_eq!(look.code, Some(code), "{look:?}");
    }
    assert!(looks[0].stdout.contains("\"fresh\": 1"), "{}", looks[0].stdout);
}

#[test]
fn a_store_that_is_removed_under_a_run_costs_that_run_alone() {
    let lab = Lab::new(&PIPELINE.replace("glue: \"+\"", "glue: \"+\", delay_ms: 300"));
    let mut runner = lab.start(&[]);
    await_that("the stage at work", || {
        let attempts = lab.path("work/attempts");
        (lab.path("work/results/pipeline/b").exists() && !processes(&attempts).is_empty()).then_some(())
    });
    fs::rename(lab.path("work"), lab.path("gone")).unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    fs::remove_dir_all(lab.path("gone")).unwrap();
    lab.run(&[]).must_succeed();
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "one+two+four+three");
}
