//! A folder of prepared cases and its index.

use std::ops::Range;
use std::path::{Path, PathBuf};

use dataset::Split;
use labels::{Classes, LabelPattern, Regions};
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
    folder.join(CASES_FOLDER).join(format!("{id}.zarr.zip"))
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
    /// The dataset that it comes from.
    pub dataset: String,
    /// The subset of the case.
    pub subset: String,
    /// Training or validation.
    pub split: Split,
    /// Whether there is a label map.
    pub has_labels: bool,
    /// The classes that were looked for; all where the labels are those of teachers.
    pub annotated: LabelPattern,
    /// What the values of the label map mean: the place in [`Index::regions`].
    pub regions: usize,
    /// How far the labels can be trusted, where they have been weighed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<MeanTrust>,
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
    /// The classes that the pipeline declares.
    pub classes: Classes,
    /// What the values of label maps mean, each meaning once.
    pub regions: Vec<Regions>,
    /// The cases.
    pub cases: Vec<IndexEntry>,
}

impl Index {
    /// Adds a case whose side of the split is known.
    pub fn add(&mut self, case: &PreparedCase, split: Split) {
        let (info, shape) = (case.info(), case.shape());
        let regions = self.regions.iter().position(|regions| *regions == info.regions).unwrap_or_else(|| {
            self.regions.push(info.regions.clone());
            self.regions.len() - 1
        });
        self.cases.push(IndexEntry {
            id: info.id.clone(),
            shape,
            slices: shape[info.layout.depth_axis()],
            dataset: info.dataset.clone(),
            subset: info.subset.clone(),
            split,
            has_labels: case.has_labels(),
            annotated: info.annotated,
            regions,
            trust: info.trust.clone(),
        });
    }

    /// Reads the index in the output folder of `preprocess`.
    ///
    /// # Errors
    /// When the file is missing or is no index.
    pub fn load(folder: &Path) -> Result<Self, PreparedError> {
        let path = folder.join(INDEX_FILE);
        let text = std::fs::read_to_string(&path).map_err(|reason| PreparedError::Read { path: path.clone(), reason })?;
        let index: Self = serde_json::from_str(&text).map_err(|reason| PreparedError::Index { path: path.clone(), reason })?;
        match index.cases.iter().find(|case| case.regions >= index.regions.len()) {
            None => Ok(index),
            Some(case) => {
                let reason = format!("case {} has the regions {}, and there are {} of them", case.id, case.regions, index.regions.len());
                Err(PreparedError::Index { path, reason: serde::de::Error::custom(reason) })
            }
        }
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

    /// What the values of the label map of a case mean.
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    #[must_use]
    pub fn regions(&self, case: usize) -> &Regions {
        &self.index.regions[self.index.cases[case].regions]
    }

    /// For each value of the label map of a case whether it shows one of some classes.
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    #[must_use]
    pub fn values_of(&self, case: usize, classes: LabelPattern) -> [bool; 256] {
        let regions = self.regions(case);
        let mut values = [false; 256];
        for value in classes.iter().flat_map(|class| regions.of_class(class).iter()) {
            values[usize::from(value)] = true;
        }
        values
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

    /// Reads one box of the image of one case (see [`PreparedCase::read_image`]).
    ///
    /// # Errors
    /// As [`PreparedCase::open`] and [`PreparedCase::read_image`].
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    pub fn read_image(&self, case: usize, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        self.case(case)?.read_image(start, shape)
    }

    /// The box of all voxels of a case whose label is `wanted` (see [`PreparedCase::label_box`]).
    ///
    /// # Errors
    /// As [`PreparedCase::open`] and [`PreparedCase::label_box`].
    ///
    /// # Panics
    /// When `case` is not less than [`PreparedSet::len`].
    pub fn label_box(&self, case: usize, wanted: &[bool; 256]) -> Result<Option<[Range<usize>; 3]>, PreparedError> {
        self.case(case)?.label_box(wanted)
    }
}
