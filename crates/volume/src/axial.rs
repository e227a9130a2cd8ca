//! Where the axial slices of a file lie on the model grid.

use crate::resample::{Line, Tap, axis_lines};
use crate::{Box3, Grid, Orientation};

/// The maps between the slices of a file and the planes of a model grid, axis by axis.
#[derive(Debug)]
pub(crate) struct Axial {
    /// The file's voxels along its own axes.
    file: [usize; 3],
    /// For x and y in RAS order: the axis of the file, and whether it runs the other way.
    turned: [(usize, bool); 2],
    /// Whether the first slice of the file is the uppermost.
    down: bool,
    /// The file's voxels in RAS order.
    ras: [usize; 3],
    /// From the model grid to the file in RAS order.
    forth: [Line; 3],
    /// From the file's own axes to the model grid.
    back: [Line; 3],
    model: [usize; 3],
}

impl Axial {
    /// None when the file is not stored in axial slices, or its axes are not parallel to those of the model grid.
    pub(crate) fn between(file: &Grid, model: &Grid) -> Option<Self> {
        let axes = file.orientation().axes_to(Orientation::RAS);
        let ras = file.reoriented(Orientation::RAS);
        let forth = axis_lines(&model.voxels_in(&ras), model.shape)?;
        let back = axis_lines(&file.voxels_in(model), file.shape)?;
        let stored_axially = axes[2].0 == 2 && (0..3).all(|axis| forth[axis].from == axis) && back[2].from == 2;
        stored_axially.then_some(Self {
            file: file.shape,
            turned: [axes[0], axes[1]],
            down: axes[2].1,
            ras: ras.shape,
            forth,
            back,
            model: model.shape,
        })
    }

    /// How many slices the file has.
    pub(crate) fn slices(&self) -> usize {
        self.file[2]
    }

    /// Voxels of a slice of the file.
    pub(crate) fn slice_voxels(&self) -> usize {
        self.file[0] * self.file[1]
    }

    /// Voxels along x of a slice in RAS order.
    pub(crate) fn width(&self) -> usize {
        self.ras[0]
    }

    /// Whether the planes come downwards.
    pub(crate) fn runs_down(&self) -> bool {
        self.down
    }

    /// The place of slice `k` of the file in RAS order.
    pub(crate) fn level(&self, k: usize) -> usize {
        if self.down { self.file[2] - 1 - k } else { k }
    }

    /// The two levels between which plane `z` of the model grid lies.
    pub(crate) fn tap(&self, z: usize) -> Tap {
        self.forth[2].tap(z, self.ras[2])
    }

    /// Where the columns and rows of a region of the model grid lie in a slice in RAS order.
    pub(crate) fn taps(&self, region: &Box3) -> [Vec<Tap>; 2] {
        [0, 1].map(|axis| {
            let range = region.start[axis]..region.start[axis] + region.shape[axis];
            self.forth[axis].taps(range, self.ras[axis])
        })
    }

    /// Puts a slice of the file into RAS order.
    pub(crate) fn turn(&self, slice: &[f32], turned: &mut Vec<f32>) {
        turned.clear();
        let ([nx, ny, _], [x, y]) = (self.ras, [self.offsets(0), self.offsets(1)]);
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

    /// Where an axis in RAS order begins in a slice of the file, and how far apart its voxels are.
    fn offsets(&self, axis: usize) -> (isize, isize) {
        let (from, flipped) = self.turned[axis];
        let step = if from == 0 { 1 } else { self.file[0] as isize };
        if flipped { (step * (self.file[from] as isize - 1), -step) } else { (0, step) }
    }

    /// The value of the file's slice at the voxel nearest to column `x` and row `y` of the model grid.
    pub(crate) fn sample(&self, slice: &[f32], x: usize, y: usize) -> f32 {
        let at = |axis: usize, index: usize| {
            let (begin, step) = self.offsets(axis);
            begin + step * self.forth[axis].nearest(index, self.ras[axis]) as isize
        };
        slice[(at(0, x) + at(1, y)) as usize]
    }

    /// The plane of the model grid that is nearest to slice `k` of the file.
    pub(crate) fn nearest_plane(&self, k: usize) -> usize {
        self.back[2].nearest(k, self.model[2])
    }

    /// The level of the file that is nearest to plane `z` of the model grid, as the number of its slice.
    pub(crate) fn nearest_slice(&self, z: usize) -> usize {
        self.level(self.forth[2].nearest(z, self.ras[2]))
    }

    /// The labels of a slice of the file from those of its plane inside `region`.
    pub(crate) fn slice_of(&self, plane: &[u8], region: &Box3, slice: &mut [u8]) {
        let along = |axis: usize| -> Vec<Option<usize>> {
            let line = &self.back[axis];
            let step = if line.from == 0 { 1 } else { region.shape[0] };
            let inside = |index: usize| index.checked_sub(region.start[line.from]).filter(|i| *i < region.shape[line.from]);
            (0..self.file[axis]).map(|index| inside(line.nearest(index, self.model[line.from])).map(|i| i * step)).collect()
        };
        let columns = along(0);
        for (row, y) in slice.chunks_exact_mut(self.file[0].max(1)).zip(along(1)) {
            match y {
                None => row.fill(0),
                Some(y) => row.iter_mut().zip(&columns).for_each(|(label, x)| *label = x.map_or(0, |x| plane[x + y])),
            }
        }
    }
}
