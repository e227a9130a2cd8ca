//! Label maps in runs: in the memory of what is labelled, whatever the size of the volume.

use ndarray::{Array3, Axis};

use crate::{Box3, Grid, LabelVolume};

/// Voxels `start..end` of row `y` with the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    y: u32,
    start: u32,
    end: u32,
    label: u8,
}

impl Run {
    /// Whether two runs of the same or of neighbouring rows touch by a face, an edge or a corner.
    fn touches(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// A label map whose background takes no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMap {
    shape: [usize; 3],
    /// Of each plane along z its runs, by rows and along them.
    planes: Vec<Vec<Run>>,
}

/// Which connected parts of a label stay. Voxels that touch by a face, an edge or a corner are connected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// All of them.
    All,
    /// The largest; of equal ones the first.
    Largest,
    /// Those with at least this share of the largest one's voxels.
    Share(f64),
    /// Those with at least so many voxels.
    Voxels(usize),
}

impl RunMap {
    /// Nothing but background in `[x, y, z]` voxels.
    #[must_use]
    pub fn new(shape: [usize; 3]) -> Self {
        Self { shape, planes: vec![Vec::new(); shape[2]] }
    }

    /// Voxels along x, y, z.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Sets the plane at `z` from labels with x fastest.
    ///
    /// # Panics
    ///
    /// When there is no such plane, or `labels` are not one.
    pub fn set_plane(&mut self, z: usize, labels: &[u8]) {
        let [nx, ny, _] = self.shape;
        assert_eq!(labels.len(), nx * ny, "a plane of {nx}x{ny} voxels");
        let runs = &mut self.planes[z];
        runs.clear();
        for (y, row) in (0..).zip(labels.chunks_exact(nx.max(1))) {
            let mut start = 0;
            for same in row.chunk_by(|a, b| a == b) {
                let end = start + same.len() as u32;
                if same[0] != 0 {
                    runs.push(Run { y, start, end, label: same[0] });
                }
                start = end;
            }
        }
        runs.shrink_to_fit();
    }

    /// Writes the labels of the plane at `z` over those in `labels`, x fastest.
    ///
    /// # Panics
    ///
    /// As [`RunMap::set_plane`].
    pub fn plane(&self, z: usize, labels: &mut [u8]) {
        let nx = self.shape[0];
        assert_eq!(labels.len(), nx * self.shape[1], "a plane of {:?} voxels", self.shape);
        labels.fill(0);
        for run in &self.planes[z] {
            let row = run.y as usize * nx;
            labels[row + run.start as usize..row + run.end as usize].fill(run.label);
        }
    }

    /// The labels on `grid`, in `region` of it; background elsewhere.
    #[must_use]
    pub fn on(&self, grid: &Grid, region: &Box3) -> LabelVolume {
        let mut values = vec![0; grid.voxels()];
        let [nx, ny, _] = grid.shape;
        let [x, y, z] = region.start;
        for (k, runs) in self.planes.iter().enumerate() {
            for run in runs {
                let row = ((z + k) * ny + y + run.y as usize) * nx + x;
                values[row + run.start as usize..row + run.end as usize].fill(run.label);
            }
        }
        match LabelVolume::from_x_fastest(grid, values) {
            Ok(volume) => volume,
            Err(_) => unreachable!("the values were made for this grid"),
        }
    }

    /// The smallest box around everything that is labelled.
    #[must_use]
    pub fn bounds(&self) -> Option<Box3> {
        let first = self.planes.iter().position(|runs| !runs.is_empty())?;
        let last = self.planes.iter().rposition(|runs| !runs.is_empty())?;
        let runs = || self.planes.iter().flatten();
        let least = [runs().map(|run| run.start).min()?, runs().map(|run| run.y).min()?].map(|v| v as usize);
        let most = [runs().map(|run| run.end).max()?, runs().map(|run| run.y + 1).max()?].map(|v| v as usize);
        Some(Box3 { start: [least[0], least[1], first], shape: [most[0] - least[0], most[1] - least[1], last + 1 - first] })
    }

