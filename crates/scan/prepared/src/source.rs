//! Where the voxels of a case come from when it is written.

use std::ops::Range;

use ndarray::{ArrayView3, s};

use crate::PreparedError;

/// A part of a case: ranges of voxels along x, y, z.
pub type Part = [Range<usize>; 3];

/// A map of one byte a voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// The labels, in the values of the dataset.
    Labels,
    /// Trust in the labels of the group at this place of [`CaseSource::trust_groups`], from 0 (does not count) to 255.
    Trust(usize),
}

/// The voxels of a case, plane by plane across z, so that a case need not be held to be written.
pub trait CaseSource {
    /// Why voxels cannot be had.
    type Error: From<PreparedError>;

    /// Voxels along x, y, z.
    fn shape(&self) -> [usize; 3];

    /// Whether there is a label map.
    fn has_labels(&self) -> bool;

    /// The groups with a map of trust in their labels.
    fn trust_groups(&self) -> &[String];

    /// Gives every plane of a part of the windowed image to `sink`, in any order: its place along z in the case, and its
    /// values with x fastest. Values are clamped to `[0, 1]`; NaN becomes 0.
    ///
    /// # Errors
    /// When they cannot be had.
    fn image(&self, part: &Part, sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), Self::Error>;

    /// The same of a map that there is.
    ///
    /// # Errors
    /// As [`CaseSource::image`].
    fn map(&self, map: Map, part: &Part, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), Self::Error>;
}

/// The voxels of a case in memory, indexed `[x, y, z]` whatever the layout of the file; any strides will do.
#[derive(Clone, Debug)]
pub struct CaseArrays<'a> {
    /// The windowed image.
    pub image: ArrayView3<'a, f32>,
    /// The labels, in the values of the dataset.
    pub labels: Option<ArrayView3<'a, u8>>,
    /// The groups with a map of trust.
    pub trust_groups: Vec<String>,
    /// The map of each of them, from 0 (does not count) to 255.
    pub trust: Vec<ArrayView3<'a, u8>>,
}

impl<'a> CaseArrays<'a> {
    /// An image with labels that nobody has weighed, or without any.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "views are handed on")]
    pub fn new(image: ArrayView3<'a, f32>, labels: Option<ArrayView3<'a, u8>>) -> Self {
        Self { image, labels, trust_groups: Vec::new(), trust: Vec::new() }
    }

    fn of(&self, map: Map) -> Option<&ArrayView3<'a, u8>> {
        match map {
            Map::Labels => self.labels.as_ref(),
            Map::Trust(group) => self.trust.get(group),
        }
    }
}

impl CaseSource for CaseArrays<'_> {
    type Error = PreparedError;

    fn shape(&self) -> [usize; 3] {
        self.image.dim().into()
    }

    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    fn trust_groups(&self) -> &[String] {
        &self.trust_groups
    }

    fn image(&self, part: &Part, sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), PreparedError> {
        planes(&self.image, part, sink);
        Ok(())
    }

    fn map(&self, map: Map, part: &Part, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), PreparedError> {
        let Some(voxels) = self.of(map) else { return Ok(()) };
        let (found, expected) = (voxels.dim().into(), self.shape());
        if found != expected {
            let what = match map {
                Map::Labels => "the label map".to_owned(),
                Map::Trust(group) => format!("the map of trust in {}", self.trust_groups[group]),
            };
            return Err(PreparedError::Shape { what, found, expected });
        }
        planes(voxels, part, sink);
        Ok(())
    }
}

fn planes<T: Copy>(voxels: &ArrayView3<'_, T>, [xs, ys, zs]: &Part, sink: &mut dyn FnMut(usize, &[T])) {
    let mut plane = Vec::new();
    for z in zs.clone() {
        plane.clear();
        plane.extend(voxels.slice(s![xs.clone(), ys.clone(), z]).t().iter().copied());
        sink(z, &plane);
    }
}
