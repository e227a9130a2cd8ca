//! What can be wrong with a file of voxels.

use std::io;
use std::path::{Path, PathBuf};

use crate::{AffineError, Grid};

/// A file that could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct NiftiError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl NiftiError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(Problem) -> Self {
        move |problem| Self { path: path.to_owned(), problem }
    }
}

/// What was found in a file, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system did not let us read or write.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The header of an NRRD or MetaImage file says what no scan can be, or what is not read.
    #[error("{field}: {found}; expected {expected}; {remedy}")]
    Field {
        /// The field of the header.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Voxels are missing in the file that an NRRD or MetaImage header names.
    #[error("truncated: {found} of {expected} bytes of voxels are there, in {}; copy or download the file again", file.display())]
    ShortData {
        /// The file that holds the voxels.
        file: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes that the header declares.
        expected: u64,
    },
    /// The compressed stream is damaged.
    #[error("the gzip stream is damaged ({error}); copy or download the file again")]
    CorruptGzip {
        /// What the decoder says.
        error: io::Error,
    },
    /// The file is shorter than a header.
    #[error("{found} bytes (unpacked) are too few for a NIfTI header of 348; the file is truncated or not NIfTI")]
    ShortHeader {
        /// Bytes there are.
        found: u64,
    },
    /// The first bytes are not those of NIfTI-1.
    #[error(
        "not a NIfTI-1 file: it begins with {found:02x?}, expected the header size 348, or an NRRD or MetaImage file; convert it to .nii.gz"
    )]
    NotNifti {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// NIfTI-2.
    #[error("a NIfTI-2 file (header size 540), expected NIfTI-1 (348); convert it, for example with nibabel")]
    Nifti2,
    /// Header and voxels in two files.
    #[error("magic {found:?} marks a header whose voxels are in a separate .img file; convert the pair to one .nii.gz")]
    Detached {
        /// The magic text.
        found: String,
    },
    /// The magic text is wrong.
    #[error("magic {found:?}, expected \"n+1\"; an Analyze file or a damaged header: convert the image to .nii.gz")]
    Magic {
        /// The magic text.
        found: String,
    },
    /// The dimensions are impossible.
    #[error("dimensions {dim:?}: dim[0] must be 1 to 7 and each size up to it (and up to dim[3]) positive; the header is damaged")]
    Dimensions {
        /// The field `dim`.
        dim: [i16; 8],
    },
    /// More than one volume.
    #[error("dimensions {dim:?} hold more than one volume, expected a single 3-D volume; split the series first")]
    Series {
        /// The field `dim`.
        dim: [i16; 8],
    },
    /// More voxels than this crate reads.
    #[error("the header declares {voxels} voxels, more than the {most} that are read; crop or split the image")]
    TooLarge {
        /// Voxels declared.
        voxels: u64,
        /// The limit.
        most: u64,
    },
    /// More voxels than are held at a time.
    #[error("{voxels} voxels, more than the {most} that are held at a time; crop or split the image")]
    TooManyToHold {
        /// Voxels there are.
        voxels: usize,
        /// The limit.
        most: usize,
    },
    /// A slice larger than any of CT.
    #[error(
        "slices of {shape:?} voxels, more than the {most} that are read at a time; the dimensions are likely wrong, correct the header"
    )]
    Slice {
        /// Voxels along x and y.
        shape: [usize; 2],
        /// The limit.
        most: usize,
    },
    /// The header declares more than the file can hold, even compressed.
    #[error(
        "the header declares {declared} bytes, but a compressed file of {file} bytes can hold {possible} at most; \
         the header is damaged or the file truncated"
    )]
    DeclaresTooMuch {
        /// Bytes the header declares.
        declared: u64,
        /// Bytes of the file.
        file: u64,
        /// The most that gzip can pack into them.
        possible: u64,
    },
    /// Voxels are missing.
    #[error("truncated: {found} of {expected} bytes of voxels are there; copy or download the file again")]
    Truncated {
        /// Bytes of voxels there are.
        found: u64,
        /// Bytes the header declares.
        expected: u64,
    },
    /// The voxels do not begin where they can.
    #[error("vox_offset {found}, expected 0 or an integer of at least 352; the header is damaged")]
    Offset {
        /// The field `vox_offset`.
        found: f32,
    },
    /// A voxel type that is not a real number.
    #[error("voxel type {code} ({name}), expected an integer or a float of 8 to 64 bits; convert the image")]
    VoxelType {
        /// The field `datatype`.
        code: i16,
        /// Its name in the standard.
        name: &'static str,
    },
    /// The intensity scaling is impossible.
    #[error("scl_slope {slope} with scl_inter {inter}, expected a finite intercept; the header is damaged")]
    Scaling {
        /// The field `scl_slope`.
        slope: f32,
        /// The field `scl_inter`.
        inter: f32,
    },
    /// The quaternion is longer than 1 by more than rounding.
    #[error("the qform quaternion {found:?} is longer than 1 by more than rounding and there is no sform; write the affine anew")]
    Quaternion {
        /// The fields `quatern_b`, `quatern_c` and `quatern_d`.
        found: [f64; 3],
    },
    /// Negative voxel sizes where no sform says what they mean.
    #[error("voxel sizes {found:?} mm with no sform, expected positive ones; write the affine anew")]
    VoxelSizes {
        /// The fields `pixdim[1]` to `pixdim[3]`.
        found: [f64; 3],
    },
    /// The affine is impossible.
    #[error("{0}; correct the affine, for example from the DICOM series")]
    Affine(#[from] AffineError),
    /// There are voxels that are not numbers, or whose numbers nothing can be computed with.
    #[error(
        "{count} voxels are NaN, infinite or beyond ±{most:e}, the first, {value:e}, at {first:?} [x, y, z], expected HU; replace them before use"
    )]
    Unusable {
        /// How many.
        count: usize,
        /// The first.
        value: f32,
        /// Its index.
        first: [usize; 3],
        /// The limit.
        most: f32,
    },
    /// A label is not an integer from 0 to 255.
    #[error("voxel {at:?} [x, y, z] has the value {value}, expected a label (an integer from 0 to 255)")]
    NotALabel {
        /// The value after scaling.
        value: f64,
        /// Index of the voxel.
        at: [usize; 3],
    },
    /// The memory could not be had.
    #[error("no memory for {voxels} voxels; crop the image or use a larger machine")]
    Memory {
        /// How many.
        voxels: usize,
    },
    /// The name does not end as a NIfTI file's does.
    #[error("the name must end in .nii or .nii.gz")]
    Name,
    /// The label map does not lie on the image it is written for.
    #[error("the label map is on {found:?}, the image on {expected:?}; send the labels back to the image's grid first")]
    OtherGrid {
        /// The grid of the labels.
        found: Box<Grid>,
        /// The grid of the image.
        expected: Box<Grid>,
    },
    /// The labels lie somewhere else than the image that they are sent to.
    #[error(
        "the label map lies at {} mm, the image at {} mm: {percent:.0} % of it lie within, expected all; find the label map of this image, \
         or correct the origin of either",
        in_mm(found),
        in_mm(expected)
    )]
    Elsewhere {
        /// The box of the labels: the least and the greatest x, y and z.
        found: Box<[[f64; 2]; 3]>,
        /// The box of the image.
        expected: Box<[[f64; 2]; 3]>,
        /// How much of the image lies within the labels.
        percent: f64,
    },
    /// A side does not fit the header.
    #[error("shape {shape:?}: NIfTI-1 takes sides from 1 to 32767 voxels; crop the volume")]
    Shape {
        /// The shape.
        shape: [usize; 3],
    },
    /// A value does not fit 16 bits.
    #[error("voxel {at:?} [x, y, z] has the value {value}, which 16 bits (-32768 to 32767) cannot hold; clip it first")]
    NotI16 {
        /// The value.
        value: f32,
        /// Index of the voxel.
        at: [usize; 3],
    },
}

/// A box in mm, as text.
fn in_mm(sides: &[[f64; 2]; 3]) -> String {
    let side = |(name, [least, most]): (&str, &[f64; 2])| format!("{name} {least:.0} to {most:.0}");
    ["x", "y", "z"].into_iter().zip(sides).map(side).collect::<Vec<_>>().join(", ")
}
