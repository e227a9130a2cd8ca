//! `run --dry-run` tells what a run will take: from samples that were measured, never from anything else.

use crate::lab::{Lab, PIPELINE, on_a_terminal};

/// `j` takes 200 ms for each word; of `m` and `c` nothing is known.
fn slow() -> Lab {
    Lab::new(&PIPELINE.replace("params: {glue: \"+\"}", "params: {glue: \"+\", delay_ms: 200}"))
}

/// The row of a node in the table.
fn row<'t>(text: &'t str, node: &str) -> &'t str {
    text.lines().rfind(|line| line.split_whitespace().next() == Some(node)).unwrap_or_else(|| panic!("{node}: {text}"))
}

#[test]
fn what_is_not_measured_is_unknown_and_a_measured_sample_is_kept() {
    let lab = slow();
    let before = lab.run(&["--dry-run"]);
    assert_eq!(before.code, Some(3));
    assert!(row(&before.stdout, "j").contains("unknown"), "{}", before.stdout);
    assert!(before.stdout.contains("  j: seconds for each of 8 words: not measured\n"), "{}", before.stdout);
    assert!(before.stdout.contains("`toy run --dry-run --measure` does a little"), "{}", before.stdout);
    assert!(!lab.path("work").exists(), "a dry run makes nothing");

    let measured = lab.run(&["--dry-run", "--measure"]);
    assert!(measured.code == Some(3) && measured.stderr.contains("j: measuring one of its words"), "{measured:?}");
    assert!(row(&measured.stdout, "j").contains("8 words of 0.20 s"), "{}", measured.stdout);
    assert_eq!(std::fs::read_dir(lab.path("work/samples")).unwrap().count(), 1, "the sample stays, and nothing else");

    let after = lab.run(&["--dry-run"]);
    assert_eq!(row(&after.stdout, "j"), row(&measured.stdout, "j"), "what was measured is kept");
    // Other parameters are another sample.
    let other = lab.run(&["--dry-run", "--set", "j.delay_ms=1"]);
    assert!(other.stdout.contains("  j: seconds for each of 8 words: not measured\n"), "{}", other.stdout);
    lab.run(&["j"]).must_succeed();
    let fresh = lab.run(&["--dry-run"]).stdout;
    assert!(!fresh.lines().any(|line| line.starts_with("j ")), "what is fresh costs nothing: {fresh}");
}

#[test]
fn the_plan_sums_up_and_names_the_longest_chain_and_all_that_is_unknown() {
    let lab = slow();
    let text = lab.run(&["--dry-run", "--measure"]).stdout;
    assert!(text.contains("\nIn all, what is known: 1.6 s and 120 B on this machine, one node after another.\n"), "{text}");
    assert!(text.contains("\nThe longest chain takes 1.6 s, on however many machines like this one: a → j"), "{text}");
    assert!(text.contains("\n  m, c: the stage does not foresee its work\n"), "{text}");
    // Where a stage gives no forecast, the time of an earlier result is taken.
    lab.run(&[]).must_succeed();
    let again = lab.run(&["--dry-run", "--set", "a.text=one two five"]).stdout;
    assert!(row(&again, "m").contains("as its result of "), "{again}");
}

#[test]
fn data_that_are_not_here_can_be_supposed() {
    let lab = slow();
    let wrong = lab.run(&["--dry-run", "--suppose", "more=many"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("is not NAME=CASES,SHAPE,SPACING"), "{wrong:?}");
    let unknown = lab.run(&["--dry-run", "--suppose", "mroe=3,1x1x1,1x1x1"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("did you mean `more`?"), "{unknown:?}");
    std::fs::remove_file(lab.path("more.txt")).unwrap();
    let absent = lab.run(&["--dry-run"]);
    assert!(absent.code == Some(3) && absent.stdout.starts_with("a: waits for data.more, of which nothing is at "), "{absent:?}");
    assert_eq!(lab.run(&["--suppose", "more=3,1x1x1,1x1x1"]).code, Some(2), "a run supposes nothing");
}

/// Changes what was measured.
fn each_sample(lab: &Lab, change: impl Fn(&mut serde_json::Value)) {
    for entry in std::fs::read_dir(lab.path("work/samples")).unwrap() {
        let path = entry.unwrap().path();
        let mut kept = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut kept);
        std::fs::write(&path, kept.to_string()).unwrap();
    }
}

#[test]
fn what_is_measured_is_told_as_it_goes() {
    // `j` and `k` are measured, once for each delay; `l` has that of `k`.
    let join = |name: &str, delay: u32| {
        format!("  {name}: {{stage: join, inputs: {{parts: {{a: a/words}}}}, params: {{glue: +, delay_ms: {delay}}}}}\n")
    };
    let nodes = [join("j", 1), join("k", 2), join("l", 2)].concat();
    let pipeline = format!("seed: 1\nstore: work\nnodes:\n  a: {{stage: words, params: {{text: one two}}}}\n{nodes}");
    let lab = Lab::new(&pipeline);
    let told = || {
        let plain = lab.run(&["--dry-run", "--measure"]).stderr;
        plain.lines().filter(|line| !line.starts_with("this machine is busy")).map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = told();
    assert_eq!(lines[..2], ["j: measuring one of its words", "k: measuring one of its words"]);
    assert!(lines.len() == 3 && lines[2].starts_with("measuring: 2/2 kinds of work, "), "{lines:?}");
    each_sample(&lab, |kept| kept["load"] = 0.into());
    assert_eq!(told(), [""; 0], "there is nothing left to measure");
    let Some(shown) = on_a_terminal(&Lab::new(&pipeline), &["run", "--dry-run", "--measure"], 3) else { return };
    assert!(
        shown.contains("measuring: kinds of work") && shown.contains("2/2 [") && shown.contains("k: measuring one of its words"),
        "{shown:?}"
    );
}

/// The lines that tell how far a run is.
fn course(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains(" nodes done")).collect()
}

#[test]
fn a_run_tells_about_how_long_the_rest_takes_as_far_as_that_is_known() {
    let lab = Lab::new(&PIPELINE.replace("params: {glue: \"+\"}", "params: {glue: \"+\", delay_ms: 1}"));
    let unknown = lab.run(&["--store", "other"]).must_succeed().stderr;
    assert_eq!(
        course(&unknown),
        ["1 of 5 nodes done", "2 of 5 nodes done", "3 of 5 nodes done", "4 of 5 nodes done"],
        "nothing is invented"
    );
    lab.run(&["--dry-run", "--measure"]);
    // As if a word took 100 s: 8 words are 13 minutes and 20 seconds.
    each_sample(&lab, |kept| kept["cost"]["seconds"] = 100.0.into());
    let chain = lab.run(&["j"]).must_succeed().stderr;
    let left = ["0 of 3 nodes done, about 13 min left", "1 of 3 nodes done, about 13 min left", "2 of 3 nodes done, about 13 min left"];
    assert_eq!(course(&chain), left);
    let part = lab.run(&["--force"]).must_succeed().stderr;
    assert_eq!(course(&part)[..2], ["0 of 5 nodes done, more than 13 min left", "1 of 5 nodes done, more than 13 min left"]);
    let beside = lab.run(&["--force", "-j", "2"]).must_succeed().stderr;
    assert!(course(&beside).iter().all(|line| line.ends_with(" nodes done")), "nobody has measured nodes side by side: {beside}");
}
