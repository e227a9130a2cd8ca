//! Slice-wise inference with the dual-decoding student.

use candle_core::{Device, Result, Tensor};
use labels::{BACKGROUND, LabelError};
use ndarray::{Array3, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::slab::{Order, Tiling, Wanted, label};
use crate::window::{WindowError, bell, check_overlap, starts};

/// How the student is laid over a volume, as far as a pipeline file says it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SliceWindowParams {
    /// Slices that pass the network at once.
    pub batch: usize,
    /// Pixels of a window along x, y; left out, those of the crops in training, whose borders the network has learned to use.
    /// `null` for whole slices, in one go: faster, and right for a student that was trained on whole slices.
    #[serde(skip_serializing_if = "WindowSize::is_left_out")]
    #[schemars(with = "Option<[usize; 2]>")]
    pub size: WindowSize,
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

/// The size of a window in a pipeline file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<[usize; 2]>", into = "Option<[usize; 2]>")]
pub enum WindowSize {
    /// That of the training's crops.
    #[default]
    AsInTraining,
    /// Whole slices: `null`.
    Whole,
    /// Pixels along x, y.
    Pixels([usize; 2]),
}

impl WindowSize {
    fn is_left_out(&self) -> bool {
        *self == Self::AsInTraining
    }
}

impl From<Option<[usize; 2]>> for WindowSize {
    fn from(size: Option<[usize; 2]>) -> Self {
        size.map_or(Self::Whole, Self::Pixels)
    }
}

impl From<WindowSize> for Option<[usize; 2]> {
    fn from(size: WindowSize) -> Self {
        if let WindowSize::Pixels(size) = size { Some(size) } else { None }
    }
}

impl Default for SliceWindowParams {
    fn default() -> Self {
        Self { batch: 8, size: WindowSize::AsInTraining, overlap: 0.25 }
    }
}

impl SliceWindowParams {
    /// The windows for a student that was trained on crops of `crop` pixels.
    #[must_use]
    pub fn of(&self, crop: Option<[usize; 2]>) -> SliceWindow {
        let size = if self.size.is_left_out() { crop } else { self.size.into() };
        SliceWindow { batch: self.batch, size, overlap: self.overlap }
    }
}

/// How the student is laid over a volume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceWindow {
    /// Slices that pass the network at once.
    pub batch: usize,
    /// Pixels of a window along x, y; `null` for whole slices.
    pub size: Option<[usize; 2]>,
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

impl SliceWindow {
    /// Refuses sizes that cannot work.
    ///
    /// # Errors
    /// Says what must be otherwise.
    pub fn check(&self) -> std::result::Result<(), WindowError> {
        if self.batch == 0 {
            return Err(WindowError::Batch);
        }
        match self.size {
            Some(size) if size.iter().any(|&side| side < 16) => Err(WindowError::Size(size)),
            _ => check_overlap(self.overlap),
        }
    }

    /// How many windows cover a slice of so many pixels along x, y, and the pixels of one.
    #[must_use]
    pub fn count(&self, slice: [usize; 2]) -> (usize, [usize; 2]) {
        let size = self.size.unwrap_or(slice).map(|side| side.next_multiple_of(RASTER));
        ((0..2).map(|axis| starts(size[axis], self.overlap, slice[axis]).len()).product(), size)
    }

    /// For windows of `size` over `[slices, x, y]`.
    fn tiling(&self, size: [usize; 2], [slices, x, y]: [usize; 3]) -> Tiling {
        let [height, width] = size.map(|side| side.next_multiple_of(RASTER));
        Tiling {
            around: 0.0,
            patch: [slices, height, width],
            starts: [vec![0], starts(height, self.overlap, x), starts(width, self.overlap, y)],
            roll: 0,
            weights: Array3::from_shape_fn([slices, height, width], |(_, i, j)| (bell(height, i) * bell(width, j)).max(1e-3)),
        }
    }
}

/// The network halves its input four times.
const RASTER: usize = 16;

/// The label maps of a plane, one for each output of the model, x fastest as the plane itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneLabels {
    /// Output values; later maps lie over earlier ones.
    pub maps: Vec<Vec<u8>>,
}

impl PlaneLabels {
    /// All maps as one (paper 2.4).
    ///
    /// # Errors
    /// When the maps differ in length.
    pub fn overlaid(self) -> std::result::Result<Vec<u8>, LabelError> {
        let mut maps = self.maps.into_iter();
        let mut labels = maps.next().unwrap_or_default();
        maps.try_for_each(|upper| labels::overlay(&mut labels, &upper))?;
        Ok(labels)
    }
}

/// Planes of `[x, y]` pixels, x fastest, as the network is to be shown them.
pub(crate) struct Slices<'a> {
    pub(crate) planes: &'a [Vec<f32>],
    pub(crate) shape: [usize; 2],
    /// The output values of the channels of each output.
    pub(crate) outputs: &'a [Vec<u8>],
    /// Takes slices and windows of nothing but zeros for background without asking the network.
    pub(crate) skip_air: bool,
    pub(crate) device: &'a Device,
}

