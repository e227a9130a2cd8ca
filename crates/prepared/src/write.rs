//! Writing a case in one pass, in bounded memory.

use std::io::Write;

use serde_json::{Map as JsonMap, Value, json};

use crate::info::{CaseInfo, Layout};
use crate::source::{CaseSource, Map, Part};
use crate::{FULL_SCALE, PreparedError};

/// Bytes of a tensor that are gathered before they are written. A larger one is written in parts along its slowest axis,
/// and its planes are asked for again for each: 800 slices of 500 mm × 400 mm at 1 mm take one part.
const MOST_HELD: usize = 3 << 27;

/// Writes one case as safetensors. The same case always gives the same bytes.
///
/// The writer should make the file appear whole: readers take a file that is there as finished.
///
/// # Errors
/// When the maps differ in shape from the image or from `info.grid`, hold values that they may not, or cannot be
/// had or written.
pub fn write_case<S: CaseSource>(out: &mut impl Write, source: &S, info: &CaseInfo) -> Result<(), S::Error> {
    write_in_parts(out, source, info, MOST_HELD)
}

fn write_in_parts<S: CaseSource>(out: &mut impl Write, source: &S, info: &CaseInfo, most_held: usize) -> Result<(), S::Error> {
    if info.grid.shape != source.shape() {
        return Err(PreparedError::Shape { what: "the grid", found: info.grid.shape, expected: source.shape() }.into());
    }
    let maps: Vec<Map> = Map::ALL.into_iter().filter(|&map| source.has(map)).collect();
    let header = header(&maps, info).map_err(|error| PreparedError::from(std::io::Error::from(error)))?;
    let begun = out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&header));
    begun.map_err(PreparedError::from)?;
    for part in parts(info, 2, most_held) {
        let mut gathered = Gathered::new(info.layout, &part, |value: f32| quantised(value).to_le_bytes());
        source.image(&part, &mut |z, plane| gathered.add(z, plane))?;
        gathered.write(out)?;
    }
    for map in maps {
        let mut found = 0;
        for part in parts(info, 1, most_held) {
            let mut gathered = Gathered::new(info.layout, &part, |label: u8| [label]);
            source.map(map, &part, &mut |z, plane| {
                found = plane.iter().fold(found, |highest, &label| label.max(highest));
                gathered.add(z, plane);
            })?;
            if found > map.highest() {
                return Err(PreparedError::Value { what: map.what(), found, highest: map.highest() }.into());
            }
            gathered.write(out)?;
        }
    }
    Ok(())
}

/// The nearest of 65536 steps. The cast cuts off, saturates, and takes NaN to 0; `f32::round` would be a call for each
/// voxel where the processor's rounding may not be assumed.
fn quantised(value: f32) -> u16 {
    (value * FULL_SCALE + 0.5) as u16
}

/// The JSON header, padded so that the tensors begin at a multiple of 8 bytes.
fn header(maps: &[Map], info: &CaseInfo) -> Result<Vec<u8>, serde_json::Error> {
    let shape = info.stored_shape();
    let voxels = shape.iter().product::<usize>();
    let mut entries = JsonMap::from_iter([("__metadata__".to_owned(), Value::Object(info.to_metadata()?))]);
    let mut begin = 0;
    for (name, dtype, bytes) in std::iter::once(("image", "U16", 2)).chain(maps.iter().map(|map| (map.name(), "U8", 1))) {
        let end = begin + voxels * bytes;
        entries.insert(name.to_owned(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] }));
        begin = end;
    }
    let mut text = serde_json::to_vec(&Value::Object(entries))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// The parts in which a tensor with so many bytes a voxel is written, one behind another in the file.
fn parts(info: &CaseInfo, voxel_bytes: usize, most_held: usize) -> Vec<Part> {
    let (shape, slowest) = (info.grid.shape, info.layout.axes()[0]);
    let bytes = shape.iter().product::<usize>() * voxel_bytes / shape[slowest].max(1);
    let step = (most_held / bytes.max(1)).max(1);
    let part = |begin: usize| {
        let mut part = shape.map(|side| 0..side);
        part[slowest] = begin..shape[slowest].min(begin + step);
        part
    };
    (0..shape[slowest]).step_by(step).map(part).collect()
}

/// Edge of the cubes in which voxels are copied. Planes come x-fastest, so that one of the three axes is contiguous where it
/// is read and another where it is written; such a cube uses whole cache lines of both, and fits the cache.
const TILE: usize = 32;

