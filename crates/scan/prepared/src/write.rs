//! Writing a case in one pass, in bounded memory.

use std::io::Write;
use std::ops::Range;

use crate::archive::ArchiveWriter;
use crate::info::{CaseInfo, Layout};
use crate::shard::ShardWriter;
use crate::source::{CaseSource, Map, Part};
use crate::zarr::{Cut, DataType, array_metadata, group_metadata, metadata_entry, shard_entry};
use crate::{IMAGE, LABELS, PreparedError, trust_array};

/// Bytes of an array that are gathered before they are written. A larger one is written in parts along its slowest axis,
/// and its planes are asked for again for each: 800 slices of 500 mm × 400 mm at 1 mm take one part.
const MOST_HELD: usize = 3 << 27;

/// Writes one case as a Zarr group in a ZIP archive. The same case always gives the same bytes.
///
/// The writer should make the file appear whole: readers take a file that is there as finished.
///
/// # Errors
/// When the maps differ in shape from the image or from `info.grid`, the label map holds values that mean nothing, or they
/// cannot be had or written.
pub fn write_case<S: CaseSource>(out: &mut impl Write, source: &S, info: &CaseInfo) -> Result<(), S::Error> {
    write_in_parts(out, source, info, MOST_HELD)
}

fn write_in_parts<S: CaseSource>(out: &mut impl Write, source: &S, info: &CaseInfo, most_held: usize) -> Result<(), S::Error> {
    if info.grid.shape != source.shape() {
        return Err(PreparedError::Shape { what: "the grid".into(), found: info.grid.shape, expected: source.shape() }.into());
    }
    let labels = source.has_labels().then(|| (LABELS.to_owned(), Map::Labels));
    let trust = source.trust_groups().iter().enumerate().map(|(place, group)| (trust_array(group), Map::Trust(place)));
    let maps: Vec<(String, Map)> = labels.into_iter().chain(trust).collect();
    let (cut, scale) = (Cut::of(info), scale_of(info.window_hu));
    let parts = |data_type: DataType| parts(info, &cut, data_type, most_held);
    let mut archive = ArchiveWriter::new(out);
    for part in parts(DataType::U16) {
        let mut gathered = Gathered::new(info.layout, &part, |value: f32| quantised(value, scale).to_le_bytes());
        source.image(&part, &mut |z, plane| gathered.add(z, plane))?;
        add_shards(&mut archive, IMAGE, DataType::U16, cut, &part[info.layout.axes()[0]], &gathered.finish())?;
    }
    for (name, map) in &maps {
        let mut voxels = [0; 256];
        for part in parts(DataType::U8) {
            let mut gathered = Gathered::new(info.layout, &part, |label: u8| [label]);
            source.map(*map, &part, &mut |z, plane| {
                if *map == Map::Labels {
                    voxels.iter_mut().zip(labels::histogram(plane)).for_each(|(all, of_plane)| *all += of_plane);
                }
                gathered.add(z, plane);
            })?;
            info.regions.shown(&voxels).map_err(|reason| PreparedError::Labels { case: info.id.clone(), reason: reason.into() })?;
            add_shards(&mut archive, name, DataType::U8, cut, &part[info.layout.axes()[0]], &gathered.finish())?;
        }
    }
    Ok(add_metadata(archive, info, &cut, scale, &maps)?)
}

/// The stored value of the upper end of a window: steps of half a HU, or fewer where 16 bits do not hold them.
pub(crate) fn scale_of([from, to]: [f32; 2]) -> u16 {
    // The cast saturates.
    ((to - from) * 2.0).round().max(1.0) as u16
}

/// The nearest step. The cast cuts off, saturates, and takes NaN to 0; `f32::round` would be a call for each voxel where the
/// processor's rounding may not be assumed.
fn quantised(value: f32, scale: u16) -> u16 {
    ((value * f32::from(scale) + 0.5) as u16).min(scale)
}

