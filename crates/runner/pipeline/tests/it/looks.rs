//! The verbs for those who look and compare.

use crate::lab::{Lab, PIPELINE, await_that, on_a_terminal};

/// The names of a section of `diff`.
fn section(text: &str, title: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != format!("{title}:")).skip(1).take_while(|line| line.starts_with(' '));
    let joined = lines.map(|line| line.split(" (because").next().unwrap()).collect::<Vec<_>>().join(" ");
    let mut names: Vec<String> = joined.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn diff_tells_what_a_variant_will_run() {
    let lab = Lab::new(PIPELINE);
    lab.run(&[]).must_succeed();
    lab.write(
        "variant.yaml",
        "extends: pipeline.yaml\nstore: work\nnodes: {b: {params: {text: seven}}, c: null, d: {stage: measure, inputs: {what: b}}}\n",
    );
    let text = lab.call(&["diff", "variant.yaml"]).must_succeed().stdout;
    assert_eq!(text, lab.call(&["diff", "pipeline.yaml", "variant.yaml"]).must_succeed().stdout);
    assert!(text.contains("\n  b\n    parameter text \"three\" → \"seven\"\n"), "{text}");
    assert_eq!(section(&text, "nodes that are gone"), ["c"]);
    assert_eq!(section(&text, "new nodes"), ["d"]);
    assert_eq!(section(&text, "nodes that differ by what they read"), ["j", "m"]);
    assert_eq!(section(&text, "shared results"), ["a"]);
    assert_eq!(lab.run(&["--pipeline", "variant.yaml"]).must_succeed().ran(), ["b", "d", "j", "m"]);
}

#[test]
fn diff_finds_shared_results_under_other_names_and_no_difference_in_a_file_with_itself() {
    let lab = Lab::new(PIPELINE);
    let same = lab.call(&["diff", "pipeline.yaml", "pipeline.yaml"]).must_succeed().stdout;
    assert!(same.contains("\nnothing differs\n"), "{same}");
    lab.write("renamed.yaml", &PIPELINE.replace("  b:\n", "  bee:\n").replace("b: b/words", "b: bee/words"));
    let text = lab.call(&["diff", "pipeline.yaml", "renamed.yaml"]).must_succeed().stdout;
    assert!(text.contains("bee (there b)") && !text.contains("written differently"), "{text}");
    lab.run(&[]).must_succeed();
    assert_eq!(lab.run(&["--pipeline", "renamed.yaml"]).must_succeed().ran(), [""; 0]);
}

#[test]
fn diff_needs_a_base_or_a_second_file() {
    let lab = Lab::new(PIPELINE);
    let outcome = lab.call(&["diff", "pipeline.yaml"]);
    assert!(outcome.code == Some(2) && outcome.stderr.contains("extends no other file"), "{outcome:?}");
}

#[test]
fn the_drawing_has_every_node_and_every_arrow() {
    let lab = Lab::new(PIPELINE);
    let svg = lab.call(&["graph", "--format", "svg"]).must_succeed().stdout;
    for name in ["a", "b", "j", "m", "c", "data.more"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{name}: {svg}");
    }
    // a and b to j, j to m, a to c, and data.more to a.
    assert_eq!(svg.matches("class=\"tip\"").count(), 5);
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    assert_eq!(lab.call(&["graph", "--format", "dot"]).must_succeed().stdout.matches(" -> ").count(), 5);
    assert_eq!(lab.call(&["graph"]).must_succeed().stdout.matches(" --> ").count(), 5);
}

#[test]
fn a_report_tells_how_every_node_stands() {
    let lab = Lab::new(PIPELINE);
    let states = || {
        lab.call(&["report", "-o", "out/page.html"]).must_succeed();
        lab.read("out/page.html").replace("<li>", " ").replace("</li>", "").replace("<ul>", "").replace("</ul>\n", "").trim().to_owned()
    };
    assert_eq!(states(), "a: missing b: missing j: waits m: waits c: waits");
    assert_eq!(lab.run(&["--set", "j.fails_at=two"]).code, Some(1));
    lab.write("pipeline.yaml", &PIPELINE.replace("{glue: \"+\"}", "{glue: \"+\", fails_at: two}"));
    assert!(states().contains("j: failed"), "{}", states());
    lab.write("pipeline.yaml", PIPELINE);
    lab.run(&[]).must_succeed();
    assert_eq!(states(), "a: fresh b: fresh j: fresh m: fresh c: fresh");
    lab.write("pipeline.yaml", &PIPELINE.replace("three", "seven"));
    assert_eq!(states(), "a: fresh b: stale j: waits m: waits c: fresh");
    lab.write("pipeline.yaml", &PIPELINE.replace("{glue: \"+\"}", "{glue: \"+\", delay_ms: 500}"));
    let mut run = lab.start(&[]);
    await_that("j to run", || states().contains("j: running").then_some(()));
    run.kill().unwrap();
    run.wait().unwrap();
    await_that("the stage to end with its runner", || states().contains("j: begun").then_some(()));
}

#[test]
fn a_terminal_shows_a_line_for_each_running_node_and_elsewhere_lines_are_plain() {
    let pipeline = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4}}
  j: {foreach: {n: [x, y]}, stage: join, params: {glue: $n, delay_ms: 300}, inputs: {parts: {a: a/words}}}
";
    let plain = Lab::new(pipeline).run(&["-j", "2"]).must_succeed().stderr;
    assert!(!plain.contains(['\u{1b}', '\r']) && plain.contains("j[x]: done in "), "{plain}");
    let Some(shown) = on_a_terminal(&Lab::new(pipeline), &["run", "-j", "2"], 0) else { return };
    for node in ["x", "y"] {
        let line = shown.split(['\r', '\n', '\u{1b}']).find(|line| line.contains(&format!("j[{node}]: words")) && line.contains("4/5"));
        assert!(line.is_some_and(|line| line.contains(" elapsed, ") && line.contains(" left]")), "{shown:?}");
    }
    assert!(shown.contains("1 of 3 nodes done") && shown.contains("3 done in "), "{shown:?}");
}

#[test]
fn shells_learn_the_verbs() {
    let lab = Lab::new(PIPELINE);
    for shell in ["bash", "zsh", "fish"] {
        let script = lab.call(&["completions", shell]).must_succeed().stdout;
        assert!(script.contains("toy") && script.contains("explain") && script.contains("keep-going"), "{shell}: {script}");
    }
}
