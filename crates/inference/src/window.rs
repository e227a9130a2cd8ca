//! Sliding-window inference for 3-D networks with Gaussian weights.

use candle_core::{Device, Tensor};
use ndarray::{Array3, ArrayView3, ShapeBuilder};

use crate::image::Image;
use crate::slab::{Order, Tiling, Wanted, label};

/// What [`SlidingWindow::held_bytes`] counts, in messages.
pub const HELD: &str = "the scores of the windows that reach a voxel";

/// How they become fewer.
pub const LESS: &str = "crop to the foreground, take a smaller patch, or give the stage fewer workers";

/// How windows are laid over a volume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlidingWindow {
    /// Voxels of a window along x, y, z: those of the patches in training; each at least 16, the reach of four poolings.
    pub patch: [usize; 3],
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

/// Why windows cannot be laid.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// A patch that the 3-D network cannot take.
    #[error("patch {0:?}: every side must have at least 16 voxels, because the network halves it four times")]
    Patch([usize; 3]),
    /// A window that the 2-D network cannot take.
    #[error("size {0:?}: both sides must have at least 16 pixels, because the network halves them four times")]
    Size([usize; 2]),
    /// No slices.
    #[error("batch: 0 slices at once segment nothing; give at least 1")]
    Batch,
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
        check_overlap(self.overlap)
    }

    /// Bytes of the scores that are held while windows are laid over a volume of `shape`: those of `classes` in the slab that
    /// windows cover, and with `weighed` the weights beside them.
    #[must_use]
    pub fn held_bytes(&self, shape: [usize; 3], classes: usize, weighed: bool) -> usize {
        let roll = rolling_axis(shape);
        let slab: usize = (0..3).map(|axis| if axis == roll { self.patch[axis] } else { shape[axis].max(self.patch[axis]) }).product();
        slab * (classes + usize::from(weighed)) * size_of::<f32>()
    }

    fn tiling(&self, shape: [usize; 3]) -> Tiling {
        let [a, b, c] = self.patch;
        Tiling {
            patch: self.patch,
            starts: std::array::from_fn(|axis| starts(self.patch[axis], self.overlap, shape[axis])),
            roll: rolling_axis(shape),
            // Far corners keep a little weight, so that a voxel which only corners reach is still decided.
            weights: Array3::from_shape_fn(self.patch, |(i, j, k)| (bell(a, i) * bell(b, j) * bell(c, k)).max(1e-3)),
        }
    }
}

/// Along the longest axis the slab is the smallest.
fn rolling_axis(shape: [usize; 3]) -> usize {
    (0..3).max_by_key(|&axis| shape[axis]).unwrap_or(0)
}

pub(crate) fn check_overlap(overlap: f64) -> Result<(), WindowError> {
    if (0.0..1.0).contains(&overlap) { Ok(()) } else { Err(WindowError::Overlap(overlap)) }
}

/// The starts of windows of `patch` voxels along an axis: even steps, the last one ending at the border.
pub(crate) fn starts(patch: usize, overlap: f64, length: usize) -> Vec<usize> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patches are small")]
    let step = ((patch as f64 * (1.0 - overlap)) as usize).max(1);
    let last = length.saturating_sub(patch);
    (0..last.div_ceil(step) + 1).map(|k| (k * step).min(last)).collect()
}

/// The weight of voxel `i` of `side`: a Gaussian around the middle, with a deviation of an eighth of the side.
#[expect(clippy::cast_precision_loss, reason = "patches are small")]
pub(crate) fn bell(side: usize, i: usize) -> f32 {
    let z = (i as f32 - (side as f32 - 1.0) / 2.0) / (side as f32 * 0.125);
    (-0.5 * z * z).exp()
}

