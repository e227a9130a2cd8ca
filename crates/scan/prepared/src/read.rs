//! Reading boxes of a case from its file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use labels::{BACKGROUND, FULL_TRUST};

use crate::archive::Archive;
use crate::info::{CaseInfo, Layout};
use crate::shard::ShardReader;
use crate::zarr::{Cut, DataType, metadata_entry, read_array, read_group};
use crate::{IMAGE, LABELS, PreparedError, TRUST_PREFIX};

/// A box of voxels in C order; its axes are those of the file (see [`Layout`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Voxels along the stored axes.
    pub shape: [usize; 3],
    /// The windowed image in `[0, 1]`; 0 outside of the case.
    pub image: Vec<f32>,
    /// The labels, in the values that [`CaseInfo::regions`] tells; 0 outside of the case.
    pub labels: Option<Vec<u8>>,
    /// For each weighed group the trust in its labels; full outside of the case, where there is nothing but air.
    pub trust: BTreeMap<String, Vec<u8>>,
}

/// One prepared case, open for reading. It holds its file and what is known of the case, and no voxels.
#[derive(Debug)]
pub struct PreparedCase {
    pub(crate) archive: Archive,
    pub(crate) cut: Cut,
    info: CaseInfo,
    pub(crate) scale: u16,
    has_labels: bool,
    /// For each weighed group its array.
    trust: BTreeMap<String, String>,
}

/// Far above the bytes of any metadata that [`crate::write_case`] writes; more is damage.
const LONGEST_METADATA: u64 = 1 << 20;

impl PreparedCase {
    /// Reads and checks all but the voxels.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated or damaged, or is no prepared case.
    pub fn open(path: &Path) -> Result<Self, PreparedError> {
        let archive = Archive::open(path)?;
        let lacks = |what: &str| archive.not_prepared(format!("it has no {what}"));
        let group = archive.text(&metadata_entry(""), LONGEST_METADATA)?.ok_or_else(|| lacks("zarr.json"))?;
        let (info, scale) = read_group(&group).map_err(|reason| archive.not_prepared(reason))?;
        let array = |name: &str, data_type| -> Result<Option<Cut>, PreparedError> {
            let Some(metadata) = archive.text(&metadata_entry(name), LONGEST_METADATA)? else { return Ok(None) };
            let wrong = |reason| archive.not_prepared(format!("array `{name}`: {reason}"));
            read_array(&metadata, data_type, info.stored_shape()).map(Some).map_err(wrong)
        };
        let cut = array(IMAGE, DataType::U16)?.ok_or_else(|| lacks("array `image`"))?;
        let is_map = |name: &str| match array(name, DataType::U8)? {
            None => Ok(false),
            Some(of_map) if of_map == cut => Ok(true),
            Some(of_map) => Err(archive.not_prepared(format!("array `{name}` is cut as {of_map:?}, expected the image's {cut:?}"))),
        };
        let has_labels = is_map(LABELS)?;
        let mut trust = BTreeMap::new();
        for name in archive.names().filter_map(|name| name.strip_suffix("/zarr.json")) {
            if let Some(group) = name.strip_prefix(TRUST_PREFIX)
                && is_map(name)?
            {
                trust.insert(group.to_owned(), name.to_owned());
            }
        }
        Ok(Self { cut, info, scale, has_labels, trust, archive })
    }

