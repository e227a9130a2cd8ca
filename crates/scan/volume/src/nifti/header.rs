//! The 348 bytes at the beginning of a NIfTI-1 file.

use std::array::from_fn;

use super::Problem;
use super::quaternion::{of_length_1, quaternion_of, rotation_of};
use crate::{Affine, Grid};

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 348;

/// Where voxels begin in the files that we write: the header and four zeros that say "no extensions".
pub(super) const VOXELS_AT: u64 = 352;

/// More voxels than this are not read: a whole-body CT of 1024 x 1024 x 1024. Reading takes four bytes for each.
pub(super) const MOST_VOXELS: u64 = 1 << 30;

/// `xyzt_units`: lengths in millimetres.
const UNITS_MM: u8 = 2;

/// `sform_code` and `qform_code`: coordinates of the scanner.
const CODE_SCANNER: i16 = 1;

/// How voxels are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoxelType {
    /// 8 bits without sign.
    U8,
    /// 8 bits with sign.
    I8,
    /// 16 bits without sign.
    U16,
    /// 16 bits with sign, as CT is usually stored.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits with sign.
    I32,
    /// 64 bits without sign.
    U64,
    /// 64 bits with sign.
    I64,
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
}

impl VoxelType {
    const CODES: [(i16, Self); 10] = [
        (2, Self::U8),
        (256, Self::I8),
        (512, Self::U16),
        (4, Self::I16),
        (768, Self::U32),
        (8, Self::I32),
        (1280, Self::U64),
        (1024, Self::I64),
        (16, Self::F32),
        (64, Self::F64),
    ];

    fn from_code(code: i16) -> Result<Self, Problem> {
        let known = Self::CODES.iter().find(|(c, _)| *c == code);
        known.map(|(_, voxel_type)| *voxel_type).ok_or(Problem::VoxelType {
            code,
            name: match code {
                1 => "one bit",
                32 => "complex of 64 bits",
                128 => "RGB",
                1536 => "float of 128 bits",
                1792 => "complex of 128 bits",
                2048 => "complex of 256 bits",
                2304 => "RGBA",
                _ => "unknown",
            },
        })
    }

    fn code(self) -> i16 {
        Self::CODES.iter().find(|(_, t)| *t == self).map_or(0, |(code, _)| *code)
    }

    /// Bytes of a voxel.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// The header of a NIfTI-1 file: the grid, how its voxels are stored, and the fields of the two coordinate systems as
/// they stood, so that a label map can be laid on its image to the bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    grid: Grid,
    voxel_type: VoxelType,
    scaling: Option<[f64; 2]>,
    pub(super) big_endian: bool,
    pub(super) voxels_at: u64,
    pixdim: [f32; 8],
    xyzt_units: u8,
    qform_code: i16,
    sform_code: i16,
    quaternion: [f32; 3],
    quaternion_offset: [f32; 3],
    sform: [[f32; 4]; 3],
}

impl Header {
    /// Shape and affine.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// How the voxels are stored.
    #[must_use]
    pub fn voxel_type(&self) -> VoxelType {
        self.voxel_type
    }

    /// Slope and intercept from stored values to meant ones, where they are in force.
    #[must_use]
    pub fn scaling(&self) -> Option<[f64; 2]> {
        self.scaling
    }

    /// `sform_code` and `qform_code`.
    #[must_use]
    pub fn form_codes(&self) -> [i16; 2] {
        [self.sform_code, self.qform_code]
    }

    /// A header for 8-bit labels on `grid`: scanner coordinates, millimetres; the qform is filled when the voxel axes
    /// are orthogonal, which is all that a quaternion can say.
    ///
    /// # Errors
    ///
    /// When a side has no voxel or more than 32767, or the affine fails [`Affine::check`].
    pub fn on(grid: &Grid) -> Result<Self, Problem> {
        grid.affine.check()?;
        check_shape(grid.shape)?;
        let spacing = grid.spacing_mm().map(|v| v as f32);
        let quaternion = quaternion_of(&grid.affine);
        let (qfac, bcd) = quaternion.unwrap_or((1.0, [0.0; 3]));
        Ok(Self {
            grid: *grid,
            voxel_type: VoxelType::U8,
            scaling: None,
            big_endian: false,
            voxels_at: VOXELS_AT,
            pixdim: [qfac, spacing[0], spacing[1], spacing[2], 1.0, 1.0, 1.0, 1.0],
            xyzt_units: UNITS_MM,
            qform_code: if quaternion.is_some() { CODE_SCANNER } else { 0 },
            sform_code: CODE_SCANNER,
            quaternion: bcd,
            quaternion_offset: grid.affine.origin_mm().map(|v| v as f32),
            sform: from_fn(|row| grid.affine.0[row].map(|v| v as f32)),
        })
    }

