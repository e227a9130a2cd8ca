//! Writing: whole files or nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Header, NiftiError, Problem, VoxelType};
use crate::{LabelVolume, ScalarVolume};

/// Label maps shrink a hundredfold at the quickest level.
const LABEL_LEVEL: u32 = 1;

/// CT takes a quarter less space here than at the quickest level, for twice the time; higher levels gain little.
const SCALAR_LEVEL: u32 = 3;

/// Voxels converted at a time.
const PIECE: usize = 1 << 16;

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
    write_file(path, LABEL_LEVEL, |out| {
        out.write_all(&like.encode(VoxelType::U8))?;
        out.write_all(&[0; 4])?;
        out.write_all(&labels.x_fastest())
    })
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

/// Writes intensities rounded to 16-bit integers, as CT is stored, with the header [`Header::on`] their grid.
///
/// # Errors
///
/// When a value does not fit 16 bits, and as [`write_labels_on`].
pub fn write_scalar_i16(path: impl AsRef<Path>, volume: &ScalarVolume) -> Result<(), NiftiError> {
    let (path, grid) = (path.as_ref(), volume.grid());
    let header = Header::on(&grid).map_err(NiftiError::at(path))?;
    let values = volume.x_fastest();
    let fits = |v: f32| (f32::from(i16::MIN)..=f32::from(i16::MAX)).contains(&v.round());
    if let Some(voxel) = values.iter().position(|&v| !fits(v)) {
        let [nx, ny, _] = grid.shape;
        let at = [voxel % nx, voxel / nx % ny, voxel / nx / ny];
        return Err(NiftiError::at(path)(Problem::NotI16 { value: values[voxel], at }));
    }
    write_file(path, SCALAR_LEVEL, |out| {
        out.write_all(&header.encode(VoxelType::I16))?;
        out.write_all(&[0; 4])?;
        let mut bytes = Vec::with_capacity(2 * PIECE);
        for piece in values.chunks(PIECE) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|v| (v.round() as i16).to_le_bytes()));
            out.write_all(&bytes)?;
        }
        Ok(())
    })
}

/// Writes to a temporary name in the same folder, brings it to the disk, and renames.
fn write_file(path: &Path, level: u32, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), NiftiError> {
    let problem = |doing| move |error| NiftiError::at(path)(Problem::Io { doing, error });
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let gzip = name.ends_with(".nii.gz");
    if !gzip && !name.ends_with(".nii") {
        return Err(NiftiError::at(path)(Problem::Name));
    }
    let (temporary, file) = Temporary::beside(path).map_err(problem("make a file in the folder"))?;
    let written = if gzip {
        let mut out = GzEncoder::new(BufWriter::new(file), Compression::new(level));
        write(&mut out).and_then(|()| out.finish()?.into_inner().map_err(io::IntoInnerError::into_error))
    } else {
        let mut out = BufWriter::new(file);
        write(&mut out).and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error))
    };
    let synced = written.and_then(|file| file.sync_all());
    synced.map_err(problem("write the file"))?;
    temporary.rename(path).map_err(problem("give the finished file its name"))
}

/// A file that is removed unless it is renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// A new file beside `path`, under a hidden name. The time of day is in the name because every run in a container
    /// may have the same process id, and one that was killed may have left its file.
    fn beside(path: &Path) -> io::Result<(Self, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos());
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}-{nanos}-{count}.tmp", std::process::id()));
        let path = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((Self { path, renamed: false }, file))
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.renamed = true;
        // The name itself reaches the disk with its folder. Not every file system lets a folder be synced; the file is
        // whole either way.
        if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}
