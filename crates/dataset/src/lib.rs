//! The cases of a dataset: what `partition` finds out and every later stage goes by.

mod entry;
mod folder;

use std::path::{Path, PathBuf};

pub use folder::{FolderError, ImageFile, Listing, Naming, image_files, images_at, label_files, likely_case, list};
use labels::{LabelPattern, Subset, SubsetName};
use serde::{Deserialize, Serialize};

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

/// One CT scan and what is known of it. Paths are relative to the dataset's root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The name of the case, such as `FLARE23_0001`.
    pub id: String,
    /// The image file.
    pub image: PathBuf,
    /// The label map, if there is one.
    pub label: Option<PathBuf>,
    /// Which labels the label map holds.
    pub pattern: LabelPattern,
    /// The subset that follows from the pattern (paper 2.1).
    pub subset: Subset,
    /// Training or validation.
    pub split: Split,
    /// Voxels along x, y, z as stored.
    pub shape: [usize; 3],
    /// Voxel size along the stored axes, in mm.
    pub spacing_mm: [f64; 3],
}

/// All good cases of a dataset, sorted by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The cases.
    pub cases: Vec<Case>,
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
        subset: SubsetName,
        /// The side of the split, in words.
        split: String,
        /// What there is instead.
        counts: String,
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

    /// The cases of a subset or union, on one side of the split or on both.
    ///
    /// # Errors
    /// [`ManifestError::EmptySubset`] when there are none.
    pub fn select(&self, subset: SubsetName, split: Option<Split>) -> Result<Vec<&Case>, ManifestError> {
        let cases: Vec<&Case> =
            self.cases.iter().filter(|case| subset.contains(case.subset) && split.is_none_or(|split| case.split == split)).collect();
        if cases.is_empty() {
            let split = match split {
                None => String::new(),
                Some(Split::Training) => " for training".into(),
                Some(Split::Validation) => " for validation".into(),
            };
            return Err(ManifestError::EmptySubset { subset, split, counts: self.counts() });
        }
        Ok(cases)
    }

    /// The number of cases of each subset that has any, such as `D_u 4, D_l1 2`.
    #[must_use]
    pub fn counts(&self) -> String {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for case in &self.cases {
            *counts.entry(case.subset.to_string()).or_default() += 1;
        }
        counts.iter().map(|(subset, n)| format!("{subset} {n}")).collect::<Vec<_>>().join(", ")
    }
}
