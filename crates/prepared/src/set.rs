//! A folder of prepared cases and its index.

use std::path::{Path, PathBuf};

use dataset::Split;
use labels::{LabelPattern, Subset};
use serde::{Deserialize, Serialize};

use crate::PreparedError;
use crate::info::{Layout, MeanTrust};
use crate::read::{Patch, PreparedCase};

/// The index inside the output folder of `preprocess`.
pub const INDEX_FILE: &str = "cases.json";

/// The folder of the cases inside the output folder of `preprocess`.
pub const CASES_FOLDER: &str = "cases";

/// The file of a case inside the output folder of `preprocess`.
#[must_use]
pub fn case_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(CASES_FOLDER).join(format!("{id}.safetensors"))
}

/// What is worth knowing of a case before its file is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    /// The name of the case.
    pub id: String,
    /// Voxels along the stored axes.
    pub shape: [usize; 3],
    /// Voxels along z.
    pub slices: usize,
    /// Whether there is an organ map.
    pub has_organs: bool,
    /// The organs that were looked for; all 13 when organs are pseudo labels.
    pub annotated_organs: LabelPattern,
    /// Whether there is a cancer map.
    pub has_cancer: bool,
    /// The subset of the case.
    pub subset: Subset,
    /// Training or validation.
    pub split: Split,
    /// How far the labels can be trusted, where they have been weighed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<MeanTrust>,
}

impl IndexEntry {
    /// The entry of a case whose side of the split is known.
    #[must_use]
    pub fn of(case: &PreparedCase, split: Split) -> Self {
        let (info, shape) = (case.info(), case.shape());
        Self {
            id: info.id.clone(),
            shape,
            slices: shape[info.layout.depth_axis()],
            has_organs: case.has_organs(),
            annotated_organs: info.annotated_organs,
            has_cancer: case.has_cancer(),
            subset: info.subset,
            split,
            trust: info.trust,
        }
    }
}

/// The cases of a folder, sorted by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The order of the axes in every file.
    pub layout: Layout,
    /// Voxel size along x, y, z in mm; absent where each case keeps its own.
    pub spacing_mm: [Option<f64>; 3],
    /// The intensities that became 0 and 1, in HU.
    pub window_hu: [f32; 2],
    /// Whether only the smallest box was kept that holds all voxels above the lower end of the window.
    pub crop_foreground: bool,
    /// The cases.
    pub cases: Vec<IndexEntry>,
}

impl Index {
    /// Reads the index in the output folder of `preprocess`.
    ///
    /// # Errors
    /// When the file is missing or is no index.
    pub fn load(folder: &Path) -> Result<Self, PreparedError> {
        let path = folder.join(INDEX_FILE);
        let text = std::fs::read_to_string(&path).map_err(|reason| PreparedError::Read { path: path.clone(), reason })?;
        serde_json::from_str(&text).map_err(|reason| PreparedError::Index { path, reason })
    }
}

/// Some cases of a folder, in a given order. Files are open only while they are read, however many cases there are.
#[derive(Clone, Debug)]
pub struct PreparedSet {
    folder: PathBuf,
    index: Index,
}

impl PreparedSet {
    /// The cases `ids` of the output folder of `preprocess`, in that order.
    ///
    /// # Errors
    /// When the index is missing or damaged, or lacks some of the cases; all of those are named.
    pub fn open<S: AsRef<str>>(folder: &Path, ids: &[S]) -> Result<Self, PreparedError> {
        let mut index = Index::load(folder)?;
        let by_id: std::collections::HashMap<&str, &IndexEntry> = index.cases.iter().map(|case| (case.id.as_str(), case)).collect();
        let (mut cases, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
        for id in ids {
            match by_id.get(id.as_ref()) {
                Some(&case) => cases.push(case.clone()),
                None => missing.push(id.as_ref().to_owned()),
            }
        }
        if !missing.is_empty() {
            return Err(PreparedError::UnknownCases { path: folder.join(INDEX_FILE), missing });
        }
        index.cases = cases;
        Ok(Self { folder: folder.to_owned(), index })
    }

    /// The same without the cases that `keep` refuses.
    #[must_use]
    pub fn retain(mut self, keep: impl Fn(&IndexEntry) -> bool) -> Self {
        self.index.cases.retain(keep);
        self
    }

    /// How many cases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.cases.len()
    }

    /// Whether there is no case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.cases.is_empty()
    }

    /// What is known of the cases, in order.
    #[must_use]
    pub fn cases(&self) -> &[IndexEntry] {
        &self.index.cases
    }

    /// How the cases were prepared, and what is known of them.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The order of the axes of all cases.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.index.layout
    }

    /// The number of slices of all cases together.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.index.cases.iter().map(|case| case.slices).sum()
    }

    /// Opens the case at a place of the order, for several reads.
    ///
    /// # Errors
    /// As [`PreparedCase::open`].
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    pub fn case(&self, case: usize) -> Result<PreparedCase, PreparedError> {
        PreparedCase::open(&case_path(&self.folder, &self.index.cases[case].id))
    }

    /// Reads one box of one case (see [`PreparedCase::read_box`]).
    ///
    /// # Errors
    /// As [`PreparedCase::open`] and [`PreparedCase::read_box`].
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    pub fn read_box(&self, case: usize, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        self.case(case)?.read_box(start, shape)
    }
}
