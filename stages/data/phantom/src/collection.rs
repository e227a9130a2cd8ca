//! A small collection of datasets that were labelled for other purposes, in nnU-Net's layout: each has values of its own, they
//! overlap, and they contradict each other about what a tumor belongs to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use labels::BACKGROUND;
use labels::flare23::{self, TUMOR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stage_kit::{StageIo, write_atomic_text};

const LIVER: u8 = 1;
const RIGHT_KIDNEY: u8 = 2;
const SPLEEN: u8 = 3;
const LEFT_KIDNEY: u8 = 13;

/// How many cases of each dataset of the collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Collection {
    /// `collection/organs`: the 13 organs, numbered by alphabet. Tumors belong to the organ that they grow in.
    pub organs: usize,
    /// `collection/kidneys`: liver 1 and both kidneys 2. Tumors belong to neither.
    pub kidneys: usize,
    /// `collection/kidney_tumors`: both kidneys 1 and their tumors 2, which belong to the kidneys. Every patient has one there,
    /// and none elsewhere.
    pub kidney_tumors: usize,
    /// `collection/spleen`: the spleen alone, 1.
    pub spleen: usize,
}

impl Collection {
    /// The cases of a dataset.
    pub(crate) fn of(&self, dataset: Dataset) -> usize {
        match dataset {
            Dataset::Organs => self.organs,
            Dataset::Kidneys => self.kidneys,
            Dataset::KidneyTumors => self.kidney_tumors,
            Dataset::Spleen => self.spleen,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        Dataset::ALL.iter().all(|&dataset| self.of(dataset) == 0)
    }
}

/// A dataset of the collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dataset {
    Organs,
    Kidneys,
    KidneyTumors,
    Spleen,
}

impl Dataset {
    pub(crate) const ALL: [Self; 4] = [Self::Organs, Self::Kidneys, Self::KidneyTumors, Self::Spleen];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organs => "organs",
            Self::Kidneys => "kidneys",
            Self::KidneyTumors => "kidney_tumors",
            Self::Spleen => "spleen",
        }
    }

    /// Its folder in the output.
    pub(crate) fn folder(self) -> PathBuf {
        Path::new("collection").join(self.name())
    }

    /// Its value of a voxel, given the class there and the organ that would be there without tumors, both as FLARE23's values.
    pub(crate) fn value(self) -> impl Fn(u8, u8) -> u8 {
        let organs = organs_by_alphabet();
        move |class, organ| match (self, class) {
            (Self::Organs, _) => (1..).zip(&organs).find(|(_, (_, value))| *value == organ).map_or(BACKGROUND, |(place, _)| place),
            (Self::Kidneys, LIVER) | (Self::KidneyTumors, RIGHT_KIDNEY | LEFT_KIDNEY) | (Self::Spleen, SPLEEN) => 1,
            (Self::Kidneys, RIGHT_KIDNEY | LEFT_KIDNEY) | (Self::KidneyTumors, TUMOR) => 2,
            _ => BACKGROUND,
        }
    }

    /// The names of its classes, each with a value or, where it contains others, several.
    fn classes(self) -> Vec<(String, Value)> {
        let of = |classes: &[(&str, Value)]| classes.iter().map(|(name, values)| ((*name).to_owned(), values.clone())).collect();
        match self {
            Self::Organs => (1..).zip(organs_by_alphabet()).map(|(place, (name, _))| (name, json!(place))).collect(),
            Self::Kidneys => of(&[("liver", json!(1)), ("kidneys", json!(2))]),
            Self::KidneyTumors => of(&[("kidney", json!([1, 2])), ("tumor", json!(2))]),
            Self::Spleen => of(&[("spleen", json!(1))]),
        }
    }
}

/// The organs of FLARE23 by their names, with their values.
fn organs_by_alphabet() -> Vec<(String, u8)> {
    let mut organs: Vec<_> =
        flare23::classes().all().iter().map(|class| (class.key.clone(), class.value)).filter(|(_, value)| *value != TUMOR).collect();
    organs.sort();
    organs
}

/// Writes `dataset.json` of each dataset that has cases.
pub(crate) fn describe(collection: &Collection, io: &StageIo) -> Result<()> {
    for dataset in Dataset::ALL.into_iter().filter(|&dataset| collection.of(dataset) > 0) {
        let labels: Map<String, Value> = std::iter::once(("background".to_owned(), json!(BACKGROUND))).chain(dataset.classes()).collect();
        let mut description = json!({
            "name": dataset.name(),
            "channel_names": {"0": "CT"},
            "labels": labels,
            "numTraining": collection.of(dataset),
            "file_ending": ".nii.gz",
        });
        if dataset == Dataset::KidneyTumors {
            // In the order of `labels`: the value that stands for each where it is the innermost.
            description["regions_class_order"] = json!([1, 2]);
        }
        let folder = io.output.join(dataset.folder());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_atomic_text(&folder.join("dataset.json"), &serde_json::to_string_pretty(&description)?)?;
    }
    Ok(())
}
