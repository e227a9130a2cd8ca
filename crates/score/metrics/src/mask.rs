use std::ops::Range;

use labels::LabelPattern;

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

    /// The smallest part that holds both.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            start: std::array::from_fn(|axis| self.start[axis].min(other.start[axis])),
            end: std::array::from_fn(|axis| self.end[axis].max(other.end[axis])),
        }
    }

    pub(crate) fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.end[axis].saturating_sub(self.start[axis]))
    }
}

/// Where a class is: a bit a voxel, rows along x from a word of their own.
pub(crate) struct Mask {
    pub(crate) shape: [usize; 3],
    words: Vec<u64>,
}

impl Mask {
    /// No voxel of a box.
    pub(crate) fn empty(shape: [usize; 3]) -> Self {
        Self { shape, words: vec![0; Self::bytes(shape) / 8] }
    }

    /// The memory that it takes.
    pub(crate) fn bytes([nx, ny, nz]: [usize; 3]) -> usize {
        nx.div_ceil(64) * ny * nz * 8
    }

    fn row_words(&self) -> usize {
        self.shape[0].div_ceil(64)
    }

    /// The bits of a row.
    pub(crate) fn row(&self, y: usize, z: usize) -> &[u64] {
        &self.words[(z * self.shape[1] + y) * self.row_words()..][..self.row_words()]
    }

    /// Adds the voxels with any of some values in slice `z` of the box `region`, from the slice of the whole map with rows of `width`.
    pub(crate) fn add_slice(&mut self, z: usize, map: &[u8], width: usize, shown: LabelPattern, region: &Region) {
        let [nx, ny, _] = self.shape;
        let words = self.row_words();
        // Value after value: most classes are one, and a comparison is faster than a table.
        for wanted in shown.iter() {
            let rows = map.chunks_exact(width).skip(region.start[1]);
            for (bits, row) in self.words[z * ny * words..][..ny * words].chunks_exact_mut(words).zip(rows) {
                for (bits, values) in bits.iter_mut().zip(row[region.start[0]..][..nx].chunks(64)) {
                    *bits |= (0..).zip(values).fold(0, |bits, (i, &value)| bits | u64::from(value == wanted) << i);
                }
            }
        }
    }

    /// Some of its slices.
    pub(crate) fn slices(&self, zs: Range<usize>) -> Self {
        let (slice, [nx, ny, _]) = (self.row_words() * self.shape[1], self.shape);
        Self { words: self.words[zs.start * slice..zs.end * slice].to_vec(), shape: [nx, ny, zs.len()] }
    }

    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(crate) fn overlap(&self, other: &Self) -> u64 {
        self.words.iter().zip(&other.words).map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }
}

/// Dice similarity coefficient of two masks of which at least one is not empty.
pub(crate) fn dice(a: &Mask, b: &Mask) -> f64 {
    2.0 * a.overlap(b) as f64 / (a.count() + b.count()) as f64
}
