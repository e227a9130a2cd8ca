//! Writing a case in one pass, sixteen planes in memory at a time.

use std::io::Write;

use labels::{FULL_TRUST, NUM_ORGANS};
use ndarray::{ArrayView3, s};
use serde_json::{Map, Value, json};

use crate::info::{CaseInfo, Layout};
use crate::{FULL_SCALE, PreparedError};

/// The voxels of a case, indexed `[x, y, z]` whatever the layout of the file; any strides will do.
#[derive(Clone, Debug)]
pub struct CaseArrays<'a> {
    /// The windowed image. Values are clamped to `[0, 1]`; NaN becomes 0.
    pub image: ArrayView3<'a, f32>,
    /// 0 background, 1 to 13 organs.
    pub organs: Option<ArrayView3<'a, u8>>,
    /// 0 background, 1 tumor.
    pub cancer: Option<ArrayView3<'a, u8>>,
    /// Trust in `organs`, from 0 (does not count) to 255.
    pub organs_trust: Option<ArrayView3<'a, u8>>,
    /// Trust in `cancer`.
    pub cancer_trust: Option<ArrayView3<'a, u8>>,
}

impl CaseArrays<'_> {
    /// The maps of one byte a voxel that are there, in the order of the file.
    fn maps(&self) -> impl Iterator<Item = ByteMap<'_>> {
        let maps = [
            ("organs", "the organ map", NUM_ORGANS as u8, &self.organs),
            ("cancer", "the cancer map", 1, &self.cancer),
            ("organs_trust", "the map of trust in organs", FULL_TRUST, &self.organs_trust),
            ("cancer_trust", "the map of trust in cancer", FULL_TRUST, &self.cancer_trust),
        ];
        maps.into_iter().filter_map(|(name, what, highest, map)| map.as_ref().map(|voxels| ByteMap { name, what, highest, voxels }))
    }
}

/// A map of one byte a voxel: its name in the file and in messages, and its highest value.
struct ByteMap<'a> {
    name: &'static str,
    what: &'static str,
    highest: u8,
    voxels: &'a ArrayView3<'a, u8>,
}

/// Writes one case as safetensors. The same case always gives the same bytes.
///
/// The writer should make the file appear whole: readers take a file that is there as finished.
///
/// # Errors
/// When the maps differ in shape from the image or from `info.grid`, hold values that they may not, or cannot be
/// written.
pub fn write_case(out: &mut impl Write, arrays: &CaseArrays<'_>, info: &CaseInfo) -> Result<(), PreparedError> {
    check(arrays, info)?;
    let header = header(arrays, info).map_err(std::io::Error::from)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    write_voxels(out, &arrays.image, info.layout, |v| quantised(v).to_le_bytes())?;
    for ByteMap { voxels, .. } in arrays.maps() {
        write_voxels(out, voxels, info.layout, |v| [v])?;
    }
    Ok(())
}

/// The nearest of 65536 steps. The cast cuts off, saturates, and takes NaN to 0; `f32::round` would be a call for each
/// voxel where the processor's rounding may not be assumed.
fn quantised(value: f32) -> u16 {
    (value * FULL_SCALE + 0.5) as u16
}

fn shape_of<T>(array: &ArrayView3<'_, T>) -> [usize; 3] {
    let (x, y, z) = array.dim();
    [x, y, z]
}

fn check(arrays: &CaseArrays<'_>, info: &CaseInfo) -> Result<(), PreparedError> {
    let expected = shape_of(&arrays.image);
    if info.grid.shape != expected {
        return Err(PreparedError::Shape { what: "the grid", found: info.grid.shape, expected });
    }
    for ByteMap { what, highest, voxels, .. } in arrays.maps() {
        if shape_of(voxels) != expected {
            return Err(PreparedError::Shape { what, found: shape_of(voxels), expected });
        }
        let found = voxels.fold(0, |highest, &label| label.max(highest));
        if found > highest {
            return Err(PreparedError::Value { what, found, highest });
        }
    }
    Ok(())
}

/// The JSON header, padded so that the tensors begin at a multiple of 8 bytes.
fn header(arrays: &CaseArrays<'_>, info: &CaseInfo) -> Result<Vec<u8>, serde_json::Error> {
    let shape = info.stored_shape();
    let voxels = arrays.image.len();
    let mut entries = Map::from_iter([("__metadata__".to_owned(), Value::Object(info.to_metadata()?))]);
    let mut begin = 0;
    let maps = arrays.maps().map(|map| (map.name, "U8", 1));
    for (name, dtype, bytes) in std::iter::once(("image", "U16", 2)).chain(maps) {
        let end = begin + voxels * bytes;
        entries.insert(name.to_owned(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] }));
        begin = end;
    }
    let mut text = serde_json::to_vec(&Value::Object(entries))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// Edge of the cubes in which voxels are copied. Volumes come x-fastest, so one of the three axes is contiguous where
/// it is read and another where it is written; a cube of sixteen uses whole cache lines of both, and fits the cache.
const TILE: usize = 16;

fn write_voxels<T: Copy, const BYTES: usize>(
    out: &mut impl Write,
    array: &ArrayView3<'_, T>,
    layout: Layout,
    encode: impl Fn(T) -> [u8; BYTES],
) -> std::io::Result<()> {
    let stored = array.view().permuted_axes(layout.axes());
    let (depth, height, width) = stored.dim();
    let mut block = Vec::new();
    for begin in (0..depth).step_by(TILE) {
        let end = depth.min(begin + TILE);
        block.resize((end - begin) * height * width * BYTES, 0);
        for y in (0..height).step_by(TILE) {
            for x in (0..width).step_by(TILE) {
                let tile = stored.slice(s![begin..end, y..height.min(y + TILE), x..width.min(x + TILE)]);
                for (i, plane) in tile.outer_iter().enumerate() {
                    for (j, row) in plane.outer_iter().enumerate() {
                        let at = ((i * height + y + j) * width + x) * BYTES;
                        let places = block[at..at + row.len() * BYTES].as_chunks_mut().0;
                        places.iter_mut().zip(row).for_each(|(place, &value)| *place = encode(value));
                    }
                }
            }
        }
        out.write_all(&block)?;
    }
    Ok(())
}
