//! Sliding-window inference for 3-D networks with Gaussian weights.
//!
//! Windows are visited in order of their start along the longest axis of the volume. Only the logits of the slab that
//! the current windows cover are held: `classes × patch × the two shorter sides`. When the windows move on, the voxels
//! that no later window reaches are decided and forgotten. The weights are the same for every class, so that the
//! largest weighted sum is the largest weighted mean, and no map of weights is needed.

use candle_core::{Device, Tensor};
use ndarray::{Array3, Array4, ArrayView3, Axis, Slice, Zip, s};
use serde::{Deserialize, Serialize};

/// How windows are laid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// Voxels of a window along x, y, z; each at least 16, the reach of four poolings.
    pub patch: [usize; 3],
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

/// Why windows cannot be laid.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// A patch that the network cannot take.
    #[error("patch {0:?}: every side must have at least 16 voxels, because the network halves it four times")]
    Patch([usize; 3]),
    /// An overlap that leaves no step.
    #[error("overlap {0}: must be at least 0 and below 1")]
    Overlap(f64),
}

impl SlidingWindow {
    /// Refuses sizes that cannot work.
    ///
    /// # Errors
    /// Says what must be otherwise.
    pub fn check(&self) -> Result<(), WindowError> {
        if self.patch.iter().any(|&side| side < 16) {
            return Err(WindowError::Patch(self.patch));
        }
        if !(0.0..1.0).contains(&self.overlap) {
            return Err(WindowError::Overlap(self.overlap));
        }
        Ok(())
    }

    /// The starts of the windows along an axis: even steps, the last one ending at the border.
    fn starts(&self, axis: usize, length: usize) -> Vec<usize> {
        let patch = self.patch[axis];
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patches are small")]
        let step = ((patch as f64 * (1.0 - self.overlap)) as usize).max(1);
        let last = length.saturating_sub(patch);
        (0..last.div_ceil(step) + 1).map(|k| (k * step).min(last)).collect()
    }

    /// Gaussian weights around the centre of the window, with a deviation of an eighth of each side.
    fn weights(&self) -> Array3<f32> {
        #[expect(clippy::cast_precision_loss, reason = "patches are small")]
        let axis = |side: usize, i: usize| {
            let z = (i as f32 - (side as f32 - 1.0) / 2.0) / (side as f32 * 0.125);
            (-0.5 * z * z).exp()
        };
        let [a, b, c] = self.patch;
        // Far corners keep a little weight, so that a voxel which only corners reach is still decided.
        Array3::from_shape_fn(self.patch, |(i, j, k)| (axis(a, i) * axis(b, j) * axis(c, k)).max(1e-3))
    }
}

/// Labels of `image` (voxels `[x, y, z]` on the model grid, values in 0..1) by a network that maps
/// `(1, 1, d, h, w)` to logits `(1, classes, d, h, w)`.
///
/// Volumes smaller than the patch are padded with zeros.
///
/// # Errors
/// Those of the network.
pub fn segment_windows(
    image: &ArrayView3<'_, f32>,
    window: &SlidingWindow,
    classes: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Array3<u8>> {
    let shape: [usize; 3] = image.dim().into();
    let roll = (0..3).max_by_key(|&axis| shape[axis]).unwrap_or(0);
    let weights = window.weights();
    let padded: [usize; 3] = std::array::from_fn(|axis| shape[axis].max(window.patch[axis]));
    let mut slab = Slab::new(window, classes, padded, roll);
    let mut labels = Array3::zeros(ndarray::ShapeBuilder::f(shape));
    let starts: [Vec<usize>; 3] = std::array::from_fn(|axis| window.starts(axis, shape[axis]));
    let rolls = &starts[roll];
    for (k, &front) in rolls.iter().enumerate() {
        slab.advance_to(front);
        for place in places(&starts, roll, front) {
            let patch = extract(image, place, window.patch);
            let input = Tensor::from_vec(patch, (1, 1, window.patch[0], window.patch[1], window.patch[2]), device)?;
            let logits = network(&input)?.squeeze(0)?.flatten_all()?.to_vec1::<f32>()?;
            slab.add(place, window.patch, &logits, &weights);
        }
        let decided = rolls.get(k + 1).copied().unwrap_or(shape[roll]);
        slab.decide(front..decided.min(shape[roll]), &mut labels);
    }
    Ok(labels)
}

/// The windows that start at `front` along the `roll` axis.
fn places(starts: &[Vec<usize>; 3], roll: usize, front: usize) -> Vec<[usize; 3]> {
    let along = |axis: usize| if axis == roll { vec![front] } else { starts[axis].clone() };
    let (a, b, c) = (along(0), along(1), along(2));
    a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j))).flat_map(|(i, j)| c.iter().map(move |&k| [i, j, k])).collect()
}

/// A window of the image, row-major, with zeros outside.
fn extract(image: &ArrayView3<'_, f32>, place: [usize; 3], patch: [usize; 3]) -> Vec<f32> {
    let mut out = Array3::zeros(patch);
    let shape: [usize; 3] = image.dim().into();
    let end: [usize; 3] = std::array::from_fn(|axis| (place[axis] + patch[axis]).min(shape[axis]));
    let inside = image.slice(s![place[0]..end[0], place[1]..end[1], place[2]..end[2]]);
    let (a, b, c) = inside.dim();
    out.slice_mut(s![..a, ..b, ..c]).assign(&inside);
    out.into_raw_vec_and_offset().0
}

