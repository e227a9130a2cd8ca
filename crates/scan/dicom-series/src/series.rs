//! A series as a scan, read slice by slice.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use volume::{Affine, Grid, Source, SourceError, SourceSlices};

use crate::error::DicomError;
use crate::instance::{Instance, copied};
use crate::pixels::Frames;
use crate::stack::{Irregular, Slice, Stack};

/// A series of CT images, or a stack of one, in the order of their places.
#[derive(Clone, Debug)]
pub struct Series {
    pub(crate) folder: PathBuf,
    /// The number that the scanner gave the series.
    pub(crate) number: Option<i64>,
    pub(crate) uid: String,
    /// Which of several stacks of the series, from 1; 0 if there is one.
    pub(crate) part: usize,
    pub(crate) instances: Arc<Vec<Instance>>,
    pub(crate) slices: Arc<Vec<Slice>>,
    pub(crate) grid: Grid,
    pub(crate) directions: [f64; 6],
    /// Millimetres from row to row and from column to column.
    pub(crate) spacing: [f64; 2],
}

impl Series {
    pub(crate) fn of(folder: PathBuf, part: usize, instances: &[Instance], stack: &Stack) -> Result<Self, Irregular> {
        let columns = stack.columns()?;
        let first = stack.slices.first().map_or([0.0; 3], |slice| slice.position);
        let affine = Affine::from_lps(columns, first);
        let [rows, across] = stack.sides.map(usize::from);
        let grid = Grid { shape: [across, rows, stack.slices.len()], affine };
        grid.affine.check().map_err(|error| Irregular {
            found: error.to_string(),
            expected: "a scan of a person",
            remedy: "export the series again",
        })?;
        // Only files that the stack uses are kept, in the order of its slices.
        let (mut places, mut kept) = (HashMap::new(), Vec::new());
        let mut place = |file: usize| {
            *places.entry(file).or_insert_with(|| {
                kept.push(instances[file].clone());
                kept.len() - 1
            })
        };
        let slices = stack.slices.iter().map(|slice| Slice { file: place(slice.file), ..slice.clone() }).collect();
        let (number, uid) = kept.first().map(|one| (one.number, one.series.clone())).unwrap_or_default();
        Ok(Self {
            folder,
            number,
            uid,
            part,
            instances: Arc::new(kept),
            slices: Arc::new(slices),
            grid,
            directions: stack.directions,
            spacing: stack.spacing,
        })
    }

    /// The folder that its files lie in or below.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A short name among the series of a folder: its number, or else the end of its UID.
    #[must_use]
    pub fn name(&self) -> String {
        let end = || self.uid.rsplit('.').next().unwrap_or_default().to_owned();
        let name = self.number.map_or_else(end, |number| number.to_string());
        if self.part == 0 { name } else { format!("{name}_{}", self.part) }
    }

    /// The UID of the series.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its files, in the order of their places.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.instances.iter().map(|instance| instance.path.as_path())
    }
}

/// Whose a series is, and what its first image says of it. What the image does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The patient's ID.
    pub patient: String,
    /// The UID of the study.
    pub study: String,
    /// What the scanner calls the series.
    pub description: String,
}

impl Series {
    /// Reads what its first image says of it.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn about(&self) -> Result<About, DicomError> {
        const WANTED: [Tag; 3] = [tags::PATIENT_ID, tags::STUDY_INSTANCE_UID, tags::SERIES_DESCRIPTION];
        let found = self.files().next().map(|first| copied(first, &WANTED)).transpose()?.unwrap_or_default();
        let text = |wanted: Tag| found.iter().find(|(tag, _)| *tag == wanted).map_or_else(String::new, |(_, value)| value.text());
        let [patient, study, description] = WANTED.map(text);
        Ok(About { patient, study, description })
    }
}

impl Source for Series {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError> {
        Ok(Box::new(Slices { instances: Arc::clone(&self.instances), slices: Arc::clone(&self.slices), next: 0, open: None }))
    }
}

/// The slices of a series. One file is open at a time.
struct Slices {
    instances: Arc<Vec<Instance>>,
    slices: Arc<Vec<Slice>>,
    next: usize,
    open: Option<(usize, Frames)>,
}

impl SourceSlices for Slices {
    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, SourceError> {
        let Some(slice) = self.slices.get(self.next) else { return Ok(false) };
        self.next += 1;
        let instance = &self.instances[slice.file];
        let at = || DicomError::at(&instance.path);
        let frames = match &mut self.open {
            Some((file, frames)) if *file == slice.file => frames,
            open => &mut open.insert((slice.file, Frames::open(instance).map_err(at())?)).1,
        };
        frames.read(slice.frame, slice.scaling, values).map_err(at())?;
        Ok(true)
    }
}
