//! A header and packed voxels in one file that appears whole or not at all.

use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use volume::{LabelSink, SourceError};
use whole_files::WholeFile;

use crate::error::{FormatError, Problem};

/// Label maps shrink a hundredfold at the quickest level.
const LEVEL: u32 = 1;

/// How voxels are packed.
pub(super) enum Packer {
    Gzip(GzEncoder<BufWriter<WholeFile>>),
    Zlib(ZlibEncoder<BufWriter<WholeFile>>),
}

/// The file in the making.
pub(super) struct PackedFile {
    path: PathBuf,
    packer: Packer,
    /// Where the header has room for the number of packed bytes, if it has.
    length_at: Option<(u64, usize)>,
    header: u64,
}

impl PackedFile {
    /// Writes the header. `length_at` is where the number of packed bytes goes, and how many digits it has room for.
    pub(super) fn create(path: &Path, header: &str, is_gzip: bool, length_at: Option<(u64, usize)>) -> Result<Self, FormatError> {
        let make = || -> io::Result<Packer> {
            let mut file = BufWriter::new(WholeFile::create(path)?);
            file.write_all(header.as_bytes())?;
            let level = Compression::new(LEVEL);
            Ok(if is_gzip { Packer::Gzip(GzEncoder::new(file, level)) } else { Packer::Zlib(ZlibEncoder::new(file, level)) })
        };
        let problem = |error| FormatError::at(path)(Problem::Io { doing: "make a file in the folder", error });
        Ok(Self { path: path.to_owned(), packer: make().map_err(problem)?, length_at, header: header.len() as u64 })
    }

    fn finished(packer: Packer, length_at: Option<(u64, usize)>, header: u64) -> io::Result<()> {
        let file = match packer {
            Packer::Gzip(packer) => packer.finish()?,
            Packer::Zlib(packer) => packer.finish()?,
        };
        let whole = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some((at, digits)) = length_at {
            let mut file = whole.file();
            let length = file.seek(SeekFrom::End(0))? - header;
            file.seek(SeekFrom::Start(at))?;
            write!(file, "{length:<digits$}")?;
        }
        whole.finish()
    }
}

impl LabelSink for PackedFile {
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError> {
        let written = match &mut self.packer {
            Packer::Gzip(packer) => packer.write_all(labels),
            Packer::Zlib(packer) => packer.write_all(labels),
        };
        Ok(written.map_err(|error| FormatError::at(&self.path)(Problem::Io { doing: "write the file", error }))?)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { path, packer, length_at, header } = *self;
        let finished = Self::finished(packer, length_at, header);
        Ok(finished.map_err(|error| FormatError::at(&path)(Problem::Io { doing: "finish the file", error }))?)
    }
}