    /// Takes away the connected parts of each label that its rule does not keep.
    pub fn keep_parts(&mut self, rule: impl Fn(u8) -> Keep) {
        let parts = Parts::of(&self.planes);
        let mut largest = [(0, usize::MAX); 256];
        for (index, run) in self.planes.iter().flatten().enumerate() {
            let (part, most) = (parts.part(index), &mut largest[usize::from(run.label)]);
            if parts.voxels[part] > most.0 {
                *most = (parts.voxels[part], part);
            }
        }
        let stays = |index: usize, label: u8| {
            let part = parts.part(index);
            let (voxels, (most, largest)) = (parts.voxels[part], largest[usize::from(label)]);
            match rule(label) {
                Keep::All => true,
                Keep::Largest => part == largest,
                Keep::Share(share) => voxels as f64 >= share * most as f64,
                Keep::Voxels(least) => voxels >= least,
            }
        };
        let mut index = 0;
        for runs in &mut self.planes {
            runs.retain(|run| {
                index += 1;
                stays(index - 1, run.label)
            });
        }
    }
}

/// Takes away the connected parts of each label that its rule does not keep.
pub fn keep_parts(labels: &mut Array3<u8>, rule: impl Fn(u8) -> Keep) {
    let mut map = RunMap::new(labels.dim().into());
    for (z, plane) in labels.axis_iter(Axis(2)).enumerate() {
        map.set_plane(z, &plane.t().iter().copied().collect::<Vec<_>>());
    }
    map.keep_parts(rule);
    let mut kept = vec![0; map.shape[0] * map.shape[1]];
    for (z, mut plane) in labels.axis_iter_mut(Axis(2)).enumerate() {
        map.plane(z, &mut kept);
        plane.view_mut().reversed_axes().iter_mut().zip(&kept).for_each(|(label, &kept)| *label = kept);
    }
}

/// The connected parts that runs form, runs being counted through all planes.
struct Parts {
    /// Of each run another one of its part, nearer to the one that stands for the part.
    parents: Vec<usize>,
    /// The voxels of a part, at the run that stands for it.
    voxels: Vec<usize>,
}

impl Parts {
    fn of(planes: &[Vec<Run>]) -> Self {
        let runs = planes.iter().map(Vec::len).sum();
        let mut parts = Self { parents: (0..runs).collect(), voxels: vec![0; runs] };
        let mut first = 0;
        for (z, plane) in planes.iter().enumerate() {
            let below: &[Run] = if z == 0 { &[] } else { &planes[z - 1] };
            for (i, run) in plane.iter().enumerate() {
                // Runs of one row and label never touch.
                parts.join_with(first + i, run, first, plane, run.y.saturating_sub(1)..run.y);
                parts.join_with(first + i, run, first - below.len(), below, run.y.saturating_sub(1)..run.y + 2);
            }
            first += plane.len();
        }
        for (index, run) in planes.iter().flatten().enumerate() {
            let part = parts.part(index);
            parts.voxels[part] += run.len();
        }
        parts
    }

    /// Joins a run with those of the same label among `others`, counted from `first`, that it touches in `rows`.
    fn join_with(&mut self, index: usize, run: &Run, first: usize, others: &[Run], rows: std::ops::Range<u32>) {
        let from = others.partition_point(|other| other.y < rows.start);
        for (i, other) in others.iter().enumerate().skip(from).take_while(|(_, other)| other.y < rows.end) {
            if other.label == run.label && run.touches(other) {
                let (a, b) = (self.part(index), self.part(first + i));
                // The earlier one stands for both.
                self.parents[a.max(b)] = a.min(b);
                self.parents[index] = a.min(b);
            }
        }
    }

