//! Reading: bytes to checked volumes, in pieces.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::gzip::{MAGIC, Members};
use super::header::HEADER_BYTES;
use super::{Header, NiftiError, Problem, VoxelType};
use crate::itk;
use crate::{Format, LabelVolume, ScalarVolume, Volume};

/// Bytes unpacked and converted at a time; a multiple of every voxel size.
const PIECE: usize = 1 << 18;

/// Bytes of the file that are read at a time.
const FILE_BUFFER: usize = 1 << 18;

/// Deflate packs at most this many bytes into one.
const MOST_DEFLATE_RATIO: u64 = 1032;

/// After the voxels, up to this many bytes are read so that the checksum at the end of a gzip stream is checked.
const TRAILING: u64 = 1 << 20;

/// Intensities of more voxels than this are not held: 1 GiB, in 4 bytes each. Longer scans are read slice by slice.
const MOST_SCALARS: usize = 1 << 28;

/// Labels of more voxels than this are not held, in 1 byte each: 512 x 512 x 3072. A file of a megabyte can declare more.
const MOST_LABELS: usize = 3 << 28;

/// Values further from 0 than this are refused as NaN is: no integer of 32 bits reaches them, interpolation overflows not far
/// beyond, and what writes them (the largest number of 32 or of 64 bits) means "nothing here".
const MOST_VALUE: f32 = 1e10;

/// A label may differ from an integer by this much: scaling factors are stored in 32 bits.
const LABEL_TOLERANCE: f64 = 1e-4;

/// Reads and checks the header alone.
///
/// # Errors
///
/// When the file is not a readable file with one volume of real numbers and a plausible affine, or too small for what its header
/// declares.
pub fn read_header(path: impl AsRef<Path>) -> Result<Header, NiftiError> {
    open(path.as_ref(), Parts::One, |stream| Ok(stream.header))
}

/// Reads intensities, scaled by `scl_slope` and `scl_inter` where these are in force.
///
/// # Errors
///
/// As [`read_header`], and when the file is truncated or damaged, has too many voxels to hold, or a value is NaN, infinite or
/// beyond 1e10. A [`SliceReader`](super::SliceReader) reads any number of slices.
pub fn read_scalar(path: impl AsRef<Path>) -> Result<(ScalarVolume, Header), NiftiError> {
    open(path.as_ref(), Parts::One, scalar_from)
}

/// Reads labels of any voxel type: each value must be an integer from 0 to 255. Whether these labels mean anything is
/// for the caller to check.
///
/// # Errors
///
/// As [`read_header`], and when the file is truncated or damaged, has too many voxels to hold, or a value is not a label. A
/// [`LabelReader`](super::LabelReader) reads any number of slices.
pub fn read_labels(path: impl AsRef<Path>) -> Result<(LabelVolume, Header), NiftiError> {
    open(path.as_ref(), Parts::One, labels_from)
}

/// Of which files a scan may consist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Of one alone, so that who knows the file knows the scan.
    One,
    /// Of a header and the file that it names, too.
    Any,
}

