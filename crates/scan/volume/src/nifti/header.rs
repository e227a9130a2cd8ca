//! The 348 bytes at the beginning of a NIfTI-1 file.

use std::array::from_fn;

use ::nifti::header::{MAGIC_CODE_NI1, MAGIC_CODE_NIP1};
use ::nifti::{Endianness, Extender, NiftiHeader, NiftiType, Unit, XForm};

use super::Problem;
use super::quaternion::{of_length_1, quaternion_of, rotation_of};
use crate::{Affine, Grid};

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 348;

/// Where voxels begin in the files that we write: the header and four zeros that say "no extensions".
pub(super) const VOXELS_AT: usize = 352;

/// More voxels than this are not read: a whole-body CT of 1024 x 1024 x 1024. Reading takes four bytes for each.
pub(super) const MOST_VOXELS: u64 = 1 << 30;

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
    /// The type that a header declares.
    fn of(header: &NiftiHeader) -> Result<Self, Problem> {
        let no_number = |name| Err(Problem::VoxelType { code: header.datatype, name });
        match header.data_type() {
            Ok(NiftiType::Uint8) => Ok(Self::U8),
            Ok(NiftiType::Int8) => Ok(Self::I8),
            Ok(NiftiType::Uint16) => Ok(Self::U16),
            Ok(NiftiType::Int16) => Ok(Self::I16),
            Ok(NiftiType::Uint32) => Ok(Self::U32),
            Ok(NiftiType::Int32) => Ok(Self::I32),
            Ok(NiftiType::Uint64) => Ok(Self::U64),
            Ok(NiftiType::Int64) => Ok(Self::I64),
            Ok(NiftiType::Float32) => Ok(Self::F32),
            Ok(NiftiType::Float64) => Ok(Self::F64),
            Ok(NiftiType::Complex64) => no_number("complex of 64 bits"),
            Ok(NiftiType::Complex128) => no_number("complex of 128 bits"),
            Ok(NiftiType::Complex256) => no_number("complex of 256 bits"),
            Ok(NiftiType::Float128) => no_number("float of 128 bits"),
            Ok(NiftiType::Rgb24) => no_number("RGB"),
            Ok(NiftiType::Rgba32) => no_number("RGBA"),
            Err(_) if header.datatype == 1 => no_number("one bit"),
            Err(_) => no_number("unknown"),
        }
    }

    /// As the standard names it.
    fn nifti(self) -> NiftiType {
        match self {
            Self::U8 => NiftiType::Uint8,
            Self::I8 => NiftiType::Int8,
            Self::U16 => NiftiType::Uint16,
            Self::I16 => NiftiType::Int16,
            Self::U32 => NiftiType::Uint32,
            Self::I32 => NiftiType::Int32,
            Self::U64 => NiftiType::Uint64,
            Self::I64 => NiftiType::Int64,
            Self::F32 => NiftiType::Float32,
            Self::F64 => NiftiType::Float64,
        }
    }

    /// Bytes of a voxel.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.nifti().size_of()
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
    /// Coordinate systems and units. What else a header says spoke of the image's voxels, and is not kept.
    place: NiftiHeader,
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
        [self.place.sform_code, self.place.qform_code]
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
        let [x, y, z] = grid.affine.origin_mm().map(|v| v as f32);
        let [srow_x, srow_y, srow_z] = from_fn(|row| grid.affine.0[row].map(|v| v as f32));
        let place = NiftiHeader {
            pixdim: [qfac, spacing[0], spacing[1], spacing[2], 1.0, 1.0, 1.0, 1.0],
            xyzt_units: Unit::Mm as u8,
            qform_code: if quaternion.is_some() { XForm::ScannerAnat } else { XForm::Unknown } as i16,
            sform_code: XForm::ScannerAnat as i16,
            srow_x,
            srow_y,
            srow_z,
            ..NiftiHeader::default()
        };
        let place = with_quaternion(with_offset(place, [x, y, z]), bcd);
        Ok(Self { grid: *grid, voxel_type: VoxelType::U8, scaling: None, big_endian: false, voxels_at: VOXELS_AT as u64, place })
    }

    /// Reads and checks the 348 bytes.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Problem> {
        let found = fields(bytes)?;
        let shape = shape_of(dim_of(&found))?;
        let mut header = Self {
            grid: Grid { shape, affine: Affine::IDENTITY },
            voxel_type: VoxelType::of(&found)?,
            scaling: scaling(found.scl_slope, found.scl_inter)?,
            big_endian: found.endianness == Endianness::Big,
            voxels_at: voxels_at(found.vox_offset)?,
            place: place_of(&found),
        };
        header.grid.affine = header.affine()?;
        header.grid.affine.check()?;
        Ok(header)
    }

    /// What stands before the voxels of a file, little-endian: the header for voxels of `voxel_type` without scaling, and that no
    /// extensions follow. Display range, intent, texts and slice timing are left empty: they spoke of the image.
    pub(crate) fn encode(&self, voxel_type: VoxelType) -> [u8; VOXELS_AT] {
        let mut bytes = [0; VOXELS_AT];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &(HEADER_BYTES as i32).to_le_bytes());
        let [nx, ny, nz] = self.grid.shape.map(|n| n as i16);
        for (i, n) in [3, nx, ny, nz, 1, 1, 1, 1].into_iter().enumerate() {
            put(40 + 2 * i, &n.to_le_bytes());
        }
        put(70, &(voxel_type.nifti() as i16).to_le_bytes());
        put(72, &(8 * voxel_type.bytes() as i16).to_le_bytes());
        let place = &self.place;
        for (i, v) in place.pixdim.iter().enumerate() {
            put(76 + 4 * i, &v.to_le_bytes());
        }
        put(108, &(VOXELS_AT as f32).to_le_bytes());
        put(112, &1f32.to_le_bytes());
        put(123, &[place.xyzt_units]);
        put(252, &place.qform_code.to_le_bytes());
        put(254, &place.sform_code.to_le_bytes());
        let forms = [&quaternion(place)[..], &offset(place), &place.srow_x, &place.srow_y, &place.srow_z];
        for (i, v) in forms.into_iter().flatten().enumerate() {
            put(256 + 4 * i, &v.to_le_bytes());
        }
        put(344, MAGIC_CODE_NIP1);
        put(HEADER_BYTES, Extender::default().as_bytes());
        bytes
    }

    /// The affine in force (see the module).
    fn affine(&self) -> Result<Affine, Problem> {
        let place = &self.place;
        if place.sform_code > 0 {
            let [x, y, z] = [place.srow_x, place.srow_y, place.srow_z].map(|row| row.map(f64::from));
            return Ok(Affine([x, y, z, Affine::IDENTITY.0[3]]));
        }
        let spacing: [f64; 3] = from_fn(|axis| f64::from(place.pixdim[1 + axis]));
        if spacing.iter().any(|&v| v < 0.0) {
            return Err(Problem::VoxelSizes { found: spacing });
        }
        if place.qform_code > 0 {
            let rotation = rotation_of(quaternion(place).map(f64::from))?;
            let qfac = if place.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
            let zooms = [spacing[0], spacing[1], spacing[2] * qfac];
            let columns = from_fn(|axis| from_fn(|row| rotation[row][axis] * zooms[axis]));
            return Ok(Affine::from_columns(columns, offset(place).map(f64::from)));
        }
        let zooms = [-spacing[0], spacing[1], spacing[2]];
        let origin = from_fn(|axis| -0.5 * (self.grid.shape[axis] as f64 - 1.0) * zooms[axis]);
        Ok(Affine::from_spacing_mm(zooms, origin))
    }
}

