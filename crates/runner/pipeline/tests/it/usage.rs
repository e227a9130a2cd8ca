//! The command line: options at the verbs that they belong to, exit code 2 for wrong usage, and looking without data.

use crate::lab::{Lab, PIPELINE};

#[test]
fn an_option_belongs_to_the_verbs_that_it_means_something_to() {
    let lab = Lab::new(PIPELINE);
    lab.call(&["run", "--device", "cpu"]).must_succeed();
    lab.call(&["status", "--verify"]).must_succeed();
    for wrong in [
        &["status", "--device", "cpu"][..],
        &["schema", "--pipeline", "pipeline.yaml"],
        &["stages", "--store", "x"],
        &["graph", "--set", "a.text=x"],
        &["log", "a", "--slurm", "partition=x"],
        &["verify", "--data", "more=x"],
        &["--device", "cpu", "run"],
        &["run", "--measure"],
    ] {
        let outcome = lab.call(wrong);
        assert_eq!(outcome.code, Some(2), "{wrong:?}: {outcome:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2_whatever_the_verb() {
    let lab = Lab::new("seed: 1\nstore: work\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n");
    for (wrong, told) in [
        (&["log", "a"][..], "`a` stands for several nodes; name one of a[x], a[y]"),
        (&["explain", "b"], "there is no node `b`"),
        (&["run", "a[x]", "--case", "one"], "does not work case by case"),
        (&["run", "--pipeline", "gone.yaml"], "cannot read the pipeline file"),
        (&["diff", "pipeline.yaml"], "extends no other file"),
        (&["init", "A=b", "-o", "pipeline.yaml"], "is there already"),
        (&["init", "A=gone", "-o", "mine.yaml"], "A=gone: there is no such folder"),
        (&["init", "A=work", "--spacing", "0"], "it must be from 0.1 to 20 mm"),
        (&["init", "A=work", "--spacing", "fine"], "it must be a number of mm, such as 3"),
        (&["words"], "`words` is a stage: `toy stage words --help`"),
        (&["stages", "wrods"], "did you mean `words`?"),
        (&["stage", "wrods", "--output", "out"], "did you mean `words`?"),
        (&["stage", "measure", "--output", "out"], "stage measure needs `--input what=PATH` (a file or folder)"),
    ] {
        let outcome = lab.call(wrong);
        assert_eq!(outcome.code, Some(2), "{wrong:?}: {outcome:?}");
        assert!(outcome.stderr.contains(told), "{wrong:?}: {outcome:?}");
    }
}

#[test]
fn the_help_of_a_stage_is_that_of_the_stage() {
    let lab = Lab::new(PIPELINE);
    let manual = lab.call(&["stages", "words"]).must_succeed().stdout;
    assert_eq!(lab.call(&["stage", "words", "--help"]).must_succeed().stdout, manual);
    assert!(lab.call(&["stage", "--help"]).must_succeed().stdout.contains("on folders that you name"));
}

#[test]
fn what_can_be_told_without_the_data_is_told() {
    let lab = Lab::new(PIPELINE);
    lab.run(&[]).must_succeed();
    std::fs::remove_file(lab.path("more.txt")).unwrap();
    let status = lab.call(&["status"]).must_succeed().stdout;
    let line = |node: &str| status.lines().find(|line| line.starts_with(&format!("{node} "))).unwrap();
    assert!(line("a").contains("waits") && line("a").contains("for data.more, of which nothing is at "), "{status}");
    assert!(line("a").contains("; its latest result is of 2"), "{status}");
    assert!(line("b").contains("fresh"), "{status}");
    assert!(line("j").contains("for a; its latest result is of 2"), "{status}");
    assert!(lab.call(&["explain", "a"]).must_succeed().stdout.contains("it reads data.more, of which nothing is at "));
    assert!(!lab.call(&["log", "a"]).must_succeed().stdout.is_empty());
    lab.call(&["report"]).must_succeed();
    // A run needs the data, and says so once, however many nodes read them.
    lab.write("pipeline.yaml", &PIPELINE.replace("  m:\n", "  z: {stage: words, params: {text: x}, inputs: {more: data.more}}\n  m:\n"));
    let run = lab.run(&[]);
    assert_eq!((run.code, run.stderr.matches("there is nothing at").count()), (Some(2), 1), "{run:?}");
    assert!(run.stderr.contains("name nodes to run that do without a, z"), "{run:?}");
    lab.run(&["b"]).must_succeed();
}

#[test]
fn data_within_other_data_move_with_them() {
    let pipeline = "seed: 1
store: work
data:
  set: here
  inner: {from: data.set/inner}
  deep: {from: data.inner/deep.txt}
nodes:
  a: {stage: words, params: {text: x}, inputs: {more: data.deep}}
";
    let lab = Lab::new(pipeline);
    lab.write("here/inner/deep.txt", " one");
    lab.write("there/inner/deep.txt", " two three");
    lab.run(&[]).must_succeed();
    assert_eq!(lab.read("work/results/pipeline/a/count.txt"), "2");
    lab.run(&["--data", "set=there"]).must_succeed();
    assert_eq!(lab.read("work/results/pipeline/a/count.txt"), "3");
    let gone = lab.run(&["--data", "set=nowhere"]).stderr;
    assert!(gone.lines().count() == 1 && gone.contains("nowhere"), "{gone}");
    lab.write("pipeline.yaml", &pipeline.replace("set: here", "set: {from: data.deep}"));
    let circle = lab.run(&[]);
    assert_eq!(circle.code, Some(2));
    assert!(circle.stderr.contains("data.set: lies in itself"), "{circle:?}");
    lab.write("pipeline.yaml", &pipeline.replace("data.set/inner", "data.sat/inner"));
    let unknown = lab.run(&[]).stderr;
    assert!(unknown.contains("data.inner: there is no `data.sat`") && unknown.contains("did you mean `set`?"), "{unknown}");
}
