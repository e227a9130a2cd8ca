//! Affine maps from voxel indices to RAS+ millimetres.

use std::array::from_fn;
use std::ops::{Mul, RangeInclusive};

use crate::Orientation;

/// Voxel sizes that a scan of a person can have, in mm. Anything else is a header written in other units, or broken.
const PLAUSIBLE_SPACING_MM: RangeInclusive<f64> = 0.01..=100.0;

/// The volume of a voxel relative to that of a box with the same edges, below which its axes are not independent.
const LEAST_SKEWNESS: f64 = 1e-3;

/// A 4 x 4 matrix in rows, whose last row is `[0, 0, 0, 1]`, that maps voxel indices to RAS+ millimetres.
///
/// The matrix may be oblique or flipped. Maps that come from files pass [`Affine::check`] first; the arithmetic here
/// never panics, and the inverse of a matrix without one is full of NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [[f64; 4]; 4]);

/// Why a matrix cannot be the map from voxels to millimetres of a scan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AffineError {
    /// An entry is NaN or infinite.
    #[error("the affine has the entry {value} in row {row}, column {column}; every entry must be finite")]
    NotFinite {
        /// Row of the entry, from 0.
        row: usize,
        /// Column of the entry, from 0.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A voxel edge has a length that no scan has.
    #[error(
        "the affine makes voxels of {spacing_mm:?} mm; each edge must lie in {}..={} mm (is the header in other units?)",
        PLAUSIBLE_SPACING_MM.start(), PLAUSIBLE_SPACING_MM.end()
    )]
    Spacing {
        /// Lengths of the voxel's edges in mm.
        spacing_mm: [f64; 3],
    },
    /// The three axes lie in a plane or nearly so.
    #[error("two or three voxel axes of the affine are (nearly) parallel: {rows:?}")]
    Singular {
        /// The upper left 3 x 3 part in rows.
        rows: [[f64; 3]; 3],
    },
}

impl Affine {
    /// Voxel indices are millimetres.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);

    /// The map whose voxel axes step by `columns[axis]` mm from the voxel at `origin_mm`.
    #[must_use]
    pub fn from_columns(columns: [[f64; 3]; 3], origin_mm: [f64; 3]) -> Self {
        let mut rows = Self::IDENTITY.0;
        for row in 0..3 {
            for axis in 0..3 {
                rows[row][axis] = columns[axis][row];
            }
            rows[row][3] = origin_mm[row];
        }
        Self(rows)
    }

    /// The map of a format whose coordinates run to the patient's Left and to Posterior, as ITK's and DICOM's do. Its entries are rounded
    /// to 32 bits, as a NIfTI header has them: the same scan lies at the same place, to the bit, in whatever format it comes.
    #[must_use]
    pub fn from_lps(columns: [[f64; 3]; 3], origin_mm: [f64; 3]) -> Self {
        let turned = |[x, y, z]: [f64; 3]| [-x, -y, z].map(|mm| f64::from(mm as f32));
        Self::from_columns(columns.map(turned), turned(origin_mm))
    }

    /// The axes and the origin in the coordinates of [`from_lps`](Self::from_lps).
    #[must_use]
    pub fn to_lps(&self) -> ([[f64; 3]; 3], [f64; 3]) {
        // No `-0`, which some readers take for text.
        let turned = |[x, y, z]: [f64; 3]| [0.0 - x, 0.0 - y, z + 0.0];
        (from_fn(|axis| turned(self.column(axis))), turned(self.origin_mm()))
    }

    /// Axes along RAS+ with the given voxel size in mm, from the voxel at `origin_mm`.
    #[must_use]
    pub fn from_spacing_mm(spacing_mm: [f64; 3], origin_mm: [f64; 3]) -> Self {
        let columns = from_fn(|axis| from_fn(|row| if row == axis { spacing_mm[axis] } else { 0.0 }));
        Self::from_columns(columns, origin_mm)
    }

    /// Where the (fractional) voxel index `voxel` lies, in mm.
    #[must_use]
    pub fn apply(&self, voxel: &[f64; 3]) -> [f64; 3] {
        let rows = &self.0;
        from_fn(|r| rows[r][0] * voxel[0] + rows[r][1] * voxel[1] + rows[r][2] * voxel[2] + rows[r][3])
    }

    /// The step in mm from one voxel to the next along `axis` (0, 1 or 2).
    #[must_use]
    pub fn column(&self, axis: usize) -> [f64; 3] {
        from_fn(|row| self.0[row][axis])
    }

    /// Where voxel (0, 0, 0) lies, in mm.
    #[must_use]
    pub fn origin_mm(&self) -> [f64; 3] {
        self.column(3)
    }

    /// The upper left 3 x 3 part in rows.
    #[must_use]
    pub fn linear(&self) -> [[f64; 3]; 3] {
        from_fn(|row| from_fn(|axis| self.0[row][axis]))
    }

