//! Stages that work case by case: a change costs the cases that it touches, and what depends on them.

use std::fs;

use crate::lab::{Lab, Outcome};

/// `loud` shouts each text of a folder, `louder` what `loud` has written, and `m` measures that.
const SHOUTS: &str = "seed: 1
store: work
data: {texts: texts, ending: ending.txt}
nodes:
  loud: {stage: shout, inputs: {texts: data.texts, ending: data.ending}}
  louder: {stage: shout, inputs: {texts: loud/loud}, params: {mark: '!'}}
  m: {stage: measure, inputs: {what: louder/loud}}
";

fn lab() -> Lab {
    let lab = Lab::new(SHOUTS);
    for name in ["a", "b", "c", "d"] {
        lab.write(&format!("texts/{name}.txt"), name);
    }
    lab.write("ending.txt", "?");
    lab
}

/// How many cases of a node were worked on in the run.
fn worked(outcome: &Outcome, node: &str) -> usize {
    let total = 4;
    let there = outcome.stderr.lines().find_map(|line| line.strip_prefix(&format!("{node}: "))?.split_once(" of ")?.0.parse().ok());
    if outcome.ran().contains(&node.to_owned()) { total - there.unwrap_or(0) } else { 0 }
}

#[test]
fn a_changed_file_costs_one_case_in_every_stage() {
    let lab = lab();
    let first = lab.run(&[]).must_succeed();
    assert_eq!((worked(&first, "loud"), worked(&first, "louder")), (4, 4));
    assert_eq!(lab.read("work/results/pipeline/louder/loud/b.txt"), "B?!");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);

    lab.write("texts/b.txt", "bb");
    let second = lab.run(&[]).must_succeed();
    assert_eq!((worked(&second, "loud"), worked(&second, "louder")), (1, 1), "{}", second.stderr);
    assert_eq!(second.ran(), ["loud", "louder", "m"]);
    assert_eq!(lab.read("work/results/pipeline/louder/loud/b.txt"), "BB?!");
    assert_eq!(lab.read("work/results/pipeline/louder/list.txt"), "\n3\n4\n3\n3\n");

    // The capital of another letter, but the same in capitals: nothing spreads.
    lab.write("texts/b.txt", "bB");
    let third = lab.run(&[]).must_succeed();
    assert_eq!(third.ran(), ["loud"]);
    assert_eq!(worked(&third, "loud"), 1);
}

#[test]
fn cases_come_and_go_at_the_cost_of_the_new_ones() {
    let lab = lab();
    lab.run(&[]).must_succeed();
    fs::rename(lab.path("texts/d.txt"), lab.path("d.txt")).unwrap();
    let fewer = lab.run(&[]).must_succeed();
    assert!(fewer.stderr.contains("loud: 3 of 3 cases are there already"), "{}", fewer.stderr);
    assert!(!lab.path("work/results/pipeline/louder/loud/d.txt").exists());
    lab.write("texts/e.txt", "e");
    let more = lab.run(&[]).must_succeed();
    assert!(more.stderr.contains("louder: 3 of 4 cases are there already"), "{}", more.stderr);
    fs::rename(lab.path("d.txt"), lab.path("texts/d.txt")).unwrap();
    fs::remove_file(lab.path("texts/e.txt")).unwrap();
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "the very first result is found again");
}

#[test]
fn what_all_cases_share_costs_all_and_what_concerns_none_costs_none() {
    let lab = lab();
    lab.run(&[]).must_succeed();
    let titled = lab.run(&["--set", "loud.title=all"]).must_succeed();
    assert_eq!((titled.ran(), worked(&titled, "loud")), (vec!["loud".to_owned()], 0), "the list alone was written anew");
    assert_eq!(lab.read("work/results/pipeline/loud/list.txt"), "all\n2\n2\n2\n2\n");
    lab.write("ending.txt", ".");
    let ended = lab.run(&[]).must_succeed();
    assert_eq!((worked(&ended, "loud"), worked(&ended, "louder")), (4, 4));
}

#[test]
fn cases_are_shared_between_nodes_and_pipelines() {
    let lab = lab();
    lab.run(&[]).must_succeed();
    lab.write("variant.yaml", "extends: pipeline.yaml\nstore: work\nnodes:\n  loud: {params: {title: other}}\n  m: null\n");
    let variant = lab.run(&["--pipeline", "variant.yaml"]).must_succeed();
    assert_eq!(worked(&variant, "loud"), 0, "{}", variant.stderr);
}

#[test]
fn a_case_that_fails_costs_itself_and_the_others_are_kept_even_for_other_parameters_and_data() {
    let lab = lab();
    let failed = lab.run(&["--set", "loud.fails_at=c.txt"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("1 of 4 cases failed; the others are done and kept"), "{}", failed.stderr);
    lab.write("texts/a.txt", "aa");
    let failed = lab.run(&["--set", "loud.fails_at=c.txt"]);
    assert!(failed.stderr.contains("loud: 2 of 4 cases are there already"), "{}", failed.stderr);
}

#[test]
fn results_are_plain_read_only_files_that_take_room_once() {
    use std::os::unix::fs::MetadataExt as _;
    let lab = lab();
    lab.run(&[]).must_succeed();
    let path = lab.path("work/results/pipeline/loud/loud/a.txt");
    let meta = fs::symlink_metadata(&path).unwrap();
    assert!(meta.is_file() && meta.permissions().readonly());
    assert_eq!(meta.nlink(), 2, "the result and the case are one file");
}
