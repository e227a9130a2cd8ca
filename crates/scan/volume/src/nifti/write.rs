//! Writing: whole files or nothing.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use whole_files::WholeFile;

use super::header::HEADER_BYTES;
use super::scalar::ScalarWriter;
use super::{Header, NiftiError, Problem, VoxelType};
use crate::{LabelVolume, NearestSlices, ScalarVolume};

/// Label maps shrink a hundredfold at the quickest level.
const LABEL_LEVEL: u32 = 1;

/// CT takes a quarter less space here than at the quickest level, for twice the time; higher levels gain little.
pub(super) const SCALAR_LEVEL: u32 = 3;

/// A model grid covers all of its scan. Of a scan that has been cropped since, or a label map that has been, half may be missing.
const LEAST_SHARE: f64 = 0.5;

/// Writes a label map for the image that `like` was read from: the same shape, affine and coordinate codes to the bit,
/// 8-bit voxels without scaling. Compressed when the name ends in `.gz`. The file appears whole under its name, or not
/// at all.
///
/// # Errors
///
/// When the labels are not on the image's grid, the name ends otherwise, or the system does not let us write.
pub fn write_labels(path: impl AsRef<Path>, labels: &LabelVolume, like: &Header) -> Result<(), NiftiError> {
    let (path, grid) = (path.as_ref(), labels.grid());
    if !grid.approx_eq(&like.grid()) {
        let (found, expected) = (Box::new(grid), Box::new(like.grid()));
        return Err(NiftiError::at(path)(Problem::OtherGrid { found, expected }));
    }
    let mut writer = LabelWriter::create(path, like)?;
    let slice = like.grid().shape[0] * like.grid().shape[1];
    labels.x_fastest().chunks_exact(slice).try_for_each(|labels| writer.add(labels))?;
    writer.finish()
}

/// Writes a label map on a grid of its own, as [`write_labels`] with the header [`Header::on`] its grid.
///
/// # Errors
///
/// When the grid does not fit a header, the name ends otherwise than `.nii` or `.nii.gz`, or the system does not let
/// us write.
pub fn write_labels_on(path: impl AsRef<Path>, labels: &LabelVolume) -> Result<(), NiftiError> {
    let path = path.as_ref();
    let header = Header::on(&labels.grid()).map_err(NiftiError::at(path))?;
    write_labels(path, labels, &header)
}

/// Writes a label map for the image that `like` was read from, as [`write_labels`] does, from labels on another grid: each
/// voxel takes the label that [`resample_nearest`](crate::resample_nearest) gives it. Holds a slice of the output.
///
/// # Errors
///
/// As [`write_labels`], and when less than half of the image lies within the labels: these belong to another image, or to the
/// same with another origin, and hardly a voxel would get the label of its place.
pub fn write_nearest(path: impl AsRef<Path>, labels: &LabelVolume, like: &Header) -> Result<(), NiftiError> {
    let (path, grid) = (path.as_ref(), like.grid());
    let share = grid.share_within(&labels.grid());
    if share < LEAST_SHARE {
        let (found, expected) = (Box::new(labels.grid().box_mm()), Box::new(grid.box_mm()));
        return Err(NiftiError::at(path)(Problem::Elsewhere { found, expected, percent: 100.0 * share }));
    }
    let values = labels.x_fastest();
    let slices = NearestSlices::of(&values, &labels.grid(), &grid);
    write_label_slices(path, like, |z, slice| {
        slices.write(z, slice);
        Ok(())
    })
}

/// Writes a label map for the image that `like` was read from, as [`write_labels`] does, slice by slice: `fill` is given each
/// slice's place and its labels, x fastest, which are those of the slice before.
///
/// # Errors
///
/// Those of `fill`, and when the name ends otherwise than `.nii` or `.nii.gz`, or the system does not let us write.
pub fn write_label_slices<E: From<NiftiError>>(
    path: impl AsRef<Path>,
    like: &Header,
    mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let [nx, ny, nz] = like.grid().shape;
    let (mut writer, mut slice) = (LabelWriter::create(path, like)?, vec![0; nx * ny]);
    for z in 0..nz {
        fill(z, &mut slice)?;
        writer.add(&slice)?;
    }
    Ok(writer.finish()?)
}

/// Writes intensities rounded to 16-bit integers, as CT is stored, with the header [`Header::on`] their grid.
///
/// # Errors
///
/// When a value does not fit 16 bits, and as [`write_labels_on`].
pub fn write_scalar_i16(path: impl AsRef<Path>, volume: &ScalarVolume) -> Result<(), NiftiError> {
    let (path, grid) = (path.as_ref(), volume.grid());
    let header = Header::on(&grid).map_err(NiftiError::at(path))?;
    let mut writer = ScalarWriter::integers(path, &header)?;
    let slice = grid.shape[0] * grid.shape[1];
    volume.x_fastest().chunks_exact(slice).try_for_each(|values| writer.add(values))?;
    writer.finish()
}

