//! Stages that work case by case: a change costs the cases that it touches, and what depends on them.

use std::fs;

use crate::lab::{Lab, Outcome, await_that};

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

#[test]
fn explain_and_status_go_down_to_the_case() {
    let lab = lab();
    let explain = |arguments: &[&str]| lab.call(&[&["explain"], arguments].concat()).must_succeed().stdout;
    let status = || -> serde_json::Value { serde_json::from_str(&lab.call(&["status", "--json"]).must_succeed().stdout).unwrap() };
    assert_eq!(status()["counts"]["missing"], 1);
    assert_eq!(status()["counts"]["waits"], 2);
    lab.run(&[]).must_succeed();
    assert_eq!((status()["counts"]["fresh"].clone(), status()["nodes"][0]["cases_done"].clone()), (3.into(), 4.into()));
    assert!(explain(&["loud:b"]).starts_with("loud:b is fresh"));

    lab.write("texts/b.txt", "bb");
    lab.write("texts/e.txt", "e");
    fs::remove_file(lab.path("texts/d.txt")).unwrap();
    assert_eq!(explain(&["loud"]), "loud must be run:\n  2 of 4 cases: b (text changed), e (is new)\n  gone: d\n");
    assert_eq!(explain(&["loud:b"]), "loud:b must be run:\n  text changed\n");
    assert_eq!(explain(&["loud:b", "--set", "loud.mark=x"]), "loud:b must be run:\n  parameter mark \"\" → \"x\"\n  text changed\n");
    let dry = lab.run(&["--dry-run"]);
    assert!(dry.stdout.starts_with("loud: would be run: 2 of 4 cases: b (text changed), e (is new); gone: d\n"), "{}", dry.stdout);
    let found = status();
    assert_eq!((found["counts"]["stale"].clone(), found["nodes"][0]["cases_done"].clone()), (1.into(), 2.into()));
    lab.write("ending.txt", "!");
    assert!(explain(&["loud:a"]).ends_with("  input ending changed\n"));
    let waits = "louder:b may have to be run:\nloud:b must be run:\n  input ending changed\n  text changed\n";
    assert_eq!(explain(&["louder:b"]), waits, "a case that waits tells of itself alone");
    assert_eq!(lab.call(&["explain", "loud:nobody"]).code, Some(1));
}

#[test]
fn one_case_can_be_run_through_the_stages_that_it_goes_through() {
    let lab = lab();
    let outcome = lab.run(&["louder", "--case", "b"]).must_succeed();
    assert_eq!(outcome.ran(), ["loud", "louder"]);
    assert_eq!(lab.read("work/results/pipeline/louder:b/loud/b.txt"), "B?!");
    assert!(!lab.path("work/results/pipeline/louder:b/loud/a.txt").exists());
    assert!(!lab.path("work/results/pipeline/louder").exists(), "the node's own result is of all cases");
    let rest = lab.run(&[]).must_succeed();
    assert_eq!((worked(&rest, "loud"), worked(&rest, "louder")), (3, 3), "what was done is not done again: {}", rest.stderr);
    let none = lab.run(&["louder", "--case", "nobody"]);
    assert!(none.stderr.contains("node loud has no case nobody, but 4 others"), "{}", none.stderr);
    let whole = lab.run(&["m", "--case", "b"]);
    assert!(whole.stderr.contains("m: its stage measure does not work case by case"), "{}", whole.stderr);
}

#[test]
fn force_does_every_case_again() {
    let lab = lab();
    lab.run(&[]).must_succeed();
    let forced = lab.run(&["loud", "--force"]).must_succeed();
    assert_eq!(worked(&forced, "loud"), 4, "{}", forced.stderr);
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn a_running_node_is_seen_at_work_from_outside() {
    let lab = lab();
    let mut runner = lab.start(&["--set", "loud.delay_ms=300"]);
    let about = await_that("the node at work", || {
        let status: serde_json::Value = serde_json::from_str(&lab.call(&["status", "--json", "--set", "loud.delay_ms=300"]).stdout).ok()?;
        let node = status["nodes"].get(0)?;
        let about = (node["state"] == "running").then(|| node["about"][0].as_str().map(str::to_owned)).flatten()?;
        // Cases may be there before the stage's next word of its progress is.
        assert!(about.contains("/4 cases, ") || about.ends_with(" of 4 cases are done"), "{about}");
        about.contains("/4 cases, ").then_some(about)
    });
    assert!(about.contains(" left"), "{about}");
    assert_eq!(runner.wait().unwrap().code(), Some(0));
}

#[test]
fn two_runners_with_different_data_share_the_cases_that_are_the_same() {
    let lab = lab();
    for name in ["e", "f", "g", "h"] {
        lab.write(&format!("texts/{name}.txt"), name);
    }
    lab.write("first.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {loud: {params: {delay_ms: 200, title: first}}}\n");
    lab.write("second.yaml", "extends: pipeline.yaml\nstore: work\nnodes: {loud: {params: {delay_ms: 200, title: second}}}\n");
    let mut first = lab.start(&["loud", "--pipeline", "first.yaml"]);
    let mut second = lab.start(&["loud", "--pipeline", "second.yaml"]);
    assert_eq!((first.wait().unwrap().code(), second.wait().unwrap().code()), (Some(0), Some(0)));
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(lab.path(path)).unwrap());
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let [one, two] = ["first", "second"].map(|view| inode(&format!("work/results/{view}/loud/loud/{name}.txt")));
        assert_eq!(one, two, "{name} was done once");
    }
}

/// What a cluster's jobs do: the store and the key are all that they are given.
#[test]
fn a_prepared_job_can_be_done_in_parts_by_other_processes() {
    let lab = lab();
    let slow = ["--set", "loud.delay_ms=400"];
    let mut runner = lab.start(&slow);
    let job = await_that("the job", || {
        let mut entries = walkdir::WalkDir::new(lab.path("work/attempts")).into_iter().filter_map(Result::ok);
        entries.find(|entry| entry.file_name() == "list.json").map(walkdir::DirEntry::into_path)
    });
    runner.kill().unwrap();
    runner.wait().unwrap();
    let key = job.parent().and_then(std::path::Path::file_name).unwrap().to_string_lossy().into_owned();
    let work = |more: &[&str]| lab.call(&[&["work", "--root", "work", &key], more].concat());
    work(&["--cases", "0..2"]).must_succeed();
    work(&["--cases", "1..3"]).must_succeed();
    let dry = lab.run(&[&["--dry-run"], &slow[..]].concat());
    assert!(dry.stdout.contains("3 of 4 cases are there already"), "{}", dry.stdout);
    assert!(!lab.path("work/objects").join(&key).exists(), "parts make no result of the node");
    let whole = work(&[]).must_succeed();
    assert!(whole.stderr.contains("loud: 3 of 4 cases are there already"), "{}", whole.stderr);
    assert_eq!(lab.run(&[&["loud"], &slow[..]].concat()).must_succeed().ran(), [""; 0]);
    assert_eq!(lab.read("work/results/pipeline/loud/loud/d.txt"), "D?");
}
