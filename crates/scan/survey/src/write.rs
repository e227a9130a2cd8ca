//! The pipeline file as text.

use std::fmt::Write as _;

use anyhow::Result;
use dataset::{DatasetConfig, Layout, Nnunet};
use serde_json::Value;

use crate::folder::Folder;
use crate::merge::Merged;
use crate::plan::{BATCH, Plan, Scans};
use crate::scores;

/// The whole file.
pub(crate) fn text(found: &[Folder], merged: &Merged, datasets: &[(String, DatasetConfig)], scans: &Scans, plan: &Plan) -> Result<String> {
    let mut text = String::from(
        "# Written by `flare init`; docs/datasets.md says what the parts mean. One model learns from all datasets (MultiTalent), labels every\n\
         # scan where nobody did, and a small 2-D student learns from all of it.\n",
    );
    for line in &merged.unsure {
        writeln!(text, "# ? {line}.")?;
    }
    text.push_str("\nseed: 2023\n\nclasses:\n");
    for group in merged.classes.groups() {
        writeln!(text, "  - group: {}\n    classes:", group.key())?;
        for class in group.classes() {
            let from: Vec<&str> = merged.places[&class.key].iter().map(|place| place.dataset.as_str()).collect();
            writeln!(text, "      {}: {}    # {}", class.key, class.value, from.join(", "))?;
        }
    }
    text.push_str("\ndata:\n");
    for folder in found {
        writeln!(text, "  {}: {}", folder.name, serde_json::to_string(&folder.path)?)?;
    }
    text.push_str("\nnodes:\n  partition:\n    stage: partition\n");
    let names: Vec<String> = found.iter().map(|folder| format!("{0}: data.{0}", folder.name)).collect();
    writeln!(text, "    inputs: {{datasets: &datasets {{{}}}}}\n    params:\n      datasets:", names.join(", "))?;
    for ((name, config), [labelled, unlabelled, unreadable]) in datasets.iter().zip(&scans.counts) {
        let bad = if *unreadable == 0 { String::new() } else { format!(", {unreadable} that cannot be read") };
        writeln!(text, "        {name}: {}    # labelled cases: {labelled}, unlabelled: {unlabelled}{bad}", declared(config)?)?;
    }
    text.push_str("      split: {fraction: 0.2}    # for validation: no training learns from these\n");
    text.push_str(&subsets(merged, datasets, scans));
    text.push_str(&training(merged, plan, &labelled_subsets(datasets, scans)));
    text.push_str(&scores::nodes(merged, datasets, scans));
    Ok(text)
}

/// A declaration in one line.
fn declared(config: &DatasetConfig) -> Result<String> {
    let mut value = serde_json::to_value(config)?;
    if config.layout == Layout::Nnunet(Nnunet::default()) {
        value["layout"] = "nnunet".into();
    }
    Ok(flow(&value))
}

/// YAML in one line; texts that are more than a word stand in quotes.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", flow(&key.clone().into()), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if is_word(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-/.".contains(c))
        && !reserved.contains(&text.to_lowercase().as_str())
}

fn labelled_subsets(datasets: &[(String, DatasetConfig)], scans: &Scans) -> Vec<String> {
    datasets.iter().zip(&scans.counts).filter(|(_, counts)| counts[0] > 0).map(|((name, _), _)| name.clone()).collect()
}

/// If a dataset has unlabelled cases beside labelled ones, these are a subset of their own: the split is drawn in each subset, so that
/// it holds some of the labelled cases back.
fn subsets(merged: &Merged, datasets: &[(String, DatasetConfig)], scans: &Scans) -> String {
    let is_mixed = |[labelled, unlabelled, _]: &[usize; 3]| *labelled > 0 && *unlabelled > 0;
    if !scans.counts.iter().any(is_mixed) {
        return String::new();
    }
    let groups = groups(merged);
    let mut text = String::from("      subsets:    # labelled cases apart from the others, so that the split holds some of them back\n");
    for ((name, _), counts) in datasets.iter().zip(&scans.counts) {
        text += &match is_mixed(counts) {
            true => format!(
                "        {name}: {{datasets: [{name}], any: [{groups}]}}\n        \
                 {name}__unlabelled: {{datasets: [{name}], none: [{groups}], annotated: []}}\n"
            ),
            false => format!("        {name}: {{datasets: [{name}]}}\n"),
        };
    }
    text
}

