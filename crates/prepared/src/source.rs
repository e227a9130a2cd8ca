//! Where the voxels of a case come from when it is written.

use std::ops::Range;

use labels::{FULL_TRUST, NUM_ORGANS};
use ndarray::{ArrayView3, s};

use crate::PreparedError;

/// A part of a case: ranges of voxels along x, y, z.
pub type Part = [Range<usize>; 3];

/// A map of one byte a voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// 0 background, 1 to 13 organs.
    Organs,
    /// 0 background, 1 tumor.
    Cancer,
    /// Trust in the organs, from 0 (does not count) to 255.
    OrgansTrust,
    /// Trust in the cancer.
    CancerTrust,
}

impl Map {
    /// All of them, in the order of the file.
    pub(crate) const ALL: [Self; 4] = [Self::Organs, Self::Cancer, Self::OrgansTrust, Self::CancerTrust];

    /// Its name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organs => "organs",
            Self::Cancer => "cancer",
            Self::OrgansTrust => "organs_trust",
            Self::CancerTrust => "cancer_trust",
        }
    }

    /// Its name in messages.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Organs => "the organ map",
            Self::Cancer => "the cancer map",
            Self::OrgansTrust => "the map of trust in organs",
            Self::CancerTrust => "the map of trust in cancer",
        }
    }

    /// Its highest value.
    pub(crate) fn highest(self) -> u8 {
        match self {
            Self::Organs => NUM_ORGANS as u8,
            Self::Cancer => 1,
            Self::OrgansTrust | Self::CancerTrust => FULL_TRUST,
        }
    }
}

/// The voxels of a case, plane by plane across z, so that a case need not be held to be written.
pub trait CaseSource {
    /// Why voxels cannot be had.
    type Error: From<PreparedError>;

    /// Voxels along x, y, z.
    fn shape(&self) -> [usize; 3];

    /// Whether there is a map.
    fn has(&self, map: Map) -> bool;

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
    /// 0 background, 1 to 13 organs.
    pub organs: Option<ArrayView3<'a, u8>>,
    /// 0 background, 1 tumor.
    pub cancer: Option<ArrayView3<'a, u8>>,
    /// Trust in `organs`, from 0 (does not count) to 255.
    pub organs_trust: Option<ArrayView3<'a, u8>>,
    /// Trust in `cancer`.
    pub cancer_trust: Option<ArrayView3<'a, u8>>,
}

impl<'a> CaseArrays<'a> {
    fn of(&self, map: Map) -> Option<&ArrayView3<'a, u8>> {
        match map {
            Map::Organs => self.organs.as_ref(),
            Map::Cancer => self.cancer.as_ref(),
            Map::OrgansTrust => self.organs_trust.as_ref(),
            Map::CancerTrust => self.cancer_trust.as_ref(),
        }
    }
}

impl CaseSource for CaseArrays<'_> {
    type Error = PreparedError;

    fn shape(&self) -> [usize; 3] {
        self.image.dim().into()
    }

    fn has(&self, map: Map) -> bool {
        self.of(map).is_some()
    }

    fn image(&self, part: &Part, sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), PreparedError> {
        planes(&self.image, part, sink);
        Ok(())
    }

    fn map(&self, map: Map, part: &Part, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), PreparedError> {
        let Some(voxels) = self.of(map) else { return Ok(()) };
        let (found, expected) = (voxels.dim().into(), self.shape());
        if found != expected {
            return Err(PreparedError::Shape { what: map.what(), found, expected });
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
