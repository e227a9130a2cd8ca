//! Pipeline files: what is wrong is told with file, line and field, the exit code is 2, and nothing is run.

use crate::lab::{Lab, PIPELINE};

/// Each: what is wrong, the file, and the message.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "an unknown key at the top",
        "seed: 1\nstore: w\nnodse: {}\nnodes:\n  a: {stage: words, params: {text: x}}\n",
        "pipeline.yaml:3: nodse: a pipeline file has no `nodse`; it has extends, seed, device, store, slurm, classes, data, defaults, nodes; did you mean `nodes`?",
    ),
    (
        "a site's option that is none",
        "seed: 1\nstore: w\nslurm:\n  partition: cpu\n  poll: 10\nnodes:\n  a: {stage: words, params: {text: x}}\n",
        "pipeline.yaml:5: slurm.poll: 10 is no time, such as `10 s`",
    ),
    (
        "an unknown key of a node",
        "seed: 1\nstore: w\nnodes:\n  a:\n    stage: words\n    parms: {text: x}\n    params: {text: x}\n",
        "pipeline.yaml:6: nodes.a.parms: a node has no `parms`; it has stage, like, foreach, inputs, params, seed, resources; did you mean `params`?",
    ),
    ("no nodes", "seed: 1\nstore: w\nnodes: {}\n", "pipeline.yaml:3: nodes: must be a map of at least one node"),
    (
        "a node without a stage",
        "seed: 1\nstore: w\nnodes:\n  a: {params: {text: x}}\n",
        "pipeline.yaml:4: nodes.a.stage: must be the name of a stage; the verb `stages` lists them",
    ),
    (
        "an unknown stage",
        "seed: 1\nstore: w\nnodes:\n  a:\n    stage: wrods\n",
        "pipeline.yaml:5: nodes.a.stage: there is no stage `wrods`; the stages are words, join, measure, shout; did you mean `words`?",
    ),
    (
        "an unknown role",
        "seed: 1\nstore: w\ndata: {d: d.txt}\nnodes:\n  a:\n    stage: words\n    params: {text: x}\n    inputs:\n      fewer: data.d\n",
        "pipeline.yaml:9: nodes.a.inputs.fewer: stage words has no input `fewer`; it reads more",
    ),
    (
        "a missing role",
        "seed: 1\nstore: w\nnodes:\n  m:\n    stage: measure\n",
        "pipeline.yaml:4: nodes.m.inputs.what: stage measure needs the input `what` (a file or folder)",
    ),
    (
        "one input where many have names",
        "seed: 1\nstore: w\nnodes:\n  a: {stage: words, params: {text: x}}\n  j: {stage: join, params: {glue: x}, inputs: {parts: a}}\n",
        "pipeline.yaml:5: nodes.j.inputs.parts: needs names for its many inputs: `parts: {NAME: NODE, …}`, or `parts: NODE[*]`",
    ),
    (
        "each of many where one is read",
        "seed: 1\nstore: w\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n  m:\n    stage: measure\n    inputs: {what: 'a[*]'}\n",
        "pipeline.yaml:7: nodes.m.inputs.what: stage measure reads one `what`, not many",
    ),
    (
        "each of many under a name",
        "seed: 1\nstore: w\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n  j:\n    stage: join\n    params: {glue: x}\n    inputs: {parts: {b: 'a[*]'}}\n",
        "pipeline.yaml:8: nodes.j.inputs.parts.b: `*` gives names of its own: write `parts: NODE[*]`",
    ),
    (
        "each of none",
        "seed: 1\nstore: w\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n  j:\n    stage: join\n    params: {glue: x}\n    inputs: {parts: 'a[*,z]'}\n",
        "pipeline.yaml:8: nodes.j.inputs.parts: no node fits `a[*,z]`; the nodes are a[x], a[y]",
    ),
    (
        "data that are many",
        "seed: 1\nstore: w\ndata:\n  d: {from: 'a[*]'}\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n",
        "pipeline.yaml:4: data.d: is one file or folder; `*` stands for many",
    ),
    (
        "an unknown node",
        "seed: 1\nstore: w\nnodes:\n  a: {stage: words, params: {text: x}}\n  m:\n    stage: measure\n    inputs: {what: b/words}\n",
        "pipeline.yaml:7: nodes.m.inputs.what: there is no node `b`; the nodes are a, m; did you mean `a`?",
    ),
    (
        "a node of many, not told which",
        "seed: 1\nstore: w\nnodes:\n  a: {foreach: {t: [x, y]}, stage: words, params: {text: $t}}\n  m:\n    stage: measure\n    inputs: {what: a}\n",
        "pipeline.yaml:7: nodes.m.inputs.what: `a` stands for 2 nodes; name one of a[x], a[y]",
    ),
    (
        "unknown data",
        "seed: 1\nstore: w\nnodes:\n  m:\n    stage: measure\n    inputs: {what: data.set}\n",
        "pipeline.yaml:6: nodes.m.inputs.what: there is no `data.set`; `data:` has nothing",
    ),
    (
        "a path where a reference stands",
        "seed: 1\nstore: w\nnodes:\n  m:\n    stage: measure\n    inputs: {what: /data/x}\n",
        "pipeline.yaml:6: nodes.m.inputs.what: `/data/x` is no reference; write `NODE`, `NODE/FOLDER`, `NODE[VALUE]`, `NODE[*]` or `data.NAME` (paths stand under `data:`)",
    ),
    (
        "data from a node that is not there",
        "seed: 1\nstore: w\ndata:\n  d: {from: phantom/truth}\nnodes:\n  a: {stage: words, params: {text: x}}\n",
        "pipeline.yaml:4: data.d: there is no node `phantom`; the nodes are a",
    ),
    (
        "a circle",
        "seed: 1\nstore: w\nnodes:\n  a: {stage: measure, inputs: {what: c}}\n  b: {stage: measure, inputs: {what: a}}\n  c: {stage: measure, inputs: {what: b}}\n",
        "pipeline.yaml:4: nodes.a.inputs: the nodes feed each other in a circle: a → b → c → a",
    ),
    (
        "an unknown parameter",
        "seed: 1\nstore: w\nnodes:\n  a:\n    stage: words\n    params:\n      text: x\n      colour: red\n",
        "pipeline.yaml:8: nodes.a.params.colour: stage words has no parameter `colour`; it has text, without, dated",
    ),
    (
        "a parameter of the wrong type",
        "seed: 1\nstore: w\nnodes:\n  a: {stage: words, params: {text: x}}\n  j:\n    stage: join\n    inputs: {parts: {a: a}}\n    params:\n      glue: x\n      delay_ms: soon\n",
        "pipeline.yaml:10: nodes.j.params.delay_ms: must be a whole number, but is \"soon\"",
    ),
    (
        "a parameter that the stage finds senseless",
        "seed: 1\nstore: w\nnodes:\n  a:\n    stage: words\n    params: {without: x,\n      text: ''}\n",
        "pipeline.yaml:7: nodes.a.params.text: parameters of stage words: `text` must have a word",
    ),
    (
        "a node that stands twice",
        "seed: 1\nstore: w\nnodes:\n  a: {stage: words, params: {text: x}}\n  a: {stage: words, params: {text: y}}\n",
        "pipeline.yaml:5: nodes: `a` stands twice in the same map; keep one of them",
    ),
    (
        "no seed",
        "store: w\nnodes:\n  a: {stage: words, params: {text: x}}\n",
        "pipeline.yaml: seed: must be given as a whole number; all randomness comes from it",
    ),
    (
        "a device that is none",
        "seed: 1\nstore: w\ndevice: tpu\nnodes:\n  a: {stage: words, params: {text: x}}\n",
        "pipeline.yaml:3: device: must be auto, cpu or cuda",
    ),
    (
        "a foreach that is no list",
        "seed: 1\nstore: w\nnodes:\n  a:\n    foreach: {t: x}\n    stage: words\n    params: {text: x}\n",
        "pipeline.yaml:5: nodes.a.foreach.t: must be a list of different numbers or names, made of letters, digits, `.`, `_` and `-`",
    ),
];

