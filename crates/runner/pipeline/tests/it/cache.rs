//! What is run again, and what is not.

use std::fs;

use crate::lab::{Lab, PIPELINE};

/// A lab in which everything has been run.
fn finished() -> Lab {
    let lab = Lab::new(PIPELINE);
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["a", "b", "c", "j", "m"]);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "one+two+four+three");
    lab
}

#[test]
fn a_second_run_does_nothing() {
    let lab = finished();
    assert_eq!(lab.run(&["--dry-run"]).code, Some(0));
    let second = lab.run(&[]).must_succeed();
    assert_eq!(second.ran(), [""; 0]);
    assert!(second.stderr.starts_with("5 fresh in "), "{}", second.stderr);
}

#[test]
fn times_and_places_do_not_matter() {
    let lab = finished();
    // Written anew, the file has another inode and other times, but the same content.
    fs::rename(lab.path("more.txt"), lab.path("old.txt")).unwrap();
    lab.write("more.txt", " four");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
    assert_eq!(lab.run(&["--data", "more=old.txt"]).must_succeed().ran(), [""; 0]);
    assert_eq!(lab.run(&["--device", "cpu", "-j", "2"]).must_succeed().ran(), [""; 0]);
    lab.write(
        "pipeline.yaml",
        &format!("# a comment\n{}", PIPELINE.replace("params: {text: three}", "params: {without: '', text: three}")),
    );
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "a default that is written out is the same parameter");
}

#[test]
fn a_change_runs_exactly_what_depends_on_it() {
    let lab = finished();
    assert_eq!(lab.run(&["--set", "j.glue=and"]).must_succeed().ran(), ["j", "m"]);
    assert_eq!(lab.run(&["--set", "b.text=seven"]).must_succeed().ran(), ["b", "j", "m"]);
    lab.write("more.txt", " five six");
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["a", "c", "j", "m"]);
    lab.write("more.txt", " four");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "results of earlier work are found again");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "one+two+four+three");
    lab.write("pipeline.yaml", &PIPELINE.replace("seed: 1", "seed: 2"));
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["a", "b", "c", "j", "m"]);
}

#[test]
fn equal_results_stop_a_change_from_spreading() {
    let lab = finished();
    // Other parameters, but the same words in the end.
    let outcome = lab.run(&["--set", "a.text=xonex twxo", "--set", "a.without=x"]).must_succeed();
    assert_eq!(outcome.ran(), ["a"]);
    // `c` reads the count alone, `j` the words alone.
    let outcome = lab.run(&["--set", "a.text=one six"]).must_succeed();
    assert_eq!(outcome.ran(), ["a", "j", "m"]);
}

#[test]
fn a_named_node_is_run_with_what_it_reads_and_nothing_else() {
    let lab = Lab::new(PIPELINE);
    assert_eq!(lab.run(&["c"]).must_succeed().ran(), ["a", "c"]);
    let only = lab.run(&["j", "--only"]);
    assert_eq!(only.code, Some(1));
    assert!(only.stderr.contains("b: must be run first, which --only forbids"), "{}", only.stderr);
    lab.run(&["b"]).must_succeed();
    assert_eq!(lab.run(&["j", "--only"]).must_succeed().ran(), ["j"]);
    assert_eq!(lab.run(&["j", "--force"]).must_succeed().ran(), ["j"], "force is for the named node");
    assert_eq!(lab.run(&["nobody"]).code, Some(2));
}

#[test]
fn a_dry_run_tells_what_would_be_run_and_why() {
    let lab = finished();
    let dry = lab.run(&["--dry-run", "--set", "a.text=one"]);
    assert_eq!(dry.code, Some(3));
    let expected = "a: would be run: parameter text \"one two\" → \"one\"\n\
                    j: depends on what a will write\n\
                    m: depends on what j will write\n\
                    c: depends on what a will write\n\nnode ";
    assert!(dry.stdout.starts_with(expected), "{}", dry.stdout);
    assert_eq!(lab.run(&["--dry-run"]).code, Some(0), "a dry run changes nothing");
}

