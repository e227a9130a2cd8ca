//! Intensities that are written slice by slice.

use std::io::Write as _;
use std::path::Path;

use super::write::{Output, SCALAR_LEVEL};
use super::{Header, NiftiError, Problem, VoxelType};

/// A scan that is written slice by slice along its last axis. The file appears under its name when it is finished, and not at all if it
/// is dropped before.
pub struct ScalarWriter {
    out: Output,
    is_float: bool,
    shape: [usize; 3],
    next: usize,
    bytes: Vec<u8>,
}

impl ScalarWriter {
    /// Whether each value is an integer of 16 bits, as CT is stored, so that [`ScalarWriter::integers`] keeps all of it.
    #[must_use]
    pub fn are_integers(values: &[f32]) -> bool {
        values.iter().all(|value| value.fract() == 0.0 && fits(*value))
    }

    /// A writer of integers of 16 bits, on the grid and in the coordinates of `like`.
    ///
    /// # Errors
    ///
    /// When the name ends otherwise than `.nii` or `.nii.gz`, or the system does not let us write.
    pub fn integers(path: impl AsRef<Path>, like: &Header) -> Result<Self, NiftiError> {
        Self::create(path.as_ref(), like, VoxelType::I16)
    }

    /// The same of floats of 32 bits.
    ///
    /// # Errors
    ///
    /// As [`ScalarWriter::integers`].
    pub fn floats(path: impl AsRef<Path>, like: &Header) -> Result<Self, NiftiError> {
        Self::create(path.as_ref(), like, VoxelType::F32)
    }

    fn create(path: &Path, like: &Header, voxel_type: VoxelType) -> Result<Self, NiftiError> {
        let out = Output::create(path, SCALAR_LEVEL)?;
        let mut writer = Self { out, is_float: voxel_type == VoxelType::F32, shape: like.grid().shape, next: 0, bytes: Vec::new() };
        writer.bytes.extend_from_slice(&like.encode(voxel_type));
        writer.write()?;
        Ok(writer)
    }

    /// Adds the next slice, x fastest. Integers are rounded.
    ///
    /// # Errors
    ///
    /// When an integer does not fit 16 bits, or the system does not let us write.
    ///
    /// # Panics
    ///
    /// When `values` are not a slice, or there is one too many.
    pub fn add(&mut self, values: &[f32]) -> Result<(), NiftiError> {
        let [nx, ny, nz] = self.shape;
        assert!(values.len() == nx * ny && self.next < nz, "{} voxels, after {} of {nz} slices", values.len(), self.next);
        self.bytes.clear();
        if self.is_float {
            self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        } else {
            if let Some(voxel) = values.iter().position(|&value| !fits(value)) {
                let at = [voxel % nx, voxel / nx, self.next];
                return Err(NiftiError::at(&self.out.path)(Problem::NotI16 { value: values[voxel], at }));
            }
            self.bytes.extend(values.iter().flat_map(|value| (value.round() as i16).to_le_bytes()));
        }
        self.next += 1;
        self.write()
    }

    /// Gives the finished file its name.
    ///
    /// # Errors
    ///
    /// When the system does not let us write.
    ///
    /// # Panics
    ///
    /// When slices are missing.
    pub fn finish(self) -> Result<(), NiftiError> {
        assert!(self.next == self.shape[2], "{} slices are missing", self.shape[2] - self.next);
        self.out.finish()
    }

    fn write(&mut self) -> Result<(), NiftiError> {
        let written = self.out.packer.write_all(&self.bytes);
        written.map_err(|error| NiftiError::at(&self.out.path)(Problem::Io { doing: "write the file", error }))
    }
}

/// Whether a value, rounded, is an integer of 16 bits.
fn fits(value: f32) -> bool {
    (f32::from(i16::MIN)..=f32::from(i16::MAX)).contains(&value.round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nifti::read_scalar;
    use crate::{Affine, Grid};

    #[test]
    fn slices_are_read_back_as_integers_and_as_floats() {
        let grid = Grid { shape: [3, 2, 2], affine: Affine::from_spacing_mm([-0.8, 0.8, 2.5], [1.0, 2.0, 3.0]) };
        let (header, folder) = (Header::on(&grid).unwrap(), tempfile::tempdir().unwrap());
        let integers: Vec<f32> = (0..12).map(|k| (k * 100 - 1024) as f32).collect();
        let floats: Vec<f32> = integers.iter().map(|value| value / 8.0 + 1e6).collect();
        assert!(ScalarWriter::are_integers(&integers) && !ScalarWriter::are_integers(&floats));
        let path = folder.path().join("a.nii.gz");
        let written = |mut writer: ScalarWriter, values: &[f32]| {
            values.chunks_exact(6).for_each(|slice| writer.add(slice).unwrap());
            writer.finish().unwrap();
            let (read, header) = read_scalar(&path).unwrap();
            assert_eq!((&*read.x_fastest(), header.grid().shape), (values, grid.shape));
            header.voxel_type()
        };
        assert_eq!(written(ScalarWriter::integers(&path, &header).unwrap(), &integers), VoxelType::I16);
        assert_eq!(written(ScalarWriter::floats(&path, &header).unwrap(), &floats), VoxelType::F32);
        let error = ScalarWriter::integers(&path, &header).unwrap().add(&floats[..6]).unwrap_err();
        assert!(error.to_string().contains("a.nii.gz"), "{error}");
    }
}
