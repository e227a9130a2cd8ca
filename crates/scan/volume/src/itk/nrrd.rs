//! NRRD files, `.nrrd`, and NRRD headers with their voxels in another file, `.nhdr`.

use std::collections::HashMap;
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

/// Reads the header.
pub(super) fn read(path: &Path) -> Result<RawScan, Problem> {
    let (header, header_bytes) = Header::read(path)?;
    let (voxel_type, packing) = (header.voxel_type()?, header.packing()?);
    let (data, is_detached) = header.data_file(path)?;
    let begin = match header.get("byte skip").map_or(Ok(0), str::parse::<i64>) {
        Ok(-1) if packing == Packing::Raw => Begin::AtEnd,
        Ok(skip @ 0..) => Begin::At(skip.unsigned_abs() + if is_detached { 0 } else { header_bytes }),
        _ => return Err(header.refused("byte skip", "a count of bytes, or -1 with raw voxels")),
    };
    if header.get("line skip").is_some_and(|skip| skip != "0") {
        return Err(header.refused("line skip", "0"));
    }
    let big_endian = match header.get("endian") {
        Some(endian) if endian.eq_ignore_ascii_case("big") => true,
        Some(endian) if endian.eq_ignore_ascii_case("little") => false,
        None if voxel_type.bytes() == 1 => false,
        _ => return Err(header.refused("endian", "little or big")),
    };
    Ok(RawScan { data, is_detached, begin, packing, voxel_type, big_endian, grid: header.grid()? })
}

/// The fields of a header by their names in small letters.
struct Header(HashMap<String, String>);

/// Names of voxel types, as `type` gives them.
const TYPES: [(&[&str], VoxelType); 10] = [
    (&["signed char", "int8", "int8_t"], VoxelType::I8),
    (&["uchar", "unsigned char", "uint8", "uint8_t"], VoxelType::U8),
    (&["short", "short int", "signed short", "signed short int", "int16", "int16_t"], VoxelType::I16),
    (&["ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"], VoxelType::U16),
    (&["int", "signed int", "int32", "int32_t"], VoxelType::I32),
    (&["uint", "unsigned int", "uint32", "uint32_t"], VoxelType::U32),
    (&["longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"], VoxelType::I64),
    (&["ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"], VoxelType::U64),
    (&["float"], VoxelType::F32),
    (&["double"], VoxelType::F64),
];

