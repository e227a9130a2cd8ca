//! Slice-wise inference with the dual-decoding student.

use candle_core::{Device, Tensor};
use ndarray::{Array3, ArrayView3, s};
use nets::{DualUNet2d, Params};

/// The two label maps of the student, voxels `[x, y, z]` as the image.
pub struct SliceLabels {
    /// 0 background, 1 to 13 organs.
    pub organs: Array3<u8>,
    /// 0 background, 1 cancer.
    pub cancer: Array3<u8>,
}

/// Segments every axial slice of `image` (`[x, y, z]` on the model grid, values in 0..1), `batch` slices at a time,
/// with both decoders in one pass (paper 2.3).
///
/// A slice lies in the middle of the next multiples of 16 pixels, zeros around it, as training puts it into a crop that is
/// larger: the network halves its input four times and is not indifferent to where a slice lies on that raster.
///
/// # Errors
/// Those of the network.
pub fn segment_slices(
    student: &DualUNet2d,
    params: &Params,
    image: &ArrayView3<'_, f32>,
    batch: usize,
    device: &Device,
) -> candle_core::Result<SliceLabels> {
    let (nx, ny, nz) = image.dim();
    let (h, w) = (nx.next_multiple_of(16), ny.next_multiple_of(16));
    let (left, top) = ((h - nx) / 2, (w - ny) / 2);
    let empty = || Array3::zeros(ndarray::ShapeBuilder::f((nx, ny, nz)));
    let mut labels = SliceLabels { organs: empty(), cancer: empty() };
    for first in (0..nz).step_by(batch.max(1)) {
        let slices = first..(first + batch.max(1)).min(nz);
        let mut input = Array3::<f32>::zeros((slices.len(), h, w));
        for (mut row, z) in input.outer_iter_mut().zip(slices.clone()) {
            row.slice_mut(s![left..left + nx, top..top + ny]).assign(&image.slice(s![.., .., z]));
        }
        let input = Tensor::from_vec(input.into_raw_vec_and_offset().0, (slices.len(), 1, h, w), device)?;
        let features = student.features(params, &input)?;
        for (logits, labels) in
            [(student.organs(params, &features)?, &mut labels.organs), (student.cancer(params, &features)?, &mut labels.cancer)]
        {
            let decided = ops::argmax_channels(&logits)?.narrow(1, left, nx)?.narrow(2, top, ny)?.flatten_all()?.to_vec1::<u8>()?;
            for (z, slice) in slices.clone().zip(decided.chunks_exact(nx * ny)) {
                let mut out = labels.slice_mut(s![.., .., z]);
                out.iter_mut().zip(slice).for_each(|(out, label)| *out = *label);
            }
        }
    }
    Ok(labels)
}
