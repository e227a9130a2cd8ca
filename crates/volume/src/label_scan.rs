//! The label map of a scan on its way onto the model grid, plane by plane.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::levels::Levels;
use crate::nifti::{self, LabelReader, NiftiError, Problem};
use crate::placement::Placement;
use crate::{Box3, Grid, LabelVolume, NearestSlices, Orientation, reorient};

/// A label map of more voxels than this is not held; in one byte each, twice while it is turned into RAS order.
const MOST_HELD: usize = 1 << 29;

/// A label map in a file, seen on a model grid: the labels are those of [`resample_nearest`](crate::resample_nearest) from
/// the map in RAS order, to the bit, read as [`Scan`](crate::Scan) reads intensities.
pub struct LabelScan {
    path: PathBuf,
    /// The grid of the scan in RAS order.
    ras: Grid,
    model: Grid,
    way: Way,
}

/// How labels get onto the model grid.
enum Way {
    /// Read again for every pass.
    Streamed(Arc<Placement>),
    /// The whole map in RAS order, because its axes are not parallel to those of the model grid.
    Held(Arc<LabelVolume>),
}

impl LabelScan {
    /// The label map in a file of a scan on the grid `scan`, seen on the grid `model` in RAS order. The labels lie exactly on
    /// the scan, however the header of their file was rounded.
    ///
    /// # Errors
    /// When the file cannot be read or is on another grid than the scan, or its axes are sheared and it is too large to hold.
    pub fn open(path: &Path, scan: &Grid, model: &Grid) -> Result<Self, NiftiError> {
        let found = nifti::read_header(path)?.grid();
        if !found.approx_eq(scan) {
            return Err(NiftiError::at(path)(Problem::OtherGrid { found: Box::new(found), expected: Box::new(*scan) }));
        }
        let way = match Placement::between(scan, model) {
            Some(placement) => Way::Streamed(Arc::new(placement)),
            None if scan.voxels() > MOST_HELD => {
                return Err(NiftiError::at(path)(Problem::Memory { voxels: scan.voxels() }));
            }
            None => {
                let (mut labels, _) = nifti::read_labels(path)?;
                labels.affine = scan.affine;
                Way::Held(Arc::new(reorient(&labels, Orientation::RAS)))
            }
        };
        Ok(Self { path: path.to_owned(), ras: scan.reoriented(Orientation::RAS), model: *model, way })
    }

    /// The planes that lie in `region` of the model grid, from one end to the other.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn planes(&self, region: &Box3) -> Result<LabelPlanes, NiftiError> {
        let region = region.within(self.model.shape);
        let zs = region.start[2]..region.start[2] + region.shape[2];
        let source = match &self.way {
            Way::Held(labels) => Source::Held { labels: Arc::clone(labels), plane: vec![0; self.model.shape[0] * self.model.shape[1]] },
            Way::Streamed(placement) => {
                let columns_and_rows = [0, 1].map(|axis| {
                    let range = region.start[axis]..region.start[axis] + region.shape[axis];
                    range.map(|index| placement.nearest(axis, index)).collect()
                });
                let levels = Box::new(Levels::open(&self.path, placement, zs.clone().map(|z| placement.nearest(2, z)))?);
                let placement = Arc::clone(placement);
                Source::Streamed { levels, placement, columns_and_rows, last: (usize::MAX, Vec::new()) }
            }
        };
        let backwards = matches!(&self.way, Way::Streamed(placement) if placement.runs_down());
        Ok(LabelPlanes { source, ras: self.ras, model: self.model, region, zs, backwards })
    }
}

/// The planes of a label map; see [`LabelScan::planes`].
pub struct LabelPlanes {
    source: Source,
    ras: Grid,
    model: Grid,
    region: Box3,
    zs: Range<usize>,
    backwards: bool,
}

enum Source {
    Streamed {
        levels: Box<Levels<LabelReader>>,
        placement: Arc<Placement>,
        /// Where the columns and rows of the region lie in a level.
        columns_and_rows: [Vec<usize>; 2],
        /// The level that was read last.
        last: (usize, Vec<u8>),
    },
    Held {
        labels: Arc<LabelVolume>,
        plane: Vec<u8>,
    },
}

impl LabelPlanes {
    /// Puts the labels of the next plane inside the region into `labels`, x fastest, and says which plane it is, if there is
    /// one.
    ///
    /// # Errors
    /// When the file is truncated or damaged, or a value is not a label.
    pub fn next_plane(&mut self, labels: &mut Vec<u8>) -> Result<Option<usize>, NiftiError> {
        let Some(z) = (if self.backwards { self.zs.next_back() } else { self.zs.next() }) else { return Ok(None) };
        labels.clear();
        match &mut self.source {
            Source::Streamed { levels, placement, columns_and_rows: [columns, rows], last: (level, values) } => {
                let wanted = placement.nearest(2, z);
                while *level != wanted {
                    let Some(next) = levels.next(values)? else { unreachable!("the levels of all planes are wanted") };
                    *level = next;
                }
                for &y in &*rows {
                    let row = &values[y * placement.width()..][..placement.width()];
                    labels.extend(columns.iter().map(|&x| row[x]));
                }
            }
            Source::Held { labels: map, plane } => {
                NearestSlices::of(&map.x_fastest(), &self.ras, &self.model).write(z, plane);
                let Box3 { start: [x, y, _], shape: [width, height, _] } = self.region;
                let rows = plane.chunks_exact(self.model.shape[0]).skip(y).take(height);
                rows.for_each(|row| labels.extend_from_slice(&row[x..x + width]));
            }
        }
        Ok(Some(z))
    }
}
