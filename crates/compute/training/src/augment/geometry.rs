//! Rotation, zoom and mirroring of a box, and which box of a case that asks for.

use prepared::Layout;
use serde::Serialize;

/// Where in a case a sample comes from, besides its place: along x, y, z.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Geometry {
    /// Angles about the axes. What is rotated about x first, then about y, then about z, is the box in its case.
    pub degrees: [f64; 3],
    /// The part of the case that is shown, by the length of the box: above 1 things look smaller.
    pub zoom: [f64; 3],
    /// The axes along which the box is mirrored.
    pub mirror: [bool; 3],
}

impl Default for Geometry {
    fn default() -> Self {
        Self { degrees: [0.0; 3], zoom: [1.0; 3], mirror: [false; 3] }
    }
}

impl Geometry {
    /// Whether left and right change places.
    #[must_use]
    pub fn swaps_sides(&self) -> bool {
        self.mirror[0]
    }

    /// What is to be done with boxes of cases in a layout and of a voxel size along x, y, z; nothing where a box stays as it is.
    #[must_use]
    pub fn resampling(&self, layout: Layout, spacing_mm: [f64; 3]) -> Option<Resampling> {
        if *self == Self::default() {
            return None;
        }
        let along_xyz = self.matrix(spacing_mm);
        let axes = layout.axes();
        Some(Resampling { matrix: axes.map(|row| axes.map(|column| along_xyz[row][column])) })
    }

    /// From a voxel of the box to one of the case, both counted from the middle: rotation in space, of what is zoomed and mirrored.
    fn matrix(&self, spacing_mm: [f64; 3]) -> [[f64; 3]; 3] {
        let [x, y, z] = self.degrees.map(f64::to_radians).map(f64::sin_cos);
        let about_x = [[1.0, 0.0, 0.0], [0.0, x.1, -x.0], [0.0, x.0, x.1]];
        let about_y = [[y.1, 0.0, y.0], [0.0, 1.0, 0.0], [-y.0, 0.0, y.1]];
        let about_z = [[z.1, -z.0, 0.0], [z.0, z.1, 0.0], [0.0, 0.0, 1.0]];
        let rotation = product(about_z, product(about_y, about_x));
        std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let sign = if self.mirror[column] { -1.0 } else { 1.0 };
                rotation[row][column] * (spacing_mm[column] / spacing_mm[row]) * self.zoom[column] * sign
            })
        })
    }
}

fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|row| std::array::from_fn(|column| (0..3).map(|k| a[row][k] * b[k][column]).sum()))
}

/// How the voxels of a box are found in its case. Axes are those in which cases are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// From a voxel of the box to one of the case, both counted from the middle of the box.
    pub matrix: [[f64; 3]; 3],
}

/// A rounding error of coordinates in voxels, far above what they have.
const SLACK: f64 = 1e-4;

impl Resampling {
    /// The axes along which voxels keep their coordinates, or are mirrored, whatever happens along the others; of those that it pays
    /// to know of. Where all three, the last, or the first does, rows are copied, or are means of others, or lie in one plane.
    pub(super) fn kept(&self) -> [bool; 3] {
        let keeps = |axis: usize| {
            let apart = |other: usize| self.matrix[axis][other] == 0.0 && self.matrix[other][axis] == 0.0;
            self.matrix[axis][axis].abs() == 1.0 && (0..3).all(|other| other == axis || apart(other))
        };
        match [0, 1, 2].map(keeps) {
            kept @ [_, _, true] => kept,
            [first, ..] => [first, false, false],
        }
    }

    /// The box of a case of `case` voxels that holds all that a box of `shape` voxels from `start` on asks for. It reaches one voxel
    /// beyond the case, where nothing is, and no further.
    #[must_use]
    pub fn source(&self, start: [isize; 3], shape: [usize; 3], case: [usize; 3]) -> ([isize; 3], [usize; 3]) {
        let mut found = (start, shape);
        let kept = self.kept();
        for axis in (0..3).filter(|&axis| !kept[axis]) {
            let middle = start[axis] as f64 + half(shape[axis]);
            let reach: f64 = (0..3).map(|other| self.matrix[axis][other].abs() * half(shape[other])).sum::<f64>() + SLACK;
            let end = case[axis] as isize;
            let first = ((middle - reach).floor() as isize).clamp(-1, (end - 1).max(-1));
            let last = ((middle + reach).floor() as isize + 1).clamp(first + 1, end.max(first + 1));
            found.0[axis] = first;
            found.1[axis] = (last - first + 1) as usize;
        }
        found
    }

    /// Where the first voxel of a box from `start` on lies in a box that is read from `from` on.
    pub(super) fn origin(&self, start: [isize; 3], shape: [usize; 3], from: [isize; 3]) -> [f64; 3] {
        std::array::from_fn(|axis| {
            let to_first: f64 = (0..3).map(|other| self.matrix[axis][other] * half(shape[other])).sum();
            (start[axis] - from[axis]) as f64 + half(shape[axis]) - to_first
        })
    }
}

/// From the first voxel to the middle.
fn half(voxels: usize) -> f64 {
    (voxels as f64 - 1.0) / 2.0
}
