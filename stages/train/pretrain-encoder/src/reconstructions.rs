//! What the network makes of patches that it has not learnt from, as a picture.

use std::path::Path;

use anyhow::Result;
use candle_core::Tensor;

use crate::Pretraining;

/// Patches in the picture.
const ROWS: usize = 4;

/// Draws the first validation patches, a row each: as they are, what is shown of them, and what is made of that. An axial slice
/// is seen from the feet, the patient's right on the left.
pub(crate) fn draw(pretraining: &Pretraining, path: &Path) -> Result<()> {
    let Pretraining { network, params, .. } = pretraining;
    let (mut rows, mut size) = (Vec::new(), [0; 2]);
    for batch in pretraining.validation_batches() {
        let batch = batch?;
        let hidden = pretraining.hide(&batch.samples)?;
        let columns = [batch.image.clone(), network.shown(&batch.image, &hidden)?, network.reconstruct(params, &batch.image, &hidden)?];
        size = [batch.image.dim(2)?, batch.image.dim(3)?];
        for sample in 0..batch.len().min(ROWS - rows.len()) {
            rows.push(columns.iter().map(|images| slice(images, sample)).collect::<Result<Vec<_>>>()?);
        }
        if rows.len() == ROWS {
            break;
        }
    }
    Ok(pictures::gray_panels(&["image", "shown", "reconstructed"], &rows, size).write_png(path)?)
}

/// The middle axial slice of one image of `(b, 1, x, y, z)`, rows from the top. x grows to the patient's right, y to the front.
fn slice(images: &Tensor, sample: usize) -> Result<Vec<f32>> {
    let image = images.get(sample)?.get(0)?;
    let columns = image.narrow(2, image.dim(2)? / 2, 1)?.squeeze(2)?.to_vec2::<f32>()?;
    let height = columns.first().map_or(0, Vec::len);
    Ok((0..height).rev().flat_map(|y| columns.iter().rev().map(move |column| column[y])).collect())
}