impl Header {
    /// Reads the lines up to the empty one, and says how many bytes they take.
    fn read(path: &Path) -> Result<(Self, u64), Problem> {
        let io = |error| Problem::Io { doing: "read the header", error };
        file_bytes(path)?;
        let mut file = BufReader::new(File::open(path).map_err(io)?).take(MOST_HEADER);
        let (mut fields, mut bytes, mut line) = (HashMap::new(), 0, Vec::new());
        loop {
            line.clear();
            let read = file.read_until(b'\n', &mut line).map_err(io)?;
            let is_first = bytes == 0;
            bytes += read as u64;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if is_first && !text.strip_prefix("NRRD000").is_some_and(|version| matches!(version, "1" | "2" | "3" | "4" | "5")) {
                let start: String = text.chars().take(8).collect();
                return Err(field("magic", format!("{start:?}"), "NRRD0001 to NRRD0005", "the file is no NRRD file; see what wrote it"));
            }
            // A header without voxels may end with the file.
            if (read == 0 || text.is_empty()) && !is_first {
                if bytes >= MOST_HEADER {
                    return Err(field("header", format!("{bytes} bytes without an end"), "an empty line before the voxels", WRITE_ANEW));
                }
                return Ok((Self(fields), bytes));
            }
            if text.starts_with('#') || is_first {
                continue;
            }
            // `name:=value` belongs to whoever wrote it.
            let Some((name, value)) = text.split_once(':').filter(|(_, value)| !value.starts_with('=')) else { continue };
            fields.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn refused(&self, name: &'static str, expected: &'static str) -> Problem {
        field(name, self.get(name).unwrap_or_default(), expected, WRITE_ANEW)
    }

    fn voxel_type(&self) -> Result<VoxelType, Problem> {
        let found = self.get("type").unwrap_or_default().to_ascii_lowercase();
        let known = TYPES.iter().find(|(names, _)| names.contains(&found.as_str()));
        known.map(|(_, voxel_type)| *voxel_type).ok_or_else(|| self.refused("type", "an integer or a float of 8 to 64 bits"))
    }

    fn packing(&self) -> Result<Packing, Problem> {
        match self.get("encoding").unwrap_or_default().to_ascii_lowercase().as_str() {
            "raw" => Ok(Packing::Raw),
            "gz" | "gzip" => Ok(Packing::Gzip),
            _ => Err(self.refused("encoding", "raw or gzip")),
        }
    }

    /// The file of the voxels, and whether it is another one.
    fn data_file(&self, path: &Path) -> Result<(PathBuf, bool), Problem> {
        let Some(name) = self.get("data file").or_else(|| self.get("datafile")) else { return Ok((path.to_owned(), false)) };
        if name.starts_with("LIST") || name.contains('%') {
            return Err(field("data file", name, "one file for all slices", WRITE_ANEW));
        }
        Ok((path.with_file_name("").join(name), true))
    }

    /// Sides and axes. More dimensions than three may have one entry each, wherever they stand.
    fn grid(&self) -> Result<Grid, Problem> {
        let sizes: Option<Vec<usize>> = self.get("sizes").unwrap_or_default().split_whitespace().map(|size| size.parse().ok()).collect();
        let sizes = sizes.filter(|sizes| sizes.len() >= 3).ok_or_else(|| self.refused("sizes", "three sides or more"))?;
        let directions = self.directions(&sizes)?;
        let space: Vec<usize> = match &directions {
            Some(directions) => (0..sizes.len()).filter(|&axis| directions[axis].is_some()).collect(),
            None => (0..sizes.len()).filter(|&axis| sizes[axis] > 1 || axis < 3).take(3).collect(),
        };
        let beyond = (0..sizes.len()).any(|axis| !space.contains(&axis) && sizes[axis] != 1);
        let &[x, y, z] = space.as_slice() else { return Err(self.refused("space directions", "three axes in space")) };
        if beyond {
            return Err(field("sizes", format!("{sizes:?}"), "one image of three dimensions", "split the sequence, or keep one channel"));
        }
        let shape = [sizes[x], sizes[y], sizes[z]];
        let (columns, origin) = match directions {
            Some(directions) => {
                let columns = [x, y, z].map(|axis| directions[axis].unwrap_or_default());
                (columns, self.get("space origin").map_or(Some([0.0; 3]), vector).ok_or_else(|| self.refused("space origin", VECTOR))?)
            }
            // As ITK reads such a file.
            None => {
                let spacings: Option<Vec<f64>> = self
                    .get("spacings")
                    .map(|text| text.split_whitespace().map(number).collect())
                    .unwrap_or_else(|| Some(vec![1.0; sizes.len()]));
                let spacings = spacings
                    .filter(|spacings| spacings.len() == sizes.len())
                    .ok_or_else(|| self.refused("spacings", "one number for each axis"))?;
                let column = |axis: usize, side: usize| std::array::from_fn(|row| if row == axis { spacings[side] } else { 0.0 });
                ([column(0, x), column(1, y), column(2, z)], [0.0; 3])
            }
        };
        Ok(Grid { shape, affine: Affine::from_lps(columns.map(|column| self.to_lps(column)), self.to_lps(origin)) })
            .and_then(|grid| self.known_space().map(|()| grid))
    }

    /// The direction of each axis, and none of one that is not in space.
    fn directions(&self, sizes: &[usize]) -> Result<Option<Vec<Option<[f64; 3]>>>, Problem> {
        let Some(text) = self.get("space directions") else { return Ok(None) };
        let refused = || self.refused("space directions", "(x,y,z) or none for each axis");
        let mut directions = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (direction, after) = match (rest.strip_prefix("none"), rest.strip_prefix('(')) {
                (Some(after), _) => (None, after),
                (None, Some(inside)) => {
                    let (_, after) = inside.split_once(')').ok_or_else(refused)?;
                    (Some(vector(&rest[..rest.len() - after.len()]).ok_or_else(refused)?), after)
                }
                (None, None) => return Err(refused()),
            };
            directions.push(direction);
            rest = after.trim_start();
        }
        if directions.len() != sizes.len() {
            return Err(refused());
        }
        Ok(Some(directions))
    }

    fn known_space(&self) -> Result<(), Problem> {
        let known = self.get("space").is_none_or(|space| axes_of(space).is_some());
        if known {
            Ok(())
        } else {
            Err(self.refused("space", "left-posterior-superior, right-anterior-superior or left-anterior-superior"))
        }
    }

    /// A vector of the header's space in LPS.
    fn to_lps(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let [to_left, to_posterior] = self.get("space").and_then(axes_of).unwrap_or([1.0, 1.0]);
        [to_left * x, to_posterior * y, z]
    }
}

const VECTOR: &str = "a vector (x,y,z)";

/// The signs of x and y in LPS.
fn axes_of(space: &str) -> Option<[f64; 2]> {
    match space.to_ascii_lowercase().as_str() {
        "left-posterior-superior" | "lps" => Some([1.0, 1.0]),
        "right-anterior-superior" | "ras" => Some([-1.0, -1.0]),
        "left-anterior-superior" | "las" => Some([1.0, -1.0]),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// `(x,y,z)`.
fn vector(text: &str) -> Option<[f64; 3]> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let numbers: Option<Vec<f64>> = inside.split(',').map(|text| number(text.trim())).collect();
    numbers?.try_into().ok()
}
