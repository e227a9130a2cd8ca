//! Labels on their way from the model grid to a file on the grid of its scan.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::nifti::{self, Header, LabelWriter, NiftiError};
use crate::placement::Placement;
use crate::{Box3, Grid, LabelVolume, RunMap, resample_nearest};

/// Bytes of slices that are held of a file that is not stored in axial slices.
const MOST_HELD: usize = 1 << 26;

/// How planes of labels become a file.
pub(crate) enum Onto {
    /// A file in axial slices is written as the planes come.
    Axial(Axial),
    /// For one in sagittal or coronal slices all planes are kept, in runs.
    Across(Across),
    /// For a sheared one all voxels are.
    Volume(Whole),
}

impl Onto {
    pub(crate) fn placed(path: &Path, placement: &Arc<Placement>, region: Box3, like: &Header) -> Result<Self, NiftiError> {
        let writer = LabelWriter::create(path, like)?;
        let planes = placement.planes();
        Ok(if placement.is_axial() {
            let columns_and_rows = [0, 1].map(|axis| placement.offsets(axis, &region));
            let slice = vec![0; placement.slice_voxels()];
            Self::Axial(Axial { writer, planes, columns_and_rows, slice, next: 0, down: placement.runs_down() })
        } else {
            let others = placement.offsets(1 - placement.axis_of_z(), &region);
            let slices = placement.offsets(2, &region);
            let at_a_time = (MOST_HELD / placement.slice_voxels().max(1)).max(1);
            let map = RunMap::new(region.shape);
            Self::Across(Across { writer, placement: Arc::clone(placement), map, region, planes, others, slices, at_a_time })
        })
    }

    pub(crate) fn volume(path: &Path, grid: &Grid, region: Box3, like: &Header) -> Self {
        let labels = LabelVolume::filled(grid, 0);
        Self::Volume(Whole { labels, region, path: path.to_owned(), like: Box::new(like.clone()) })
    }

    pub(crate) fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), NiftiError> {
        match self {
            Self::Axial(axial) => return axial.add(z, plane),
            Self::Across(across) => across.map.set_plane(z - across.region.start[2], plane),
            Self::Volume(whole) => whole.add(z, plane),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), NiftiError> {
        match self {
            Self::Axial(axial) => axial.finish(),
            Self::Across(across) => across.finish(),
            Self::Volume(Whole { labels, path, like, .. }) => nifti::write_labels(path, &resample_nearest(&labels, &like.grid()), &like),
        }
    }
}

pub(crate) struct Axial {
    writer: LabelWriter,
    /// Of each slice of the file the plane that is nearest.
    planes: Vec<usize>,
    /// Where in a plane the labels of a slice's columns and rows are.
    columns_and_rows: [Vec<Option<usize>>; 2],
    slice: Vec<u8>,
    next: usize,
    down: bool,
}

impl Axial {
    fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), NiftiError> {
        while let Some(&nearest) = self.planes.get(self.next) {
            match if self.down { z.cmp(&nearest) } else { nearest.cmp(&z) } {
                Ordering::Less => self.slice.fill(0),
                Ordering::Equal => self.fill(plane),
                Ordering::Greater => break,
            }
            self.writer.add(&self.slice)?;
            self.next += 1;
        }
        Ok(())
    }

    fn fill(&mut self, plane: &[u8]) {
        let [columns, rows] = &self.columns_and_rows;
        for (row, y) in self.slice.chunks_exact_mut(columns.len().max(1)).zip(rows) {
            match y {
                None => row.fill(0),
                Some(y) => row.iter_mut().zip(columns).for_each(|(label, x)| *label = x.map_or(0, |x| plane[x + y])),
            }
        }
    }

    fn finish(mut self) -> Result<(), NiftiError> {
        self.slice.fill(0);
        (self.next..self.planes.len()).try_for_each(|_| self.writer.add(&self.slice))?;
        self.writer.finish()
    }
}

pub(crate) struct Across {
    writer: LabelWriter,
    placement: Arc<Placement>,
    map: RunMap,
    region: Box3,
    /// For each index of the file's axis for z the plane that is nearest.
    planes: Vec<usize>,
    /// For each index of the other axis of a slice, and for each slice, where the label is in a plane: the sum of both.
    others: Vec<Option<usize>>,
    slices: Vec<Option<usize>>,
    /// How many slices are held at a time.
    at_a_time: usize,
}