impl Slices<'_> {
    /// Segments every slice with all decoders in one pass (paper 2.3).
    ///
    /// `network` maps slices `(n, 1, h, w)` to logits `(n, channels, h, w)` of each output. Whole slices are filled
    /// up with zeros at their far ends, to sides that can be halved four times. A slice that is smaller than its window
    /// lies in the middle of it, zeros around, as training puts it into a crop that is larger: the network is not
    /// indifferent to where a slice lies on its raster.
    ///
    /// # Errors
    /// Those of the network.
    pub(crate) fn label(&self, window: &SliceWindow, network: impl Fn(&Tensor) -> Result<Vec<Tensor>>) -> Result<Vec<PlaneLabels>> {
        match window.size {
            None => self.planes.iter().map(|plane| self.whole(plane, &network)).collect(),
            Some(size) => self.by_windows(&window.tiling(size, [self.planes.len(), self.shape[0], self.shape[1]]), network),
        }
    }

    fn is_skipped(&self, values: &[f32]) -> bool {
        self.skip_air && values.iter().all(|&value| value == 0.0)
    }

    /// A whole slice in one go.
    fn whole(&self, plane: &[f32], network: impl Fn(&Tensor) -> Result<Vec<Tensor>>) -> Result<PlaneLabels> {
        let [x, y] = self.shape;
        if self.is_skipped(plane) {
            return Ok(PlaneLabels { maps: vec![vec![BACKGROUND; x * y]; self.outputs.len()] });
        }
        let [height, width] = self.shape.map(|side| side.next_multiple_of(RASTER));
        let mut slice = vec![0.0; height * width];
        for (i, row) in slice.chunks_exact_mut(width).enumerate().take(x) {
            row.iter_mut().zip(plane[i..].iter().step_by(x)).for_each(|(to, &value)| *to = value);
        }
        let logits = network(&Tensor::from_vec(slice, (1, 1, height, width), self.device)?)?;
        let labels = |(logits, values): (&Tensor, &Vec<u8>)| -> Result<Vec<u8>> {
            let channels: Vec<u8> = ops::argmax_channels(logits)?.flatten_all()?.to_vec1()?;
            Ok((0..y).flat_map(|j| (0..x).map(move |i| i * width + j)).map(|at| values[usize::from(channels[at])]).collect())
        };
        Ok(PlaneLabels { maps: logits.iter().zip(self.outputs).map(labels).collect::<Result<_>>()? })
    }

    /// By windows, of which each pixel takes the weighted mean.
    fn by_windows(&self, tiling: &Tiling, network: impl Fn(&Tensor) -> Result<Vec<Tensor>>) -> Result<Vec<PlaneLabels>> {
        let ([x, y], [n, h, w]) = (self.shape, tiling.patch);
        let image = Array3::from_shape_fn((n, x, y), |(k, i, j)| self.planes[k][i + x * j]);
        let mut maps: Vec<Array3<u8>> = self.outputs.iter().map(|_| Array3::zeros((n, x, y))).collect();
        let mut wanted: Vec<_> = maps.iter_mut().map(|map| Wanted::Labels(map.view_mut())).collect();
        label(&image.view(), tiling, Order::PlaneFirst, self.outputs, &mut wanted, |patch| -> Result<_> {
            if self.is_skipped(&patch) {
                return Ok(None);
            }
            let logits = network(&Tensor::from_vec(patch, (n, 1, h, w), self.device)?)?;
            logits.iter().map(|logits| logits.flatten_all()?.to_vec1::<f32>()).collect::<Result<_>>().map(Some)
        })?;
        let plane = |map: &Array3<u8>, k: usize| map.index_axis(Axis(0), k).t().iter().copied().collect();
        Ok((0..n).map(|k| PlaneLabels { maps: maps.iter().map(|map| plane(map, k)).collect() }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use random::{Streams, normal};

    /// Three outputs, of which the first has as many classes as there can be.
    fn outputs() -> [Vec<u8>; 3] {
        [(0..=255).rev().map(|value: u8| value.wrapping_add(1)).collect(), vec![0, 14], vec![0, 3, 200]]
    }

    /// Heads whose logits depend on the pixel alone, so that windows cannot disagree: a class for every step of 1 above 0.
    fn pixelwise(input: &Tensor) -> Result<Vec<Tensor>> {
        let zeros = input.zeros_like()?;
        let head = |classes: usize, at: f64| -> Result<Tensor> {
            let mut channels = vec![(&zeros - 1e3)?; classes];
            (channels[0], channels[1]) = (zeros.clone(), (input - at)?);
            Tensor::cat(&channels, 1)
        };
        outputs().iter().zip([0.0, 1.0, 2.0]).map(|(values, at)| head(values.len(), at)).collect()
    }

    fn labelled(
        planes: &[Vec<f32>],
        shape: [usize; 2],
        window: &SliceWindow,
        network: impl Fn(&Tensor) -> Result<Vec<Tensor>>,
    ) -> Vec<PlaneLabels> {
        Slices { planes, shape, outputs: &outputs(), skip_air: false, device: &Device::Cpu }.label(window, network).unwrap()
    }

    #[test]
    fn a_pixelwise_network_gives_its_labels_whatever_the_windows() {
        let mut stream = Streams::new(1).stream("test", &[]);
        for (x, y, n) in [(20, 33, 5), (50, 17, 16), (16, 48, 1), (3, 90, 4)] {
            let planes: Vec<Vec<f32>> = (0..n).map(|_| (0..x * y).map(|_| normal(&mut stream)).collect()).collect();
            let above =
                |plane: &[f32], least: f32, value| -> Vec<u8> { plane.iter().map(|&v| if v > least { value } else { 0 }).collect() };
            let maps = |plane: &[f32]| vec![above(plane, 0.0, 255), above(plane, 1.0, 14), above(plane, 2.0, 3)];
            let expected: Vec<_> = planes.iter().map(|plane| PlaneLabels { maps: maps(plane) }).collect();
            for size in [None, Some([16, 16]), Some([32, 64])] {
                for overlap in [0.0, 0.25, 0.9] {
                    let window = SliceWindow { batch: n, size, overlap };
                    assert_eq!(labelled(&planes, [x, y], &window, pixelwise), expected, "{x}x{y}x{n}, {window:?}");
                }
            }
        }
    }

    /// Logits that know their place in the window, not the image: the first half along x is of class 1.
    fn first_half(input: &Tensor) -> Result<Vec<Tensor>> {
        let height = input.dim(2)?;
        let ramp = Tensor::arange(0f32, height as f32, &Device::Cpu)?.reshape((1, 1, height, 1))?.broadcast_as(input.shape())?;
        let middle = (height as f64 - 1.0) / 2.0;
        let head = |classes: usize| -> Result<Tensor> {
            let mut channels = vec![(ramp.zeros_like()? - 1e3)?; classes];
            (channels[0], channels[1]) = (ramp.affine(1.0, -middle)?, ramp.affine(-1.0, middle)?);
            Tensor::cat(&channels, 1)
        };
        outputs().iter().map(|values| head(values.len())).collect()
    }

    #[test]
    fn a_small_slice_lies_in_the_middle_of_its_window_and_a_whole_one_at_its_beginning() {
        let plane = vec![0.0; 10 * 32];
        let segmented = |size, first: usize| {
            let found = labelled(std::slice::from_ref(&plane), [10, 32], &SliceWindow { batch: 1, size, overlap: 0.0 }, first_half);
            let expected: Vec<u8> = (0..10 * 32).map(|at| if at % 10 < first { 255 } else { 0 }).collect();
            assert_eq!(found[0].maps[0], expected, "{size:?}");
        };
        segmented(Some([32, 32]), 5);
        segmented(None, 8);
    }

    #[test]
    fn air_does_not_pass_the_network_when_it_is_skipped() {
        let mut plane = vec![0.0; 64 * 20];
        plane[5] = 0.5;
        for (size, expected) in [(None, 1), (Some([16, 32]), 1)] {
            let asked = std::cell::Cell::new(0);
            let network = |input: &Tensor| {
                asked.set(asked.get() + 1);
                pixelwise(input)
            };
            let planes = [plane.clone(), vec![0.0; 64 * 20]];
            for (n, planes) in [&planes[..], &planes[1..]].into_iter().enumerate() {
                let slices = Slices { planes, shape: [64, 20], outputs: &outputs(), skip_air: true, device: &Device::Cpu };
                let labels = slices.label(&SliceWindow { batch: 8, size, overlap: 0.0 }, network).unwrap();
                let labelled = |labels: &PlaneLabels| labels.maps.iter().flatten().filter(|&&label| label > 0).count();
                assert_eq!(labels.iter().map(labelled).sum::<usize>(), 1 - n);
                assert_eq!(asked.get(), expected, "{size:?}");
            }
        }
    }

    #[test]
    fn later_maps_lie_over_earlier_ones() {
        let plane = PlaneLabels { maps: vec![vec![1, 1, 0, 200], vec![0, 14, 0, 0], vec![0, 0, 255, 255]] };
        assert_eq!(plane.overlaid().unwrap(), [1, 14, 255, 255]);
        assert!(PlaneLabels { maps: vec![vec![0; 3], vec![0; 2]] }.overlaid().is_err());
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let check = |batch, size, overlap| SliceWindow { batch, size, overlap }.check().map_err(|error| error.to_string());
        assert!(check(1, None, 0.0).is_ok());
        assert!(check(0, None, 0.0).unwrap_err().contains("batch"));
        assert!(check(1, Some([8, 224]), 0.0).unwrap_err().contains("[8, 224]"));
        assert!(check(1, None, 1.0).unwrap_err().contains("overlap"));
    }
}
