//! Reading boxes of a case from its file.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use labels::FULL_TRUST;
use safetensors::tensor::{Dtype, Metadata};

use crate::info::{CaseInfo, Layout};
use crate::{FULL_SCALE, PreparedError};

/// A box of voxels in C order; its axes are those of the file (see [`Layout`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Voxels along the stored axes.
    pub shape: [usize; 3],
    /// The windowed image in `[0, 1]`; 0 outside of the case.
    pub image: Vec<f32>,
    /// 0 background, 1 to 13 organs; 0 outside of the case.
    pub organs: Option<Vec<u8>>,
    /// 0 background, 1 tumor; 0 outside of the case.
    pub cancer: Option<Vec<u8>>,
    /// Trust in `organs`; full outside of the case, where there is nothing but air.
    pub organs_trust: Option<Vec<u8>>,
    /// Trust in `cancer`, in the same way.
    pub cancer_trust: Option<Vec<u8>>,
}

/// One prepared case, open for reading. It holds its file and its header, and no voxels.
#[derive(Debug)]
pub struct PreparedCase {
    path: PathBuf,
    file: File,
    info: CaseInfo,
    shape: [usize; 3],
    image: u64,
    organs: Option<u64>,
    cancer: Option<u64>,
    organs_trust: Option<u64>,
    cancer_trust: Option<u64>,
}

/// Far above any header that [`crate::write_case`] writes; a larger one is damage.
const LONGEST_HEADER: u64 = 1 << 20;

impl PreparedCase {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// When the file cannot be read, is not as long as its header says, or is no prepared case.
    pub fn open(path: &Path) -> Result<Self, PreparedError> {
        let unreadable = |reason| PreparedError::Read { path: path.to_owned(), reason };
        let not_prepared = |reason: String| PreparedError::NotPrepared { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?.len();
        let (metadata, begin) = read_header(&mut file, path, found)?;
        let expected = begin + metadata.data_len() as u64;
        if found != expected {
            return Err(PreparedError::Length { path: path.to_owned(), found, expected });
        }
        let fields = metadata.metadata().as_ref().ok_or_else(|| not_prepared("its header has no __metadata__".into()))?;
        let info = CaseInfo::from_metadata(fields).map_err(|error| not_prepared(format!("its metadata cannot be understood: {error}")))?;
        let shape = info.stored_shape();
        let tensor = |name: &str, dtype| tensor_begin(&metadata, name, dtype, shape, begin).map_err(not_prepared);
        let image = tensor("image", Dtype::U16)?.ok_or_else(|| not_prepared("it has no tensor `image`".into()))?;
        let [organs, cancer] = [tensor("organs", Dtype::U8)?, tensor("cancer", Dtype::U8)?];
        let [organs_trust, cancer_trust] = [tensor("organs_trust", Dtype::U8)?, tensor("cancer_trust", Dtype::U8)?];
        Ok(Self { path: path.to_owned(), file, info, shape, image, organs, cancer, organs_trust, cancer_trust })
    }

    /// Voxels along the stored axes.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
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

    /// Whether there is an organ map. Which organs it knows of stands in [`CaseInfo::annotated_organs`].
    #[must_use]
    pub fn has_organs(&self) -> bool {
        self.organs.is_some()
    }

    /// Whether there is a cancer map.
    #[must_use]
    pub fn has_cancer(&self) -> bool {
        self.cancer.is_some()
    }

    /// The box of `shape` voxels that begins at `start`, both along the stored axes. It may reach beyond the case on
    /// any side, or lie outside altogether; what is outside is 0, and trusted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_box(&self, start: [isize; 3], shape: [usize; 3]) -> Result<Patch, PreparedError> {
        let voxels = shape.iter().product();
        let mut image = vec![0.0; voxels];
        self.read_rows(self.image, 2, start, shape, |at, row| {
            for (value, bytes) in image[at..].iter_mut().zip(row.as_chunks().0) {
                *value = f32::from(u16::from_le_bytes(*bytes)) / FULL_SCALE;
            }
        })?;
        let map = |begin: Option<u64>, outside| begin.map(|begin| self.read_map(begin, outside, start, shape)).transpose();
        Ok(Patch {
            shape,
            image,
            organs: map(self.organs, 0)?,
            cancer: map(self.cancer, 0)?,
            organs_trust: map(self.organs_trust, FULL_TRUST)?,
            cancer_trust: map(self.cancer_trust, FULL_TRUST)?,
        })
    }