/// The fields of a NIfTI-1 header with its voxels in the same file.
fn fields(bytes: &[u8; HEADER_BYTES]) -> Result<NiftiHeader, Problem> {
    let begin: [u8; 4] = from_fn(|i| bytes[i]);
    let sizes = [i32::from_le_bytes(begin), i32::from_be_bytes(begin)];
    if sizes.contains(&540) {
        return Err(Problem::Nifti2);
    }
    if !sizes.contains(&(HEADER_BYTES as i32)) {
        return Err(Problem::NotNifti { found: begin });
    }
    let magic = || String::from_utf8_lossy(&bytes[344..]).trim_end_matches('\0').to_owned();
    match NiftiHeader::from_reader(&bytes[..]) {
        Ok(fields) if fields.magic == *MAGIC_CODE_NI1 => Err(Problem::Detached { found: magic() }),
        Ok(fields) => Ok(fields),
        // Of so many bytes, it takes all but a wrong magic.
        Err(_) => Err(Problem::Magic { found: magic() }),
    }
}

/// The dimensions with their signs. The reader tells the byte order by `dim[0]` and not by the size of the header; where the two
/// do not agree, `dim[0]` is impossible in the order that the size tells, which is the one to show.
fn dim_of(header: &NiftiHeader) -> [i16; 8] {
    let is_swapped = header.sizeof_hdr != HEADER_BYTES as i32;
    header.dim.map(|n| if is_swapped { n.swap_bytes() } else { n }.cast_signed())
}

/// The fields of the coordinate systems alone, with a quaternion that every reader takes.
fn place_of(found: &NiftiHeader) -> NiftiHeader {
    let &NiftiHeader { pixdim, xyzt_units, qform_code, sform_code, srow_x, srow_y, srow_z, .. } = found;
    let place = NiftiHeader { pixdim, xyzt_units, qform_code, sform_code, srow_x, srow_y, srow_z, ..NiftiHeader::default() };
    let bcd = quaternion(found);
    with_quaternion(with_offset(place, offset(found)), if sform_code <= 0 && qform_code > 0 { of_length_1(bcd) } else { bcd })
}

fn quaternion(header: &NiftiHeader) -> [f32; 3] {
    [header.quatern_b, header.quatern_c, header.quatern_d]
}

fn offset(header: &NiftiHeader) -> [f32; 3] {
    [header.quatern_x, header.quatern_y, header.quatern_z]
}

fn with_quaternion(header: NiftiHeader, [quatern_b, quatern_c, quatern_d]: [f32; 3]) -> NiftiHeader {
    NiftiHeader { quatern_b, quatern_c, quatern_d, ..header }
}

fn with_offset(header: NiftiHeader, [quatern_x, quatern_y, quatern_z]: [f32; 3]) -> NiftiHeader {
    NiftiHeader { quatern_x, quatern_y, quatern_z, ..header }
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
        return Ok(VOXELS_AT as u64);
    }
    if offset.fract() != 0.0 || !(VOXELS_AT as f32..1e9).contains(&offset) {
        return Err(Problem::Offset { found: offset });
    }
    Ok(offset as u64)
}