    /// Reads and checks the 348 bytes.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Problem> {
        let fields = Fields { bytes, big_endian: byte_order(bytes)? };
        check_magic(bytes)?;
        let dim: [i16; 8] = from_fn(|i| fields.i16(40 + 2 * i));
        let shape = shape_of(dim)?;
        let voxel_type = VoxelType::from_code(fields.i16(70))?;
        let pixdim: [f32; 8] = from_fn(|i| fields.f32(76 + 4 * i));
        let mut header = Self {
            grid: Grid { shape, affine: Affine::IDENTITY },
            voxel_type,
            scaling: scaling(fields.f32(112), fields.f32(116))?,
            big_endian: fields.big_endian,
            voxels_at: voxels_at(fields.f32(108))?,
            pixdim,
            xyzt_units: bytes[123],
            qform_code: fields.i16(252),
            sform_code: fields.i16(254),
            quaternion: from_fn(|i| fields.f32(256 + 4 * i)),
            quaternion_offset: from_fn(|i| fields.f32(268 + 4 * i)),
            sform: from_fn(|row| from_fn(|column| fields.f32(280 + 16 * row + 4 * column))),
        };
        if header.sform_code <= 0 && header.qform_code > 0 {
            header.quaternion = of_length_1(header.quaternion);
        }
        header.grid.affine = header.affine()?;
        header.grid.affine.check()?;
        Ok(header)
    }

    /// The 348 bytes, little-endian, for voxels of `voxel_type` without scaling at [`VOXELS_AT`]. Display range,
    /// intent, texts and slice timing are left empty: they spoke of the image.
    pub(super) fn encode(&self, voxel_type: VoxelType) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &(HEADER_BYTES as i32).to_le_bytes());
        let [nx, ny, nz] = self.grid.shape.map(|n| n as i16);
        for (i, n) in [3, nx, ny, nz, 1, 1, 1, 1].into_iter().enumerate() {
            put(40 + 2 * i, &n.to_le_bytes());
        }
        put(70, &voxel_type.code().to_le_bytes());
        put(72, &(8 * voxel_type.bytes() as i16).to_le_bytes());
        for (i, v) in self.pixdim.iter().enumerate() {
            put(76 + 4 * i, &v.to_le_bytes());
        }
        put(108, &(VOXELS_AT as f32).to_le_bytes());
        put(112, &1f32.to_le_bytes());
        put(123, &[self.xyzt_units]);
        put(252, &self.qform_code.to_le_bytes());
        put(254, &self.sform_code.to_le_bytes());
        let forms = self.quaternion.iter().chain(&self.quaternion_offset).chain(self.sform.as_flattened());
        for (i, v) in forms.enumerate() {
            put(256 + 4 * i, &v.to_le_bytes());
        }
        put(344, b"n+1\0");
        bytes
    }

    /// The affine in force (see the module).
    fn affine(&self) -> Result<Affine, Problem> {
        if self.sform_code > 0 {
            let mut rows = Affine::IDENTITY.0;
            for (row, entries) in self.sform.iter().enumerate() {
                rows[row] = entries.map(f64::from);
            }
            return Ok(Affine(rows));
        }
        let spacing: [f64; 3] = from_fn(|axis| f64::from(self.pixdim[1 + axis]));
        if spacing.iter().any(|&v| v < 0.0) {
            return Err(Problem::VoxelSizes { found: spacing });
        }
        if self.qform_code > 0 {
            let rotation = rotation_of(self.quaternion.map(f64::from))?;
            let qfac = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
            let zooms = [spacing[0], spacing[1], spacing[2] * qfac];
            let columns = from_fn(|axis| from_fn(|row| rotation[row][axis] * zooms[axis]));
            return Ok(Affine::from_columns(columns, self.quaternion_offset.map(f64::from)));
        }
        let zooms = [-spacing[0], spacing[1], spacing[2]];
        let origin = from_fn(|axis| -0.5 * (self.grid.shape[axis] as f64 - 1.0) * zooms[axis]);
        Ok(Affine::from_spacing_mm(zooms, origin))
    }
}

