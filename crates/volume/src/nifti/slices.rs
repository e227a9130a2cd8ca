//! Reading slice by slice, in the memory of a slice.

use std::path::{Path, PathBuf};

use super::read::{NonFinite, Stream, open, to_f32, voxel_bytes};
use super::{Header, NiftiError, Problem};

/// Slices of more voxels than this are not read one by one: a CT slice has 512 × 512, the largest known 796 × 796.
const MOST_PER_SLICE: usize = 1 << 23;

/// The intensities of a file, one slice along its last axis at a time, scaled as [`read_scalar`](super::read_scalar) does.
pub struct SliceReader {
    path: PathBuf,
    stream: Stream<'static>,
    bad: NonFinite,
    stored: Vec<u8>,
    next: usize,
}

impl SliceReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// As [`read_header`](super::read_header), and when a slice is larger than any of CT.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NiftiError> {
        let path = path.as_ref();
        let stream = open(path, |file, bytes| {
            let stream = Stream::open(file, bytes)?;
            let [nx, ny, _] = stream.header.grid().shape;
            match nx * ny {
                voxels if voxels > MOST_PER_SLICE => Err(Problem::Slice { shape: [nx, ny], most: MOST_PER_SLICE }),
                _ => Ok(stream),
            }
        })?;
        let [nx, ny, _] = stream.header.grid().shape;
        let stored = vec![0; nx * ny * stream.header.voxel_type().bytes()];
        Ok(Self { path: path.to_owned(), bad: NonFinite::of(&stream.header), stream, stored, next: 0 })
    }

    /// The file's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.stream.header
    }

    /// The values of the next slice, x fastest, in place of those in `values`; whether there was one.
    ///
    /// # Errors
    ///
    /// When the file is truncated or damaged; after the last slice, when any value was NaN or infinite.
    pub fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, NiftiError> {
        self.read(values).map_err(NiftiError::at(&self.path))
    }

    fn read(&mut self, values: &mut Vec<f32>) -> Result<bool, Problem> {
        let (shape, bytes) = (self.header().grid().shape, self.stored.len());
        if self.next == shape[2] {
            return self.bad.none_in(shape).map(|()| false);
        }
        self.stream.take(&mut self.stored, (self.next * bytes) as u64)?;
        let before = self.next * shape[0] * shape[1];
        self.next += 1;
        if self.next == shape[2] {
            debug_assert_eq!((self.next * bytes) as u64, voxel_bytes(self.header()));
            self.stream.check_end()?;
        }
        values.clear();
        to_f32(&self.stream.header, self.stream.header.scaling(), &self.stored, values);
        self.bad.look_at(values, before);
        Ok(true)
    }
}
