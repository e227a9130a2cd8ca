//! What a 3-D network is shown, from which windows are cut.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayView3, CowArray, Ix3, ShapeBuilder as _, Slice};
use volume::{Box3, Grid, Scan, ScanError};

/// A part of a scan that takes more bytes than this is not held.
const MOST_HELD: usize = 1 << 28;

/// Voxels `[x, y, z]` on the model grid, with values in 0..1.
pub trait Image {
    /// Voxels along x, y, z.
    fn shape(&self) -> [usize; 3];

    /// A part of them.
    ///
    /// # Errors
    /// When they cannot be read.
    fn part(&self, part: &[Range<usize>; 3]) -> io::Result<CowArray<'_, f32, Ix3>>;
}

impl Image for ArrayView3<'_, f32> {
    fn shape(&self) -> [usize; 3] {
        self.dim().into()
    }

    fn part(&self, part: &[Range<usize>; 3]) -> io::Result<CowArray<'_, f32, Ix3>> {
        Ok(cut(*self, part))
    }
}

fn cut<'a>(mut voxels: ArrayView3<'a, f32>, part: &[Range<usize>; 3]) -> CowArray<'a, f32, Ix3> {
    voxels.slice_each_axis_inplace(|axis| Slice::from(part[axis.axis.index()].clone()));
    voxels.into()
}

/// The part of a scan on the model grid that a network is shown: held, or, if it is large, in a file without a name.
pub struct ShownScan {
    /// The model grid.
    pub grid: Grid,
    /// The part of it.
    pub region: Box3,
    voxels: Voxels,
}

enum Voxels {
    Held(Array3<f32>),
    /// In 4 bytes each, x fastest.
    Filed(File),
}

/// Why a scan cannot be shown to a network.
#[derive(Debug, thiserror::Error)]
pub enum ShownError {
    /// It cannot be read, or shows nothing but air.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A large one has no room on the disk.
    #[error("cannot put {mib} MiB of the scan {} into a file in {}: {error}; check that the disk has room", path.display(), folder.display())]
    File {
        /// The scan.
        path: PathBuf,
        /// Its size on the model grid.
        mib: usize,
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

impl ShownScan {
    /// Reads a scan: all of it, or the foreground alone. A large one goes into `folder`.
    ///
    /// # Errors
    /// When it cannot be read, has no foreground, or does not fit the disk.
    pub fn read(scan: &Scan, crop_foreground: bool, folder: &Path) -> Result<Self, ShownError> {
        Self::read_part(scan, if crop_foreground { scan.foreground()? } else { scan.whole() }, folder)
    }

    /// Reads a part of a scan. A large one goes into `folder`.
    ///
    /// # Errors
    /// When it cannot be read, or does not fit the disk.
    pub fn read_part(scan: &Scan, region: Box3, folder: &Path) -> Result<Self, ShownError> {
        Self::read_holding(scan, region, folder, MOST_HELD)
    }

    fn read_holding(scan: &Scan, region: Box3, folder: &Path, most_held: usize) -> Result<Self, ShownError> {
        let voxels = region.shape.iter().product::<usize>();
        let filed = |error| ShownError::File { path: scan.path().to_owned(), mib: voxels >> 18, folder: folder.to_owned(), error };
        let plane = region.shape[0] * region.shape[1];
        let mut planes = scan.planes(&region)?;
        let voxels = if voxels * size_of::<f32>() <= most_held {
            let mut data = Array3::zeros(region.shape.f());
            while let Some(read) = planes.next_plane()? {
                let mut here = data.index_axis_mut(ndarray::Axis(2), read.z - region.start[2]).reversed_axes();
                here.iter_mut().zip(&read.values).for_each(|(voxel, value)| *voxel = *value);
            }
            Voxels::Held(data)
        } else {
            let file = tempfile::tempfile_in(folder).map_err(filed)?;
            while let Some(read) = planes.next_plane()? {
                let bytes: Vec<u8> = read.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                file.write_all_at(&bytes, ((read.z - region.start[2]) * plane * size_of::<f32>()) as u64).map_err(filed)?;
            }
            Voxels::Filed(file)
        };
        Ok(Self { grid: scan.grid(), region, voxels })
    }
}

impl Image for ShownScan {
    fn shape(&self) -> [usize; 3] {
        self.region.shape
    }

    fn part(&self, part: &[Range<usize>; 3]) -> io::Result<CowArray<'_, f32, Ix3>> {
        let file = match &self.voxels {
            Voxels::Held(data) => return Ok(cut(data.view(), part)),
            Voxels::Filed(file) => file,
        };
        let ([nx, ny, _], [xs, ys, zs]) = (self.region.shape, part);
        let mut values = Vec::with_capacity(part.iter().map(ExactSizeIterator::len).product());
        // The rows of a plane in one go, which is quicker than each by itself.
        let mut rows = vec![0; ys.len() * nx * size_of::<f32>()];
        for z in zs.clone() {
            file.read_exact_at(&mut rows, ((z * ny + ys.start) * nx * size_of::<f32>()) as u64)?;
            for row in rows.as_chunks::<4>().0.chunks_exact(nx) {
                values.extend(row[xs.clone()].iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
        let shape = [xs.len(), ys.len(), zs.len()];
        Ok(Array3::from_shape_vec(shape.f(), values).map_err(io::Error::other)?.into())
    }
}

#[cfg(test)]
mod tests {
    use volume::{Affine, ModelGrid, Orientation, ScalarVolume, nifti};

    use super::*;

    #[test]
    fn a_scan_in_a_file_is_the_scan_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_0000.nii.gz");
        let model = ModelGrid { spacing_mm: [Some(1.0), None, Some(2.5)], window_hu: [-200.0, 300.0] };
        let ras = Grid { shape: [9, 8, 7], affine: Affine::from_spacing_mm([1.3, 1.0, 2.0], [3.0; 3]) };
        for orientation in ["RAS", "LPI", "SAR"].map(|code| code.parse::<Orientation>().unwrap()) {
            let grid = ras.reoriented(orientation);
            let value =
                |(x, y, z): (usize, usize, usize)| if x * y * z == 0 { -1000.0 } else { (x * 37 + y * 101 + z * 59) as f32 % 400.0 };
            let image = ScalarVolume { data: Array3::from_shape_fn(grid.shape.f(), value), affine: grid.affine };
            nifti::write_scalar_i16(&path, &image).unwrap();
            let whole = model.prepare(nifti::read_scalar(&path).unwrap().0).unwrap();
            let scan = Scan::open(&path, &model).unwrap();
            for crop_foreground in [true, false] {
                let region = model.shown(&whole, crop_foreground).unwrap();
                let shown = |most_held| ShownScan::read_holding(&scan, region, folder.path(), most_held).unwrap();
                let (held, filed) = (shown(MOST_HELD), shown(0));
                assert_eq!(ShownScan::read(&scan, crop_foreground, folder.path()).unwrap().region, region);
                assert!(matches!((&held.voxels, &filed.voxels), (Voxels::Held(_), Voxels::Filed(_))));
                assert_eq!((held.region, held.grid), (region, whole.grid()));
                for part in [region.shape.map(|side| 0..side), [1..3, 2..5, 1..2]] {
                    let expected = region.of(&whole.data).slice_each_axis(|axis| Slice::from(part[axis.axis.index()].clone())).to_owned();
                    assert_eq!(held.part(&part).unwrap(), expected, "{orientation}");
                    assert_eq!(filed.part(&part).unwrap(), expected, "{orientation}");
                }
            }
        }
    }
}
