//! The label map of a scan on its way onto the model grid, plane by plane.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::levels::Levels;
use crate::nifti::{self, LabelReader, NiftiError, Problem};
use crate::placement::Placement;
use crate::{Box3, Cut, Grid, Orientation, sides};

/// A label map in a file, seen on a model grid: the labels are those of [`resample_nearest`](crate::resample_nearest) from
/// the map in RAS order, to the bit, read as [`Scan`](crate::Scan) reads intensities.
pub struct LabelScan {
    path: PathBuf,
    /// That of the file, in RAS order.
    scan: Grid,
    model: Grid,
    cuts: Arc<[Cut]>,
    /// Read again for every pass.
    placement: Arc<Placement>,
}

impl LabelScan {
    /// The label map in a file of a scan on the grid `scan`, seen on the grid `model` that [`ModelGrid::of`](crate::ModelGrid::of)
    /// makes for it. The labels lie exactly on the scan, however the header of their file was rounded.
    ///
    /// # Errors
    /// When the file cannot be read or is on another grid than the scan, or the planes of `model` do not lie along those of
    /// the scan.
    pub fn open(path: &Path, scan: &Grid, model: &Grid) -> Result<Self, NiftiError> {
        let other = |found: Grid, expected: &Grid| {
            NiftiError::at(path)(Problem::OtherGrid { found: Box::new(found), expected: Box::new(*expected) })
        };
        let found = nifti::read_header(path)?.grid();
        if !found.approx_eq(scan) {
            return Err(other(found, scan));
        }
        let placement = Placement::between(scan, model).ok_or_else(|| other(found, model))?;
        Ok(Self {
            path: path.to_owned(),
            scan: scan.reoriented(Orientation::RAS),
            model: *model,
            cuts: Arc::new([]),
            placement: Arc::new(placement),
        })
    }

    /// The same, with the labels of left parts in place of those in the file.
    #[must_use]
    pub fn cut(self, cuts: &[Cut]) -> Self {
        Self { cuts: cuts.into(), ..self }
    }

    /// The planes that lie in `region` of the model grid, from one end to the other.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn planes(&self, region: &Box3) -> Result<LabelPlanes, NiftiError> {
        let region = region.within(self.model.shape);
        let zs = region.start[2]..region.start[2] + region.shape[2];
        let levels = Levels::open(self.path.clone(), &self.placement, zs.clone().map(|z| self.placement.level(z)))?;
        let (placement, cuts) = (Arc::clone(&self.placement), Arc::clone(&self.cuts));
        Ok(LabelPlanes { levels, placement, scan: self.scan, cuts, region, zs, last: (usize::MAX, Vec::new()) })
    }
}

/// The planes of a label map; see [`LabelScan::planes`].
pub struct LabelPlanes {
    levels: Levels<LabelReader>,
    placement: Arc<Placement>,
    scan: Grid,
    cuts: Arc<[Cut]>,
    region: Box3,
    zs: Range<usize>,
    /// The level that was read last.
    last: (usize, Vec<u8>),
}

impl LabelPlanes {
    /// Puts the labels of the next plane inside the region into `labels`, x fastest, and says which plane it is, if there is
    /// one.
    ///
    /// # Errors
    /// When the file is truncated or damaged, or a value is not a label.
    pub fn next_plane(&mut self, labels: &mut Vec<u8>) -> Result<Option<usize>, NiftiError> {
        let Some(z) = (if self.placement.runs_down() { self.zs.next_back() } else { self.zs.next() }) else { return Ok(None) };
        let (level, values) = &mut self.last;
        let wanted = self.placement.level(z);
        while *level != wanted {
            let Some(next) = self.levels.next(values)? else { unreachable!("the levels of all planes are wanted") };
            sides::apply(&self.cuts, &self.scan, next, values);
            *level = next;
        }
        labels.resize(self.region.shape[0] * self.region.shape[1], 0);
        self.placement.labels_of_level(wanted, values, &self.region).write(z, labels);
        Ok(Some(z))
    }
}
