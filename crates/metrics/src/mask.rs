use ndarray::{ArrayView3, s};

/// A part of a volume: the first voxel and one past the last voxel along x, y and z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: [usize; 3],
    pub(crate) end: [usize; 3],
}

impl Region {
    /// Holds nothing, and grows from there.
    pub(crate) const EMPTY: Self = Self { start: [usize::MAX; 3], end: [0; 3] };

    pub(crate) fn include(&mut self, voxel: [usize; 3]) {
        for axis in 0..3 {
            self.start[axis] = self.start[axis].min(voxel[axis]);
            self.end[axis] = self.end[axis].max(voxel[axis] + 1);
        }
    }

    pub(crate) fn joined(mut self, other: &Self) -> Self {
        for axis in 0..3 {
            self.start[axis] = self.start[axis].min(other.start[axis]);
            self.end[axis] = self.end[axis].max(other.end[axis]);
        }
        self
    }
}

/// Where one label is, as 0 and 1, with x fastest.
pub(crate) struct Mask {
    pub(crate) shape: [usize; 3],
    pub(crate) voxels: Vec<u8>,
}

impl Mask {
    /// The voxels of `label` inside `region`.
    pub(crate) fn of_label(map: &ArrayView3<'_, u8>, label: u8, region: &Region) -> Self {
        let [[x0, y0, z0], [x1, y1, z1]] = [region.start, region.end];
        let shape = [x1 - x0, y1 - y0, z1 - z0];
        let mut voxels = Vec::with_capacity(shape.iter().product());
        for z in z0..z1 {
            for y in y0..y1 {
                let row = map.slice(s![x0..x1, y, z]);
                voxels.extend(row.iter().map(|&value| u8::from(value == label)));
            }
        }
        Self { shape, voxels }
    }

    pub(crate) fn count(&self) -> u64 {
        self.voxels.iter().map(|&inside| u64::from(inside)).sum()
    }

    pub(crate) fn overlap(&self, other: &Self) -> u64 {
        let pairs = self.voxels.iter().zip(&other.voxels);
        pairs.map(|(&a, &b)| u64::from(a & b)).sum()
    }
}

/// Dice similarity coefficient of two masks of which at least one is not empty.
pub(crate) fn dice(a: &Mask, b: &Mask) -> f64 {
    2.0 * a.overlap(b) as f64 / (a.count() + b.count()) as f64
}
