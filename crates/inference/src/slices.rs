//! Slice-wise inference with the dual-decoding student.

use candle_core::{Device, Tensor};
use labels::{CANCER_CLASSES, ORGAN_CLASSES};
use ndarray::{Array3, ArrayView3, ShapeBuilder};
use nets::{DualUNet2d, Trained};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::slab::{Order, Tiling, label};
use crate::window::{WindowError, bell, check_overlap, starts};

/// How the student is laid over a volume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SliceWindow {
    /// Slices that pass the network at once.
    pub batch: usize,
    /// Pixels of a window along x, y: those of the crops in training, whose borders the network has learned to use.
    /// `null` for whole slices, in one go: faster, and right for a student that was trained on whole slices.
    pub size: Option<[usize; 2]>,
    /// The part of a window that its neighbour shares, in 0..1.
    pub overlap: f64,
}

impl SliceWindow {
    /// Refuses sizes that cannot work.
    ///
    /// # Errors
    /// Says what must be otherwise.
    pub fn check(&self) -> Result<(), WindowError> {
        if self.batch == 0 {
            return Err(WindowError::Batch);
        }
        match self.size {
            Some(size) if size.iter().any(|&side| side < 16) => Err(WindowError::Size(size)),
            _ => check_overlap(self.overlap),
        }
    }

    /// For a volume of `[slices, x, y]`.
    fn tiling(&self, [slices, x, y]: [usize; 3]) -> Tiling {
        // The network halves its input four times.
        let size = self.size.unwrap_or([x, y]).map(|side| side.next_multiple_of(16));
        let patch = [self.batch.min(slices), size[0], size[1]];
        Tiling {
            patch,
            starts: [starts(patch[0], 0.0, slices), starts(patch[1], self.overlap, x), starts(patch[2], self.overlap, y)],
            roll: 0,
            weights: Array3::from_shape_fn(patch, |(_, i, j)| (bell(patch[1], i) * bell(patch[2], j)).max(1e-3)),
        }
    }
}

/// The two label maps of the student, voxels `[x, y, z]` as the image.
pub struct SliceLabels {
    /// 0 background, 1 to 13 organs.
    pub organs: Array3<u8>,
    /// 0 background, 1 cancer.
    pub cancer: Array3<u8>,
}

/// Segments every axial slice of `image` (`[x, y, z]` on the model grid, values in 0..1) with both decoders in one pass
/// (paper 2.3).
///
/// A slice that is smaller than its window lies in the middle of it, zeros around, as training puts it into a crop that
/// is larger: the network halves its input four times and is not indifferent to where a slice lies on that raster.
///
/// # Errors
/// Those of the network.
pub fn segment_slices(
    student: &DualUNet2d,
    weights: &Trained,
    image: &ArrayView3<'_, f32>,
    window: &SliceWindow,
    device: &Device,
) -> candle_core::Result<SliceLabels> {
    let network = |input: &Tensor| weights.student(student, input);
    let [organs, cancer] = over_slices(image, window, [ORGAN_CLASSES, CANCER_CLASSES], device, network)?;
    Ok(SliceLabels { organs, cancer })
}

/// Label maps of two heads by a network that maps `(slices, 1, h, w)` to logits `(slices, classes, h, w)` of each.
fn over_slices(
    image: &ArrayView3<'_, f32>,
    window: &SliceWindow,
    heads: [usize; 2],
    device: &Device,
    network: impl Fn(&Tensor) -> candle_core::Result<[Tensor; 2]>,
) -> candle_core::Result<[Array3<u8>; 2]> {
    let planes = image.view().permuted_axes([2, 0, 1]);
    let tiling = window.tiling(planes.dim().into());
    let [n, h, w] = tiling.patch;
    let mut labels = heads.map(|_| Array3::zeros(image.dim().f()));
    let mut maps = labels.each_mut().map(|map| map.view_mut().permuted_axes([2, 0, 1]));
    label(&planes, &tiling, Order::PlaneFirst, &heads, &mut maps, |patch| {
        let logits = network(&Tensor::from_vec(patch, (n, 1, h, w), device)?)?;
        logits.iter().map(|logits| logits.flatten_all()?.to_vec1::<f32>()).collect()
    })?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use streams::{Streams, normal};

    /// Two heads whose logits depend on the pixel alone, so that windows cannot disagree.
    fn pixelwise(input: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let head = |at: f64| Tensor::cat(&[&input.zeros_like()?, &(input - at)?], 1);
        Ok([head(0.0)?, head(1.0)?])
    }

    #[test]
    fn a_pixelwise_network_gives_its_labels_whatever_the_windows() {
        let mut stream = Streams::new(1).stream("test", &[]);
        for shape in [(20, 33, 5), (50, 17, 16), (16, 48, 1), (3, 90, 4)] {
            let image = Array3::from_shape_simple_fn(shape, || normal(&mut stream));
            for size in [None, Some([16, 16]), Some([32, 64])] {
                for (batch, overlap) in [(1, 0.0), (3, 0.25), (8, 0.9)] {
                    let window = SliceWindow { batch, size, overlap };
                    let [a, b] = over_slices(&image.view(), &window, [2, 2], &Device::Cpu, pixelwise).unwrap();
                    assert_eq!(a, image.mapv(|v| u8::from(v > 0.0)), "{shape:?}, {window:?}");
                    assert_eq!(b, image.mapv(|v| u8::from(v > 1.0)), "{shape:?}, {window:?}");
                }
            }
        }
    }

    #[test]
    fn a_small_slice_lies_in_the_middle_of_its_window() {
        // Logits that know their place in the window, not the image.
        let left_half = |input: &Tensor| {
            let ramp = Tensor::arange(0f32, 32.0, &Device::Cpu)?.reshape((1, 1, 32, 1))?.broadcast_as(input.shape())?;
            let head = Tensor::cat(&[&ramp.affine(1.0, -15.5)?, &ramp.affine(-1.0, 15.5)?], 1)?;
            Ok([head.clone(), head])
        };
        let window = SliceWindow { batch: 1, size: Some([32, 32]), overlap: 0.0 };
        let [left, _] = over_slices(&Array3::zeros((10, 32, 2)).view(), &window, [2, 2], &Device::Cpu, left_half).unwrap();
        assert_eq!(left, Array3::from_shape_fn((10, 32, 2), |(x, ..)| u8::from(x < 5)));
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
