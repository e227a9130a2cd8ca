//! Labels on their way from the model grid to a file on the grid of its scan.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::placement::Placement;
use crate::source::{LabelSink, SourceError};
use crate::{Box3, RunMap};

/// Bytes of slices that are held of a file that is not stored in axial slices.
const MOST_HELD: usize = 1 << 26;

/// How planes of labels become a file.
pub(crate) enum Onto {
    /// A file in axial slices is written as the planes come.
    Axial(Axial),
    /// For one in sagittal or coronal slices all planes are kept, in runs.
    Across(Across),
}

impl Onto {
    pub(crate) fn placed(writer: Box<dyn LabelSink>, placement: &Arc<Placement>, region: Box3) -> Self {
        let (planes, placement) = (placement.planes(), Arc::clone(placement));
        if placement.is_axial() {
            let (slice, down) = (vec![0; placement.slice_voxels()], placement.runs_down());
            Self::Axial(Axial { writer, placement, region, planes, slice, next: 0, down })
        } else {
            let others = placement.offsets(1 - placement.axis_of_z(), &region);
            let offsets = others.zip(placement.offsets(2, &region)).map(<[_; 2]>::from);
            let at_a_time = (MOST_HELD / placement.slice_voxels().max(1)).max(1);
            let map = RunMap::new(region.shape);
            Self::Across(Across { writer, placement, map, region, planes, offsets, at_a_time })
        }
    }

    pub(crate) fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), SourceError> {
        match self {
            Self::Axial(axial) => return axial.add(z, plane),
            Self::Across(across) => across.map.set_plane(z - across.region.start[2], plane),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), SourceError> {
        match self {
            Self::Axial(axial) => axial.finish(),
            Self::Across(across) => across.finish(),
        }
    }
}

pub(crate) struct Axial {
    writer: Box<dyn LabelSink>,
    placement: Arc<Placement>,
    region: Box3,
    /// Of each slice of the file the plane that is nearest.
    planes: Vec<usize>,
    slice: Vec<u8>,
    next: usize,
    down: bool,
}

impl Axial {
    fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), SourceError> {
        while let Some(&nearest) = self.planes.get(self.next) {
            match if self.down { z.cmp(&nearest) } else { nearest.cmp(&z) } {
                Ordering::Less => self.slice.fill(0),
                Ordering::Equal => self.placement.labels_of_plane(z, plane, &self.region).write(self.next, &mut self.slice),
                Ordering::Greater => break,
            }
            self.writer.add(&self.slice)?;
            self.next += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), SourceError> {
        self.slice.fill(0);
        (self.next..self.planes.len()).try_for_each(|_| self.writer.add(&self.slice))?;
        self.writer.finish()
    }
}

pub(crate) struct Across {
    writer: Box<dyn LabelSink>,
    placement: Arc<Placement>,
    map: RunMap,
    region: Box3,
    /// For each index of the file's axis for z the plane that is nearest.
    planes: Vec<usize>,
    /// For each index of the other axis of a slice, and for each slice, where the label is in a plane: the sum of both. None
    /// for a sheared file.
    offsets: Option<[Vec<Option<usize>>; 2]>,
    /// How many slices are held at a time.
    at_a_time: usize,
}

impl Across {
    /// Writes the slices of the file, as many at a time as are held, each time from all planes.
    fn finish(mut self) -> Result<(), SourceError> {
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
        let z_is_x = self.placement.axis_of_z() == 0;
        let (step_z, step, others) = if z_is_x { (1, nx, ny) } else { (nx, 1, nx) };
        let mut plane = vec![0; self.region.shape[0] * self.region.shape[1]];
        let mut shown = None;
        for (index, z) in self.planes.iter().enumerate() {
            let Some(z) = z.checked_sub(self.region.start[2]).filter(|z| *z < self.region.shape[2]) else { continue };
            if shown.replace(z) != Some(z) {
                self.map.plane(z, &mut plane);
            }
            for (k, slice) in (first..).zip(held.chunks_exact_mut(nx * ny)) {
                let labels = slice[index * step_z..].iter_mut().step_by(step).take(others).enumerate();
                match &self.offsets {
                    Some([others, slices]) => {
                        let Some(here) = slices[k] else { continue };
                        labels.for_each(|(other, label)| *label = others[other].map_or(0, |other| plane[here + other]));
                    }
                    None => {
                        let at = |other: usize| if z_is_x { [index, other, k] } else { [other, index, k] };
                        labels.for_each(|(other, label)| *label = self.label(at(other), &plane));
                    }
                }
            }
        }
    }

    /// The label of a voxel of the file, in the plane that is nearest to it.
    fn label(&self, voxel: [usize; 3], plane: &[u8]) -> u8 {
        let [x, y, _] = self.placement.nearest_on_model(voxel);
        let Box3 { start, shape: [width, height, _] } = self.region;
        let inside = x.checked_sub(start[0]).filter(|x| *x < width).zip(y.checked_sub(start[1]).filter(|y| *y < height));
        inside.map_or(0, |(x, y)| plane[x + y * width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nifti::{self, Header};
    use crate::{Affine, Grid, ModelGrid, Orientation};

    #[test]
    fn a_file_is_the_same_however_many_of_its_slices_are_held() {
        let folder = tempfile::tempdir().unwrap();
        let model = ModelGrid { spacing_mm: [Some(1.0), None, Some(2.5)], window_hu: [-200.0, 300.0] };
        for (shear, orientation) in [0.0, 0.6].into_iter().flat_map(|shear| Orientation::all().map(move |turned| (shear, turned))) {
            let columns = [[1.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, shear, 2.0]];
            let ras = Grid { shape: [5, 6, 7], affine: Affine::from_columns(columns, [3.0; 3]) };
            let like = Header::on(&ras.reoriented(orientation)).unwrap();
            let grid = model.of(&like.grid()).unwrap();
            let placement = Arc::new(Placement::between(&like.grid(), &grid).unwrap());
            let region = Box3 { start: [1, 0, 1], shape: [grid.shape[0] - 2, grid.shape[1], grid.shape[2] - 1] };
            let written = |at_a_time: usize| {
                let path = folder.path().join(format!("{at_a_time}.nii"));
                let writer = nifti::LabelWriter::create(&path, &like).unwrap();
                let mut onto = Onto::placed(Box::new(writer), &placement, region);
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
                assert_eq!(written(at_a_time), whole, "{orientation}, sheared by {shear}");
            }
        }
    }
}