#[test]
fn explain_and_status_tell_what_differs() {
    let lab = finished();
    let explain = |arguments: &[&str]| lab.call(&[&["explain"], arguments].concat()).must_succeed().stdout;
    assert!(explain(&["j"]).starts_with("j is fresh"));
    assert_eq!(explain(&["j", "--set", "j.glue=_"]), "j must be run:\n  parameter glue \"+\" → \"_\"\n");
    let waits = explain(&["m", "--set", "a.text=one"]);
    assert_eq!(
        waits,
        "m may have to be run:\n  what j will write may differ\nbecause a must be run:\n  parameter text \"one two\" → \"one\"\n"
    );
    lab.run(&["a", "--set", "a.text=one six"]).must_succeed();
    let input = explain(&["j", "--set", "a.text=one six"]);
    assert_eq!(input, "j must be run:\n  input parts.a changed (a/words): changed 1.txt\n");
    let status = lab.call(&["status", "--set", "j.glue=_"]).must_succeed().stdout;
    let states: Vec<Vec<&str>> = status.lines().skip(1).take(5).map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected =
        [["a", "words", "fresh"], ["b", "words", "fresh"], ["j", "join", "stale"], ["m", "measure", "waits"], ["c", "measure", "fresh"]];
    assert_eq!(states, expected, "{status}");
    assert!(status.contains("3 fresh, 1 stale, 1 waiting; fresh results: "), "{status}");
}

#[test]
fn damage_in_the_store_is_found_by_verify_and_repaired() {
    let lab = finished();
    let damaged = lab.path("work/results/pipeline/j/joined.txt");
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, "rubbish").unwrap();
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "results are trusted");
    assert_eq!(lab.run(&["--verify"]).must_succeed().ran(), ["j", "m"], "and what was made from it");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "one+two+four+three");
}

#[test]
fn a_damaged_result_is_not_read_by_what_comes_next_and_what_was_made_from_it_is_made_anew() {
    let lab = finished();
    let object = fs::canonicalize(lab.path("work/results/pipeline/a")).unwrap();
    let damaged = object.join("words/1.txt");
    let before = lab.read("work/results/pipeline/a/words/1.txt");
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, "rubbish").unwrap();
    let run = lab.run(&["j", "--set", "j.glue=_"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("are not those that were published; they were damaged since"), "{}", run.stderr);
    assert!(run.stderr.contains("run again, which makes it anew"), "{}", run.stderr);
    let again = lab.run(&[]).must_succeed();
    assert_eq!(again.ran(), ["a", "j", "m"], "whether they were made before or after, nobody knows");
    assert_eq!(lab.read("work/results/pipeline/a/words/1.txt"), before);
}