#[test]
fn everything_that_can_be_wrong_is_told_with_its_line_before_any_work() {
    for (what, file, message) in WRONG {
        let lab = Lab::new(file);
        let outcome = lab.run(&[]);
        assert_eq!(outcome.code, Some(2), "{what}: {outcome:?}");
        assert_eq!(outcome.stderr.trim_end(), format!("error: {message}"), "{what}");
        assert!(!lab.path("w").exists(), "{what}: nothing may be made");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let lab = Lab::new(
        "seed: x\nstore: w\nnodes:\n  a: {stage: wrods}\n  m: {stage: measure}\n  j: {stage: join, params: {delay: 3, fails_at: 1}}\n",
    );
    let stderr = lab.run(&[]).stderr;
    // The seed, the stage, two inputs, and of j's parameters one unknown, one missing and one of another type.
    assert_eq!(stderr.lines().count(), 7, "{stderr}");
    for what in [
        "params.delay: stage join has no parameter `delay`",
        "params.glue: is missing; give text",
        "params.fails_at: must be text or null, but is 1",
    ] {
        assert!(stderr.contains(what), "{what}: {stderr}");
    }
}

#[test]
fn a_stage_tells_all_its_parameters() {
    let lab = Lab::new(PIPELINE);
    let join = lab.call(&["stages", "join"]).must_succeed().stdout;
    let expected = "join: joins the words of many inputs

Inputs:
  parts.NAME
      folders of words

Output:
  joined.txt

Parameters:
  glue: text, required
      What stands between two words.
  delay_ms: whole number, default 0
      Milliseconds of work for each word.
  fails_at: text, optional
      The word at which it fails.

Paper: none
";
    assert_eq!(join, expected);
    let wrong = lab.call(&["stages", "jion"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("there is no stage `jion`") && wrong.stderr.contains("did you mean `join`?"), "{wrong:?}");
}

#[test]
fn missing_data_are_told_where_they_are_named_but_only_if_they_are_needed() {
    let lab = Lab::new(PIPELINE);
    let gone = lab.run(&["--data", "more=gone.txt"]);
    assert_eq!(gone.code, Some(2));
    assert!(gone.stderr.starts_with("error: the command line: data.more: there is nothing at "), "{}", gone.stderr);
    lab.run(&["b", "--data", "more=gone.txt"]).must_succeed();
}

#[test]
fn an_overlay_changes_parameters_and_data_and_takes_nodes_away() {
    let lab = Lab::new(PIPELINE);
    let overlay = "extends: ../pipeline.yaml
store: ../demo-work
data: {more: {from: source/words/0.txt}}
nodes:
  source: {stage: words, params: {text: five}}
  j: {params: {glue: '-'}, inputs: {parts: {b: null}}}
  m: null
  c: null
";
    lab.write("pipelines/demo.yaml", overlay);
    lab.run(&["--pipeline", "pipelines/demo.yaml"]).must_succeed();
    assert_eq!(lab.read("demo-work/results/demo/j/joined.txt"), "one-twofive");
    assert!(!lab.path("demo-work/results/demo/m").exists());
    assert!(!lab.path("work").exists(), "the overlay names a store of its own");
}

#[test]
fn a_variant_repeats_only_what_differs() {
    let lab = Lab::new(&PIPELINE.replace("store: work\n", ""));
    lab.write("variants/glued.yaml", "extends: ../pipeline.yaml\nnodes: {j: {params: {glue: and}}}\n");
    lab.run(&[]).must_succeed();
    assert_eq!(lab.run(&["--pipeline", "variants/glued.yaml"]).must_succeed().ran(), ["j", "m"]);
    assert_eq!(lab.read("work/results/glued/j/joined.txt"), "oneandtwoandfourandthree");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "one+two+four+three");
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0]);
}

