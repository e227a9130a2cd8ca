//! Damage in the store, cleaning it up, locks of the dead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::{Lab, PIPELINE, await_that, files, processes};

const SHOUTS: &str = "seed: 1
store: work
data: {texts: texts}
nodes:
  loud: {stage: shout, inputs: {texts: data.texts}}
  louder: {stage: shout, inputs: {texts: loud/loud}, params: {mark: '!'}}
";

fn shouted() -> Lab {
    let lab = Lab::new(SHOUTS);
    for name in ["a", "b", "c"] {
        lab.write(&format!("texts/{name}.txt"), name);
    }
    lab.run(&[]).must_succeed();
    lab
}

/// Flips the lowest bit of the last letter, as a disk might: neither size nor time tell.
fn flip(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

fn only(folder: &Path, ends: &str) -> Vec<PathBuf> {
    files(folder).into_keys().filter(|path| path.display().to_string().ends_with(ends)).map(|path| folder.join(path)).collect()
}

#[test]
fn flipped_bits_and_torn_files_anywhere_in_the_store_are_found_and_made_anew() {
    type Harm = fn(&Path);
    let cut: Harm = |path| {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let expected = files(&shouted().path("work/results/pipeline"));
    for (part, ends) in [("objects", ".txt"), ("records", ".json"), ("cases", ".json"), ("blobs", ""), ("trees", "")] {
        for harm in [flip as Harm, cut] {
            let lab = shouted();
            assert_eq!(lab.call(&["verify"]).code, Some(0));
            let victim = only(&lab.path(&format!("work/{part}")), ends).pop().unwrap();
            harm(&victim);
            let found = lab.call(&["verify"]);
            assert_eq!(found.code, Some(1), "{part}: {found:?}");
            assert!(found.stdout.contains(&format!("/work/{part}/")), "{part}: {}", found.stdout);
            lab.run(&[]).must_succeed();
            assert!(files(&lab.path("work/results/pipeline")) == expected, "{part}: made anew");
            assert_eq!(lab.call(&["verify"]).code, Some(0), "{part}: nothing is left of the damage");
        }
    }
}

#[test]
fn a_damaged_record_is_not_believed_even_if_nobody_asked_for_it_to_be_checked() {
    let lab = shouted();
    let expected = files(&lab.path("work/results/pipeline"));
    for part in ["records", "cases"] {
        only(&lab.path(&format!("work/{part}")), ".json").iter().for_each(|path| flip(path));
    }
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["loud", "louder"]);
    assert!(files(&lab.path("work/results/pipeline")) == expected);
}

#[test]
fn a_damaged_case_is_not_put_into_another_result() {
    let lab = shouted();
    flip(&lab.path("work/results/pipeline/loud/loud/b.txt"));
    // The list alone would be written anew, and the cases be taken as they are.
    let run = lab.run(&["--verify", "--set", "loud.title=x"]).must_succeed();
    assert!(run.stderr.contains("loud: 2 of 3 cases are there already"), "{}", run.stderr);
    assert_eq!(lab.read("work/results/pipeline/loud/loud/b.txt"), "B");
}

#[test]
fn what_no_pipeline_file_reaches_is_removed_and_all_else_stays() {
    let lab = Lab::new(PIPELINE);
    lab.write("variant.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {j: {params: {glue: and}}}\n");
    lab.run(&[]).must_succeed();
    lab.run(&["--pipeline", "variant.yaml"]).must_succeed();
    let clean = lab.call(&["gc"]).must_succeed();
    assert!(clean.stdout.contains("removed: 0 results, 0 cases, 0 attempts; 0 B"), "{}", clean.stdout);

    lab.run(&["--set", "j.glue=_", "--set", "b.text=seven"]).must_succeed();
    lab.run(&["--set", "j.fails_at=two"]);
    lab.run(&[]).must_succeed();
    let before = files(&lab.path("work/results"));
    let told = lab.call(&["gc", "--dry-run"]).must_succeed().stdout;
    assert!(told.starts_with("would be removed: 3 results, 0 cases, 1 attempt; "), "{told}");
    assert_eq!(fs::read_dir(lab.path("work/objects")).unwrap().count(), 10, "a dry run removes nothing");
    let done = lab.call(&["gc"]).must_succeed().stdout;
    assert_eq!(done, told.replace("would be removed", "removed"));
    assert_eq!(fs::read_dir(lab.path("work/objects")).unwrap().count(), 7);
    assert!(files(&lab.path("work/results")) == before);
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
    assert_eq!(lab.run(&["--pipeline", "variant.yaml"]).must_succeed().ran(), [""; 0]);

    lab.write("pipeline.yaml", &PIPELINE.replace("  c:\n    stage: measure\n    inputs: {what: a/count.txt}\n", ""));
    let gone = lab.call(&["gc"]).must_succeed().stdout;
    assert!(gone.starts_with("c is no node of pipeline any more\n"), "{gone}");
    assert_eq!(lab.run(&["--pipeline", "variant.yaml"]).must_succeed().ran(), [""; 0], "the variant has it still");
}

#[test]
fn old_cases_are_removed_and_those_that_wait_to_be_finished_are_kept() {
    let lab = shouted();
    lab.write("texts/b.txt", "bb");
    lab.run(&[]).must_succeed();
    let told = lab.call(&["gc"]).must_succeed().stdout;
    assert!(told.starts_with("removed: 2 results, 2 cases, 0 attempts; "), "{told}");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
    // Two new cases, one of which fails: the other is not lost.
    lab.write("texts/d.txt", "d");
    lab.write("texts/e.txt", "e");
    let fails = "extends: pipeline.yaml\nnodes: {loud: {params: {fails_at: e.txt}}}\n";
    lab.write("fails.yaml", fails);
    assert_eq!(lab.run(&["--pipeline", "fails.yaml"]).code, Some(1));
    lab.call(&["gc", "--pipeline", "fails.yaml"]).must_succeed();
    let again = lab.run(&["--pipeline", "fails.yaml"]);
    assert!(again.stderr.contains("loud: 4 of 5 cases are there already"), "{}", again.stderr);
}

#[test]
fn what_is_left_of_jobs_on_a_cluster_goes_with_the_work_that_they_were_for() {
    let failing = PIPELINE.replace("glue: \"+\"", "glue: \"+\", fails_at: two");
    let lab = Lab::new(&failing);
    let attempts = || -> BTreeSet<String> {
        fs::read_dir(lab.path("work/attempts")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(lab.run(&[]).code, Some(1));
    let stays = attempts().pop_first().unwrap();
    assert_eq!(lab.run(&["--set", "j.glue=_"]).code, Some(1));
    let goes = attempts().into_iter().find(|key| *key != stays).unwrap();
    let submission = |key: &str, job: u32| {
        let text = format!(r#"{{"number":1,"name":"n","parts":["Whole"],"job":"{job}","cancelled":false}}"#);
        lab.write(&format!("work/slurm/{key}/1/submission.json"), &text);
    };
    submission(&stays, 11);
    submission(&goes, 12);
    submission(&"0".repeat(64), 13);
    lab.write("work/.writing-index", "half");
    let told = lab.call(&["gc", "--dry-run"]).must_succeed().stdout;
    assert!(told.contains("may be in the queue still: scancel 12\n"), "{told}");
    assert_eq!(fs::read_dir(lab.path("work/slurm")).unwrap().count(), 3, "a dry run removes nothing");
    lab.call(&["gc"]).must_succeed();
    let left: Vec<_> = fs::read_dir(lab.path("work/slurm")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [stays.as_str()]);
    assert!(!lab.path("work/.writing-index").exists());
    let status = lab.call(&["status"]).must_succeed().stdout;
    assert!(status.contains("its jobs (11) may be in the queue still"), "{status}");
}

#[test]
fn a_store_at_work_is_not_cleaned_up() {
    let lab = Lab::new(&SHOUTS.replacen("data.texts}}", "data.texts}, params: {delay_ms: 500}}", 1));
    lab.write("texts/a.txt", "a");
    let mut runner = lab.start(&[]);
    await_that("the stage at work", || (!processes(&lab.path("work/attempts")).is_empty()).then_some(()));
    let refused = lab.call(&["gc"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let locks = lab.call(&["unlock"]);
    assert_eq!(locks.code, Some(4), "a living process keeps its lock");
    assert!(locks.stdout.contains(&format!("loud: process {} on ", runner.id())) && locks.stdout.contains(", alive"), "{}", locks.stdout);
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    assert_eq!(lab.call(&["unlock"]).must_succeed().stdout, "nothing is locked\n", "after the work");
}

#[test]
fn work_that_another_machine_has_locked_is_left_alone_until_somebody_says_that_it_is_gone() {
    let lab = Lab::new(&PIPELINE.replace("glue: \"+\"", "glue: \"+\", fails_at: two"));
    assert_eq!(lab.run(&[]).code, Some(1));
    let key = fs::read_dir(lab.path("work/attempts")).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let lock = r#"{"host":"elsewhere","boot":"its boot","process":1,"begun":1,"job":null,"node":"j","since":"2026-01-01T00:00:00Z"}"#;
    lab.write(&format!("work/locks/{key}"), lock);
    let refused = lab.run(&["j"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let told = "j: locked: process 1 on elsewhere since 2026-01-01T00:00:00Z is working on it, or ended without a word";
    assert!(refused.stderr.contains(told) && refused.stderr.contains("call `unlock --force`"), "{}", refused.stderr);
    let status = lab.call(&["status"]).must_succeed().stdout;
    assert!(status.contains("process 1 on elsewhere since 2026-01-01T00:00:00Z has it locked and cannot be asked from here"), "{status}");
    assert_eq!(lab.call(&["unlock"]).code, Some(4));
    assert_eq!(lab.call(&["unlock", "--force"]).code, Some(0));
    assert!(lab.run(&["j"]).stderr.contains("the word two cannot be joined"), "it goes on");
}

#[test]
fn locks_of_the_dead_are_told_and_removed_and_those_of_other_machines_only_by_force() {
    let lab = shouted();
    let lock = |host: &str, boot: &str| {
        format!(r#"{{"host":"{host}","boot":"{boot}","process":1,"begun":1,"job":null,"node":"loud","since":"2026-01-01T00:00:00Z"}}"#)
    };
    let here = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    lab.write(&format!("work/locks/{}", "1".repeat(64)), &lock(here.trim(), "an earlier boot"));
    lab.write(&format!("work/locks/{}", "2".repeat(64)), &lock("elsewhere", "its boot"));
    let told = lab.call(&["unlock"]);
    assert_eq!(told.code, Some(4));
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("dead: removed"), "{lines:?}");
    assert!(lines[1].contains("process 1 on elsewhere") && lines[1].contains("cannot be asked"), "{lines:?}");
    assert!(lab.call(&["unlock", "--force"]).must_succeed().stdout.contains("elsewhere"));
    assert_eq!(lab.call(&["unlock"]).must_succeed().stdout, "nothing is locked\n");
}
