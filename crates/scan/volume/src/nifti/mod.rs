//! Scans and label maps in files: NIfTI-1, `.nii` and `.nii.gz`, is read and written; NRRD and MetaImage are read as if they were NIfTI.
//!
//! Which affine holds: the sform when its code is positive, else the qform when its code is positive, else (as nibabel
//! decides) the voxel sizes with x running to the Left and the centre of the volume at 0 mm.
//!
//! What ITK and nibabel read is read: several gzip members, and zeros or a newline after them; a quaternion that rounding has made
//! longer than 1; sizes of 0 for the dimensions beyond the third.
//!
//! Files are not trusted. A header is checked against the size of its file before memory is taken, gzip is unpacked in
//! pieces and only as far as the header declares, and whatever does not fit is an error that names the file.
//!
//! ```no_run
//! use volume::nifti;
//!
//! # fn main() -> Result<(), nifti::NiftiError> {
//! let (scan, header) = nifti::read_scalar("case_0000.nii.gz")?;
//! let labels = volume::LabelVolume::filled(&scan.grid(), 0);
//! nifti::write_labels("case.nii.gz", &labels, &header)?;
//! # Ok(())
//! # }
//! ```

mod error;
mod gzip;
mod header;
mod quaternion;
mod read;
mod scalar;
mod slices;
mod write;

pub use error::{NiftiError, Problem};
pub use header::{Header, VoxelType};
pub(crate) use read::Parts;
pub use read::{read_header, read_labels, read_scalar};
pub use scalar::ScalarWriter;
pub use slices::{LabelReader, SliceReader, count_labels};
pub use write::{LabelWriter, write_label_slices, write_labels, write_labels_on, write_nearest, write_scalar_i16};