/// The summed logits of the part of the volume that windows are being laid over.
struct Slab {
    sums: Array4<f32>,
    roll: usize,
    front: usize,
}

impl Slab {
    fn new(window: &SlidingWindow, classes: usize, mut shape: [usize; 3], roll: usize) -> Self {
        shape[roll] = window.patch[roll];
        Self { sums: Array4::zeros((classes, shape[0], shape[1], shape[2])), roll, front: 0 }
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

    fn add(&mut self, mut place: [usize; 3], patch: [usize; 3], logits: &[f32], weights: &Array3<f32>) {
        place[self.roll] -= self.front;
        let [a, b, c] = place;
        let volume = weights.len();
        for (mut sums, logits) in self.sums.outer_iter_mut().zip(logits.chunks_exact(volume)) {
            let mut part = sums.slice_mut(s![a..a + patch[0], b..b + patch[1], c..c + patch[2]]);
            for ((mut row, weights), logits) in part.rows_mut().into_iter().zip(weights.rows()).zip(logits.chunks_exact(patch[2])) {
                for ((sum, weight), logit) in row.iter_mut().zip(weights).zip(logits) {
                    *sum += weight * logit;
                }
            }
        }
    }

    /// Writes the label of every voxel of `range` along the rolling axis.
    fn decide(&self, range: std::ops::Range<usize>, labels: &mut Array3<u8>) {
        let axis = Axis(self.roll);
        let mut best = None;
        for (class, sums) in (0u8..).zip(self.sums.outer_iter()) {
            let sums = sums.slice_axis_move(axis, Slice::from(0..range.len()));
            let mut out = labels.slice_axis_mut(axis, Slice::from(range.clone()));
            let inside = out.raw_dim();
            let sums = sums.slice_move(s![..inside[0], ..inside[1], ..inside[2]]);
            match &mut best {
                None => best = Some(sums.to_owned()),
                Some(best) => Zip::from(&mut out).and(best).and(sums).for_each(|label, best, &sum| {
                    if sum > *best {
                        (*label, *best) = (class, sum);
                    }
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streams::{Streams, normal};

    fn random(shape: [usize; 3]) -> Array3<f32> {
        let mut stream = Streams::new(1).stream("test", &[]);
        Array3::from_shape_simple_fn(shape, || normal(&mut stream))
    }

    /// Three classes whose logits depend on the voxel alone, so that windows cannot disagree.
    fn voxelwise(input: &Tensor) -> candle_core::Result<Tensor> {
        Tensor::cat(&[&input.zeros_like()?, &(input - 0.5)?, &((input * 2.0)? - 2.0)?], 1)
    }

    fn expected(value: f32) -> u8 {
        match value {
            v if v > 2.0 * v - 2.0 && v - 0.5 > 0.0 && 2.0 * v - 2.0 < v - 0.5 => 1,
            v if 2.0 * v - 2.0 > 0.0 => 2,
            _ => 0,
        }
    }

    #[test]
    fn a_voxelwise_network_gives_its_labels_whatever_the_windows() {
        for shape in [[20, 33, 41], [50, 17, 16], [10, 12, 9], [16, 48, 30]] {
            for overlap in [0.0, 0.25, 0.5, 0.9] {
                let image = random(shape);
                let window = SlidingWindow { patch: [16, 16, 16], overlap };
                let labels = segment_windows(&image.view(), &window, 3, &Device::Cpu, voxelwise).unwrap();
                assert_eq!(labels, image.mapv(expected), "shape {shape:?}, overlap {overlap}");
            }
        }
    }

    #[test]
    fn windows_cover_every_voxel_and_end_at_the_border() {
        let window = SlidingWindow { patch: [16, 32, 48], overlap: 0.5 };
        for length in 1..200 {
            for axis in 0..3 {
                let starts = window.starts(axis, length);
                let mut reached = 0;
                for &start in &starts {
                    assert!(start <= reached, "a gap before {start} of {length}");
                    reached = start + window.patch[axis];
                }
                assert!(reached >= length && (length < window.patch[axis] || reached == length));
            }
        }
    }

    #[test]
    fn the_slab_gives_what_the_whole_volume_of_logits_would() {
        // A network whose answer depends on the place in the window, so that the weights decide.
        let network = |input: &Tensor| {
            let ramp = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 1, 16, 1, 1))?.broadcast_as(input.shape())?;
            Tensor::cat(&[&((&ramp - 8.0)? * 0.1)?, &(input * 0.7)?], 1)
        };
        let (image, window) = (random([40, 18, 16]), SlidingWindow { patch: [16, 16, 16], overlap: 0.5 });
        let labels = segment_windows(&image.view(), &window, 2, &Device::Cpu, network).unwrap();
        let weights = window.weights();
        let mut sums = Array4::<f32>::zeros((2, 40, 18, 16));
        for i in window.starts(0, 40) {
            for j in window.starts(1, 18) {
                for ((a, b, c), weight) in weights.indexed_iter() {
                    sums[[0, i + a, j + b, c]] += weight * ((a as f32 - 8.0) * 0.1);
                    sums[[1, i + a, j + b, c]] += weight * (image[[i + a, j + b, c]] * 0.7);
                }
            }
        }
        let whole = Array3::from_shape_fn((40, 18, 16), |(a, b, c)| u8::from(sums[[1, a, b, c]] > sums[[0, a, b, c]]));
        let different = Zip::from(&labels).and(&whole).fold(0, |n, a, b| n + usize::from(a != b));
        assert!(different <= 2, "{different} voxels differ; sums in another order may tip a tie, no more");
    }
}
