//! Sliding-window inference for 3-D networks with Gaussian weights.

use candle_core::{Device, Tensor};
use ndarray::Array3;

use crate::image::Image;
use crate::slab::{Order, Tiling, Wanted, label};

/// What [`SlidingWindow::held_bytes`] counts, in messages.
pub const HELD: &str = "the scores of the windows that reach a voxel";

/// How they become fewer.
pub const LESS: &str = "crop to the foreground, take a smaller patch, or give the stage fewer workers";

/// How windows are laid over a volume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlidingWindow {
    /// Voxels of a window along x, y, z: those of the patches in training. Networks know how small they may be.
    pub patch: [usize; 3],
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

/// Why windows cannot be laid.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// A patch without voxels.
    #[error("patch {0:?}: every side must have at least 1 voxel")]
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
        if self.patch.contains(&0) {
            return Err(WindowError::Patch(self.patch));
        }
        check_overlap(self.overlap)
    }

    /// Bytes of the scores that are held while windows are laid over a volume of `shape`: those of so many channels in the slab
    /// that windows cover, and with `weighed` the weights beside them.
    #[must_use]
    pub fn held_bytes(&self, shape: [usize; 3], channels: usize, weighed: bool) -> usize {
        let roll = rolling_axis(shape);
        let slab: usize = (0..3).map(|axis| if axis == roll { self.patch[axis] } else { shape[axis].max(self.patch[axis]) }).product();
        slab * (channels + usize::from(weighed)) * size_of::<f32>()
    }

    /// How many windows cover a volume of `shape`.
    #[must_use]
    pub fn count(&self, shape: [usize; 3]) -> usize {
        (0..3).map(|axis| starts(self.patch[axis], self.overlap, shape[axis]).len()).product()
    }

    fn tiling(&self, shape: [usize; 3]) -> Tiling {
        let [a, b, c] = self.patch;
        Tiling {
            patch: self.patch,
            starts: std::array::from_fn(|axis| starts(self.patch[axis], self.overlap, shape[axis])),
            roll: rolling_axis(shape),
            around: 0.0,
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

/// Lays windows over `image` (voxels `[x, y, z]` on the model grid, values in 0..1) and writes what is wanted of each head of a
/// network that maps `(1, 1, d, h, w)` to logits `(channels, d, h, w)`; `heads` has the output values of their channels. With
/// `skip_air`, windows of nothing but zeros are background.
///
/// A volume smaller than the patch lies in the middle of it, `around` around: zeros, as in training, unless the network is used to
/// something else.
///
/// # Errors
/// Those of the network.
pub(crate) fn segment(
    image: &impl Image,
    window: &SlidingWindow,
    around: f32,
    heads: &[Vec<u8>],
    wanted: &mut [Wanted<'_>],
    skip_air: bool,
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<Vec<Tensor>>,
) -> candle_core::Result<()> {
    let [a, b, c] = window.patch;
    let tiling = Tiling { around, ..window.tiling(image.shape()) };
    label(image, &tiling, Order::ClassFirst, heads, wanted, |patch| {
        if skip_air && patch.iter().all(|&value| value == 0.0) {
            return Ok(None);
        }
        let logits = network(&Tensor::from_vec(patch, (1, 1, a, b, c), device)?)?;
        logits.iter().map(|logits| logits.flatten_all()?.to_vec1::<f32>()).collect::<candle_core::Result<Vec<_>>>().map(Some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, ShapeBuilder as _, Zip};
    use random::{Streams, normal};

    type Scores<'a> = &'a dyn Fn(&Tensor) -> candle_core::Result<Tensor>;

    /// What a network of one head finds.
    fn labelled(image: &Array3<f32>, window: &SlidingWindow, values: &[u8], network: Scores<'_>) -> Array3<u8> {
        let mut labels = Array3::zeros(image.dim().f());
        run(image, window, values, Wanted::Labels(labels.view_mut()), network);
        labels
    }

    fn run(image: &Array3<f32>, window: &SlidingWindow, values: &[u8], wanted: Wanted<'_>, network: Scores<'_>) {
        segment(&image.view(), window, 0.0, &[values.to_vec()], &mut [wanted], false, &Device::Cpu, |patch| Ok(vec![network(patch)?]))
            .unwrap();
    }

    /// Output values beyond those that the places of channels are.
    const VALUES: [u8; 3] = [0, 200, 14];

    fn random(shape: [usize; 3]) -> Array3<f32> {
        let mut stream = Streams::new(1).stream("test", &[]);
        Array3::from_shape_simple_fn(shape, || normal(&mut stream))
    }

    /// Three classes whose logits depend on the voxel alone, so that windows cannot disagree.
    fn voxelwise(input: &Tensor) -> candle_core::Result<Tensor> {
        Tensor::cat(&[&input.zeros_like()?, &(input - 0.5)?, &((input * 2.0)? - 2.0)?], 1)
    }

    fn expected_label(value: f32) -> u8 {
        match value {
            v if v > 2.0 * v - 2.0 && v - 0.5 > 0.0 && 2.0 * v - 2.0 < v - 0.5 => VALUES[1],
            v if 2.0 * v - 2.0 > 0.0 => VALUES[2],
            _ => 0,
        }
    }

    #[test]
    fn a_voxelwise_network_gives_its_labels_whatever_the_windows() {
        for shape in [[20, 33, 41], [50, 17, 16], [10, 12, 9], [16, 48, 30]] {
            for overlap in [0.0, 0.25, 0.5, 0.9] {
                let image = random(shape);
                let window = SlidingWindow { patch: [16, 16, 16], overlap };
                let labels = labelled(&image, &window, &VALUES, &voxelwise);
                assert_eq!(labels, image.mapv(expected_label), "shape {shape:?}, overlap {overlap}");
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
                let [mut labels, mut confidence] = [(); 2].map(|()| Array3::zeros(image.dim().f()));
                let wanted = Wanted::Confidence { labels: labels.view_mut(), confidence: confidence.view_mut() };
                run(&image, &window, &VALUES, wanted, &voxelwise);
                assert_eq!(labels, labelled(&image, &window, &VALUES, &voxelwise));
                // Where one more is said than there are, the last is a value that no channel has.
                let next = |label: u8| [200, 14, 7][VALUES.iter().position(|&value| value == label).unwrap()];
                let others = labels.mapv(next);
                let belief = |labels: &Array3<u8>| {
                    let mut belief = Array3::zeros(image.dim().f());
                    run(&image, &window, &VALUES, Wanted::Belief { labels: labels.view(), belief: belief.view_mut() }, &voxelwise);
                    belief
                };
                let of_others = belief(&others);
                assert_eq!(belief(&labels), confidence, "what is most likely is believed as far as it is likely");
                for (at, &value) in image.indexed_iter() {
                    let powers = [0.0, value - 0.5, 2.0 * value - 2.0].map(f32::exp);
                    let total = powers.iter().sum::<f32>();
                    let share = |label| VALUES.iter().position(|&value| value == label).map_or(0.0, |k| 255.0 * powers[k] / total);
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
        let labels = labelled(&image, &window, &[0, 1], &network);
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

    #[test]
    fn windows_of_air_do_not_pass_the_network_when_they_are_skipped() {
        let mut image = Array3::zeros((48, 16, 16));
        image[[40, 3, 3]] = 3.0;
        let window = SlidingWindow { patch: [16, 16, 16], overlap: 0.0 };
        for (skip_air, expected) in [(true, 1), (false, 3)] {
            let asked = std::cell::Cell::new(0);
            let network = |patch: &Tensor| {
                asked.set(asked.get() + 1);
                Ok(vec![voxelwise(patch)?])
            };
            let mut labels = Array3::zeros(image.dim().f());
            let mut wanted = [Wanted::Labels(labels.view_mut())];
            segment(&image.view(), &window, 0.0, &[VALUES.to_vec()], &mut wanted, skip_air, &Device::Cpu, network).unwrap();
            assert_eq!((asked.get(), labels), (expected, image.mapv(expected_label)));
        }
    }
}