/// Opens a file of any format, and reads its header.
pub(super) fn open<T>(path: &Path, parts: Parts, read: impl FnOnce(Stream<'static>) -> Result<T, Problem>) -> Result<T, NiftiError> {
    stream(path, parts).and_then(read).map_err(NiftiError::at(path))
}

fn stream(path: &Path, parts: Parts) -> Result<Stream<'static>, Problem> {
    let io = |error| Problem::Io { doing: "open the file", error };
    let (metadata, file) = File::open(path).and_then(|file| Ok((file.metadata()?, file))).map_err(io)?;
    if metadata.is_dir() {
        return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut file = BufReader::with_capacity(FILE_BUFFER, file);
    let start = file.fill_buf().map_err(|error| Problem::Io { doing: "read the file", error })?;
    let format = Format::of_path(path).or_else(|| Format::of_start(start));
    let Some(scan) = itk::read(path, format).transpose()? else { return Stream::open(file, metadata.len()) };
    if scan.is_detached && parts == Parts::One {
        return Err(Problem::Field {
            field: "the voxels",
            found: "in another file".into(),
            expected: "header and voxels in one file",
            remedy: "write the image as .nrrd, .mha or .nii.gz",
        });
    }
    Stream::open(scan.as_nifti()?, u64::MAX)
}

fn scalar_from(stream: Stream<'_>) -> Result<(ScalarVolume, Header), Problem> {
    let shape = stream.header.grid().shape;
    let scaling = stream.header.scaling();
    let mut bad = Unusable::of(&stream.header);
    let (values, header) = stream.voxels(MOST_SCALARS, |header, piece, values: &mut Vec<f32>| {
        let before = values.len();
        to_f32(header, scaling, piece, values);
        bad.look_at(&values[before..], before);
        Ok(())
    })?;
    bad.none_in(shape)?;
    Ok((on_grid(&header, values)?, header))
}

/// The values that nothing can be computed with, counted as they come.
pub(super) struct Unusable {
    is_possible: bool,
    count: usize,
    first: (usize, f32),
}

impl Unusable {
    pub(super) fn of(header: &Header) -> Self {
        let is_possible = header.voxel_type().bytes() == 8 || header.voxel_type() == VoxelType::F32 || header.scaling().is_some();
        Self { is_possible, count: 0, first: (0, 0.0) }
    }

    /// Looks at values that follow the first `before` of the file.
    pub(super) fn look_at(&mut self, values: &[f32], before: usize) {
        let is_unusable = |value: &f32| value.is_nan() || value.abs() > MOST_VALUE;
        if self.is_possible && values.iter().fold(false, |any, value| any | is_unusable(value)) {
            let first = values.iter().position(is_unusable).unwrap_or(0);
            self.first = if self.count == 0 { (before + first, values[first]) } else { self.first };
            self.count += values.iter().filter(|value| is_unusable(value)).count();
        }
    }

    pub(super) fn none_in(&self, shape: [usize; 3]) -> Result<(), Problem> {
        let (first, value) = self.first;
        match self.count {
            0 => Ok(()),
            count => Err(Problem::Unusable { count, value, first: index_of(first, shape), most: MOST_VALUE }),
        }
    }
}

fn labels_from(stream: Stream<'_>) -> Result<(LabelVolume, Header), Problem> {
    let (values, header) = stream.voxels(MOST_LABELS, |header, piece, labels: &mut Vec<u8>| to_labels(header, piece, 0, labels))?;
    Ok((on_grid(&header, values)?, header))
}

fn on_grid<T: Clone>(header: &Header, values: Vec<T>) -> Result<Volume<T>, Problem> {
    let voxels = values.len();
    Volume::from_x_fastest(&header.grid(), values).map_err(|_| Problem::Memory { voxels })
}

pub(super) fn index_of(voxel: usize, [nx, ny, _]: [usize; 3]) -> [usize; 3] {
    [voxel % nx, voxel / nx % ny, voxel / nx / ny]
}

/// A file whose header is read and whose voxels come next.
pub(super) struct Stream<'a> {
    pub(super) header: Header,
    bytes: Box<dyn Read + Send + 'a>,
    is_gzip: bool,
}

impl<'a> Stream<'a> {
    /// Reads the header, told apart from gzip by its first bytes (names lie), and skips to the voxels.
    pub(super) fn open(mut file: impl BufRead + Send + 'a, file_bytes: u64) -> Result<Self, Problem> {
        let start = file.fill_buf().map_err(|error| Problem::Io { doing: "read the file", error })?;
        let is_gzip = start.starts_with(&MAGIC);
        let mut bytes: Box<dyn Read + Send + 'a> = if is_gzip { Box::new(Members::new(file)) } else { Box::new(file) };
        let mut head = [0; HEADER_BYTES];
        let found = fill(&mut bytes, &mut head)?;
        if found < HEADER_BYTES {
            return Err(Problem::ShortHeader { found: found as u64 });
        }
        let header = Header::parse(&head)?;
        check_size(&header, file_bytes, is_gzip)?;
        let extensions = header.voxels_at - HEADER_BYTES as u64;
        let skipped = io::copy(&mut bytes.by_ref().take(extensions), &mut io::sink());
        skipped.map(drop).or_else(|error| at_end_of_file(error).map(drop))?;
        Ok(Self { header, bytes, is_gzip })
    }

    /// Reads the voxels in pieces, each handed to `convert`, which adds its values; no more than `most` are held.
    fn voxels<T>(
        mut self,
        most: usize,
        mut convert: impl FnMut(&Header, &[u8], &mut Vec<T>) -> Result<(), Problem>,
    ) -> Result<(Vec<T>, Header), Problem> {
        let (voxels, expected) = (self.header.grid().voxels(), voxel_bytes(&self.header));
        if voxels > most {
            return Err(Problem::TooManyToHold { voxels, most });
        }
        let mut values = Vec::new();
        values.try_reserve_exact(voxels).map_err(|_| Problem::Memory { voxels })?;
        let mut piece = vec![0; PIECE];
        let mut found = 0;
        while found < expected {
            let wanted = PIECE.min(usize::try_from(expected - found).unwrap_or(PIECE));
            self.take(&mut piece[..wanted], found)?;
            found += wanted as u64;
            convert(&self.header, &piece[..wanted], &mut values)?;
        }
        self.check_end()?;
        Ok((values, self.header))
    }

    /// Fills `piece` with the bytes of voxels that follow the first `before`.
    pub(super) fn take(&mut self, piece: &mut [u8], before: u64) -> Result<(), Problem> {
        let got = fill(&mut self.bytes, piece)?;
        if got < piece.len() {
            return Err(Problem::Truncated { found: before + got as u64, expected: voxel_bytes(&self.header) });
        }
        Ok(())
    }

