//! Models that learn from datasets that label different things: every method from training to scores, and what a kill does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use volume::nifti;

use crate::lab::{Lab, await_that};
use crate::method::parameters;

pub(crate) const METHODS: [(&str, &str); 7] = [
    ("dodnet", "dodnet: {network: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}, head: {depth: 3, width: 4}}"),
    ("multitalent", "multitalent: {network: {u_net: {features: [4, 6, 8], strides: [[2, 2, 2], [2, 2, 1]]}}, deep_supervision: true}"),
    ("multi_head", "multi_head: {network: {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}}"),
    ("conditional", "conditional: {network: {u_net: {features: [4, 6, 8], strides: [[2, 2, 2], [2, 2, 1]], blocks: [1, 1, 1]}}}"),
    (
        "conditional_decoder",
        "conditional: {network: {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}, told: decoder}",
    ),
    ("target_adaptive", "target_adaptive: {network: {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}}"),
    ("per_dataset", "per_dataset: {network: {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}}"),
];

/// A training of `method` for so many epochs of two steps, and the labels of a folder of scans by it.
pub(crate) fn nodes(name: &str, method: &str, epochs: u64) -> String {
    format!(
        "
  {name}:
    stage: train-partial
    inputs: {{prepared: labelled, partition: partition}}
    params:
      model:
        datasets: [{{name: l1, subset: D_l1}}, {{name: l2, subset: D_l2}}, {{name: l3, subset: D_l3}}, {{name: l4, subset: D_l4}}]
        tasks: [{{name: organs, classes: [organ]}}, {{name: lesion, classes: [tumor]}}]
        method: {{{method}}}
      sampling: inverse_root
      foreground: {{probability: 0.8, margin: 4}}
      patch: [32, 32, 32]
      patches_per_case: 1
      augment: {{noise: {{probability: 0.5, std: 0.05}}, scale: {{probability: 0.5, range: 0.1}}, shift: {{probability: 0.5, range: 0.1}}}}
      fit:
        batch_size: 2
        epochs: {epochs}
        max_steps_per_epoch: 2
        learning_rate: 1.0e-2
        optimizer: {{sgd: {{momentum: 0.99, nesterov: true}}}}
        clip_gradient: 12
        schedule: {{polynomial_by_epoch: {{power: 0.9}}}}
        weight_decay: 1.0e-5
        select: lowest_loss
      validation_patches: 2
  {name}_labels:
    stage: pseudo-label
    inputs: {{images: data.test_images, teachers: {{{name}: {name}}}}}
    params:
      subsets: []
      grid: {{spacing_mm: [8, 8, 8], window_hu: [-200, 300]}}
      crop_foreground: true
      window: {{patch: [32, 32, 32], overlap: 0.5}}
      flips: {flips}
      rule: {{combine: maximum, threshold: 0.5}}
      keep_parts: {{liver: largest, tumor: {{voxels: 2}}}}
  {name}_overlay:
    stage: overlay
    inputs: {{labels: {name}_labels}}
",
        flips = name == "dodnet",
    )
}

/// The labelled cases.
pub(crate) const LABELLED: &str = "
  labelled:
    stage: preprocess
    inputs: {datasets: {FLARE23: data.FLARE23}, partition: partition}
    params: {subsets: [D_o5, D_c], layout: volume, grid: {spacing_mm: [8, 8, 8], window_hu: [-200, 300]}, crop_foreground: true}
";

/// The nodes of these methods, on all labelled cases.
pub(crate) fn pipeline(methods: &[(&str, &str)], epochs: u64) -> String {
    let mut text = format!("nodes:{LABELLED}");
    methods.iter().for_each(|(name, method)| text += &nodes(name, method, epochs));
    let predictions: Vec<String> = methods.iter().map(|(name, _)| format!("{name}: {name}_overlay")).collect();
    text + &format!(
        "  methods:
    stage: evaluate
    inputs: {{truth: data.test_truth, images: data.test_images, predictions: {{{}}}}}
",
        predictions.join(", ")
    ) + &format!(
        "  table:
    stage: compare
    inputs: {{scores: {{once: methods}}, models: {{{}}}}}
    params: {{protocol: plain, reference: {}, repeats: 1}}
",
        methods.iter().map(|(name, _)| format!("{name}: {name}")).collect::<Vec<_>>().join(", "),
        methods[0].0
    )
}

