//! Reading slice by slice, in the memory of a slice.

use std::path::{Path, PathBuf};

use super::read::{Parts, Stream, Unusable, open, to_f32, to_labels, voxel_bytes};
use super::{Header, NiftiError, Problem};
use crate::{Cut, sides};

/// Slices of more voxels than this are not read one by one: a CT slice has 512 × 512, the largest known 796 × 796.
const MOST_PER_SLICE: usize = 1 << 23;

/// The intensities of a file, one slice along its last axis at a time, scaled as [`read_scalar`](super::read_scalar) does.
pub struct SliceReader {
    stored: Stored,
    bad: Unusable,
}

impl SliceReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// As [`read_header`](super::read_header), and when a slice is larger than any of CT.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NiftiError> {
        Self::of_parts(path.as_ref(), Parts::One)
    }

    /// The same, of a scan that may consist of several files.
    pub(crate) fn of_parts(path: &Path, parts: Parts) -> Result<Self, NiftiError> {
        let stored = Stored::open(path, parts)?;
        Ok(Self { bad: Unusable::of(&stored.stream.header), stored })
    }

    /// The file's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.stored.stream.header
    }

    /// The values of the next slice, x fastest, in place of those in `values`; whether there was one.
    ///
    /// # Errors
    ///
    /// When the file is truncated or damaged; after the last slice, when any value was NaN, infinite or beyond 1e10.
    pub fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, NiftiError> {
        self.read(values).map_err(NiftiError::at(&self.stored.path))
    }

    fn read(&mut self, values: &mut Vec<f32>) -> Result<bool, Problem> {
        let Some(before) = self.stored.next()? else {
            return self.bad.none_in(self.header().grid().shape).map(|()| false);
        };
        values.clear();
        to_f32(self.header(), self.header().scaling(), &self.stored.slice, values);
        self.bad.look_at(values, before);
        Ok(true)
    }
}

/// The labels of a file, one slice along its last axis at a time, checked as [`read_labels`](super::read_labels) does.
pub struct LabelReader {
    stored: Stored,
    cuts: Vec<Cut>,
}

impl LabelReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// As [`read_header`](super::read_header), and when a slice is larger than any of CT.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NiftiError> {
        Ok(Self { stored: Stored::open(path.as_ref(), Parts::One)?, cuts: Vec::new() })
    }

    /// The same, with the labels of left parts in place of those in the file.
    #[must_use]
    pub fn cut(self, cuts: &[Cut]) -> Self {
        Self { cuts: cuts.to_vec(), ..self }
    }

    /// The file's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.stored.stream.header
    }

    /// The labels of the next slice, x fastest, in place of those in `labels`; whether there was one.
    ///
    /// # Errors
    ///
    /// When the file is truncated or damaged, or a value is not a label.
    pub fn next_slice(&mut self, labels: &mut Vec<u8>) -> Result<bool, NiftiError> {
        self.read(labels).map_err(NiftiError::at(&self.stored.path))
    }

    fn read(&mut self, labels: &mut Vec<u8>) -> Result<bool, Problem> {
        let Some(before) = self.stored.next()? else { return Ok(false) };
        labels.clear();
        to_labels(self.header(), &self.stored.slice, before, labels)?;
        sides::apply(&self.cuts, &self.header().grid(), self.stored.next - 1, labels);
        Ok(true)
    }
}

/// Counts the voxels of each label of a file after `cuts`, reading all of it in the memory of a slice.
///
/// # Errors
///
/// As [`read_labels`](super::read_labels).
pub fn count_labels(path: impl AsRef<Path>, cuts: &[Cut]) -> Result<([u64; 256], Header), NiftiError> {
    let mut reader = LabelReader::open(path)?.cut(cuts);
    let (mut counts, mut slice) = ([0; 256], Vec::new());
    while reader.next_slice(&mut slice)? {
        for same in slice.chunk_by(|a, b| a == b) {
            counts[usize::from(same[0])] += same.len() as u64;
        }
    }
    Ok((counts, reader.stored.stream.header))
}

/// The bytes of a file as they are stored, a slice at a time.
struct Stored {
    path: PathBuf,
    stream: Stream<'static>,
    slice: Vec<u8>,
    next: usize,
}

impl Stored {
    fn open(path: &Path, parts: Parts) -> Result<Self, NiftiError> {
        open(path, parts, |stream| Self::of(path, stream))
    }

    fn of(path: &Path, stream: Stream<'static>) -> Result<Self, Problem> {
        let [nx, ny, _] = stream.header.grid().shape;
        if nx * ny > MOST_PER_SLICE {
            return Err(Problem::Slice { shape: [nx, ny], most: MOST_PER_SLICE });
        }
        let slice = vec![0; nx * ny * stream.header.voxel_type().bytes()];
        Ok(Self { path: path.to_owned(), stream, slice, next: 0 })
    }

    /// Reads the next slice, if there is one, and says how many voxels come before it.
    fn next(&mut self) -> Result<Option<usize>, Problem> {
        let (shape, bytes) = (self.stream.header.grid().shape, self.slice.len());
        if self.next == shape[2] {
            return Ok(None);
        }
        self.stream.take(&mut self.slice, (self.next * bytes) as u64)?;
        self.next += 1;
        if self.next == shape[2] {
            debug_assert_eq!((self.next * bytes) as u64, voxel_bytes(&self.stream.header));
            self.stream.check_end()?;
        }
        Ok(Some((self.next - 1) * shape[0] * shape[1]))
    }
}
