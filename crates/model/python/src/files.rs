//! Scans and label maps in files.

use std::path::{Path, PathBuf};

use formats::{Format, LabelFile, ScanFiles};
use labels::Class;
use numpy::{PyArray2, PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use volume::{Grid, Source, SourceError, SourceSlices, nifti};

use crate::arrays::{affine_array, array, grid};
use crate::told;

type Image<'py, T> = (Bound<'py, PyArray3<T>>, Bound<'py, PyArray2<f64>>);

/// The values of a scan in HU and its affine to RAS. A folder holds one DICOM series, or one scan.
#[pyfunction]
pub(crate) fn read(py: Python<'_>, path: PathBuf) -> PyResult<Image<'_, f32>> {
    let (grid, values) = py.detach(|| values(&path)).map_err(told)?;
    Ok((array(py, grid.shape, values)?, affine_array(py, &grid.affine)?))
}

/// A label map and its affine to RAS.
#[pyfunction]
pub(crate) fn read_labels(py: Python<'_>, path: PathBuf) -> PyResult<Image<'_, u8>> {
    let (labels, header) = py.detach(|| nifti::read_labels(&path)).map_err(told)?;
    let grid = header.grid();
    Ok((array(py, grid.shape, labels.x_fastest().into_owned())?, affine_array(py, &grid.affine)?))
}

/// Writes a label map in the format that the name ends with.
#[pyfunction]
pub(crate) fn write(path: PathBuf, labels: PyReadonlyArray3<'_, u8>, affine: PyReadonlyArray2<'_, f64>) -> PyResult<()> {
    write_labels(&path, &labels, &affine, &[])
}

/// The same with names and colours.
pub(crate) fn write_labels(
    path: &Path,
    labels: &PyReadonlyArray3<'_, u8>,
    affine: &PyReadonlyArray2<'_, f64>,
    classes: &[&Class],
) -> PyResult<()> {
    let labels = labels.as_array();
    let place = Place(grid(labels.shape(), affine)?, path.to_owned());
    let format = Format::of_name(&path.to_string_lossy())
        .filter(|format| *format != Format::Dicom)
        .ok_or_else(|| told(format!("{}: expected a name that ends with .nii.gz, .nrrd or .mha", path.display())))?;
    let scan = ScanFiles::at(path, format);
    let file = LabelFile { format, scan: &scan, source: &place, classes, names: !classes.is_empty() };
    let mut file = file.create(path).map_err(told)?;
    let mut slice = Vec::new();
    for plane in labels.axis_iter(ndarray::Axis(2)) {
        slice.clear();
        slice.extend(plane.t().iter().copied());
        file.add(&slice).map_err(told)?;
    }
    file.finish().map_err(told)
}

fn values(path: &Path) -> anyhow::Result<(Grid, Vec<f32>)> {
    let mut scans = dataset::scans_at(path, Path::new(""))?.some()?;
    let names: Vec<&str> = scans.iter().map(|scan| scan.id.as_str()).collect();
    anyhow::ensure!(scans.len() == 1, "{} holds {} scans: {}; name one", path.display(), scans.len(), names.join(", "));
    let source = scans.remove(0).scan.open().map_err(anyhow::Error::from_boxed)?;
    let (mut slices, mut slice) = (source.slices().map_err(anyhow::Error::from_boxed)?, Vec::new());
    let mut all = Vec::new();
    while slices.next_slice(&mut slice).map_err(anyhow::Error::from_boxed)? {
        all.extend_from_slice(&slice);
    }
    Ok((source.grid(), all))
}

/// Where a label map lies that is on no scan of ours.
struct Place(Grid, PathBuf);

impl Source for Place {
    fn path(&self) -> &Path {
        &self.1
    }

    fn grid(&self) -> Grid {
        self.0
    }

    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError> {
        Err(format!("{}: has no intensities", self.1.display()).into())
    }
}