    /// Voxels along the stored axes.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.cut.shape
    }

    /// The order of the stored axes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.info.layout
    }

    /// Voxel size along the stored axes, in mm.
    #[must_use]
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.info.layout.stored(self.info.spacing_mm)
    }

    /// Everything that the file tells of the case.
    #[must_use]
    pub fn info(&self) -> &CaseInfo {
        &self.info
    }

    /// The stored value of the upper end of the window.
    #[must_use]
    pub fn scale(&self) -> u16 {
        self.scale
    }

    /// Whether there is a label map. Which classes it knows of stands in [`CaseInfo::annotated`].
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.has_labels
    }

    /// The groups with a map of trust in their labels.
    pub fn trust_groups(&self) -> impl Iterator<Item = &str> {
        self.trust.keys().map(String::as_str)
    }

    /// The box of `shape` voxels that begins at `start`, both along the stored axes. It may reach beyond the case on
    /// any side, or lie outside altogether; what is outside is 0, and trusted.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged where the box lies.
    pub fn read_box(&self, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        let mut reader = ShardReader::new(&self.archive, self.cut)?;
        let mut map = |array: &str, outside: u8| -> Result<Vec<u8>, PreparedError> {
            let mut values = vec![outside; shape.iter().product()];
            let put = |at: usize, row: &[u8]| values[at..at + row.len()].copy_from_slice(row);
            self.read_rows(&mut reader, array, DataType::U8, start, shape, put)?;
            Ok(values)
        };
        let labels = self.has_labels.then(|| map(LABELS, BACKGROUND)).transpose()?;
        let trust = self.trust.iter().map(|(group, array)| Ok((group.clone(), map(array, FULL_TRUST)?)));
        let trust = trust.collect::<Result<_, PreparedError>>()?;
        Ok(Patch { labels, trust, ..self.image_box(&mut reader, start, shape)? })
    }

    /// The same without labels and trust, which are not read.
    ///
    /// # Errors
    /// As [`PreparedCase::read_box`].
    pub fn read_image(&self, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        self.image_box(&mut ShardReader::new(&self.archive, self.cut)?, start, shape)
    }

    fn image_box(&self, reader: &mut ShardReader<'_>, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        let mut image = vec![0.0; shape.iter().product()];
        let scale = f32::from(self.scale);
        self.read_rows(reader, IMAGE, DataType::U16, start, shape, |at, row| {
            for (value, bytes) in image[at..].iter_mut().zip(row.as_chunks().0) {
                *value = f32::from(u16::from_le_bytes(*bytes)) / scale;
            }
        })?;
        Ok(Patch { shape, image, labels: None, trust: BTreeMap::new() })
    }

    /// Hands every row of the box that lies inside the case to `put`, with the patch voxel that it begins at. A row is in as many
    /// pieces as chunks; each chunk is decoded once.
    fn read_rows(
        &self,
        reader: &mut ShardReader<'_>,
        array: &str,
        data_type: DataType,
        start: [isize; 3],
        shape: [usize; 3],
        mut put: impl FnMut(usize, &[u8]),
    ) -> Result<(), PreparedError> {
        let Cut { chunk, .. } = self.cut;
        let found: [_; 3] = std::array::from_fn(|axis| inside(start[axis], shape[axis], self.cut.shape[axis]));
        let region = found.clone().map(|(range, _)| range);
        reader.visit(array, data_type, &region, |first, bytes| {
            let [planes, rows, columns] =
                std::array::from_fn(|axis| region[axis].start.max(first[axis])..region[axis].end.min(first[axis] + chunk[axis]));
            // The place in the box, and in the chunk.
            let in_box = |axis: usize, voxel: usize| found[axis].1 + voxel - region[axis].start;
            for (i, j) in planes.flat_map(|i| rows.clone().map(move |j| (i, j))) {
                let at = (in_box(0, i) * shape[1] + in_box(1, j)) * shape[2] + in_box(2, columns.start);
                let from = ((i - first[0]) * chunk[1] + j - first[1]) * chunk[2] + columns.start - first[2];
                put(at, &bytes[from * data_type.bytes()..][..columns.len() * data_type.bytes()]);
            }
            Ok(())
        })
    }
}

/// The part of `start..start + length` that lies in `0..size`, and how far into the box it begins.
fn inside(start: isize, length: usize, size: usize) -> (Range<usize>, usize) {
    let end = usize::try_from(start.saturating_add_unsigned(length)).unwrap_or(0).min(size);
    let begin = usize::try_from(start).unwrap_or(0).min(end);
    (begin..end, start.min(0).unsigned_abs())
}