/// Adds a part of an array, which begins where a shard does.
fn add_shards(
    archive: &mut ArchiveWriter<'_, impl Write>,
    array: &str,
    data_type: DataType,
    cut: Cut,
    planes: &Range<usize>,
    bytes: &[u8],
) -> Result<(), PreparedError> {
    let mut writer = ShardWriter::new(cut, data_type)?;
    let slab_bytes = bytes.len() / planes.len().max(1) * cut.shard[0];
    for (number, slab) in bytes.chunks(slab_bytes.max(1)).enumerate() {
        if let Some(shard) = writer.shard(slab)? {
            archive.add(&shard_entry(array, [planes.start / cut.shard[0] + number, 0, 0]), &shard)?;
        }
    }
    Ok(())
}

/// Adds what is read of every case, right before the central directory.
fn add_metadata(
    mut archive: ArchiveWriter<'_, impl Write>,
    info: &CaseInfo,
    cut: &Cut,
    scale: u16,
    maps: &[(String, Map)],
) -> Result<(), PreparedError> {
    let arrays = maps.iter().map(|(name, _)| (name.as_str(), DataType::U8));
    for (name, data_type) in std::iter::once((IMAGE, DataType::U16)).chain(arrays) {
        let metadata = array_metadata(cut, data_type, info.layout);
        archive.add(&metadata_entry(name), metadata.to_string().as_bytes())?;
    }
    let group = group_metadata(info, scale).map_err(std::io::Error::from)?;
    archive.add(&metadata_entry(""), group.to_string().as_bytes())?;
    Ok(archive.finish()?)
}

/// The parts in which an array is written, one behind another: as many whole shards as may be held.
fn parts(info: &CaseInfo, cut: &Cut, data_type: DataType, most_held: usize) -> Vec<Part> {
    let (shape, slowest) = (info.grid.shape, info.layout.axes()[0]);
    let slab = cut.shape[1] * cut.shape[2] * data_type.bytes() * cut.shard[0];
    let step = (most_held / slab.max(1)).max(1) * cut.shard[0];
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

/// A part of an array in the stored order.
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

    fn finish(mut self) -> Vec<u8> {
        self.put_in_place();
        assert_eq!(self.missing, 0, "planes of a case are missing");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use labels::{LabelPattern, Regions};
    use ndarray::Array3;

    use super::*;
    use crate::{CaseArrays, CropBox, GridRecord, LabelSource};

    #[test]
    fn a_file_is_the_same_in_however_many_parts_it_is_written() {
        let shape = [37, 35, 70];
        let image = Array3::from_shape_fn(shape, |(x, y, z)| (x * 7 + y * 31 + z * 101) as f32 % 1000.0 / 999.0);
        let labels = Array3::from_shape_fn(shape, |(x, y, z)| ((x + 3 * y + 7 * z) % 14) as u8);
        let arrays = CaseArrays::new(image.view(), Some(labels.view()));
        let annotated: LabelPattern = (1..14).collect();
        for layout in [Layout::Volume, Layout::Slices] {
            let grid = GridRecord { shape, affine: [[0.0; 4]; 4] };
            let info = CaseInfo {
                id: "a".into(),
                dataset: "flare23".into(),
                layout,
                subset: "D_l3".into(),
                spacing_mm: [1.0; 3],
                grid,
                original_grid: grid,
                crop: CropBox { start: [0; 3], shape },
                window_hu: [-200.0, 300.0],
                annotated,
                regions: Regions::plain(annotated),
                source: Some(LabelSource::True),
                trust: None,
            };
            let written = |most_held: usize| {
                let mut bytes = Vec::new();
                write_in_parts(&mut bytes, &arrays, &info, most_held).unwrap();
                bytes
            };
            let whole = written(MOST_HELD);
            let parts = |data_type, most_held| parts(&info, &Cut::of(&info), data_type, most_held).len();
            assert!(parts(DataType::U16, MOST_HELD) == 1 && parts(DataType::U8, 50_000) > 1);
            for most_held in [1, 50_000] {
                assert!(written(most_held) == whole, "{layout:?}, {most_held} bytes at a time");
            }
        }
    }
}