/// Deep mutual learning, whose second stage learns what the first has completed.
pub(crate) const MUTUAL: &str = "
  first:
    stage: train-partial
    inputs: {prepared: labelled, partition: partition}
    params:
      model:
        datasets: [{name: l1, subset: D_l1}, {name: l2, subset: D_l2}, {name: l3, subset: D_l3}, {name: l4, subset: D_l4}]
        method: {mutual_partial: {network: {u_net: {features: [4, 6], strides: [[2, 2, 2]]}}, difference: {prediction: 1, features: 0.1}}}
      patch: [32, 32, 32]
      patches_per_case: 1
      augment: {noise: {probability: 0, std: 0}, scale: {probability: 0, range: 0}, shift: {probability: 0, range: 0}}
      fit: {batch_size: 1, epochs: 1, max_steps_per_epoch: 2, learning_rate: 1.0e-2, schedule: {polynomial: {power: 0.9}},
        weight_decay: 0, select: lowest_loss}
      validation_patches: 1
  completed:
    stage: pseudo-label
    inputs: {datasets: {FLARE23: data.FLARE23}, partition: partition, teachers: {first: first}}
    params: {subsets: [D_l1, D_l2, D_l3, D_l4], grid: {spacing_mm: [8, 8, 8], window_hu: [-200, 300]}, crop_foreground: true,
      window: {patch: [32, 32, 32], overlap: 0.25}, flips: false, rule: {}}
  full:
    stage: preprocess
    inputs: {datasets: {FLARE23: data.FLARE23}, partition: partition, pseudo: completed}
    params: {subsets: [D_o5, D_c], layout: volume, grid: {spacing_mm: [8, 8, 8], window_hu: [-200, 300]}, crop_foreground: true}
";

#[test]
fn mutual_learning_goes_from_partial_networks_to_full_ones() {
    let second = |prepared: &str| {
        let first = MUTUAL.split("  completed:").next().unwrap();
        let full = "mutual_full: {network: {u_net: {features: [4, 6], strides: [[2, 2, 2]]}}, similarity: {prediction: 1, features: 0.1}}";
        let start = first.find("mutual_partial").unwrap();
        let end = first.find("}\n      patch").unwrap();
        let node = format!("{}{full}{}", &first[..start], &first[end..]);
        node.replace("  first:", "  second:").replace("prepared: labelled", &format!("prepared: {prepared}"))
    };
    let lab = Lab::new(&format!("{}{MUTUAL}{}", pipeline(&METHODS[..1], 1), second("full")));
    lab.run(&["second"]).must_succeed();
    assert_eq!(parameters(&lab.result("second")).keys().filter(|name| name.ends_with("head.0.bias")).count(), 4, "a network a dataset");
    lab.write_pipeline("lab.yaml", &format!("{}{MUTUAL}{}", pipeline(&METHODS[..1], 1), second("labelled")));
    lab.run(&["second"]).must_fail(1, &["needs every class labelled", "prepare the cases with the labels of a first"]);
}

#[test]
fn every_method_trains_labels_and_is_scored() {
    let lab = Lab::new(&pipeline(&METHODS, 1));
    let run = lab.run(&["table"]).must_succeed();
    let doubt = "weights.safetensors: `flips` mirrors along x, y and z, and the training of this model along no axis: ";
    let doubts: Vec<&str> = run.stderr.lines().filter(|line| line.contains(doubt)).collect();
    assert!(matches!(doubts[..], [one] if one.starts_with("warning: ")), "one model alone is asked for `flips`: {}", run.stderr);
    let table = fs::read_to_string(lab.result("methods").join("plain.md")).unwrap();
    for (name, _) in METHODS {
        assert!(table.contains(name), "{table}");
        let curve = fs::read_to_string(lab.result(name).join("curve.csv")).unwrap();
        assert!(curve.contains("dice_") && curve.contains("_tumor") && curve.lines().count() == 2, "{curve}");
    }
    for (name, _) in METHODS {
        let found = compared(&lab, name);
        let values: usize = parameters(&lab.result(name)).values().map(|bytes| bytes.len() / 4).sum();
        assert_eq!(found["parameters"], values.to_string(), "{found:?}");
        for cost in ["training_mib", "patch_seconds", "patch_mib"] {
            assert!(found[cost].parse::<f64>().is_ok_and(|cost| cost > 0.0), "{cost}: {found:?}");
        }
        assert_eq!(found["organs_pairs"], if name == METHODS[0].0 { "" } else { "2" }, "pairs with the reference: {found:?}");
    }
    assert_eq!(lab.run(&["table"]).must_succeed().ran(), [""; 0], "a second run does nothing");
    lab.call(&["report", "-o", "page.html"]).must_succeed();
    let page = fs::read_to_string(lab.path("page.html")).unwrap();
    assert!(page.contains("Methods side by side") && page.contains(">a pass over a patch (s)<"));
}

