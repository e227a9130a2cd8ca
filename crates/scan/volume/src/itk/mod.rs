//! Files of ITK: NRRD and MetaImage. A header in text describes voxels in the same file or another one, as they are or packed, in
//! either byte order. They are read as NIfTI's are, behind a NIfTI header that says the same.
//!
//! Both have the coordinates of ITK, to the patient's Left and to Posterior; an [`Affine`](crate::Affine) goes to the Right and to
//! Anterior.

mod metaimage;
mod nrrd;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

use crate::nifti::{Header, Problem, VoxelType};
use crate::{Format, Grid};

/// Bytes that are read at a time; a multiple of every voxel size.
const BUFFER: usize = 1 << 18;

/// Deflate packs at most this many bytes into one.
const MOST_DEFLATE_RATIO: u64 = 1032;

/// More voxels than this are not read: a whole-body CT of 1024 x 1024 x 1024.
const MOST_VOXELS: usize = 1 << 30;

/// What to do about a header that contradicts itself.
const WRITE_ANEW: &str = "write the image anew, for example with SimpleITK or 3D Slicer";

/// So many bytes of a field are shown.
const MOST_SHOWN: usize = 120;

/// Reads and checks the header of a file in a format of ITK; none of another format.
pub(crate) fn read(path: &Path, format: Option<Format>) -> Option<Result<RawScan, Problem>> {
    let scan = match format {
        Some(Format::Nrrd) => nrrd::read(path),
        Some(Format::MetaImage) => metaimage::read(path),
        _ => return None,
    };
    Some(scan.and_then(RawScan::checked))
}

/// The other file that holds the voxels of the header in `path`, if it is such a header.
#[must_use]
pub fn data_file(path: &Path) -> Option<PathBuf> {
    let (file, is_other) = match Format::of_file(path)? {
        Format::Nrrd => nrrd::data_file(path),
        Format::MetaImage => metaimage::data_file(path),
        _ => None,
    }?;
    is_other.then_some(file)
}

/// A finding about a field of a header.
fn field(field: &'static str, found: impl Into<String>, expected: &'static str, remedy: &'static str) -> Problem {
    let mut found: String = found.into();
    if found.len() > MOST_SHOWN {
        let end = (0..=MOST_SHOWN).rev().find(|&end| found.is_char_boundary(end)).unwrap_or(0);
        found.truncate(end);
        found.push('…');
    }
    Problem::Field { field, found: if found.is_empty() { "nothing".into() } else { found }, expected, remedy }
}

/// How voxels are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Raw,
    Gzip,
    Zlib,
}

/// Where in a file the voxels begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    At(u64),
    /// They are the end of the file.
    AtEnd,
}

/// What a header says. The voxels are in `data`.
#[derive(Clone, Debug)]
pub(crate) struct RawScan {
    data: PathBuf,
    /// Whether that is another file.
    pub(crate) is_detached: bool,
    begin: Begin,
    packing: Packing,
    voxel_type: VoxelType,
    big_endian: bool,
    grid: Grid,
}

impl RawScan {
    /// Checks what the header says against the file of voxels, before memory is taken for it.
    fn checked(self) -> Result<Self, Problem> {
        self.grid.affine.check()?;
        if self.grid.voxels() > MOST_VOXELS || self.grid.shape.contains(&0) {
            return Err(field("sizes", format!("{:?} voxels", self.grid.shape), "from 1 to 2^30 voxels", "crop or split the image"));
        }
        let (file, expected) = (file_bytes(&self.data)?, self.bytes());
        let found = match self.begin {
            Begin::At(at) => file.saturating_sub(at),
            Begin::AtEnd => file,
        };
        let possible = if self.packing == Packing::Raw { found } else { found.saturating_mul(MOST_DEFLATE_RATIO) };
        if possible < expected {
            return Err(Problem::ShortData { file: self.data, found, expected });
        }
        Ok(self)
    }

    /// How many bytes the voxels take.
    fn bytes(&self) -> u64 {
        self.grid.voxels() as u64 * self.voxel_type.bytes() as u64
    }

    /// The bytes of a NIfTI file that says the same: a header, and the voxels little-endian and x fastest.
    pub(crate) fn as_nifti(&self) -> Result<impl BufRead + Send + use<>, Problem> {
        let head = Header::on(&self.grid)?.encode(self.voxel_type);
        let voxels = self.voxels().map_err(|error| Problem::Io { doing: "open the voxels", error })?;
        Ok(Cursor::new(head).chain(BufReader::with_capacity(BUFFER, voxels)))
    }

    fn voxels(&self) -> io::Result<Voxels> {
        let mut file = File::open(&self.data)?;
        match self.begin {
            Begin::At(at) => file.seek(SeekFrom::Start(at))?,
            Begin::AtEnd => {
                let end = file.metadata()?.len();
                file.seek(SeekFrom::Start(end.saturating_sub(self.bytes())))?
            }
        };
        let file = BufReader::with_capacity(BUFFER, file);
        let from: Box<dyn Read + Send> = match self.packing {
            Packing::Raw => Box::new(file),
            Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
            Packing::Zlib => Box::new(ZlibDecoder::new(file)),
        };
        Ok(Voxels { from, left: self.bytes(), turned: if self.big_endian { self.voxel_type.bytes() } else { 1 } })
    }
}

/// The size of a regular file. A pipe would wait for a writer for ever.
fn file_bytes(path: &Path) -> Result<u64, Problem> {
    let metadata = path.metadata().map_err(|error| Problem::Io { doing: "find the file of the voxels", error })?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Err(field("data file", path.display().to_string(), "a regular file", WRITE_ANEW))
}

/// The bytes of voxels in little-endian order. After the last one the packed stream must end well.
struct Voxels {
    from: Box<dyn Read + Send>,
    left: u64,
    /// Bytes of a voxel that are in the other order; 1 if none are.
    turned: usize,
}

impl Read for Voxels {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let most = most - most % self.turned;
        let mut read = 0;
        // Whole voxels, so that they can be turned round.
        while read < most && (read == 0 || read % self.turned != 0) {
            match self.from.read(&mut buffer[read..most])? {
                0 => break,
                more => read += more,
            }
        }
        self.left -= read as u64;
        if self.turned > 1 {
            buffer[..read].chunks_exact_mut(self.turned).for_each(<[u8]>::reverse);
        }
        if self.left == 0 && read > 0 {
            // Reads on to the checksum.
            self.from.read(&mut [0])?;
        }
        Ok(read)
    }
}