#[test]
fn a_foreach_makes_a_node_of_each_combination() {
    let pipeline = "seed: 1
store: work
nodes:
  a: {foreach: {t: [x, y], n: [1, 2]}, stage: words, params: {text: '$t${n}'}}
  j: {stage: join, params: {glue: '+'}, inputs: {parts: {one: 'a[x,2]/words', two: 'a[y,1]/words'}}}
";
    let lab = Lab::new(pipeline);
    let outcome = lab.run(&[]).must_succeed();
    assert_eq!(outcome.ran(), ["a[x,1]", "a[x,2]", "a[y,1]", "a[y,2]", "j"]);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), "x2+y1");
    assert_eq!(lab.run(&["a", "--force"]).must_succeed().ran().len(), 4, "the plain name stands for all of them");
}

#[test]
fn an_input_of_many_takes_each_node_of_a_foreach_under_its_values() {
    let pipeline = "seed: 1
store: work
nodes:
  a: {foreach: {t: [y, x], n: [1, 2]}, stage: words, params: {text: '$t${n}'}}
  some: {stage: join, params: {glue: '+'}, inputs: {parts: 'a[*,2]/words'}}
  others: {stage: join, params: {glue: '+'}, inputs: {parts: 'a[y,*]/words'}}
  named: {stage: join, params: {glue: '+'}, inputs: {parts: {x: 'a[x,2]/words', y: 'a[y,2]/words'}}}
";
    let lab = Lab::new(pipeline);
    lab.run(&[]).must_succeed();
    let joined = |node: &str| lab.read(&format!("work/results/pipeline/{node}/joined.txt"));
    assert_eq!([joined("some"), joined("others"), joined("named")], ["x2+y2", "y1+y2", "x2+y2"], "in the order of names");
    let objects = |node: &str| std::fs::canonicalize(lab.path(&format!("work/results/pipeline/{node}"))).unwrap();
    assert_eq!(objects("some"), objects("named"), "it is the same node, written in short");
}

#[test]
fn the_graph_and_the_stages_can_be_shown() {
    let lab = Lab::new(PIPELINE);
    let mermaid = lab.call(&["graph"]).must_succeed().stdout;
    assert!(mermaid.contains("n0[\"a<br/>words\"]") && mermaid.contains("data_more -- \"more\" --> n0"), "{mermaid}");
    let dot = lab.call(&["graph", "--format", "dot"]).must_succeed().stdout;
    assert!(dot.contains("\"n0\" -> \"n2\" [label=\"parts.a\"];"), "{dot}");
    let list = lab.call(&["stages"]).must_succeed().stdout;
    assert!(list.starts_with("words    writes each word into a file\n") && list.lines().count() == 6, "{list}");
    let stages = lab.call(&["stages", "--markdown"]).must_succeed().stdout;
    assert!(
        stages.contains("| `join` | joins the words of many inputs | `parts.NAME`: folders of words | joined.txt | none |"),
        "{stages}"
    );
}
