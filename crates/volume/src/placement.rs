//! Where the voxels of a file lie on the model grid.

use crate::resample::{Line, Tap, axis_lines};
use crate::{Box3, Grid, Orientation};

/// The maps between the voxels of a file and those of a model grid, axis by axis.
#[derive(Debug)]
pub(crate) struct Placement {
    /// The file's voxels along its own axes.
    file: [usize; 3],
    /// For x, y, z in RAS order: the axis of the file, and whether it runs the other way.
    turned: [(usize, bool); 3],
    /// The file's voxels in RAS order.
    ras: [usize; 3],
    /// From the model grid to the file in RAS order.
    forth: [Line; 3],
    /// From the file's own axes to the model grid.
    back: [Line; 3],
    model: [usize; 3],
}

impl Placement {
    /// None when the axes of the file are not parallel to those of the model grid.
    pub(crate) fn between(file: &Grid, model: &Grid) -> Option<Self> {
        let turned = file.orientation().axes_to(Orientation::RAS);
        let ras = file.reoriented(Orientation::RAS);
        let forth = axis_lines(&model.voxels_in(&ras), model.shape)?;
        let back = axis_lines(&file.voxels_in(model), file.shape)?;
        let parallel = (0..3).all(|axis| forth[axis].from == axis && back[turned[axis].0].from == axis);
        parallel.then_some(Self { file: file.shape, turned, ras: ras.shape, forth, back, model: model.shape })
    }

    /// Whether the file is stored in axial slices.
    pub(crate) fn is_axial(&self) -> bool {
        self.axis_of_z() == 2
    }

    /// The file's axis for z.
    pub(crate) fn axis_of_z(&self) -> usize {
        self.turned[2].0
    }

    /// The file's voxels along its own axes.
    pub(crate) fn file(&self) -> [usize; 3] {
        self.file
    }

    /// Voxels of a slice of the file.
    pub(crate) fn slice_voxels(&self) -> usize {
        self.file[0] * self.file[1]
    }

    /// Voxels along x of the file in RAS order.
    pub(crate) fn width(&self) -> usize {
        self.ras[0]
    }

    /// Voxels of the file across the patient's long axis.
    pub(crate) fn level_voxels(&self) -> usize {
        self.ras[0] * self.ras[1]
    }

    /// Whether the planes come downwards: the first slice of the file is the uppermost.
    pub(crate) fn runs_down(&self) -> bool {
        self.turned[2] == (2, true)
    }

    /// The place of index `k` of the file's axis for `axis` in RAS order.
    pub(crate) fn place(&self, axis: usize, k: usize) -> usize {
        if self.turned[axis].1 { self.ras[axis] - 1 - k } else { k }
    }

    /// The two levels (places along z) of the file between which plane `z` of the model grid lies.
    pub(crate) fn tap(&self, z: usize) -> Tap {
        self.forth[2].tap(z, self.ras[2])
    }

    /// Where the columns and rows of a region of the model grid lie in a level of the file.
    pub(crate) fn taps(&self, region: &Box3) -> [Vec<Tap>; 2] {
        [0, 1].map(|axis| {
            let range = region.start[axis]..region.start[axis] + region.shape[axis];
            self.forth[axis].taps(range, self.ras[axis])
        })
    }

    /// The place along `axis` in RAS order that is nearest to `index` of the model grid.
    pub(crate) fn nearest(&self, axis: usize, index: usize) -> usize {
        self.forth[axis].nearest(index, self.ras[axis])
    }

    /// Puts an axial slice of the file into RAS order.
    pub(crate) fn turn<T: Copy>(&self, slice: &[T], turned: &mut Vec<T>) {
        turned.clear();
        let ([nx, ny, _], [x, y]) = (self.ras, [self.steps(0), self.steps(1)]);
        for j in 0..ny {
            let row = y.0 + j as isize * y.1 + x.0;
            let at = |i: usize| (row + i as isize * x.1) as usize;
            match x.1 {
                1 => turned.extend_from_slice(&slice[at(0)..][..nx]),
                -1 => turned.extend(slice[at(nx - 1)..][..nx].iter().rev()),
                _ => turned.extend((0..nx).map(|i| slice[at(i)])),
            }
        }
    }

    /// Puts what slice `k` of a file in sagittal or coronal slices has of some levels into them. These lie one behind
    /// another in RAS order.
    pub(crate) fn share_out<T: Copy>(&self, k: usize, slice: &[T], levels: &[usize], values: &mut [T]) {
        let slow = if self.turned[0].0 == 2 { 0 } else { 1 };
        let (here, other) = (self.place(slow, k), 1 - slow);
        let (begin, step) = self.steps(other);
        let (first_z, step_z) = self.steps(2);
        let to_steps = [1, self.ras[0]];
        for (level, values) in levels.iter().zip(values.chunks_exact_mut(self.level_voxels())) {
            let row = begin + first_z + *level as isize * step_z;
            let values = values[here * to_steps[slow]..].iter_mut().step_by(to_steps[other]);
            values.take(self.ras[other]).enumerate().for_each(|(i, value)| *value = slice[(row + i as isize * step) as usize]);
        }
    }

    /// Where an axis in RAS order begins in a slice of the file, and how far apart its voxels are.
    fn steps(&self, axis: usize) -> (isize, isize) {
        let (from, flipped) = self.turned[axis];
        let step = if from == 0 { 1 } else { self.file[0] as isize };
        if flipped { (step * (self.file[from] as isize - 1), -step) } else { (0, step) }
    }

    /// For each index of the file's axis for z the nearest plane of the model grid.
    pub(crate) fn planes(&self) -> Vec<usize> {
        let axis = self.axis_of_z();
        (0..self.file[axis]).map(|index| self.back[axis].nearest(index, self.model[2])).collect()
    }

    /// For each index of an axis of the file, one across z, where its label is in a plane of `region`: this much further
    /// on, x being fastest. None for what is outside.
    pub(crate) fn offsets(&self, axis: usize, region: &Box3) -> Vec<Option<usize>> {
        let line = &self.back[axis];
        let step = if line.from == 0 { 1 } else { region.shape[0] };
        let inside = |index: usize| index.checked_sub(region.start[line.from]).filter(|i| *i < region.shape[line.from]);
        (0..self.file[axis]).map(|index| inside(line.nearest(index, self.model[line.from])).map(|i| i * step)).collect()
    }
}
