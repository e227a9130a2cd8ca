//! MetaImage files, `.mha`, and MetaImage headers with their voxels in another file, `.mhd`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::{Begin, Packing, RawScan, WRITE_ANEW, field, file_bytes};
use crate::nifti::{Problem, VoxelType};
use crate::{Affine, Grid};

/// A header of more bytes than this is none.
const MOST_HEADER: u64 = 1 << 20;

/// The file that holds the voxels, and whether it is another one.
pub(super) fn data_file(path: &Path) -> Option<(PathBuf, bool)> {
    let (header, _) = Header::read(path).ok()?;
    header.data_file(path).ok()
}

const TYPES: [(&str, VoxelType); 12] = [
    ("MET_CHAR", VoxelType::I8),
    ("MET_UCHAR", VoxelType::U8),
    ("MET_SHORT", VoxelType::I16),
    ("MET_USHORT", VoxelType::U16),
    ("MET_INT", VoxelType::I32),
    ("MET_UINT", VoxelType::U32),
    ("MET_LONG", VoxelType::I32),
    ("MET_ULONG", VoxelType::U32),
    ("MET_LONG_LONG", VoxelType::I64),
    ("MET_ULONG_LONG", VoxelType::U64),
    ("MET_FLOAT", VoxelType::F32),
    ("MET_DOUBLE", VoxelType::F64),
];

/// Reads the header.
pub(super) fn read(path: &Path) -> Result<RawScan, Problem> {
    let (header, header_bytes) = Header::read(path)?;
    if !header.is("BinaryData", true)? {
        return Err(header.refused("BinaryData", "True"));
    }
    let channels = header.get("ElementNumberOfChannels").unwrap_or("1");
    if channels != "1" {
        return Err(field("ElementNumberOfChannels", channels, "1", "keep one channel"));
    }
    let found = header.get("ElementType").unwrap_or_default();
    let voxel_type = TYPES.iter().find(|(name, _)| *name == found).map(|(_, voxel_type)| *voxel_type);
    let voxel_type = voxel_type.ok_or_else(|| header.refused("ElementType", "an integer or a float of 8 to 64 bits, such as MET_SHORT"))?;
    let big_endian = header.is("BinaryDataByteOrderMSB", false)? || header.is("ElementByteOrderMSB", false)?;
    let packing = if header.is("CompressedData", false)? { Packing::Zlib } else { Packing::Raw };
    let (data, is_detached) = header.data_file(path)?;
    let begin = match header.get("HeaderSize").map_or(Ok(0), str::parse::<i64>) {
        Ok(-1) if packing == Packing::Raw => Begin::AtEnd,
        Ok(skip @ 0..) => Begin::At(if is_detached { skip.unsigned_abs() } else { header_bytes }),
        _ => return Err(header.refused("HeaderSize", "a count of bytes, or -1 with voxels that are not compressed")),
    };
    Ok(RawScan { data, is_detached, begin, packing, voxel_type, big_endian, grid: header.grid()? })
}

/// The fields of a header with their values.
struct Header(Vec<(String, String)>);

impl Header {
    /// Reads the lines up to `ElementDataFile`, which is the last, and says how many bytes they take.
    fn read(path: &Path) -> Result<(Self, u64), Problem> {
        let io = |error| Problem::Io { doing: "read the header", error };
        file_bytes(path)?;
        let mut file = BufReader::new(File::open(path).map_err(io)?).take(MOST_HEADER);
        let (mut fields, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
        loop {
            line.clear();
            let read = file.read_until(b'\n', &mut line).map_err(io)?;
            bytes += read as u64;
            if read == 0 {
                return Err(field(
                    "header",
                    "no ElementDataFile",
                    "ElementDataFile at the end of the header",
                    "the file is no MetaImage file, or truncated; see what wrote it",
                ));
            }
            let text = String::from_utf8_lossy(&line);
            let Some((name, value)) = text.split_once('=') else { continue };
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            let is_last = name == "ElementDataFile";
            fields.push((name, value));
            if is_last {
                return Ok((Self(fields), bytes));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn refused(&self, name: &'static str, expected: &'static str) -> Problem {
        field(name, self.get(name).unwrap_or_default(), expected, WRITE_ANEW)
    }

    fn is(&self, name: &'static str, otherwise: bool) -> Result<bool, Problem> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(otherwise),
            Some("true" | "t" | "1") => Ok(true),
            Some("false" | "f" | "0") => Ok(false),
            Some(_) => Err(self.refused(name, "True or False")),
        }
    }

    /// The file of the voxels, and whether it is another one.
    fn data_file(&self, path: &Path) -> Result<(PathBuf, bool), Problem> {
        match self.get("ElementDataFile").unwrap_or_default() {
            "LOCAL" | "Local" | "local" => Ok((path.to_owned(), false)),
            name if name.is_empty() || name.starts_with("LIST") || name.contains('%') => {
                Err(field("ElementDataFile", name, "LOCAL, or one file for all slices", WRITE_ANEW))
            }
            name => Ok((path.with_file_name("").join(name), true)),
        }
    }

    fn numbers<const N: usize>(&self, names: &[&'static str]) -> Result<Option<[f64; N]>, Problem> {
        let Some(&name) = names.iter().find(|name| self.get(name).is_some()) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = self.get(name).unwrap_or_default().split_whitespace().map(|text| text.parse().ok()).collect();
        let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
        numbers.map(Some).ok_or_else(|| self.refused(name, if N == 9 { "nine numbers" } else { "three numbers" }))
    }

    fn grid(&self) -> Result<Grid, Problem> {
        if self.get("NDims") != Some("3") {
            return Err(field("NDims", self.get("NDims").unwrap_or_default(), "3", "split the sequence first"));
        }
        let sizes: Option<Vec<usize>> = self.get("DimSize").unwrap_or_default().split_whitespace().map(|size| size.parse().ok()).collect();
        let shape: Option<[usize; 3]> = sizes.and_then(|sizes| sizes.try_into().ok());
        let shape = shape.ok_or_else(|| self.refused("DimSize", "three sides"))?;
        let spacing = self.numbers::<3>(&["ElementSpacing", "ElementSize"])?.unwrap_or([1.0; 3]);
        let origin = self.numbers::<3>(&["Offset", "Position", "Origin"])?.unwrap_or_default();
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let matrix = self.numbers::<9>(&["TransformMatrix", "Rotation", "Orientation"])?.unwrap_or(identity);
        // Three numbers for each axis of the voxels.
        let columns = std::array::from_fn(|axis| std::array::from_fn(|row| matrix[3 * axis + row] * spacing[axis]));
        Ok(Grid { shape, affine: Affine::from_lps(columns, origin) })
    }
}