/// The field `vox_offset`.
const VOX_OFFSET: std::ops::Range<usize> = 108..112;

/// An extension that holds a text: its size, a multiple of 16, its kind, 0, and the text with spaces behind it.
fn extension(text: &[u8]) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let size = (8 + text.len()).next_multiple_of(16);
    let mut extension = [(size as u32).to_le_bytes(), [0; 4]].concat();
    extension.extend_from_slice(text);
    extension.resize(size, b' ');
    extension
}

/// A label map that is written slice by slice along its last axis. The file appears under its name when it is finished,
/// and not at all if it is dropped before.
pub struct LabelWriter {
    out: Output,
    slice: usize,
    missing: usize,
}

impl LabelWriter {
    /// A writer of the label map of the image that `like` was read from, as [`write_labels`] writes it.
    ///
    /// # Errors
    ///
    /// When the name ends otherwise than `.nii` or `.nii.gz`, or the system does not let us write.
    pub fn create(path: impl AsRef<Path>, like: &Header) -> Result<Self, NiftiError> {
        Self::with_extension(path, like, &[])
    }

    /// The same with a text in an extension of the header, of no registered kind; none if it is empty.
    ///
    /// # Errors
    ///
    /// As [`LabelWriter::create`].
    pub fn with_extension(path: impl AsRef<Path>, like: &Header, text: &[u8]) -> Result<Self, NiftiError> {
        let [nx, ny, nz] = like.grid().shape;
        let mut writer = Self { out: Output::create(path.as_ref(), LABEL_LEVEL)?, slice: nx * ny, missing: nz };
        let extension = extension(text);
        let mut header = like.encode(VoxelType::U8)[..HEADER_BYTES].to_vec();
        header[VOX_OFFSET].copy_from_slice(&((HEADER_BYTES + 4 + extension.len()) as f32).to_le_bytes());
        writer.write(&header)?;
        writer.write(&[u8::from(!extension.is_empty()), 0, 0, 0])?;
        writer.write(&extension)?;
        Ok(writer)
    }

    /// Adds the next slice, x fastest.
    ///
    /// # Errors
    ///
    /// When the system does not let us write.
    ///
    /// # Panics
    ///
    /// When `labels` are not a slice, or there is one too many.
    pub fn add(&mut self, labels: &[u8]) -> Result<(), NiftiError> {
        assert!(labels.len() == self.slice && self.missing > 0, "{} voxels, {} slices to come", labels.len(), self.missing);
        self.missing -= 1;
        self.write(labels)
    }

    /// Gives the finished file its name.
    ///
    /// # Errors
    ///
    /// When the system does not let us write.
    ///
    /// # Panics
    ///
    /// When slices are missing.
    pub fn finish(self) -> Result<(), NiftiError> {
        assert!(self.missing == 0, "{} slices are missing", self.missing);
        self.out.finish()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), NiftiError> {
        let problem = |error| NiftiError::at(&self.out.path)(Problem::Io { doing: "write the file", error });
        self.out.packer.write_all(bytes).map_err(problem)
    }
}

/// A file in the making.
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) packer: Packer,
}

impl Output {
    pub(super) fn create(path: &Path, level: u32) -> Result<Self, NiftiError> {
        let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let gzip = name.ends_with(".nii.gz");
        if !gzip && !name.ends_with(".nii") {
            return Err(NiftiError::at(path)(Problem::Name));
        }
        let problem = |error| NiftiError::at(path)(Problem::Io { doing: "make a file in the folder", error });
        let file = BufWriter::new(WholeFile::create(path).map_err(problem)?);
        let packer = if gzip { Packer::Gzip(Box::new(GzEncoder::new(file, Compression::new(level)))) } else { Packer::Plain(file) };
        Ok(Self { path: path.to_owned(), packer })
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), NiftiError> {
        let Self { path, packer } = self;
        let problem = |doing| {
            let path = &path;
            move |error| NiftiError::at(path)(Problem::Io { doing, error })
        };
        let file = match packer {
            Packer::Gzip(out) => out.finish(),
            Packer::Plain(out) => Ok(out),
        };
        let file = file.and_then(|file| file.into_inner().map_err(io::IntoInnerError::into_error)).map_err(problem("write the file"))?;
        file.finish().map_err(problem("give the finished file its name"))
    }
}

/// Compressed or not.
pub(super) enum Packer {
    Gzip(Box<GzEncoder<BufWriter<WholeFile>>>),
    Plain(BufWriter<WholeFile>),
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(out) => out.write(bytes),
            Self::Plain(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(out) => out.flush(),
            Self::Plain(out) => out.flush(),
        }
    }
}
