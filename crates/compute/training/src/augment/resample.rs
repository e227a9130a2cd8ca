//! A box as its geometry asks for it, out of a larger one: image linear, label map by the greatest share, trust nearest.

use prepared::Patch;
use rayon::prelude::*;

use super::geometry::Resampling;

/// Rows that one task makes.
const ROWS: usize = 32;

impl Resampling {
    /// The box of `shape` voxels from `start` on, out of what [`Resampling::source`] asks for and which begins at `from`.
    ///
    /// A voxel between others shows the mean of the nearest eight (four where slices stay slices), the label that most of them
    /// show by their part in that mean, and the trust in the nearest one's label. Of labels with the same part it is the
    /// nearest one's, or the least.
    #[must_use]
    pub fn apply(&self, source: &Patch, from: [isize; 3], start: [isize; 3], shape: [usize; 3]) -> Patch {
        let voxels = shape.iter().product();
        let mut made = Patch {
            shape,
            image: vec![0.0; voxels],
            labels: source.labels.as_ref().map(|_| vec![0; voxels]),
            trust: source.trust.keys().map(|group| (group.clone(), vec![0; voxels])).collect(),
        };
        let kept = self.kept();
        let reader = Reader { source, matrix: self.matrix, origin: self.origin(start, shape, from), shape };
        blocks(&mut made).into_par_iter().for_each(|block| match kept {
            [true, true, true] => block.rows(&reader, Reader::mirrored),
            [_, _, true] => block.rows(&reader, Reader::along_rows),
            [true, ..] => block.rows(&reader, Reader::between::<4>),
            _ => block.rows(&reader, Reader::between::<8>),
        });
        made
    }
}

/// Some rows of what is made.
struct Block<'a> {
    first: usize,
    row: usize,
    image: &'a mut [f32],
    labels: Option<&'a mut [u8]>,
    trust: Vec<&'a mut [u8]>,
}

/// One row.
struct Row<'a> {
    image: &'a mut [f32],
    labels: Option<&'a mut [u8]>,
    trust: Vec<&'a mut [u8]>,
}

fn blocks(patch: &mut Patch) -> Vec<Block<'_>> {
    let row = patch.shape[2];
    let length = ROWS * row;
    let mut labels = patch.labels.as_mut().map(|labels| labels.chunks_mut(length));
    let mut trust: Vec<_> = patch.trust.values_mut().map(|trust| trust.chunks_mut(length)).collect();
    let block = |(number, image)| Block {
        first: number * ROWS,
        row,
        image,
        labels: labels.as_mut().and_then(Iterator::next),
        trust: trust.iter_mut().filter_map(Iterator::next).collect(),
    };
    patch.image.chunks_mut(length).enumerate().map(block).collect()
}

impl Block<'_> {
    fn rows<'s>(mut self, reader: &Reader<'s>, fill: impl Fn(&Reader<'s>, [usize; 2], Row<'_>, &mut Places)) {
        let mut places = Places::default();
        for number in 0..self.image.len() / self.row {
            let range = number * self.row..(number + 1) * self.row;
            let row = Row {
                image: &mut self.image[range.clone()],
                labels: self.labels.as_deref_mut().map(|labels| &mut labels[range.clone()]),
                trust: self.trust.iter_mut().map(|trust| &mut trust[range.clone()]).collect(),
            };
            let at = self.first + number;
            fill(reader, [at / reader.shape[1], at % reader.shape[1]], row, &mut places);
        }
    }
}

/// For each voxel of a row the first of its neighbours, how far it is from there along each axis, and the nearest one.
#[derive(Default)]
struct Places {
    first: Vec<u32>,
    part: [Vec<f32>; 3],
    nearest: Vec<u32>,
}

/// What a row is made from.
struct Reader<'a> {
    source: &'a Patch,
    matrix: [[f64; 3]; 3],
    origin: [f64; 3],
    shape: [usize; 3],
}