#[test]
fn a_folder_of_something_else_is_never_taken_for_a_store() {
    let lab = finished();
    lab.write("scans/a_0000.nii.gz", "a scan");
    lab.write("scans/blobs/ab/b_0000.nii.gz", "another");
    for verb in [&["verify"][..], &["gc"], &["unlock", "--force"], &["run"]] {
        let refused = lab.call(&[verb, &["--store", "scans"]].concat());
        assert_eq!(refused.code, Some(2), "{verb:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("is no store of results: it holds a_0000.nii.gz"), "{}", refused.stderr);
    }
    assert_eq!(lab.read("scans/blobs/ab/b_0000.nii.gz"), "another");
    // In a store of ours, what is not ours stays, and links are not followed.
    lab.write("work/blobs/ab/mine.nii.gz", "mine");
    lab.write("elsewhere/keep.txt", "mine");
    std::os::unix::fs::symlink(lab.path("elsewhere"), lab.path("work/blobs/cd")).unwrap();
    lab.call(&["gc"]).must_succeed();
    lab.call(&["verify"]).must_succeed();
    assert_eq!((lab.read("work/blobs/ab/mine.nii.gz"), lab.read("elsewhere/keep.txt")), ("mine".into(), "mine".into()));
}

#[test]
fn a_damaged_list_of_cases_is_found_and_a_misspelt_name_is_refused() {
    let lab = finished();
    let refused = lab.run(&["--data", "wrods=x"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("there is no `data.wrods`"), "{}", refused.stderr);
    let refused = lab.run(&["jj"]);
    assert!(refused.stderr.contains("there is no node `jj`") && refused.stderr.contains("did you mean `j`?"), "{}", refused.stderr);
    let refused = lab.run(&["--set", "jj.glue=_"]);
    assert_eq!(refused.code, Some(2));
    let told = "error: the command line: --set jj.glue: there is no node `jj`; ";
    assert!(refused.stderr.starts_with(told), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "nothing is said of a node that only the option names: {}", refused.stderr);
}

#[test]
fn a_node_may_have_a_seed_of_its_own() {
    let nodes = "nodes:
  a: {foreach: {s: [2, 1]}, stage: words, seed: $s, params: {text: x}}
  b: {stage: words, params: {text: x}}
  j: {stage: join, params: {glue: '+'}, inputs: {parts: {one: 'a[2]/words', two: b/words}}}
";
    let lab = Lab::new(&format!("seed: 1\nstore: work\n{nodes}"));
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["a[1]", "a[2]", "j"], "b is the same work as a[1]");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "x+x");
    // The file's seed is that of the nodes without one.
    lab.write("pipeline.yaml", &format!("seed: 3\nstore: work\n{nodes}"));
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["b", "j"]);
    lab.write("own.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {b: {seed: 2}}\n");
    let text = lab.call(&["diff", "own.yaml"]).must_succeed().stdout;
    assert!(text.contains("b (there a[2])"), "{text}");
    lab.write("own.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {b: {seed: 4}}\n");
    let text = lab.call(&["diff", "own.yaml"]).must_succeed().stdout;
    assert!(text.contains("\n  b\n    seed 3 → 4\n"), "{text}");
    lab.write("own.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {b: {seed: two}}\n");
    assert!(lab.call(&["diff", "own.yaml"]).stderr.contains("nodes.b.seed: must be a whole number, but is \"two\""));
}

#[test]
fn what_tells_of_the_work_is_kept_and_checked_and_makes_no_other_result() {
    let lab = Lab::new(&PIPELINE.replace("{text: one two}", "{text: one two, dated: true}"));
    lab.run(&[]).must_succeed();
    let about = "work/results/pipeline/a/about/when.txt";
    let first = lab.read(about);
    let forced = lab.run(&["a", "--force"]).must_succeed();
    assert_eq!(forced.ran(), ["a"]);
    assert!(!forced.stderr.contains("differs"), "{}", forced.stderr);
    assert_ne!(lab.read(about), first);
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "nobody reads the date");
    assert_eq!(lab.run(&["--verify"]).must_succeed().ran(), [""; 0]);
    // Lists of files that are lost are made anew from the files.
    fs::remove_dir_all(lab.path("work/trees")).unwrap();
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);

    fs::remove_file(lab.path(about)).unwrap();
    fs::write(lab.path(about), "long ago").unwrap();
    let damaged = lab.call(&["verify"]);
    assert!(damaged.code == Some(1) && damaged.stdout.contains("the result of a is not what was published"), "{damaged:?}");
    assert_eq!(lab.run(&[]).must_succeed().ran(), ["a"]);
}

#[test]
fn nodes_that_do_the_same_work_share_it() {
    let pipeline = "seed: 1\nstore: work\nnodes:
  a: {stage: words, params: {text: x}}
  b: {stage: words, params: {text: x}}\n";
    for jobs in ["1", "2"] {
        let lab = Lab::new(pipeline);
        assert_eq!(lab.run(&["-j", jobs]).must_succeed().ran(), ["a"]);
        assert_eq!(lab.read("work/results/pipeline/b/words/0.txt"), "x");
    }
}
