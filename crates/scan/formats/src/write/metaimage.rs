//! MetaImage label maps, which have no place for names.

use std::path::Path;

use super::LabelFile;
use super::packed::PackedFile;
use crate::error::FormatError;

/// Room for the number of packed bytes.
const DIGITS: usize = 12;

pub(super) fn create(path: &Path, file: &LabelFile<'_>) -> Result<PackedFile, FormatError> {
    let grid = file.source.grid();
    let (columns, origin) = grid.affine.to_lps();
    let spacing = grid.spacing_mm();
    let numbers = |numbers: &[f64]| numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    let matrix: Vec<f64> = columns.iter().zip(spacing).flat_map(|(column, spacing)| column.map(|part| part / spacing)).collect();
    let before =
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\nCompressedDataSize = ";
    let [nx, ny, nz] = grid.shape;
    let header = format!(
        "{before}{:DIGITS$}\nTransformMatrix = {}\nOffset = {}\nCenterOfRotation = 0 0 0\nElementSpacing = {}\nDimSize = {nx} {ny} {nz}\n\
         ElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        "",
        numbers(&matrix),
        numbers(&origin),
        numbers(&spacing)
    );
    PackedFile::create(path, &header, false, Some((before.len() as u64, DIGITS)))
}