impl Reader<'_> {
    /// The coordinates of the first voxel of a row.
    fn first(&self, [i, j]: [usize; 2]) -> [f64; 3] {
        std::array::from_fn(|axis| self.origin[axis] + self.matrix[axis][0] * i as f64 + self.matrix[axis][1] * j as f64)
    }

    /// The voxel before a coordinate, and how far it is from there. Beyond the box is what its last voxel shows.
    fn split(&self, axis: usize, at: f64) -> (usize, f32) {
        let last = self.source.shape[axis] - 1;
        let at = at.clamp(0.0, last as f64);
        let first = (at as usize).min(last.saturating_sub(1));
        (first, (at - first as f64) as f32)
    }

    /// Where a row of the source begins.
    fn row(&self, i: usize, j: usize) -> usize {
        (i * self.source.shape[1] + j) * self.source.shape[2]
    }

    fn mirrored(&self, at: [usize; 2], row: Row<'_>, _: &mut Places) {
        let [i, j, k] = self.first(at).map(|at| at.round() as usize);
        let reversed = self.matrix[2][2] < 0.0;
        let length = self.shape[2];
        let begin = self.row(i, j) + if reversed { k + 1 - length } else { k };
        let range = begin..begin + length;
        copy(row.image, &self.source.image[range.clone()], reversed);
        if let (Some(to), Some(from)) = (row.labels, &self.source.labels) {
            copy(to, &from[range.clone()], reversed);
        }
        for (to, from) in row.trust.into_iter().zip(self.source.trust.values()) {
            copy(to, &from[range.clone()], reversed);
        }
    }

    /// Rows that stay rows: each is a mean of four.
    fn along_rows(&self, at: [usize; 2], row: Row<'_>, _: &mut Places) {
        let first = self.first(at);
        let ((i, u), (j, v)) = (self.split(0, first[0]), self.split(1, first[1]));
        let [down, right] = [0, 1].map(|axis| usize::from(self.source.shape[axis] > 1));
        let reversed = self.matrix[2][2] < 0.0;
        let rows = [(i, j), (i, j + right), (i + down, j), (i + down, j + right)];
        let ranges = rows.map(|(i, j)| self.row(i, j)).map(|begin| begin..begin + self.shape[2]);
        let parts = [(1.0 - u) * (1.0 - v), (1.0 - u) * v, u * (1.0 - v), u * v];
        let [a, b, c, d] = ranges.clone().map(|range| &self.source.image[range]);
        for ((((to, a), b), c), d) in row.image.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *to = parts[0] * a + parts[1] * b + parts[2] * c + parts[3] * d;
        }
        let nearest = 2 * usize::from(u > 0.5) + usize::from(v > 0.5);
        let mut labels = row.labels;
        if let (Some(to), Some(from)) = (&mut labels, &self.source.labels) {
            let [a, b, c, d] = ranges.clone().map(|range| &from[range]);
            for ((((to, &a), &b), &c), &d) in to.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *to = if (a, a, a) == (b, c, d) { a } else { greatest([a, b, c, d], parts, nearest) };
            }
        }
        if reversed {
            row.image.reverse();
            labels.into_iter().for_each(<[u8]>::reverse);
        }
        for (to, from) in row.trust.into_iter().zip(self.source.trust.values()) {
            copy(to, &from[ranges[nearest].clone()], reversed);
        }
    }

    /// Rows that lie anywhere: each voxel is a mean of `N`, which are eight, or four of a slice.
    fn between<const N: usize>(&self, at: [usize; 2], row: Row<'_>, places: &mut Places) {
        self.find::<N>(at, row.image.len(), places);
        let steps = self.corners::<N>();
        let Places { first, part: [u, v, w], nearest } = places;
        let image = &self.source.image;
        for (k, to) in row.image.iter_mut().enumerate() {
            let near = &image[first[k] as usize..];
            let pair = |corner: usize| (1.0 - w[k]) * near[steps[corner]] + w[k] * near[steps[corner + 1]];
            let plane = |corner: usize| (1.0 - v[k]) * pair(corner) + v[k] * pair(corner + 2);
            *to = if N == 8 { (1.0 - u[k]) * plane(0) + u[k] * plane(4) } else { plane(0) };
        }
        if let (Some(to), Some(from)) = (row.labels, &self.source.labels) {
            for (k, to) in to.iter_mut().enumerate() {
                let near = &from[first[k] as usize..];
                let values: [u8; N] = steps.map(|step| near[step]);
                *to = if values.iter().all(|value| *value == values[0]) {
                    values[0]
                } else {
                    greatest(values, parts([u[k], v[k], w[k]]), nearest_corner([u[k], v[k], w[k]]))
                };
            }
        }
        for (to, from) in row.trust.into_iter().zip(self.source.trust.values()) {
            to.iter_mut().zip(&*nearest).for_each(|(to, &at)| *to = from[at as usize]);
        }
    }

    /// From the first neighbour of a voxel to each of them.
    fn corners<const N: usize>(&self) -> [usize; N] {
        let [plane, row] = [self.source.shape[1] * self.source.shape[2], self.source.shape[2]];
        std::array::from_fn(|corner| (corner >> 2 & 1) * plane + (corner >> 1 & 1) * row + (corner & 1))
    }

    #[expect(clippy::cast_possible_truncation, reason = "boxes have fewer voxels than 2³², and parts of voxels are single precision")]
    fn find<const N: usize>(&self, at: [usize; 2], length: usize, places: &mut Places) {
        let first = self.first(at);
        let Places { first: found, part, nearest } = places;
        found.clear();
        found.resize(length, 0);
        for axis in 0..3 {
            part[axis].clear();
            part[axis].resize(length, 0.0);
            let last = self.source.shape[axis] - 1;
            let stride = [self.source.shape[1] * self.source.shape[2], self.source.shape[2], 1][axis] as u32;
            if N == 4 && axis == 0 {
                let plane = stride * first[axis].round() as u32;
                found.iter_mut().for_each(|found| *found += plane);
                continue;
            }
            let (begin, step) = (first[axis] as f32, self.matrix[axis][2] as f32);
            let (last, before) = (last as f32, last as i32 - 1);
            for (k, (found, part)) in found.iter_mut().zip(&mut part[axis]).enumerate() {
                let at = (begin + step * k as f32).max(0.0).min(last);
                let whole = (at as i32).min(before);
                *part = at - whole as f32;
                *found += stride * whole as u32;
            }
        }
        if !self.source.trust.is_empty() {
            let steps = self.corners::<N>();
            let at = |k: usize| found[k] + steps[nearest_corner([part[0][k], part[1][k], part[2][k]])] as u32;
            nearest.clear();
            nearest.extend((0..length).map(at));
        }
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T], reversed: bool) {
    match reversed {
        false => to.copy_from_slice(from),
        true => to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from),
    }
}

fn nearest_corner([u, v, w]: [f32; 3]) -> usize {
    4 * usize::from(u > 0.5) + 2 * usize::from(v > 0.5) + usize::from(w > 0.5)
}

/// The part of each neighbour in the mean.
fn parts<const N: usize>([u, v, w]: [f32; 3]) -> [f32; N] {
    let of = |part: f32, second: usize| if second & 1 == 1 { part } else { 1.0 - part };
    std::array::from_fn(|corner| of(u, corner >> 2) * of(v, corner >> 1) * of(w, corner))
}

/// The value that has the greatest part; of several the nearest neighbour's if it is one of them, or else the least.
fn greatest<const N: usize>(values: [u8; N], parts: [f32; N], nearest: usize) -> u8 {
    let part_of = |value: u8| values.iter().zip(parts).filter(|(other, _)| **other == value).map(|(_, part)| part).sum::<f32>();
    let mut best = (values[nearest], part_of(values[nearest]));
    for value in values {
        let part = part_of(value);
        if part > best.1 || (part == best.1 && best.0 != values[nearest] && value < best.0) {
            best = (value, part);
        }
    }
    best.0
}