/// A method's line of the table, by column.
fn compared(lab: &Lab, method: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(lab.result("table").join("compare.csv")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{method},"))).unwrap_or_else(|| panic!("{method}: {text}"));
    text.lines().next().unwrap().split(',').map(str::to_owned).zip(line.split(',').map(str::to_owned)).collect()
}

#[test]
fn trainings_with_several_seeds_come_into_one_table() {
    const EACH: &str = "    foreach: {seed: [1, 2]}\n";
    let mut text = pipeline(&METHODS[..1], 1).split("  table:").next().unwrap().to_owned();
    for (node, inputs, of_seed) in [
        ("  dodnet:\n", "", ""),
        ("  dodnet_labels:\n", "teachers: {dodnet: dodnet}}", "teachers: {dodnet: \"dodnet[$seed]\"}}"),
        ("  dodnet_overlay:\n", "labels: dodnet_labels}", "labels: \"dodnet_labels[$seed]\"}"),
        ("  methods:\n", "{dodnet: dodnet_overlay}", "{dodnet: \"dodnet_overlay[$seed]\"}"),
    ] {
        text = text.replace(node, &format!("{node}{EACH}")).replace(inputs, of_seed);
    }
    text = text.replace("    stage: train-partial\n", "    stage: train-partial\n    seed: $seed\n");
    let (once, method) = METHODS[1];
    text += &nodes(once, method, 1);
    text += "  rest:
    stage: evaluate
    inputs: {truth: data.test_truth, images: data.test_images, predictions: {multitalent: multitalent_overlay}}
  table:
    stage: compare
    inputs:
      scores: {one: \"methods[1]\", two: \"methods[2]\", rest: rest}
      models: {dodnet: \"dodnet[1]\", multitalent: multitalent, multitalent.before: \"dodnet[2]\"}
    params: {protocol: plain, reference: dodnet, repeats: 0}
";
    let lab = Lab::new(&text);
    lab.run(&["table"]).must_succeed();
    assert!(parameters(&lab.result("dodnet[1]")) != parameters(&lab.result("dodnet[2]")), "another seed, another training");
    let (dodnet, multitalent) = (compared(&lab, "dodnet"), compared(&lab, "multitalent"));
    assert_eq!((dodnet["trainings"].as_str(), multitalent["trainings"].as_str()), ("2", "1"));
    assert!(multitalent["organs_trainings_sd"].is_empty() && multitalent["organs_pairs"] == "2" && dodnet["patch_seconds"].is_empty());
    let seconds = |node: &str| -> f64 {
        let times = fs::read_to_string(lab.result(node).join("about/times.csv")).unwrap();
        times.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap()
    };
    let told: f64 = multitalent["training_seconds"].parse().unwrap();
    assert!((told - seconds("multitalent") - seconds("dodnet[2]")).abs() < 1e-5, "a part's time counts too: {told}");
}

#[test]
fn a_killed_training_on_partial_labels_costs_no_bit_and_begins_others() {
    let long = pipeline(&METHODS[..1], 40);
    let quiet = Lab::new(&long);
    quiet.run(&["dodnet"]).must_succeed();

    let lab = Lab::new(&long);
    let mut runner = lab.command(&["run", "dodnet"]).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = lab.attempt("dodnet").join("work/checkpoint/state.json");
    await_that("a checkpoint", || checkpoint.is_file().then_some(()));
    // The process may have ended this moment; whether it was killed shows in what follows.
    let _ = Command::new("kill").args(["-KILL", &runner.id().to_string()]).stderr(Stdio::null()).status();
    assert_eq!(runner.wait().unwrap().code(), None, "killed and not finished");
    let last = lab.run(&["dodnet"]).must_succeed();
    assert!(last.stderr.contains("dodnet: goes on where it was interrupted"), "{}", last.stderr);
    assert!(parameters(&quiet.result("dodnet")) == parameters(&lab.result("dodnet")), "the weights differ");

    // A model of other tasks begins with what it shares.
    let more = "  next:
    stage: train-partial
    inputs: {prepared: labelled, partition: partition, init: dodnet}
    params: {model: {datasets: [{name: l1, subset: D_l1}], method: {dodnet: {network: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}, head: {depth: 3, width: 4}}}},
      patch: [32, 32, 32], patches_per_case: 1, augment: {noise: {probability: 0, std: 0}, scale: {probability: 0, range: 0}, shift: {probability: 0, range: 0}},
      fit: {batch_size: 1, epochs: 1, max_steps_per_epoch: 1, learning_rate: 1.0e-2, schedule: {polynomial: {power: 0.9}}, weight_decay: 0, select: lowest_loss}, validation_patches: 1}
";
    lab.write_pipeline("lab.yaml", &format!("{long}{more}"));
    let next = lab.run(&["next"]).must_succeed();
    let told = next.stderr.lines().find(|line| line.contains("are from `init`")).unwrap_or_else(|| panic!("{}", next.stderr));
    assert!(told.contains("anew: controller.weight"), "{told}");
}

#[test]
fn true_labels_win_over_those_of_the_model() {
    let of_dataset = "  of_l3:
    stage: pseudo-label
    inputs: {datasets: {FLARE23: data.FLARE23}, partition: partition, teachers: {dodnet: dodnet}}
    params: {subsets: [D_l3], grid: {spacing_mm: [8, 8, 8], window_hu: [-200, 300]}, crop_foreground: true,
      window: {patch: [32, 32, 32], overlap: 0.25}, flips: false, rule: {}}
";
    let lab = Lab::new(&format!("{}{of_dataset}", pipeline(&METHODS[..1], 1)));
    lab.run(&["of_l3"]).must_succeed();
    let dataset = lab.result("phantom").join("FLARE");
    let labelled = fs::read_dir(lab.result("of_l3").join("cancer")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut n_cases = 0;
    for name in labelled {
        let read = |folder: &Path| nifti::read_labels(folder.join(&name)).unwrap().0.data;
        let places = ["labelsTr2200/20230507-fix", "labelsTr2200"].map(|folder| dataset.join(folder));
        let truth = read(places.iter().find(|folder| folder.join(&name).is_file()).unwrap());
        let tumor = labels::flare23::TUMOR;
        assert!(read(&lab.result("of_l3").join("cancer")) == truth.mapv(|label| if label == tumor { tumor } else { 0 }));
        let organs = read(&lab.result("of_l3").join("organ"));
        let five = |label: &u8| labels::flare23::FIVE_ORGANS.contains(label);
        assert!(truth.iter().zip(&organs).filter(|(label, _)| five(label)).all(|(label, found)| label == found));
        n_cases += 1;
    }
    assert_eq!(n_cases, 2);
}

/// FLARE23 has no cases with all organs and a tumor annotated; other data may.
#[test]
fn cases_with_all_organs_and_a_tumor_count_as_truth_everywhere() {
    let method = "per_dataset: {network: {u_net: {features: [4, 6], strides: [[2, 2, 2]]}}}";
    let nodes = nodes("per_dataset", method, 1).replace(
        "        datasets: [{name: l1, subset: D_l1}, {name: l2, subset: D_l2}, {name: l3, subset: D_l3}, {name: l4, subset: D_l4}]\n",
        "",
    );
    let lab = Lab::new(&format!(
        "nodes:
  phantom: {{params: {{cases: {{D_other: 2}}}}}}
{LABELLED}{nodes}
  completed:
    stage: pseudo-label
    inputs: {{datasets: {{FLARE23: data.FLARE23}}, partition: partition, teachers: {{per_dataset: per_dataset}}}}
    params: {{subsets: [D_o5, D_c], grid: {{spacing_mm: [8, 8, 8], window_hu: [-200, 300]}}, crop_foreground: true,
      window: {{patch: [32, 32, 32], overlap: 0.25}}, flips: false, rule: {{}}}}
"
    ));
    lab.run(&["completed", "M_c", "M_o2"]).must_succeed();
    let lines = |list: &str| -> Vec<String> {
        let text = fs::read_to_string(lab.result("partition").join(list)).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let others = lines("D_other.txt");
    assert_eq!(others.len(), 2);
    for union in ["D_o13.txt", "D_o5.txt", "D_c.txt"] {
        assert!(others.iter().all(|case| lines(union).contains(case)), "{union}");
    }
    assert!(parameters(&lab.result("per_dataset")).keys().any(|name| name.starts_with("D_other.")), "a dataset of its own");
    let data = lab.result("phantom").join("FLARE");
    for case in others {
        let read = |path: &Path| nifti::read_labels(path).unwrap().0.data;
        let name = format!("{case}.nii.gz");
        let truth = ["labelsTr2200/20230507-fix", "labelsTr2200"].map(|folder| data.join(folder).join(&name));
        let truth = read(truth.iter().find(|path| path.is_file()).unwrap());
        let [organs, tumors] = ["organ", "cancer"].map(|group| read(&lab.result("completed").join(group).join(&name)));
        let tumor = labels::flare23::TUMOR;
        assert!(truth.iter().any(|&label| label == tumor) && truth.iter().any(|&label| label == 5), "all organs, and a tumor");
        assert!(truth.iter().zip(&tumors).all(|(&truth, &found)| (truth == tumor) == (found == tumor)), "no model adds a tumor");
        assert!(truth.iter().zip(&organs).all(|(&truth, &found)| truth == tumor || truth == found), "nor an organ");
    }
}