    /// The run that stands for the part of a run.
    fn part(&self, mut index: usize) -> usize {
        while self.parents[index] != index {
            index = self.parents[index];
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ShapeBuilder, s};

    fn runs_of(labels: &Array3<u8>) -> RunMap {
        let mut map = RunMap::new(labels.dim().into());
        for z in 0..map.shape[2] {
            let plane: Vec<u8> = labels.slice(s![.., .., z]).t().iter().copied().collect();
            map.set_plane(z, &plane);
        }
        map
    }

    fn labels_of(map: &RunMap) -> Array3<u8> {
        let plane = map.shape[0] * map.shape[1];
        let mut values = vec![0; plane * map.shape[2]];
        values.chunks_exact_mut(plane).enumerate().for_each(|(z, plane)| map.plane(z, plane));
        Array3::from_shape_vec(map.shape.f(), values).unwrap()
    }

    fn kept(labels: &Array3<u8>, keep: Keep) -> Array3<u8> {
        let mut map = runs_of(labels);
        map.keep_parts(|_| keep);
        let mut labels = labels.clone();
        keep_parts(&mut labels, |_| keep);
        assert_eq!(labels, labels_of(&map));
        labels
    }

    #[test]
    fn parts_go_by_their_size_and_corners_connect() {
        let mut mask = Array3::zeros((9, 8, 7).f());
        mask.slice_mut(s![0..2, 0..2, 0..2]).fill(1); // 8 voxels,
        mask[[2, 2, 2]] = 1; // and a ninth that touches a corner of them
        mask.slice_mut(s![5..9, 6..8, 6]).fill(3); // 8 voxels at the far border, of another label
        mask[[5, 0, 0]] = 1;
        assert_eq!(labels_of(&runs_of(&mask)), mask);
        assert_eq!(kept(&mask, Keep::All), mask);
        assert_eq!(kept(&mask, Keep::Voxels(1)), mask, "a single voxel has one");
        let mut expected = mask.clone();
        expected[[5, 0, 0]] = 0;
        for keep in [Keep::Voxels(8), Keep::Largest, Keep::Share(0.2)] {
            assert_eq!(kept(&mask, keep), expected, "{keep:?}");
        }
        assert_eq!(kept(&mask, Keep::Share(0.1)), mask, "one voxel is a ninth of nine");
        expected.slice_mut(s![5..9, 6..8, 6]).fill(0);
        assert_eq!(kept(&mask, Keep::Voxels(9)), expected);
        assert_eq!(kept(&mask, Keep::Voxels(10)).sum(), 0);
    }

    #[test]
    fn bounds_are_those_of_what_is_labelled() {
        let mut mask = Array3::zeros((9, 8, 7).f());
        assert_eq!(runs_of(&mask).bounds(), None);
        mask[[4, 5, 1]] = 2;
        mask[[6, 3, 3]] = 1;
        assert_eq!(runs_of(&mask).bounds(), Some(Box3 { start: [4, 3, 1], shape: [3, 3, 3] }));
    }

    #[test]
    fn parts_are_those_of_a_flood() {
        use proptest::prelude::*;
        let volumes = (1..7usize, 1..7usize, 1..7usize)
            .prop_flat_map(|shape| proptest::collection::vec(0..3u8, shape.0 * shape.1 * shape.2).prop_map(move |v| (shape, v)));
        proptest!(|((shape, values) in volumes, least in 1..9usize)| {
            let labels = Array3::from_shape_vec(shape.f(), values).unwrap();
            let expected = Array3::from_shape_fn(shape.f(), |at| if flood(&labels, at) >= least { labels[at] } else { 0 });
            prop_assert_eq!(kept(&labels, Keep::Voxels(least)), expected);
        });
    }

    /// The voxels of the part that a voxel is in.
    fn flood(labels: &Array3<u8>, from: (usize, usize, usize)) -> usize {
        let mut part = vec![from];
        let mut next = 0;
        while let Some(&(x, y, z)) = part.get(next) {
            next += 1;
            for ((i, j, k), &label) in labels.indexed_iter() {
                let near = i.abs_diff(x).max(j.abs_diff(y)).max(k.abs_diff(z)) == 1;
                if near && label == labels[from] && !part.contains(&(i, j, k)) {
                    part.push((i, j, k));
                }
            }
        }
        if labels[from] == 0 { 0 } else { part.len() }
    }
}