/// Reads fields in the byte order of the file.
struct Fields<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    big_endian: bool,
}

impl Fields<'_> {
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field: [u8; N] = from_fn(|i| self.bytes[at + i]);
        if self.big_endian {
            field.reverse();
        }
        field
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.take(at))
    }

    fn f32(&self, at: usize) -> f32 {
        f32::from_le_bytes(self.take(at))
    }
}

/// Whether the file is big-endian, told from its first field, which holds the size of the header.
fn byte_order(bytes: &[u8; HEADER_BYTES]) -> Result<bool, Problem> {
    let found: [u8; 4] = from_fn(|i| bytes[i]);
    let (little, big) = (i32::from_le_bytes(found), i32::from_be_bytes(found));
    match (little, big) {
        (348, _) => Ok(false),
        (_, 348) => Ok(true),
        (540, _) | (_, 540) => Err(Problem::Nifti2),
        _ => Err(Problem::NotNifti { found }),
    }
}

fn check_magic(bytes: &[u8; HEADER_BYTES]) -> Result<(), Problem> {
    let magic = &bytes[344..348];
    let found = || String::from_utf8_lossy(magic).trim_end_matches('\0').to_owned();
    match magic {
        b"n+1\0" => Ok(()),
        b"ni1\0" => Err(Problem::Detached { found: found() }),
        _ => Err(Problem::Magic { found: found() }),
    }
}

/// Three sides; sizes beyond may be 0, which files in the wild say for 1.
fn shape_of(dim: [i16; 8]) -> Result<[usize; 3], Problem> {
    let rank = usize::try_from(dim[0]).ok().filter(|rank| (1..=7).contains(rank));
    let sides = rank.map(|rank| &dim[1..=rank]).ok_or(Problem::Dimensions { dim })?;
    let (space, beyond) = sides.split_at(sides.len().min(3));
    if space.iter().any(|&n| n <= 0) || beyond.iter().any(|&n| n < 0) {
        return Err(Problem::Dimensions { dim });
    }
    if beyond.iter().any(|&n| n > 1) {
        return Err(Problem::Series { dim });
    }
    let shape = from_fn(|axis| space.get(axis).map_or(1, |&n| n.unsigned_abs().into()));
    let voxels = shape.iter().map(|&n: &usize| n as u64).product();
    if voxels > MOST_VOXELS {
        return Err(Problem::TooLarge { voxels, most: MOST_VOXELS });
    }
    Ok(shape)
}

fn check_shape(shape: [usize; 3]) -> Result<(), Problem> {
    let fits = shape.iter().all(|n| (1..=i16::MAX as usize).contains(n));
    if fits { Ok(()) } else { Err(Problem::Shape { shape }) }
}

/// A slope of 0 or one that is no number means "as stored" (NIfTI-1 and nibabel), and so do 1 and 0 together.
fn scaling(slope: f32, inter: f32) -> Result<Option<[f64; 2]>, Problem> {
    if slope == 0.0 || !slope.is_finite() || (slope == 1.0 && inter == 0.0) {
        return Ok(None);
    }
    if !inter.is_finite() {
        return Err(Problem::Scaling { slope, inter });
    }
    Ok(Some([slope.into(), inter.into()]))
}

/// Files in the wild say 0 where they mean 352.
fn voxels_at(offset: f32) -> Result<u64, Problem> {
    if offset == 0.0 {
        return Ok(VOXELS_AT);
    }
    if offset.fract() != 0.0 || !(VOXELS_AT as f32..1e9).contains(&offset) {
        return Err(Problem::Offset { found: offset });
    }
    Ok(offset as u64)
}