    /// After the voxels: the checksum at the end of a gzip stream.
    pub(super) fn check_end(&mut self) -> Result<(), Problem> {
        if !self.is_gzip {
            return Ok(());
        }
        let rest = io::copy(&mut self.bytes.by_ref().take(TRAILING), &mut io::sink());
        rest.map(drop).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Problem::CorruptGzip { error },
            _ => damaged(error),
        })
    }
}

pub(super) fn voxel_bytes(header: &Header) -> u64 {
    header.grid().voxels() as u64 * header.voxel_type().bytes() as u64
}

/// Compares what the header declares with the size of its file, before memory is taken for it.
fn check_size(header: &Header, file_bytes: u64, is_gzip: bool) -> Result<(), Problem> {
    let expected = voxel_bytes(header);
    let declared = header.voxels_at + expected;
    if !is_gzip && file_bytes < declared {
        return Err(Problem::Truncated { found: file_bytes.saturating_sub(header.voxels_at), expected });
    }
    let possible = file_bytes.saturating_mul(MOST_DEFLATE_RATIO);
    if is_gzip && possible < declared {
        return Err(Problem::DeclaresTooMuch { declared, file: file_bytes, possible });
    }
    Ok(())
}

/// Reads until `buffer` is full or the stream ends, and says how many bytes came. A gzip stream that breaks off ends.
fn fill(bytes: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Problem> {
    let mut filled = 0;
    while filled < buffer.len() {
        match bytes.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return at_end_of_file(error).map(|()| filled),
        }
    }
    Ok(filled)
}

/// The end of the file is found out by counting, and is no failure here.
fn at_end_of_file(error: io::Error) -> Result<(), Problem> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(damaged(error)) }
}

fn damaged(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Problem::CorruptGzip { error },
        _ => Problem::Io { doing: "read the file", error },
    }
}

/// Calls `$each!(type)` with the Rust type of the header's voxels.
macro_rules! for_voxel_type {
    ($header:expr, $each:ident) => {
        match $header.voxel_type() {
            VoxelType::U8 => $each!(u8),
            VoxelType::I8 => $each!(i8),
            VoxelType::U16 => $each!(u16),
            VoxelType::I16 => $each!(i16),
            VoxelType::U32 => $each!(u32),
            VoxelType::I32 => $each!(i32),
            VoxelType::U64 => $each!(u64),
            VoxelType::I64 => $each!(i64),
            VoxelType::F32 => $each!(f32),
            VoxelType::F64 => $each!(f64),
        }
    };
}

/// Adds the values of a piece in their meant scale.
pub(super) fn to_f32(header: &Header, scaling: Option<[f64; 2]>, piece: &[u8], values: &mut Vec<f32>) {
    macro_rules! convert {
        ($t:ty) => {{
            let (stored, _) = piece.as_chunks::<{ size_of::<$t>() }>();
            match (header.big_endian, scaling) {
                (false, None) => values.extend(stored.iter().map(|b| <$t>::from_le_bytes(*b) as f32)),
                (true, None) => values.extend(stored.iter().map(|b| <$t>::from_be_bytes(*b) as f32)),
                (big, Some([slope, inter])) => values.extend(stored.iter().map(|b| {
                    let v = if big { <$t>::from_be_bytes(*b) } else { <$t>::from_le_bytes(*b) };
                    (v as f64 * slope + inter) as f32
                })),
            }
        }};
    }
    for_voxel_type!(header, convert);
}

/// Adds the labels of a piece, or says which value is none; the first of `labels` follows the first `before` of the file.
pub(super) fn to_labels(header: &Header, piece: &[u8], before: usize, labels: &mut Vec<u8>) -> Result<(), Problem> {
    let scaling = header.scaling();
    if header.voxel_type() == VoxelType::U8 && scaling.is_none() {
        labels.extend_from_slice(piece);
        return Ok(());
    }
    let [slope, inter] = scaling.unwrap_or([1.0, 0.0]);
    macro_rules! convert {
        ($t:ty) => {{
            for b in piece.as_chunks::<{ size_of::<$t>() }>().0 {
                let stored = if header.big_endian { <$t>::from_be_bytes(*b) } else { <$t>::from_le_bytes(*b) };
                let value = stored as f64 * slope + inter;
                let label = value.round();
                if !((value - label).abs() <= LABEL_TOLERANCE && (0.0..=255.0).contains(&label)) {
                    let at = index_of(before + labels.len(), header.grid().shape);
                    return Err(Problem::NotALabel { value, at });
                }
                labels.push(label as u8);
            }
        }};
    }
    for_voxel_type!(header, convert);
    Ok(())
}