/// A part of a tensor in the order of the file.
struct Gathered<T, E> {
    bytes: Vec<u8>,
    part: Part,
    /// Bytes from voxel to voxel along x, y, z.
    steps: [usize; 3],
    encode: E,
    /// Planes that are yet to be put in place.
    waiting: Vec<(usize, Vec<T>)>,
    missing: usize,
}

impl<T: Copy, const BYTES: usize, E: Fn(T) -> [u8; BYTES]> Gathered<T, E> {
    fn new(layout: Layout, part: &Part, encode: E) -> Self {
        let (mut steps, mut step) = ([0; 3], BYTES);
        for axis in layout.axes().into_iter().rev() {
            steps[axis] = step;
            step *= part[axis].len();
        }
        Self { bytes: vec![0; step], part: part.clone(), steps, encode, waiting: Vec::new(), missing: part[2].len() }
    }

    fn add(&mut self, z: usize, plane: &[T]) {
        self.waiting.push((z - self.part[2].start, plane.to_vec()));
        if self.waiting.len() == TILE {
            self.put_in_place();
        }
    }

    fn put_in_place(&mut self) {
        let ([nx, ny], [step_x, step_y, step_z]) = ([self.part[0].len(), self.part[1].len()], self.steps);
        for y0 in (0..ny).step_by(TILE) {
            for x0 in (0..nx).step_by(TILE) {
                for x in x0..nx.min(x0 + TILE) {
                    for y in y0..ny.min(y0 + TILE) {
                        for (z, plane) in &self.waiting {
                            let at = x * step_x + y * step_y + z * step_z;
                            self.bytes[at..at + BYTES].copy_from_slice(&(self.encode)(plane[y * nx + x]));
                        }
                    }
                }
            }
        }
        self.missing -= self.waiting.len();
        self.waiting.clear();
    }

    fn write(mut self, out: &mut impl Write) -> Result<(), PreparedError> {
        self.put_in_place();
        assert_eq!(self.missing, 0, "planes of a case are missing");
        Ok(out.write_all(&self.bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use labels::{LabelPattern, Subset};
    use ndarray::Array3;

    use super::*;
    use crate::{CaseArrays, CropBox, GridRecord, LabelSource};

    #[test]
    fn a_file_is_the_same_in_however_many_parts_it_is_written() {
        let shape = [37, 35, 34];
        let image = Array3::from_shape_fn(shape, |(x, y, z)| (x * 7 + y * 31 + z * 101) as f32 % 1000.0 / 999.0);
        let organs = Array3::from_shape_fn(shape, |(x, y, z)| ((x + 3 * y + 7 * z) % 14) as u8);
        let cancer = organs.mapv(|organ| u8::from(organ == 3));
        let arrays = CaseArrays {
            image: image.view(),
            organs: Some(organs.view()),
            cancer: Some(cancer.view()),
            organs_trust: None,
            cancer_trust: None,
        };
        for layout in [Layout::Volume, Layout::Slices] {
            let grid = GridRecord { shape, affine: [[0.0; 4]; 4] };
            let info = CaseInfo {
                id: "a".into(),
                layout,
                subset: Subset::Dl3,
                spacing_mm: [1.0; 3],
                grid,
                original_grid: grid,
                crop: CropBox { start: [0; 3], shape },
                window_hu: [-200.0, 300.0],
                annotated_organs: LabelPattern::ORGANS,
                organs_source: Some(LabelSource::True),
                cancer_source: Some(LabelSource::True),
                trust: None,
            };
            let written = |most_held: usize| {
                let mut bytes = Vec::new();
                write_in_parts(&mut bytes, &arrays, &info, most_held).unwrap();
                bytes
            };
            let whole = written(MOST_HELD);
            assert!(parts(&info, 2, MOST_HELD).len() == 1 && parts(&info, 1, 10_000).len() > 2);
            let voxels = image.view().permuted_axes(layout.axes()).iter().flat_map(|&v| quantised(v).to_le_bytes()).collect::<Vec<_>>();
            assert_eq!(whole[whole.len() - 2 * voxels.len()..][..voxels.len()], voxels);
            for most_held in [1, 10_000] {
                assert!(written(most_held) == whole, "{layout:?}, {most_held} bytes at a time");
            }
        }
    }
}
