//! Voxel grids in patient space, and how they change with orientation and spacing.

use std::array::from_fn;

use ndarray::{Array3, ArrayView3, Axis, Slice};

use crate::affine::multiply3;
use crate::{Affine, Orientation};

/// Stands for "leave this axis as it is" in [`Grid::with_spacing_mm`].
pub const KEEP_SPACING: f64 = 0.0;

/// Spacings and matrix entries closer than this (mm, or voxels) are the same to [`Grid::with_spacing_mm`], as to MONAI.
const SPACING_TOLERANCE: f64 = 1e-3;

/// A shape and the map from its voxels to millimetres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Voxels along x, y and z.
    pub shape: [usize; 3],
    /// Voxel indices to RAS+ mm.
    pub affine: Affine,
}

/// A box of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Box3 {
    /// The first voxel inside.
    pub start: [usize; 3],
    /// Voxels along each axis.
    pub shape: [usize; 3],
}

impl Grid {
    /// The lengths of a voxel's edges in mm.
    #[must_use]
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.affine.spacing_mm()
    }

    /// The volume of a voxel in mm³.
    #[must_use]
    pub fn voxel_mm3(&self) -> f64 {
        self.affine.voxel_mm3()
    }

    /// Where the voxel axes point.
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        self.affine.orientation()
    }

    /// How many voxels the grid has (`usize::MAX` when that does not fit). Look at it before you resample onto a grid
    /// that comes from outside: memory is taken for every voxel.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.shape.iter().fold(1, |n, &side| n.saturating_mul(side))
    }

    /// All of its voxels.
    #[must_use]
    pub fn whole(&self) -> Box3 {
        Box3 { start: [0; 3], shape: self.shape }
    }

    /// The map from this grid's voxel indices to those of `source`.
    #[must_use]
    pub fn voxels_in(&self, source: &Grid) -> Affine {
        source.affine.inverse() * self.affine
    }

    /// The same voxels in the order of another orientation: axes are exchanged and turned round, nothing moves.
    #[must_use]
    pub fn reoriented(&self, target: Orientation) -> Grid {
        let axes = self.orientation().axes_to(target);
        let mut origin = self.affine.origin_mm();
        let mut columns = [[0.0; 3]; 3];
        for (axis, &(source, flipped)) in axes.iter().enumerate() {
            let column = self.affine.column(source);
            columns[axis] = column;
            if flipped {
                let last = self.shape[source].saturating_sub(1) as f64;
                origin = from_fn(|i| origin[i] + last * column[i]);
                columns[axis] = column.map(|v| -v);
            }
        }
        Grid { shape: axes.map(|(source, _)| self.shape[source]), affine: Affine::from_columns(columns, origin) }
    }

    /// The grid that MONAI's `Spacing` transform (defaults of 1.6) makes for a target voxel size in mm.
    ///
    /// The direction stays, shear is removed. A component that is not a positive number ([`KEEP_SPACING`]), or lies
    /// within 0.001 mm of the spacing there is, leaves its axis as it is. An axis gets `round(extent / spacing) + 1`
    /// voxels, its extent reaching from first to last voxel centre. The first voxel stays where it is, unless shear
    /// (if only from 32-bit rounding of an oblique affine) lets another corner reach further out: then the centres of
    /// both grids are laid on each other.
    #[must_use]
    pub fn with_spacing_mm(&self, spacing_mm: [f64; 3]) -> Grid {
        let own = self.spacing_mm();
        let target: [f64; 3] = from_fn(|axis| {
            let wanted = spacing_mm[axis];
            let change = wanted.is_finite() && wanted > 0.0 && (wanted - own[axis]).abs() > SPACING_TOLERANCE;
            if change { wanted } else { own[axis] }
        });
        let directions = self.affine.directions();
        let columns = from_fn(|axis| directions[axis].map(|v| v * target[axis]));
        let unplaced = Affine::from_columns(columns, [0.0; 3]);

        let corners = self.corners();
        let to_target = unplaced.inverse() * self.affine;
        let reached = corners.map(|corner| to_target.apply(&corner));
        let sides = bounds(&reached);
        let shape: [usize; 3] = sides.map(|[least, most]| (most - least + 1.0).round_ties_even() as usize);

        let outermost = reached.iter().position(|r| (0..3).all(|axis| r[axis] - sides[axis][0] <= 1e-8));
        let origin = match outermost {
            Some(corner) => self.affine.apply(&corners[corner]),
            None => {
                let middle = self.affine.apply(&self.shape.map(|n| n as f64 / 2.0));
                let half = multiply3(&unplaced.linear(), shape.map(|n| n as f64 / 2.0));
                from_fn(|i| middle[i] - half[i])
            }
        };
        let resampled = Grid { shape, affine: Affine::from_columns(columns, origin) };
        if self.is_nearly(&resampled) { *self } else { resampled }
    }

    /// The grid of about this voxel size in mm that shares its outer edges with this one, as nnU-Net lays it: of `round(side / spacing)`
    /// voxels along an axis, which are as much larger or smaller than asked for as it takes. A component that is not a positive number
    /// leaves its axis as it is.
    #[must_use]
    pub fn divided_by_spacing_mm(&self, spacing_mm: [f64; 3]) -> Grid {
        let own = self.spacing_mm();
        let shape: [usize; 3] = from_fn(|axis| {
            let (side, wanted) = (self.shape[axis], spacing_mm[axis]);
            let divided = (own[axis] / wanted * side as f64).round_ties_even() as usize;
            if wanted.is_finite() && wanted > 0.0 { divided.max(side.min(1)) } else { side }
        });
        let scale: [f64; 3] = from_fn(|axis| if shape[axis] == 0 { 1.0 } else { self.shape[axis] as f64 / shape[axis] as f64 });
        let origin = self.affine.apply(&scale.map(|scale| 0.5 * scale - 0.5));
        Grid { shape, affine: Affine::from_columns(from_fn(|axis| self.affine.column(axis).map(|v| v * scale[axis])), origin) }
    }

    /// The part of the grid inside `region`, which is cut to the grid first.
    #[must_use]
    pub fn cropped(&self, region: &Box3) -> Grid {
        let region = region.within(self.shape);
        let origin = self.affine.apply(&region.start.map(|v| v as f64));
        let columns = from_fn(|axis| self.affine.column(axis));
        Grid { shape: region.shape, affine: Affine::from_columns(columns, origin) }
    }

    /// Whether both grids have the same shape and no voxel of one lies further than a hundredth of the shortest voxel
    /// edge from its fellow: the differences that 32-bit headers make pass, a shift that could matter does not.
    #[must_use]
    pub fn approx_eq(&self, other: &Grid) -> bool {
        let shortest = self.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        // The distance between two affine maps is greatest at a corner.
        self.shape == other.shape
            && self.corners().iter().all(|corner| {
                let (a, b) = (self.affine.apply(corner), other.affine.apply(corner));
                crate::affine::norm(from_fn(|i| a[i] - b[i])) <= 0.01 * shortest
            })
    }

    /// Where the grid lies, from the least to the greatest x, y and z of its voxel centres in mm.
    #[must_use]
    pub fn box_mm(&self) -> [[f64; 2]; 3] {
        bounds(&self.corners().map(|corner| self.affine.apply(&corner)))
    }

    /// The share of the grid, of 0 to 1, that lies within `other`: from voxel centre to voxel centre of this one, up to half
    /// a voxel beyond the outermost centres of the other one, and in boxes along its axes.
    #[must_use]
    pub fn share_within(&self, other: &Grid) -> f64 {
        let to_other = self.voxels_in(other);
        let sides = bounds(&self.corners().map(|corner| to_other.apply(&corner)));
        let inside = |axis: usize| {
            let ([least, most], end) = (sides[axis], other.shape[axis] as f64 - 0.5);
            let common = most.min(end) - least.max(-0.5);
            match most - least {
                // A single voxel is inside or not.
                length if length < 1e-6 => f64::from(u8::from(common > -1e-3)),
                length => (common / length).max(0.0),
            }
        };
        (0..3).map(inside).product()
    }

    /// Voxel indices of the eight corner voxels, z changing fastest.
    fn corners(&self) -> [[f64; 3]; 8] {
        from_fn(|corner| {
            from_fn(|axis| match corner >> (2 - axis) & 1 {
                0 => 0.0,
                _ => self.shape[axis].saturating_sub(1) as f64,
            })
        })
    }

    /// MONAI's rule for "no resampling needed".
    fn is_nearly(&self, other: &Grid) -> bool {
        let near = |a: &Affine, b: &Affine| {
            (0..16).all(|i| {
                let (a, b) = (a.0[i / 4][i % 4], b.0[i / 4][i % 4]);
                (a - b).abs() <= SPACING_TOLERANCE + 1e-5 * b.abs()
            })
        };
        self.shape == other.shape && (near(&self.affine, &other.affine) || near(&other.voxels_in(self), &Affine::IDENTITY))
    }
}