    /// The lengths of a voxel's edges in mm.
    #[must_use]
    pub fn spacing_mm(&self) -> [f64; 3] {
        from_fn(|axis| norm(self.column(axis)))
    }

    /// The volume of a voxel in mm³. Where axes are sheared, as those of a tilted gantry, it is less than the product of
    /// the edges.
    #[must_use]
    pub fn voxel_mm3(&self) -> f64 {
        determinant3(&self.linear()).abs()
    }

    /// The map from millimetres back to voxel indices; full of NaN when there is none (see [`Affine::check`]).
    #[must_use]
    pub fn inverse(&self) -> Self {
        let Some(inverse) = inverse3(&self.linear()) else {
            return Self([[f64::NAN; 4]; 4]);
        };
        let shift = multiply3(&inverse, self.origin_mm());
        let columns = from_fn(|axis| from_fn(|row| inverse[row][axis]));
        Self::from_columns(columns, shift.map(|v| -v))
    }

    /// The closest axes of the patient, each voxel axis taking one, as nibabel's `io_orientation` chooses them.
    ///
    /// Scaling is divided out and shear is removed by a polar decomposition: the rotation (or reflection) nearest to
    /// the matrix decides, and the axis that points most clearly chooses first.
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        Orientation::closest_to(&nearest_rotation(&self.linear()))
    }

    /// Orthogonal unit vectors along the voxel axes, the first along the first axis (Gram-Schmidt): the direction
    /// without zoom and shear.
    #[must_use]
    pub fn directions(&self) -> [[f64; 3]; 3] {
        let mut directions = [[0.0; 3]; 3];
        for axis in 0..3 {
            let mut v = self.column(axis);
            for earlier in directions.iter().take(axis) {
                let along = dot(v, *earlier);
                v = from_fn(|i| v[i] - along * earlier[i]);
            }
            let length = norm(v);
            directions[axis] = v.map(|c| c / length);
        }
        directions
    }

    /// Checks that this can be the map of a scan of a person.
    ///
    /// # Errors
    ///
    /// When an entry is not finite, a voxel edge is shorter than 0.01 mm or longer than 100 mm, or the axes are not
    /// independent.
    pub fn check(&self) -> Result<(), AffineError> {
        for (row, entries) in self.0.iter().enumerate() {
            if let Some(column) = entries.iter().position(|v| !v.is_finite()) {
                let value = entries[column];
                return Err(AffineError::NotFinite { row, column, value });
            }
        }
        let spacing_mm = self.spacing_mm();
        if !spacing_mm.iter().all(|s| PLAUSIBLE_SPACING_MM.contains(s)) {
            return Err(AffineError::Spacing { spacing_mm });
        }
        let rows = self.linear();
        let skewness = self.voxel_mm3() / spacing_mm.iter().product::<f64>();
        if skewness < LEAST_SKEWNESS {
            return Err(AffineError::Singular { rows });
        }
        Ok(())
    }
}

impl Mul for Affine {
    type Output = Self;

    /// The map that applies `other` first and `self` to its result.
    fn mul(self, other: Self) -> Self {
        Self(from_fn(|r| from_fn(|c| (0..4).map(|k| self.0[r][k] * other.0[k][c]).sum())))
    }
}

pub(crate) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn norm(v: [f64; 3]) -> f64 {
    dot(v, v).sqrt()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn determinant3(m: &[[f64; 3]; 3]) -> f64 {
    dot(m[0], cross(m[1], m[2]))
}

pub(crate) fn multiply3(m: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    from_fn(|row| dot(m[row], v))
}

/// The inverse by cofactors; none when the determinant is 0 or not finite.
fn inverse3(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let det = determinant3(m);
    if det == 0.0 || !det.is_finite() {
        return None;
    }
    let columns = [cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])];
    Some(from_fn(|row| from_fn(|column| columns[column][row] / det)))
}

/// The orthogonal matrix nearest to `m` after its columns are scaled to length 1.
///
/// Newton's iteration for the polar decomposition, X <- (X + X^-T) / 2, converges quadratically from any matrix that
/// has an inverse; without one, the scaled matrix itself is the best there is.
fn nearest_rotation(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    const MOST_STEPS: usize = 60;
    let lengths: [f64; 3] = from_fn(|axis| norm([m[0][axis], m[1][axis], m[2][axis]]));
    let mut x: [[f64; 3]; 3] = from_fn(|r| from_fn(|c| if lengths[c] > 0.0 { m[r][c] / lengths[c] } else { 0.0 }));
    for _ in 0..MOST_STEPS {
        let Some(inverse) = inverse3(&x) else { break };
        let next: [[f64; 3]; 3] = from_fn(|r| from_fn(|c| 0.5 * (x[r][c] + inverse[c][r])));
        let change = (0..9).map(|i| (next[i / 3][i % 3] - x[i / 3][i % 3]).abs()).fold(0.0, f64::max);
        x = next;
        if change < 1e-14 {
            break;
        }
    }
    x
}
