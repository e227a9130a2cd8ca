//! What a pass over a whole case finds, chunk by chunk.

use std::ops::Range;

use crate::intensities::Intensities;
use crate::read::PreparedCase;
use crate::shard::ShardReader;
use crate::zarr::{Cut, DataType};
use crate::{IMAGE, LABELS, PreparedError};

impl PreparedCase {
    /// The box of all voxels whose label is `wanted`, along the stored axes; none if there is no such voxel, or no label map.
    /// One chunk is held at a time.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn label_box(&self, wanted: &[bool; 256]) -> Result<Option<[Range<usize>; 3]>, PreparedError> {
        if !self.has_labels() {
            return Ok(None);
        }
        let Cut { shape, chunk, .. } = self.cut;
        let mut found: Option<[Range<usize>; 3]> = None;
        ShardReader::new(&self.archive, self.cut)?.visit(LABELS, DataType::U8, &shape.map(|side| 0..side), |origin, labels| {
            let columns = chunk[2].min(shape[2] - origin[2]);
            for (row, labels) in labels.chunks_exact(chunk[2]).enumerate() {
                let (i, j) = (origin[0] + row / chunk[1], origin[1] + row % chunk[1]);
                let labels = if i < shape[0] && j < shape[1] { &labels[..columns] } else { continue };
                let is_wanted = |label: &u8| wanted[usize::from(*label)];
                let Some(first) = labels.iter().position(is_wanted) else { continue };
                let last = labels.iter().rposition(is_wanted).unwrap_or(first);
                let row = [i..i + 1, j..j + 1, origin[2] + first..origin[2] + last + 1];
                found = Some(match &found {
                    None => row,
                    Some(so_far) => {
                        std::array::from_fn(|axis| so_far[axis].start.min(row[axis].start)..so_far[axis].end.max(row[axis].end))
                    }
                });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Adds the intensities of all voxels whose label is `wanted`; of none without a label map. Two chunks are held at a time.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged, or has another scale than `to`.
    pub fn add_intensities(&self, wanted: &[bool; 256], to: &mut Intensities) -> Result<(), PreparedError> {
        if to.scale != self.scale {
            let reason = format!("its `scale` is {}, expected {} for the window of the other cases", self.scale, to.scale);
            return Err(self.archive.not_prepared(reason));
        }
        if !self.has_labels() {
            return Ok(());
        }
        let Cut { shape, chunk, .. } = self.cut;
        let mut images = ShardReader::new(&self.archive, self.cut)?;
        ShardReader::new(&self.archive, self.cut)?.visit(LABELS, DataType::U8, &shape.map(|side| 0..side), |origin, labels| {
            if !labels.iter().any(|label| wanted[usize::from(*label)]) {
                return Ok(());
            }
            images.visit(IMAGE, DataType::U16, &origin.map(|first| first..first + 1), |_, image| {
                for (at, (label, bytes)) in labels.iter().zip(image.as_chunks().0).enumerate() {
                    if !wanted[usize::from(*label)] {
                        continue;
                    }
                    let within = [at / (chunk[1] * chunk[2]), at / chunk[2] % chunk[1], at % chunk[2]];
                    if (0..3).all(|axis| origin[axis] + within[axis] < shape[axis]) {
                        to.add(u16::from_le_bytes(*bytes));
                    }
                }
                Ok(())
            })
        })
    }
}