impl Across {
    /// Writes the slices of the file, as many at a time as are held, each time from all planes.
    fn finish(mut self) -> Result<(), NiftiError> {
        let (voxels, slices) = (self.placement.slice_voxels(), self.placement.file()[2]);
        let at_a_time = self.at_a_time.min(slices);
        let mut held = vec![0; at_a_time * voxels];
        for first in (0..slices).step_by(at_a_time) {
            let count = at_a_time.min(slices - first);
            self.fill(first, &mut held[..count * voxels]);
            held[..count * voxels].chunks_exact(voxels).try_for_each(|slice| self.writer.add(slice))?;
        }
        self.writer.finish()
    }

    fn fill(&self, first: usize, held: &mut [u8]) {
        held.fill(0);
        let [nx, ny, _] = self.placement.file();
        let (step_z, step) = if self.placement.axis_of_z() == 0 { (1, nx) } else { (nx, 1) };
        let mut plane = vec![0; self.region.shape[0] * self.region.shape[1]];
        let mut shown = None;
        for (index, z) in self.planes.iter().enumerate() {
            let Some(z) = z.checked_sub(self.region.start[2]).filter(|z| *z < self.region.shape[2]) else { continue };
            if shown.replace(z) != Some(z) {
                self.map.plane(z, &mut plane);
            }
            for (slice, here) in held.chunks_exact_mut(nx * ny).zip(&self.slices[first..]) {
                let Some(here) = here else { continue };
                let labels = slice[index * step_z..].iter_mut().step_by(step);
                labels.zip(&self.others).for_each(|(label, other)| *label = other.map_or(0, |other| plane[here + other]));
            }
        }
    }
}

pub(crate) struct Whole {
    labels: LabelVolume,
    region: Box3,
    path: PathBuf,
    like: Box<Header>,
}

impl Whole {
    fn add(&mut self, z: usize, plane: &[u8]) {
        let Box3 { start: [x, y, _], shape: [width, height, _] } = self.region;
        for (j, row) in plane.chunks_exact(width.max(1)).enumerate().take(height) {
            row.iter().enumerate().for_each(|(i, &label)| self.labels.data[[x + i, y + j, z]] = label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Affine, ModelGrid, Orientation};

    #[test]
    fn a_file_is_the_same_however_many_of_its_slices_are_held() {
        let folder = tempfile::tempdir().unwrap();
        let model = ModelGrid { spacing_mm: [Some(1.0), None, Some(2.5)], window_hu: [-200.0, 300.0] };
        let columns = [[1.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]];
        let ras = Grid { shape: [5, 6, 7], affine: Affine::from_columns(columns, [3.0; 3]) };
        for orientation in Orientation::all() {
            let like = Header::on(&ras.reoriented(orientation)).unwrap();
            let grid = model.of(&like.grid()).unwrap();
            let placement = Arc::new(Placement::between(&like.grid(), &grid).unwrap());
            let region = Box3 { start: [1, 0, 1], shape: [grid.shape[0] - 2, grid.shape[1], grid.shape[2] - 1] };
            let written = |at_a_time: usize| {
                let path = folder.path().join(format!("{at_a_time}.nii"));
                let mut onto = Onto::placed(&path, &placement, region, &like).unwrap();
                if let Onto::Across(across) = &mut onto {
                    across.at_a_time = at_a_time;
                }
                let mut zs: Vec<usize> = (region.start[2]..grid.shape[2]).collect();
                if placement.runs_down() {
                    zs.reverse();
                }
                for z in zs {
                    let plane: Vec<u8> = (0..region.shape[0] * region.shape[1]).map(|i| (1 + i + 37 * z) as u8).collect();
                    onto.add(z, &plane).unwrap();
                }
                onto.finish().unwrap();
                nifti::read_labels(&path).unwrap().0
            };
            let whole = written(100);
            assert!(whole.data.iter().any(|&label| label > 0));
            for at_a_time in [1, 2] {
                assert_eq!(written(at_a_time), whole, "{orientation}");
            }
        }
    }
}
