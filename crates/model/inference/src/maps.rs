//! The label maps of a scan on the model grid.

use model_card::KeptParts;
use ndarray::{Array3, Axis};
use volume::{Box3, RunMap, Scan};

use crate::slices::PlaneLabels;

/// A plane of the model grid with its labels inside the region that was shown to the network.
pub struct LabelledPlane {
    /// Which one.
    pub z: usize,
    /// Labels inside the region, x fastest.
    pub labels: PlaneLabels,
}

/// The label maps of a scan inside a region of its model grid, one for each output of the model.
pub struct LabelMaps {
    /// The region.
    pub region: Box3,
    /// Output values; later maps lie over earlier ones.
    pub maps: Vec<RunMap>,
}

impl LabelMaps {
    /// So many of background.
    pub(crate) fn new(region: Box3, maps: usize) -> Self {
        Self { region, maps: vec![RunMap::new(region.shape); maps] }
    }

    /// From whole maps.
    pub(crate) fn of(region: Box3, maps: &[Array3<u8>]) -> Self {
        let of_map = |labels: &Array3<u8>| {
            let mut map = RunMap::new(region.shape);
            for (z, plane) in labels.axis_iter(Axis(2)).enumerate() {
                map.set_plane(z, &plane.t().iter().copied().collect::<Vec<_>>());
            }
            map
        };
        Self { region, maps: maps.iter().map(of_map).collect() }
    }

    /// Without the connected parts that are not kept; `scan` tells how large a voxel is.
    #[must_use]
    pub fn keeping(mut self, kept: &KeptParts, scan: &Scan) -> Self {
        if !kept.is_all() {
            let voxel_ml = scan.grid().voxel_mm3() / 1000.0;
            self.maps.iter_mut().for_each(|map| map.keep_parts(|value| kept.keep(value, voxel_ml)));
        }
        self
    }

    pub(crate) fn set_plane(&mut self, plane: &LabelledPlane) {
        let z = plane.z - self.region.start[2];
        self.maps.iter_mut().zip(&plane.labels.maps).for_each(|(map, labels)| map.set_plane(z, labels));
    }

    /// All maps of the plane at `z` of the model grid, inside the region, x fastest.
    #[must_use]
    pub fn plane(&self, z: usize) -> LabelledPlane {
        let of_map = |map: &RunMap| {
            let mut labels = vec![0; self.region.shape[0] * self.region.shape[1]];
            map.plane(z - self.region.start[2], &mut labels);
            labels
        };
        LabelledPlane { z, labels: PlaneLabels { maps: self.maps.iter().map(of_map).collect() } }
    }

    /// Gives every plane to `sink`, upwards, or downwards as [`volume::Scan::runs_down`] says.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn each_plane<E>(&self, downwards: bool, mut sink: impl FnMut(LabelledPlane) -> Result<(), E>) -> Result<(), E> {
        let zs = self.region.start[2]..self.region.start[2] + self.region.shape[2];
        let mut visit = |z| sink(self.plane(z));
        if downwards { zs.rev().try_for_each(&mut visit) } else { zs.into_iter().try_for_each(&mut visit) }
    }
}