/// Labels of `image` (voxels `[x, y, z]` on the model grid, values in 0..1) by a network that maps
/// `(1, 1, d, h, w)` to logits `(1, classes, d, h, w)`.
///
/// A volume smaller than the patch lies in the middle of it, zeros around, as in training.
///
/// # Errors
/// Those of the network.
pub fn segment_windows(
    image: &impl Image,
    window: &SlidingWindow,
    classes: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Array3<u8>> {
    let mut labels = Array3::zeros(image.shape().f());
    segment(image, window, [classes], [Wanted::Labels(labels.view_mut())], device, |patch| Ok([network(patch)?]))?;
    Ok(labels)
}

/// The same labels, and beside them the probability of each in 255ths: by the softmax of the weighted mean of the logits.
///
/// # Errors
/// Those of the network.
pub fn segment_with_confidence(
    image: &impl Image,
    window: &SlidingWindow,
    classes: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<[Array3<u8>; 2]> {
    let [mut labels, mut confidence] = [(); 2].map(|()| Array3::zeros(image.shape().f()));
    let wanted = Wanted::Confidence { labels: labels.view_mut(), confidence: confidence.view_mut() };
    segment(image, window, [classes], [wanted], device, |patch| Ok([network(patch)?]))?;
    Ok([labels, confidence])
}

/// How likely the network finds given `labels`, in 255ths; 0 for those that are not among its classes.
///
/// # Errors
/// Those of the network.
pub fn belief_in(
    labels: &ArrayView3<'_, u8>,
    image: &impl Image,
    window: &SlidingWindow,
    classes: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Array3<u8>> {
    let mut belief = Array3::zeros(image.shape().f());
    let wanted = Wanted::Belief { labels: labels.view(), belief: belief.view_mut() };
    segment(image, window, [classes], [wanted], device, |patch| Ok([network(patch)?]))?;
    Ok(belief)
}

/// Labels by a network with several heads of `classes` each, whose label maps come from one pass.
///
/// # Errors
/// Those of the network.
pub fn segment_heads<const HEADS: usize>(
    image: &impl Image,
    window: &SlidingWindow,
    classes: [usize; HEADS],
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<[Tensor; HEADS]>,
) -> candle_core::Result<[Array3<u8>; HEADS]> {
    let mut labels: [Array3<u8>; HEADS] = std::array::from_fn(|_| Array3::zeros(image.shape().f()));
    let wanted = labels.each_mut().map(|labels| Wanted::Labels(labels.view_mut()));
    segment(image, window, classes, wanted, device, network)?;
    Ok(labels)
}

fn segment<const HEADS: usize>(
    image: &impl Image,
    window: &SlidingWindow,
    classes: [usize; HEADS],
    mut wanted: [Wanted<'_>; HEADS],
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<[Tensor; HEADS]>,
) -> candle_core::Result<()> {
    let [a, b, c] = window.patch;
    label(image, &window.tiling(image.shape()), Order::ClassFirst, &classes, &mut wanted, |patch| {
        let heads = network(&Tensor::from_vec(patch, (1, 1, a, b, c), device)?)?;
        heads.iter().map(|logits| logits.flatten_all()?.to_vec1::<f32>()).collect::<candle_core::Result<Vec<_>>>().map(Some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, Zip};
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
                let starts = starts(window.patch[axis], window.overlap, length);
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
    fn confidence_is_the_probability_of_the_label_whatever_the_windows() {
        for shape in [[20, 33, 41], [10, 12, 9], [16, 48, 30]] {
            for overlap in [0.0, 0.5] {
                let (image, window) = (random(shape), SlidingWindow { patch: [16, 16, 16], overlap });
                let [labels, confidence] = segment_with_confidence(&image.view(), &window, 3, &Device::Cpu, voxelwise).unwrap();
                assert_eq!(labels, segment_windows(&image.view(), &window, 3, &Device::Cpu, voxelwise).unwrap());
                let others = labels.mapv(|label| (label + 1) % 4);
                let belief = |labels: &Array3<u8>| belief_in(&labels.view(), &image.view(), &window, 3, &Device::Cpu, voxelwise).unwrap();
                let of_others = belief(&others);
                assert_eq!(belief(&labels), confidence, "what is most likely is believed as far as it is likely");
                for (at, &value) in image.indexed_iter() {
                    let powers = [0.0, value - 0.5, 2.0 * value - 2.0].map(f32::exp);
                    let share = |label: u8| powers.get(usize::from(label)).map_or(0.0, |power| 255.0 * power / powers.iter().sum::<f32>());
                    // Means of equal logits over windows round in another place.
                    assert!((share(labels[at]) - f32::from(confidence[at])).abs() < 0.51, "{shape:?} {at:?}: {value}");
                    assert!((share(others[at]) - f32::from(of_others[at])).abs() < 0.51, "{shape:?} {at:?}: {value}");
                }
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
        let weights = window.tiling([40, 18, 16]).weights;
        let mut sums = Array4::<f32>::zeros((2, 40, 18, 16));
        for i in starts(16, 0.5, 40) {
            for j in starts(16, 0.5, 18) {
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