/// The groups of the classes, in a list.
fn groups(merged: &Merged) -> String {
    merged.classes.groups().iter().map(labels::Group::key).collect::<Vec<_>>().join(", ")
}

fn training(merged: &Merged, plan: &Plan, labelled: &[String]) -> String {
    let Plan { spacing_mm: [x, y, z], window_hu: [low, high], patch, pixel_mm, crop, epochs, validation_patches } = plan;
    let decoders = groups(merged);
    let strides = strides(*patch);
    format!(
        "
  volumes:
    stage: preprocess
    inputs: {{datasets: *datasets, partition: partition}}
    params:
      subsets: [{labelled}]
      layout: volume
      grid: {{spacing_mm: [{x}, {y}, {z}], window_hu: [{low}, {high}]}}    # as most scans have it, or as asked for; what most labels show
      crop_foreground: true

  teacher:
    stage: train-partial
    inputs: {{prepared: volumes, partition: partition}}
    params:
      model:
        method:
          multitalent:
            network: {{u_net: {{features: [{features}], strides: [{strides}]}}}}
            deep_supervision: true
      sampling: inverse_root
      dice: squared
      prior: 0.01
      patch: {patch:?}    # what the memory at hand allows
      patches_per_case: 1    # so that the samples of a batch come from several cases
      foreground: {{probability: 0.5, margin: 8}}
      augment: &augment {{preset: nnunet, mirror: {{probability: 0}}}}    # mirror images help where no class has a side: docs/augmentation.md
      fit:
        batch_size: {BATCH}
        epochs: {epochs}
        max_steps_per_epoch: 250
        learning_rate: 1.0e-2
        clip_gradient: 12
        schedule: {{warmup: {{epochs: 1, then: cosine}}}}
        weight_decay: 1.0e-5
        select: highest_dice
      validation_patches: {validation_patches}

  # True labels stay; the teacher adds what the annotators of a dataset did not look for.
  pseudo_labels:
    stage: pseudo-label
    inputs: {{datasets: *datasets, partition: partition, teachers: {{teacher: teacher}}}}
    params: {{subsets: [D], window: {{overlap: 0.5}}}}

  slices:
    stage: preprocess
    inputs: {{datasets: *datasets, partition: partition, pseudo: pseudo_labels}}
    params:
      subsets: [D]
      layout: slices
      grid: {{spacing_mm: [{pixel_mm}, {pixel_mm}, null], window_hu: [{low}, {high}]}}
      crop_foreground: true

  student:
    stage: train-student
    inputs: {{prepared: slices, partition: partition}}
    params:
      subset: D
      decoders: [{decoders}]
      targets: [{decoders}]
      live: [\"*\"]
      network: {{features: [16, 32, 64, 128, 256, 128]}}
      crop: {crop:?}
      augment: *augment
      fit:
        batch_size: 16
        batch_dice: true
        epochs: 40
        max_steps_per_epoch: 500
        learning_rate: 5.0e-3
        schedule: {{polynomial: {{power: 0.9}}}}
        weight_decay: 1.0e-5
        select: highest_dice
      validation_slices: 2000

  # One file for `predict`.
  model:
    stage: export
    inputs: {{model: student}}
    params: {{}}
",
        labelled = labelled.join(", "),
        features = ["16", "32", "64", "128", "160"][..strides.len() + 1].join(", "),
        strides = strides.iter().map(|stride| format!("{stride:?}")).collect::<Vec<_>>().join(", "),
    )
}

/// Four levels, each of which halves the sides that are long enough.
fn strides(patch: [usize; 3]) -> Vec<[usize; 3]> {
    let mut sides = patch;
    let mut strides = Vec::new();
    for _ in 0..4 {
        let stride = sides.map(|side| if side >= 8 { 2 } else { 1 });
        sides = std::array::from_fn(|axis| sides[axis] / stride[axis]);
        strides.push(stride);
    }
    strides
}
