//! The logits that windows are being laid over, and nothing more.
//!
//! Windows are visited in order of their start along one axis, the rolling one. Only the slab that the current windows
//! cover is held: `classes × patch × the two other sides`. When the windows move on, the voxels that no later window
//! reaches are decided and forgotten. The weights are the same for every class, so that the largest weighted sum is the
//! largest weighted mean, and no map of weights is needed unless one asks how likely a class is.

use std::io;
use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut3, Axis, Slice, Zip, s};

use crate::image::Image;

/// Where the windows lie on a volume.
pub(crate) struct Tiling {
    /// Voxels of a window.
    pub(crate) patch: [usize; 3],
    /// The starts of the windows along each axis, ascending, in the padded volume.
    pub(crate) starts: [Vec<usize>; 3],
    /// The axis along which windows are visited first to last.
    pub(crate) roll: usize,
    /// What lies around a volume smaller than a window.
    pub(crate) around: f32,
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

/// What is written of a head as its voxels are decided.
pub(crate) enum Wanted<'a> {
    /// The most likely class.
    Labels(ArrayViewMut3<'a, u8>),
    /// The most likely class, and its probability in 255ths.
    Confidence { labels: ArrayViewMut3<'a, u8>, confidence: ArrayViewMut3<'a, u8> },
    /// The probability of given classes in 255ths.
    Belief { labels: ArrayView3<'a, u8>, belief: ArrayViewMut3<'a, u8> },
}

impl Wanted<'_> {
    fn shape(&self) -> [usize; 3] {
        match self {
            Self::Labels(labels) | Self::Confidence { labels, .. } => labels.dim().into(),
            Self::Belief { labels, .. } => labels.dim().into(),
        }
    }
}

/// Lays windows over `image` and writes the most likely class of every voxel, or what else is wanted of each head.
///
/// `network` takes the voxels of a window, row by row, and gives logits of each head, or nothing for a window that has
/// no say; `heads` has the output values of their channels. What no window has a say in is background.
/// Sides shorter than a window are padded on both ends as in training, with what the tiling says lies around. A voxel too many stands on the
/// far end.
pub(crate) fn label<E: From<io::Error>>(
    image: &impl Image,
    tiling: &Tiling,
    order: Order,
    heads: &[Vec<u8>],
    wanted: &mut [Wanted<'_>],
    network: impl Fn(Vec<f32>) -> Result<Option<Vec<Vec<f32>>>, E>,
) -> Result<(), E> {
    let shape = image.shape();
    let before: [usize; 3] = std::array::from_fn(|axis| tiling.patch[axis].saturating_sub(shape[axis]) / 2);
    let padded: [usize; 3] = std::array::from_fn(|axis| shape[axis].max(tiling.patch[axis]));
    let both = heads.iter().zip(wanted.iter());
    let mut slabs: Vec<Slab<'_>> =
        both.map(|(values, wanted)| Slab::new(tiling, values, padded, !matches!(wanted, Wanted::Labels(_)))).collect();
    let rolls = &tiling.starts[tiling.roll];
    for (k, &front) in rolls.iter().enumerate() {
        slabs.iter_mut().for_each(|slab| slab.advance_to(front));
        for place in places(tiling, front) {
            let Some(logits) = network(extract(image, place, before, tiling)?)? else { continue };
            slabs.iter_mut().zip(&logits).for_each(|(slab, logits)| slab.add(tiling, order, place, logits));
        }
        let decided = rolls.get(k + 1).copied().unwrap_or(padded[tiling.roll]);
        slabs.iter().zip(wanted.iter_mut()).for_each(|(slab, wanted)| slab.decide(front..decided, before, wanted));
    }
    Ok(())
}

/// The windows that start at `front` along the rolling axis.
fn places(tiling: &Tiling, front: usize) -> Vec<[usize; 3]> {
    let along = |axis: usize| if axis == tiling.roll { vec![front] } else { tiling.starts[axis].clone() };
    let (a, b, c) = (along(0), along(1), along(2));
    a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j))).flat_map(|(i, j)| c.iter().map(move |&k| [i, j, k])).collect()
}

/// A window of the padded image, row by row.
fn extract(image: &impl Image, place: [usize; 3], before: [usize; 3], tiling: &Tiling) -> io::Result<Vec<f32>> {
    let (patch, shape) = (tiling.patch, image.shape());
    let mut out = Array3::from_elem(patch, tiling.around);
    let inside = image.part(&std::array::from_fn(|axis| place[axis]..(place[axis] + patch[axis]).min(shape[axis])))?;
    let (a, b, c) = inside.dim();
    let [i, j, k] = before;
    out.slice_mut(s![i..i + a, j..j + b, k..k + c]).assign(&inside);
    Ok(out.into_raw_vec_and_offset().0)
}

/// The summed logits of one head over the part of the volume that windows are being laid over.
struct Slab<'a> {
    /// The output value of each channel.
    values: &'a [u8],
    sums: Array4<f32>,
    /// The summed weights, `[1, x, y, z]`, where means are asked for.
    weights: Option<Array4<f32>>,
    roll: usize,
    front: usize,
}

