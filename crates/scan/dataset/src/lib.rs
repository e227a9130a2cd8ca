//! The cases of a dataset: what `partition` finds out and every later stage goes by.

mod declaration;
mod entry;
mod files;
mod folder;
mod meaning;
mod nnunet;
mod pattern;
mod problem;
mod scans;
mod sides;
mod source;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use declaration::{DatasetConfig, Folders, Layout, Mark, Marks, Nnunet, Pattern, Side, SplitRule};
pub use entry::ending;
pub use folder::{FolderError, ImageFile, Listing, Naming, image_files, images_at, label_files, label_in, likely_case, list};
use labels::{Classes, LabelPattern, Regions};
pub use nnunet::{DatasetList, Label, write_list};
pub use problem::{DatasetError, Problem, SplitError};
pub use scans::{ScanCase, Scans, scans_at};
use serde::{Deserialize, Serialize};
pub use source::{CaseFiles, Source, is_name};
use stage_kit::{Role, StageIo};
use volume::Cut;

/// The file name of the manifest inside the output folder of `partition`.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Which side of the split by case a case stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Weights are fitted to it.
    Training,
    /// Models are chosen by it (paper 3.2: about 20 %, split by image).
    Validation,
}

/// One CT scan and what is known of it. Paths are relative to the root of its dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The name of the case, such as `FLARE23_0001`. Where there are several datasets it begins with that of its dataset.
    pub id: String,
    /// The dataset that it comes from.
    pub dataset: String,
    /// The image file.
    pub image: PathBuf,
    /// The label map, if there is one.
    pub label: Option<PathBuf>,
    /// Which classes the label map shows.
    pub pattern: LabelPattern,
    /// The subset that follows from the pattern (paper 2.1).
    pub subset: String,
    /// The classes that its annotators looked for: where the label map does not show them, they are not there.
    pub annotated: LabelPattern,
    /// Training or validation.
    pub split: Split,
    /// Voxels along x, y, z as stored.
    pub shape: [usize; 3],
    /// Voxel size along the stored axes, in mm.
    pub spacing_mm: [f64; 3],
    /// Where labels that stand for structures on both sides of the body are cut in two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
}

impl Case {
    /// The label map, if it says anything that its annotators looked for.
    #[must_use]
    pub fn annotated_label(&self) -> Option<&Path> {
        self.label.as_deref().filter(|_| !self.annotated.is_empty())
    }
}

/// All good cases of all datasets, sorted by id, and what their label maps mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The classes that the pipeline declares.
    pub classes: Classes,
    /// What the values of the label maps of each dataset mean.
    pub regions: BTreeMap<String, Regions>,
    /// The subsets that each name stands for: subsets themselves, unions of them, and `D` for all.
    pub subsets: BTreeMap<String, Vec<String>>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// The role behind [`Roots`].
pub const DATASETS: Role = Role::many("datasets", "the root folder of each dataset, by the name that it is declared under").by_case();

/// Where the datasets lie.
#[derive(Clone, Debug)]
pub struct Roots(BTreeMap<String, PathBuf>);

impl Roots {
    /// The folders behind the role `datasets`.
    #[must_use]
    pub fn of(io: &StageIo) -> Self {
        Self(io.inputs_under(DATASETS.name).into_iter().map(|(name, path)| (name.to_owned(), path.to_owned())).collect())
    }

    /// The root of a dataset.
    ///
    /// # Errors
    /// [`ManifestError::NoRoot`].
    pub fn root(&self, dataset: &str) -> Result<&Path, ManifestError> {
        let known = || self.0.keys().cloned().collect();
        self.0.get(dataset).map(PathBuf::as_path).ok_or_else(|| ManifestError::NoRoot { dataset: dataset.to_owned(), known: known() })
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file is missing or unreadable.
    #[error("cannot read the manifest {path}: {reason}; it is written by the stage `partition`")]
    Read {
        /// The manifest.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// The file is not a manifest.
    #[error("{path} is not a manifest of cases: {reason}; write it anew with the stage `partition`")]
    Parse {
        /// The manifest.
        path: PathBuf,
        /// The reason.
        reason: serde_json::Error,
    },
    /// A stage was asked to work on nothing.
    #[error(
        "subset {subset} has no cases{split}; cases per subset: {counts}. Give data with that label pattern, or leave the stage out of the pipeline"
    )]
    EmptySubset {
        /// The subset asked for.
        subset: String,
        /// The side of the split, in words.
        split: String,
        /// What there is instead.
        counts: String,
    },
    /// A name that stands for no cases.
    #[error("there is no subset {name}{}; the manifest has {}", .near.as_ref().map_or_else(String::new, |near| format!(", did you mean {near}?")), .known.join(", "))]
    NoSubset {
        /// The name.
        name: String,
        /// The name that is most like it.
        near: Option<String>,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A dataset whose folder was not given.
    #[error("the cases of {dataset} are asked for, and the input `datasets` has {}; give `datasets: {{{dataset}: …}}`", .known.join(", "))]
    NoRoot {
        /// The dataset.
        dataset: String,
        /// Those that were given.
        known: Vec<String>,
    },
}

impl Manifest {
    /// Reads the manifest in the output folder of `partition`.
    ///
    /// # Errors
    /// When the file is missing or is not a manifest.
    pub fn load(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|reason| ManifestError::Read { path: path.clone(), reason })?;
        serde_json::from_str(&text).map_err(|reason| ManifestError::Parse { path, reason })
    }

    /// The subsets that the name of a subset or union stands for.
    ///
    /// # Errors
    /// [`ManifestError::NoSubset`].
    pub fn members(&self, name: &str) -> Result<&[String], ManifestError> {
        self.subsets.get(name).map(Vec::as_slice).ok_or_else(|| ManifestError::NoSubset {
            name: name.to_owned(),
            near: stage_kit::nearest(name, self.subsets.keys().map(String::as_str)).map(str::to_owned),
            known: self.subsets.keys().cloned().collect(),
        })
    }

    /// The cases of a subset or union, on one side of the split or on both.
    ///
    /// # Errors
    /// [`ManifestError::NoSubset`], and [`ManifestError::EmptySubset`] when there are no cases.
    pub fn select(&self, subset: &str, split: Option<Split>) -> Result<Vec<&Case>, ManifestError> {
        let members = self.members(subset)?;
        let takes = |case: &&Case| members.contains(&case.subset) && split.is_none_or(|split| case.split == split);
        let cases: Vec<&Case> = self.cases.iter().filter(takes).collect();
        if cases.is_empty() {
            let split = match split {
                None => String::new(),
                Some(Split::Training) => " for training".into(),
                Some(Split::Validation) => " for validation".into(),
            };
            return Err(ManifestError::EmptySubset { subset: subset.to_owned(), split, counts: self.counts() });
        }
        Ok(cases)
    }

    /// The number of cases of each subset that has any, such as `D_u 4, D_l1 2`.
    #[must_use]
    pub fn counts(&self) -> String {
        let mut counts = BTreeMap::<&str, usize>::new();
        for case in &self.cases {
            *counts.entry(&case.subset).or_default() += 1;
        }
        counts.iter().map(|(subset, n)| format!("{subset} {n}")).collect::<Vec<_>>().join(", ")
    }
}
