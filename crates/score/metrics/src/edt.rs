//! Exact Euclidean distance transform, one axis after the other (Felzenszwalb and Huttenlocher, 2012).

use std::ops::Range;

/// How many neighbouring lines one pass treats together, so that it reads whole cache lines.
const LINES_AT_ONCE: usize = 8;

/// Gives `visit` the squared distance in mm² from every point of a grid to the nearest site; infinite if there is no site.
///
/// `shape` counts points along x, y and z with x fastest; `sites` says of a row along x which of its points are sites.
/// Points come in blocks of some columns along x, as many as `most_points` allow: `visit` is told which columns, and their
/// distances with x fastest. A point's distance does not depend on its block.
/// Squares are added in the order x, y, z, so that a distance that is exact in floating point stays exact
/// and compares equal to a tolerance.
pub(crate) fn squared_distances_mm2(
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    most_points: usize,
    sites: impl Fn(usize, &mut [bool]),
    mut visit: impl FnMut(Range<usize>, &[f64]),
) {
    let [nx, ny, nz] = shape;
    let width = (most_points / (ny * nz).max(1)).next_multiple_of(LINES_AT_ONCE).clamp(LINES_AT_ONCE, nx.next_multiple_of(LINES_AT_ONCE));
    let mut envelope = Envelope::new(ny.max(nz));
    let (mut is_site, mut row_squared) = (vec![false; nx], vec![0.0; nx]);
    for first in (0..nx).step_by(width) {
        let columns = first..nx.min(first + width);
        let mut squared = vec![f64::INFINITY; columns.len() * ny * nz];
        for (row, line) in squared.chunks_exact_mut(columns.len()).enumerate() {
            sites(row, &mut is_site);
            if is_site.contains(&true) {
                along_x(&mut row_squared, spacing_mm[0], &is_site);
                line.copy_from_slice(&row_squared[columns.clone()]);
            }
        }
        for plane in squared.chunks_exact_mut(columns.len() * ny) {
            along_strided_lines(plane, columns.len(), ny, spacing_mm[1], &mut envelope);
        }
        along_strided_lines(&mut squared, columns.len() * ny, nz, spacing_mm[2], &mut envelope);
        visit(columns, &squared);
    }
}

/// Along the first axis the nearest site is the last one passed, from either side.
fn along_x(line: &mut [f64], spacing_mm: f64, is_site: &[bool]) {
    let mut last = None;
    for x in 0..line.len() {
        last = if is_site[x] { Some(x) } else { last };
        line[x] = last.map_or(f64::INFINITY, |site| ((x - site) as f64 * spacing_mm).powi(2));
    }
    let mut next = None;
    for x in (0..line.len()).rev() {
        next = if is_site[x] { Some(x) } else { next };
        if let Some(site) = next {
            line[x] = line[x].min(((site - x) as f64 * spacing_mm).powi(2));
        }
    }
}

/// Transforms the `stride` lines of `length` points that lie `stride` apart in `values`.
fn along_strided_lines(values: &mut [f64], stride: usize, length: usize, spacing_mm: f64, envelope: &mut Envelope) {
    let mut lines = vec![0.0; LINES_AT_ONCE * length];
    for first in (0..stride).step_by(LINES_AT_ONCE) {
        let width = LINES_AT_ONCE.min(stride - first);
        for i in 0..length {
            for j in 0..width {
                lines[j * length + i] = values[i * stride + first + j];
            }
        }
        for line in lines.chunks_exact_mut(length).take(width) {
            envelope.transform(line, spacing_mm);
        }
        for i in 0..length {
            for j in 0..width {
                values[i * stride + first + j] = lines[j * length + i];
            }
        }
    }
}

/// The lower envelope of the parabolas `height(q) + (p - q)²` of one line.
struct Envelope {
    /// Vertex of each parabola in the envelope, as an index into the line.
    vertices: Vec<usize>,
    /// Height of each of them.
    heights: Vec<f64>,
    /// Where each of them becomes the lowest, in mm.
    starts: Vec<f64>,
}

impl Envelope {
    fn new(longest: usize) -> Self {
        Self { vertices: Vec::with_capacity(longest), heights: Vec::with_capacity(longest), starts: Vec::with_capacity(longest) }
    }

    fn transform(&mut self, line: &mut [f64], spacing_mm: f64) {
        self.build(line, spacing_mm);
        if self.vertices.is_empty() {
            return;
        }
        let mut k = 0;
        for (p, value) in line.iter_mut().enumerate() {
            while k + 1 < self.starts.len() && self.starts[k + 1] < p as f64 * spacing_mm {
                k += 1;
            }
            let steps = p as f64 - self.vertices[k] as f64;
            *value = self.heights[k] + (steps * spacing_mm).powi(2);
        }
    }

    fn build(&mut self, line: &[f64], spacing_mm: f64) {
        self.vertices.clear();
        self.heights.clear();
        self.starts.clear();
        for (q, &height) in line.iter().enumerate() {
            if height.is_infinite() {
                continue;
            }
            let mut start = f64::NEG_INFINITY;
            while let (Some(&v), Some(&vh), Some(&vs)) = (self.vertices.last(), self.heights.last(), self.starts.last()) {
                let apart_mm = (q - v) as f64 * spacing_mm;
                // Both parabolas are equally high where p = (q + v) / 2 + (height(q) - height(v)) / (2 (q - v)).
                start = ((q + v) as f64 * spacing_mm + (height - vh) / apart_mm) / 2.0;
                if start > vs {
                    break;
                }
                self.vertices.pop();
                self.heights.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.vertices.push(q);
            self.heights.push(height);
            self.starts.push(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::squared_distances_mm2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_site(
            shape in [1usize..20, 1usize..12, 1usize..7],
            spacing_mm in [0.3f64..4.0, 0.3f64..4.0, 0.3f64..6.0],
            seeds in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let n: usize = shape.iter().product();
            let sites: Vec<usize> = seeds.iter().map(|seed| seed.index(n)).collect();
            let place = |i: usize| [i % shape[0], i / shape[0] % shape[1], i / (shape[0] * shape[1])];
            let of_row = |row: usize, is_site: &mut [bool]| {
                is_site.iter_mut().enumerate().for_each(|(x, is_site)| *is_site = sites.contains(&(row * shape[0] + x)));
            };
            let mut found = vec![f64::NAN; n];
            squared_distances_mm2(shape, spacing_mm, n, of_row, |columns, squared| {
                assert_eq!(columns, 0..shape[0]);
                found.copy_from_slice(squared);
            });
            squared_distances_mm2(shape, spacing_mm, 1, of_row, |columns, squared| {
                for (row, values) in squared.chunks_exact(columns.len()).enumerate() {
                    assert_eq!(found[row * shape[0]..][..shape[0]][columns.clone()], *values, "the same in blocks");
                }
            });
            for i in 0..n {
                let to = |site: usize| -> f64 {
                    let (a, b) = (place(i), place(site));
                    (0..3).map(|k| ((a[k] as f64 - b[k] as f64) * spacing_mm[k]).powi(2)).sum()
                };
                let nearest = sites.iter().map(|&site| to(site)).fold(f64::INFINITY, f64::min);
                prop_assert!(
                    found[i] == nearest || (found[i] - nearest).abs() <= 1e-12 * nearest,
                    "{} instead of {nearest} at {:?}", found[i], place(i)
                );
            }
        }
    }
}