impl<'a> Slab<'a> {
    fn new(tiling: &Tiling, values: &'a [u8], mut shape: [usize; 3], with_means: bool) -> Self {
        shape[tiling.roll] = tiling.patch[tiling.roll];
        let zeros = |channels| Array4::zeros((channels, shape[0], shape[1], shape[2]));
        Self { values, sums: zeros(values.len()), weights: with_means.then(|| zeros(1)), roll: tiling.roll, front: 0 }
    }

    /// Moves the slab along, forgetting what lies before `front`.
    fn advance_to(&mut self, front: usize) {
        let shift = front - self.front;
        self.front = front;
        if shift == 0 {
            return;
        }
        for sums in std::iter::once(&mut self.sums).chain(&mut self.weights) {
            let (axis, depth) = (Axis(self.roll + 1), sums.len_of(Axis(self.roll + 1)));
            for k in 0..depth.saturating_sub(shift) {
                let (mut before, after) = sums.view_mut().split_at(axis, k + 1);
                before.index_axis_mut(axis, k).assign(&after.index_axis(axis, shift - 1));
            }
            sums.slice_axis_mut(axis, Slice::from(depth.saturating_sub(shift)..)).fill(0.0);
        }
    }

    fn add(&mut self, tiling: &Tiling, order: Order, mut place: [usize; 3], logits: &[f32]) {
        place[self.roll] -= self.front;
        let ([a, b, c], [i, j, k]) = (tiling.patch, place);
        let classes = self.sums.len_of(Axis(0));
        if let Some(weights) = &mut self.weights {
            let mut sums = weights.slice_mut(s![0, i..i + a, j..j + b, k..k + c]);
            sums += &tiling.weights;
        }
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

    /// Writes what is wanted of every voxel of `range` along the rolling axis of the padded volume; `before` voxels of
    /// padding precede the image.
    fn decide(&self, range: Range<usize>, before: [usize; 3], wanted: &mut Wanted<'_>) {
        let shape = wanted.shape();
        let first = before[self.roll];
        let image = range.start.max(first)..range.end.min(first + shape[self.roll]);
        if image.is_empty() {
            return;
        }
        let inside = |axis: usize| match axis.checked_sub(1) {
            None => Slice::from(..),
            Some(axis) if axis == self.roll => Slice::from(image.start - self.front..image.end - self.front),
            Some(axis) => Slice::from(before[axis]..before[axis] + shape[axis]),
        };
        let sums = self.sums.slice_each_axis(|axis| inside(axis.axis.index()));
        let weights = self.weights.as_ref().map(|weights| weights.slice_each_axis(|axis| inside(axis.axis.index())));
        let (axis, place) = (Axis(self.roll), Slice::from(image.start - first..image.end - first));
        let (chosen, out) = match wanted {
            Wanted::Labels(labels) => (most_likely(&sums, self.values, labels.slice_axis_mut(axis, place)), None),
            Wanted::Confidence { labels, confidence } => {
                (most_likely(&sums, self.values, labels.slice_axis_mut(axis, place)), Some(confidence))
            }
            Wanted::Belief { labels, belief } => (of_labels(&sums, self.values, &labels.slice_axis(axis, place)), Some(belief)),
        };
        if let (Some(out), Some(weights)) = (out, weights) {
            write_probabilities(&sums, &weights, &chosen, out.slice_axis_mut(axis, place));
        }
    }
}

/// The value with the greatest sum into `labels`; gives that sum.
fn most_likely(sums: &ArrayView4<'_, f32>, values: &[u8], mut labels: ArrayViewMut3<'_, u8>) -> Array3<f32> {
    let mut best = sums.index_axis(Axis(0), 0).to_owned();
    for (&value, sums) in values.iter().zip(sums.outer_iter()).skip(1) {
        Zip::from(&mut labels).and(&mut best).and(&sums).for_each(|label, best, &sum| {
            if sum > *best {
                (*label, *best) = (value, sum);
            }
        });
    }
    best
}

/// The sums of the values in `labels`; no number where no channel has the value.
fn of_labels(sums: &ArrayView4<'_, f32>, values: &[u8], labels: &ArrayView3<'_, u8>) -> Array3<f32> {
    let mut chosen = Array3::from_elem(labels.dim(), f32::NAN);
    for (&value, sums) in values.iter().zip(sums.outer_iter()) {
        Zip::from(&mut chosen).and(labels).and(&sums).for_each(|chosen, &label, &sum| {
            if label == value {
                *chosen = sum;
            }
        });
    }
    chosen
}

/// How likely the class is whose sum is `chosen`, by the softmax of the mean logits, in 255ths; 0 where nothing is known.
fn write_probabilities(sums: &ArrayView4<'_, f32>, weights: &ArrayView4<'_, f32>, chosen: &Array3<f32>, mut out: ArrayViewMut3<'_, u8>) {
    let mut totals = Array3::<f32>::zeros(chosen.dim());
    let weights = weights.index_axis(Axis(0), 0);
    for sums in sums.outer_iter() {
        let add = |total: &mut f32, sum: &f32, chosen: &f32, weight: &f32| *total += ((sum - chosen) / weight).exp();
        Zip::from(&mut totals).and(&sums).and(chosen).and(weights).for_each(add);
    }
    // The cast takes what is no number to 0.
    Zip::from(&mut out).and(&totals).for_each(|out, total| *out = (255.0 / total + 0.5) as u8);
}
