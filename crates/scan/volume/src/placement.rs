//! Where the voxels of a file lie on the model grid.

use crate::resample::{LinearPlanes, NearestSlices, VoxelMap};
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
    /// From the model grid to the file in RAS order, and from the file's own axes to the model grid.
    forth: VoxelMap,
    back: VoxelMap,
    model: [usize; 3],
}

impl Placement {
    /// None when the planes of the model grid do not lie along those of the file. They do by how a model grid is made, from the
    /// directions of the file's axes one after another: a sheared scan (a tilted gantry) is shifted within its planes, and the
    /// place of a plane along the file depends on nothing but the plane.
    pub(crate) fn between(file: &Grid, model: &Grid) -> Option<Self> {
        let turned = file.orientation().axes_to(Orientation::RAS);
        let ras = file.reoriented(Orientation::RAS);
        let (forth, back) = (VoxelMap::between(model, &ras), VoxelMap::between(file, model));
        let in_planes = forth.only_axis(2) == Some(2) && back.only_axis(2) == Some(turned[2].0);
        in_planes.then_some(Self { file: file.shape, turned, ras: ras.shape, forth, back, model: model.shape })
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

    /// The level that is nearest to plane `z` of the model grid.
    pub(crate) fn level(&self, z: usize) -> usize {
        self.forth.line_of_z().nearest(z, self.ras[2])
    }

    /// The planes of a region of the model grid, between levels of the file, or of the nearest ones along the axis `stepped`.
    pub(crate) fn linear(&self, region: &Box3, stepped: Option<usize>) -> LinearPlanes {
        LinearPlanes::of(&self.forth, region, self.ras, stepped)
    }

    /// The planes of a region of the model grid whose nearest level of the file is `level`, which has these labels.
    pub(crate) fn labels_of_level<'a>(&self, level: usize, labels: &'a [u8], region: &Box3) -> NearestSlices<'a> {
        let known = Box3 { start: [0, 0, level], shape: [self.ras[0], self.ras[1], 1] };
        NearestSlices::mapped(labels, &known, 0, self.ras, self.forth, region)
    }

    /// The slices of a file in axial slices whose nearest plane of the model grid is `z`, which has these labels in `region`.
    pub(crate) fn labels_of_plane<'a>(&self, z: usize, labels: &'a [u8], region: &Box3) -> NearestSlices<'a> {
        let [x, y, _] = region.start;
        let known = Box3 { start: [x, y, z], shape: [region.shape[0], region.shape[1], 1] };
        NearestSlices::mapped(labels, &known, 0, self.model, self.back, &Box3 { start: [0; 3], shape: self.file })
    }

    /// The voxel of the file in RAS order that is nearest to one of the model grid.
    pub(crate) fn nearest(&self, voxel: [usize; 3]) -> [usize; 3] {
        self.forth.nearest(voxel, self.ras)
    }

    /// The voxel of the model grid that is nearest to one of the file.
    pub(crate) fn nearest_on_model(&self, voxel: [usize; 3]) -> [usize; 3] {
        self.back.nearest(voxel, self.model)
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
        let line = self.back.line(axis, 2);
        (0..self.file[axis]).map(|index| line.nearest(index, self.model[2])).collect()
    }

    /// For each index of an axis of the file, one across z, where its label is in a plane of `region`: this much further
    /// on, x being fastest. None for what is outside. No table when the axes of the file are not parallel to those of the
    /// model grid.
    pub(crate) fn offsets(&self, axis: usize, region: &Box3) -> Option<Vec<Option<usize>>> {
        let line = &self.back.lines()?[axis];
        let step = if line.from == 0 { 1 } else { region.shape[0] };
        let inside = |index: usize| index.checked_sub(region.start[line.from]).filter(|i| *i < region.shape[line.from]);
        Some((0..self.file[axis]).map(|index| inside(line.nearest(index, self.model[line.from])).map(|i| i * step)).collect())
    }
}
