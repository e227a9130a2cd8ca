//! Where the slices of a scan come from, and where those of its label map go, whatever the format.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Grid;
use crate::nifti::{Header, LabelReader, LabelWriter, NiftiError, Parts, SliceReader};

/// What is wrong with a scan or a label map, in the words of its format. It names the file.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A scan that gives its slices along the last axis, as often as it is asked to.
pub trait Source: Send + Sync {
    /// The file or folder that it is in, for messages.
    fn path(&self) -> &Path;

    /// Its voxels and where they lie.
    fn grid(&self) -> Grid;

    /// The slices, from the first to the last.
    ///
    /// # Errors
    /// When it cannot be opened any more.
    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError>;

    /// The NIfTI header of label maps that are made for it.
    ///
    /// # Errors
    /// When a side does not fit a header.
    fn header(&self) -> Result<Header, SourceError> {
        Ok(Header::on(&self.grid()).map_err(NiftiError::at(self.path()))?)
    }
}

/// The slices of a scan, in HU.
pub trait SourceSlices: Send {
    /// The values of the next slice, x fastest, in place of those in `values`; whether there was one.
    ///
    /// # Errors
    /// When the scan is truncated or damaged; after the last slice, when any value was NaN, infinite or beyond 1e10.
    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, SourceError>;
}

/// A label map that is written slice by slice along its last axis. It appears under its name when it is finished, and not at all if it
/// is dropped before.
pub trait LabelSink: Send {
    /// Adds the next slice, x fastest.
    ///
    /// # Errors
    /// When the system does not let us write.
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError>;

    /// Gives the finished file its name.
    ///
    /// # Errors
    /// When the system does not let us write.
    fn finish(self: Box<Self>) -> Result<(), SourceError>;
}

/// A scan in a NIfTI, NRRD or MetaImage file.
pub struct ScanFile {
    path: PathBuf,
    parts: Parts,
    header: Header,
}

impl ScanFile {
    /// Reads the header of a scan in one file.
    ///
    /// # Errors
    /// As [`read_header`](crate::nifti::read_header).
    pub fn open(path: &Path) -> Result<Self, NiftiError> {
        Self::of_parts(path, Parts::One)
    }

    /// Reads the header of a scan whose voxels may be in another file, which [`data_file`](crate::data_file) names.
    ///
    /// # Errors
    /// As [`read_header`](crate::nifti::read_header).
    pub fn with_data(path: &Path) -> Result<Self, NiftiError> {
        Self::of_parts(path, Parts::Any)
    }

    fn of_parts(path: &Path, parts: Parts) -> Result<Self, NiftiError> {
        Ok(Self { path: path.to_owned(), parts, header: SliceReader::of_parts(path, parts)?.header().clone() })
    }
}

impl Source for ScanFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn grid(&self) -> Grid {
        self.header.grid()
    }

    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError> {
        Ok(Box::new(SliceReader::of_parts(&self.path, self.parts)?))
    }

    fn header(&self) -> Result<Header, SourceError> {
        Ok(self.header.clone())
    }
}

impl SourceSlices for SliceReader {
    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, SourceError> {
        Ok(self.next_slice(values)?)
    }
}

impl LabelSink for LabelWriter {
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError> {
        Ok(self.add(labels)?)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        Ok((*self).finish()?)
    }
}

/// Slices of intensities or labels, which can be read again from where they come from.
pub(crate) trait ReadSlices: Sized {
    /// Where they come from.
    type From;
    /// What a voxel holds.
    type Voxel: Copy + Default;
    /// What can be wrong.
    type Error;

    fn open(from: &Self::From) -> Result<Self, Self::Error>;

    /// The next slice, x fastest, in place of what is in `values`; whether there was one.
    fn next_slice(&mut self, values: &mut Vec<Self::Voxel>) -> Result<bool, Self::Error>;
}

impl ReadSlices for Box<dyn SourceSlices> {
    type From = Arc<dyn Source>;
    type Voxel = f32;
    type Error = SourceError;

    fn open(from: &Arc<dyn Source>) -> Result<Self, SourceError> {
        from.slices()
    }

    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, SourceError> {
        (**self).next_slice(values)
    }
}

impl ReadSlices for SliceReader {
    type From = PathBuf;
    type Voxel = f32;
    type Error = NiftiError;

    fn open(from: &PathBuf) -> Result<Self, NiftiError> {
        Self::open(from)
    }

    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, NiftiError> {
        self.next_slice(values)
    }
}

impl ReadSlices for LabelReader {
    type From = PathBuf;
    type Voxel = u8;
    type Error = NiftiError;

    fn open(from: &PathBuf) -> Result<Self, NiftiError> {
        Self::open(from)
    }

    fn next_slice(&mut self, values: &mut Vec<u8>) -> Result<bool, NiftiError> {
        self.next_slice(values)
    }
}