    fn read_map(&self, begin: u64, outside: u8, start: [isize; 3], shape: [usize; 3]) -> Result<Vec<u8>, PreparedError> {
        let mut labels = vec![outside; shape.iter().product()];
        self.read_rows(begin, 1, start, shape, |at, row| labels[at..at + row.len()].copy_from_slice(row))?;
        Ok(labels)
    }

    /// Hands every row of the box that lies inside the case to `put`, with the patch voxel that it begins at.
    ///
    /// A plane is read at once, from its first row to its last: the bytes between the rows cost less than a system
    /// call for each row.
    fn read_rows(
        &self,
        begin: u64,
        bytes: usize,
        start: [isize; 3],
        shape: [usize; 3],
        mut put: impl FnMut(usize, &[u8]),
    ) -> Result<(), PreparedError> {
        let [_, height, width] = self.shape;
        let [(planes, plane_at), (rows, row_at), (columns, column_at)] =
            std::array::from_fn(|axis| inside(start[axis], shape[axis], self.shape[axis]));
        if rows.is_empty() || columns.is_empty() {
            return Ok(());
        }
        let mut plane_bytes = vec![0; ((rows.len() - 1) * width + columns.len()) * bytes];
        for (i, plane) in planes.enumerate() {
            let first_voxel = (plane * height + rows.start) * width + columns.start;
            self.file
                .read_exact_at(&mut plane_bytes, begin + (first_voxel * bytes) as u64)
                .map_err(|reason| PreparedError::Read { path: self.path.clone(), reason })?;
            for j in 0..rows.len() {
                let at = ((plane_at + i) * shape[1] + row_at + j) * shape[2] + column_at;
                put(at, &plane_bytes[j * width * bytes..][..columns.len() * bytes]);
            }
        }
        Ok(())
    }
}

/// The part of `start..start + length` that lies in `0..size`, and how far into the box it begins.
fn inside(start: isize, length: usize, size: usize) -> (Range<usize>, usize) {
    let end = usize::try_from(start.saturating_add_unsigned(length)).unwrap_or(0).min(size);
    let begin = usize::try_from(start).unwrap_or(0).min(end);
    (begin..end, start.min(0).unsigned_abs())
}

/// The parsed header, and the byte at which the tensors begin.
fn read_header(file: &mut File, path: &Path, file_length: u64) -> Result<(Metadata, u64), PreparedError> {
    let unreadable = |reason| PreparedError::Read { path: path.to_owned(), reason };
    let not_prepared = |reason: String| PreparedError::NotPrepared { path: path.to_owned(), reason };
    if file_length < 8 {
        return Err(PreparedError::Length { path: path.to_owned(), found: file_length, expected: 8 });
    }
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(not_prepared(format!("its header would have {length} bytes, expected at most {LONGEST_HEADER}")));
    }
    if 8 + length > file_length {
        return Err(PreparedError::Length { path: path.to_owned(), found: file_length, expected: 8 + length });
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let metadata = serde_json::from_slice(&header).map_err(|error| not_prepared(format!("its safetensors header is damaged: {error}")))?;
    Ok((metadata, 8 + length))
}

/// The byte at which a tensor begins, or nothing when there is no tensor of that name.
fn tensor_begin(metadata: &Metadata, name: &str, dtype: Dtype, shape: [usize; 3], data_begin: u64) -> Result<Option<u64>, String> {
    let Some(tensor) = metadata.info(name) else { return Ok(None) };
    if tensor.dtype != dtype || tensor.shape != shape {
        return Err(format!("tensor `{name}` is {:?} {:?}, expected {dtype:?} {shape:?}", tensor.dtype, tensor.shape));
    }
    Ok(Some(data_begin + tensor.data_offsets.0 as u64))
}
