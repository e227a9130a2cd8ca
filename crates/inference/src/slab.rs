//! The logits that windows are being laid over, and nothing more.
//!
//! Windows are visited in order of their start along one axis, the rolling one. Only the slab that the current windows
//! cover is held: `classes × patch × the two other sides`. When the windows move on, the voxels that no later window
//! reaches are decided and forgotten. The weights are the same for every class, so that the largest weighted sum is the
//! largest weighted mean, and no map of weights is needed.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView3, ArrayViewMut3, Axis, Slice, Zip, s};

/// Where the windows lie on a volume.
pub(crate) struct Tiling {
    /// Voxels of a window.
    pub(crate) patch: [usize; 3],
    /// The starts of the windows along each axis, ascending, in the padded volume.
    pub(crate) starts: [Vec<usize>; 3],
    /// The axis along which windows are visited first to last.
    pub(crate) roll: usize,
    /// How much each voxel of a window counts.
    pub(crate) weights: Array3<f32>,
}

/// How the logits of a window lie in memory.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// `(class, x, y, z)`: one volume.
    ClassFirst,
    /// `(x, class, y, z)`: a batch of planes.
    PlaneFirst,
}

/// Lays windows over `image` and writes the most likely class of every voxel into one label map per head.
///
/// `network` takes the voxels of a window, row by row, and gives logits of each head, or nothing for a window that has
/// no say; `heads` counts their classes. What no window has a say in is of the first class.
/// Sides shorter than a window are padded with zeros on both ends, the voxel too many on the far one: as in training.
pub(crate) fn label<E>(
    image: &ArrayView3<'_, f32>,
    tiling: &Tiling,
    order: Order,
    heads: &[usize],
    labels: &mut [ArrayViewMut3<'_, u8>],
    network: impl Fn(Vec<f32>) -> Result<Option<Vec<Vec<f32>>>, E>,
) -> Result<(), E> {
    let shape: [usize; 3] = image.dim().into();
    let before: [usize; 3] = std::array::from_fn(|axis| tiling.patch[axis].saturating_sub(shape[axis]) / 2);
    let padded: [usize; 3] = std::array::from_fn(|axis| shape[axis].max(tiling.patch[axis]));
    let mut slabs: Vec<Slab> = heads.iter().map(|&classes| Slab::new(tiling, classes, padded)).collect();
    let rolls = &tiling.starts[tiling.roll];
    for (k, &front) in rolls.iter().enumerate() {
        slabs.iter_mut().for_each(|slab| slab.advance_to(front));
        for place in places(tiling, front) {
            let Some(logits) = network(extract(image, place, before, tiling.patch))? else { continue };
            slabs.iter_mut().zip(&logits).for_each(|(slab, logits)| slab.add(tiling, order, place, logits));
        }
        let decided = rolls.get(k + 1).copied().unwrap_or(padded[tiling.roll]);
        slabs.iter().zip(labels.iter_mut()).for_each(|(slab, labels)| slab.decide(front..decided, before, labels));
    }
    Ok(())
}

/// The windows that start at `front` along the rolling axis.
fn places(tiling: &Tiling, front: usize) -> Vec<[usize; 3]> {
    let along = |axis: usize| if axis == tiling.roll { vec![front] } else { tiling.starts[axis].clone() };
    let (a, b, c) = (along(0), along(1), along(2));
    a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j))).flat_map(|(i, j)| c.iter().map(move |&k| [i, j, k])).collect()
}

/// A window of the padded image, row by row, with zeros outside the image.
fn extract(image: &ArrayView3<'_, f32>, place: [usize; 3], before: [usize; 3], patch: [usize; 3]) -> Vec<f32> {
    let mut out = Array3::zeros(patch);
    let shape: [usize; 3] = image.dim().into();
    let inside = image.slice_each_axis(|axis| {
        let start = place[axis.axis.index()];
        Slice::from(start..(start + patch[axis.axis.index()]).min(shape[axis.axis.index()]))
    });
    let (a, b, c) = inside.dim();
    let [i, j, k] = before;
    out.slice_mut(s![i..i + a, j..j + b, k..k + c]).assign(&inside);
    out.into_raw_vec_and_offset().0
}

/// The summed logits of one head over the part of the volume that windows are being laid over.
struct Slab {
    sums: Array4<f32>,
    roll: usize,
    front: usize,
}

impl Slab {
    fn new(tiling: &Tiling, classes: usize, mut shape: [usize; 3]) -> Self {
        shape[tiling.roll] = tiling.patch[tiling.roll];
        Self { sums: Array4::zeros((classes, shape[0], shape[1], shape[2])), roll: tiling.roll, front: 0 }
    }

    /// Moves the slab along, forgetting what lies before `front`.
    fn advance_to(&mut self, front: usize) {
        let (axis, depth) = (Axis(self.roll + 1), self.sums.len_of(Axis(self.roll + 1)));
        let shift = front - self.front;
        self.front = front;
        if shift == 0 {
            return;
        }
        for k in 0..depth.saturating_sub(shift) {
            let (mut before, after) = self.sums.view_mut().split_at(axis, k + 1);
            before.index_axis_mut(axis, k).assign(&after.index_axis(axis, shift - 1));
        }
        self.sums.slice_axis_mut(axis, Slice::from(depth.saturating_sub(shift)..)).fill(0.0);
    }

    fn add(&mut self, tiling: &Tiling, order: Order, mut place: [usize; 3], logits: &[f32]) {
        place[self.roll] -= self.front;
        let ([a, b, c], [i, j, k]) = (tiling.patch, place);
        let classes = self.sums.len_of(Axis(0));
        for (class, mut sums) in self.sums.outer_iter_mut().enumerate() {
            for x in 0..a {
                let plane = match order {
                    Order::ClassFirst => class * a + x,
                    Order::PlaneFirst => x * classes + class,
                };
                let logits = logits[plane * b * c..][..b * c].chunks_exact(c);
                let weights = tiling.weights.index_axis(Axis(0), x);
                let mut sums = sums.slice_mut(s![i + x, j..j + b, k..k + c]);
                for ((mut sums, weights), logits) in sums.rows_mut().into_iter().zip(weights.rows()).zip(logits) {
                    for ((sum, weight), logit) in sums.iter_mut().zip(weights).zip(logits) {
                        *sum += weight * logit;
                    }
                }
            }
        }
    }

    /// Writes the label of every voxel of `range` along the rolling axis of the padded volume; `before` voxels of
    /// padding precede the image.
    fn decide(&self, range: Range<usize>, before: [usize; 3], labels: &mut ArrayViewMut3<'_, u8>) {
        let shape: [usize; 3] = labels.dim().into();
        let first = before[self.roll];
        let image = range.start.max(first)..range.end.min(first + shape[self.roll]);
        if image.is_empty() {
            return;
        }
        let mut out = labels.slice_axis_mut(Axis(self.roll), Slice::from(image.start - first..image.end - first));
        let inside = |axis: usize| match axis == self.roll {
            true => Slice::from(image.start - self.front..image.end - self.front),
            false => Slice::from(before[axis]..before[axis] + shape[axis]),
        };
        let mut best: Option<Array3<f32>> = None;
        for (class, sums) in (0u8..).zip(self.sums.outer_iter()) {
            let sums = sums.slice_each_axis(|axis| inside(axis.axis.index()));
            match &mut best {
                None => best = Some(sums.to_owned()),
                Some(best) => Zip::from(&mut out).and(best).and(&sums).for_each(|label, best, &sum| {
                    if sum > *best {
                        (*label, *best) = (class, sum);
                    }
                }),
            }
        }
    }
}