impl Box3 {
    /// The part of `data` inside the box, which must lie within it.
    #[must_use]
    pub fn of<'a, T>(&self, data: &'a Array3<T>) -> ArrayView3<'a, T> {
        data.slice_each_axis(|axis| self.along(axis.axis))
    }

    fn along(&self, axis: Axis) -> Slice {
        let axis = axis.index();
        Slice::from(self.start[axis]..self.start[axis] + self.shape[axis])
    }

    /// The part of the box inside a volume of `shape`.
    #[must_use]
    pub fn within(&self, shape: [usize; 3]) -> Box3 {
        let start: [usize; 3] = from_fn(|axis| self.start[axis].min(shape[axis]));
        Box3 { start, shape: from_fn(|axis| self.shape[axis].min(shape[axis] - start[axis])) }
    }

    /// The smallest box around both.
    #[must_use]
    pub fn and(&self, other: &Box3) -> Box3 {
        let start = from_fn(|axis| self.start[axis].min(other.start[axis]));
        let end = |axis: usize| (self.start[axis] + self.shape[axis]).max(other.start[axis] + other.shape[axis]);
        Box3 { start, shape: from_fn(|axis| end(axis) - start[axis]) }
    }

    /// The box with `margin` more voxels on each side, cut to a volume of `shape`.
    #[must_use]
    pub fn grown(&self, margin: [usize; 3], shape: [usize; 3]) -> Box3 {
        let start: [usize; 3] = from_fn(|axis| self.start[axis].saturating_sub(margin[axis]));
        let end = |axis: usize| self.start[axis].saturating_add(self.shape[axis]).saturating_add(margin[axis]);
        Box3 { start, shape: from_fn(|axis| end(axis) - start[axis]) }.within(shape)
    }
}

/// The least and the greatest of points, axis by axis.
fn bounds(points: &[[f64; 3]; 8]) -> [[f64; 2]; 3] {
    from_fn(|axis| [fold(points, axis, f64::min), fold(points, axis, f64::max)])
}

fn fold(points: &[[f64; 3]; 8], axis: usize, pick: fn(f64, f64) -> f64) -> f64 {
    points.iter().map(|p| p[axis]).fold(points[0][axis], pick)
}
