//! Voxels that a header describes: in the same file or another one, as they are or packed, in either byte order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use volume::nifti::{SliceReader, VoxelType};
use volume::{Affine, Grid, Source, SourceError, SourceSlices};

use crate::error::{FormatError, Problem, WRITE_ANEW, field};

/// Bytes that are read at a time; a multiple of every voxel size.
const BUFFER: usize = 1 << 18;

/// Deflate packs at most this many bytes into one.
const MOST_DEFLATE_RATIO: u64 = 1032;

/// More voxels than this are not read: a whole-body CT of 1024 x 1024 x 1024.
const MOST_VOXELS: usize = 1 << 30;

/// How voxels are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Raw,
    Gzip,
    Zlib,
}

/// Where in a file the voxels begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    At(u64),
    /// They are the end of the file.
    AtEnd,
}

/// A scan whose header is in `path` and whose voxels are in `data`.
#[derive(Clone, Debug)]
pub(crate) struct RawScan {
    pub(crate) path: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) begin: Begin,
    pub(crate) packing: Packing,
    pub(crate) voxel_type: VoxelType,
    pub(crate) big_endian: bool,
    pub(crate) grid: Grid,
}

impl RawScan {
    /// Checks what the header says against the file of voxels, before memory is taken for it.
    pub(crate) fn checked(self) -> Result<Self, FormatError> {
        let check = || -> Result<(), Problem> {
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
                return Err(Problem::Truncated { file: self.data.clone(), found, expected });
            }
            Ok(())
        };
        check().map_err(FormatError::at(&self.path))?;
        Ok(self)
    }

    /// How many bytes the voxels take.
    fn bytes(&self) -> u64 {
        self.grid.voxels() as u64 * self.voxel_type.bytes() as u64
    }

    fn open(&self) -> Result<SliceReader, SourceError> {
        let open = || -> io::Result<Voxels> {
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
        };
        let voxels = open().map_err(|error| FormatError::at(&self.path)(Problem::Io { doing: "open the voxels", error }))?;
        Ok(SliceReader::over(&self.path, &self.grid, self.voxel_type, BufReader::with_capacity(BUFFER, voxels))?)
    }
}

impl Source for RawScan {
    fn path(&self) -> &Path {
        &self.path
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError> {
        Ok(Box::new(self.open()?))
    }
}

/// The size of a regular file. A pipe would wait for a writer for ever.
pub(crate) fn file_bytes(path: &Path) -> Result<u64, Problem> {
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

/// The axes and the origin in LPS of an affine to RAS.
pub(crate) fn to_lps(affine: &Affine) -> ([[f64; 3]; 3], [f64; 3]) {
    // No `-0`, which some readers take for text.
    let turned = |[x, y, z]: [f64; 3]| [0.0 - x, 0.0 - y, z + 0.0];
    (std::array::from_fn(|axis| turned(affine.column(axis))), turned(affine.origin_mm()))
}
