//! Arrays of NumPy as scans and label maps, indexed `[x, y, z]` as everything here is.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayView3, Axis};
use numpy::npyffi::NPY_ORDER;
use numpy::{Element, PyArray1, PyArray2, PyArray3, PyArrayMethods as _, PyReadonlyArray2, PyUntypedArrayMethods as _};
use pyo3::prelude::*;
use volume::{Affine, Grid, LabelSink, Source, SourceError, SourceSlices};

use crate::told;

/// What stands for the path of an array in messages.
const ARRAY: &str = "the array";

/// Values further from 0 than this are refused, as in files.
const MOST_VALUE: f32 = 1e10;

/// The grid of an array with an affine of 4x4 to RAS.
pub(crate) fn grid(shape: &[usize], affine: &PyReadonlyArray2<'_, f64>) -> PyResult<Grid> {
    let shape = <[usize; 3]>::try_from(shape).map_err(|_| told(format!("an array of {} dimensions; expected [x, y, z]", shape.len())))?;
    let affine = affine.as_array();
    if affine.shape() != [4, 4] {
        return Err(told(format!("an affine of shape {:?}; expected 4 x 4", affine.shape())));
    }
    let affine = Affine(std::array::from_fn(|row| std::array::from_fn(|column| affine[[row, column]])));
    affine.check().map_err(told)?;
    Ok(Grid { shape, affine })
}

/// Voxels, x fastest, as an array that owns them.
pub(crate) fn array<'py, T: Element>(py: Python<'py>, shape: [usize; 3], x_fastest: Vec<T>) -> PyResult<Bound<'py, PyArray3<T>>> {
    PyArray1::from_vec(py, x_fastest).reshape_with_order(shape, NPY_ORDER::NPY_FORTRANORDER)
}

/// An affine as an array of 4x4.
pub(crate) fn affine_array<'py>(py: Python<'py>, affine: &Affine) -> PyResult<Bound<'py, PyArray2<f64>>> {
    PyArray1::from_vec(py, affine.0.concat()).reshape([4, 4])
}

/// A scan in an array, which is read slice by slice where it lies.
pub(crate) struct Scan {
    voxels: Voxels,
    grid: Grid,
}

enum Voxels {
    I16(Py<PyArray3<i16>>),
    F32(Py<PyArray3<f32>>),
}

impl Scan {
    /// A scan in HU.
    pub(crate) fn of(image: &Bound<'_, PyAny>, affine: &PyReadonlyArray2<'_, f64>) -> PyResult<Self> {
        let (voxels, shape) = if let Ok(image) = image.cast::<PyArray3<i16>>() {
            (Voxels::I16(image.clone().unbind()), image.shape().to_vec())
        } else if let Ok(image) = image.cast::<PyArray3<f32>>() {
            (Voxels::F32(image.clone().unbind()), image.shape().to_vec())
        } else {
            return Err(told("the image is no array of three dimensions in int16 or float32"));
        };
        Ok(Self { voxels, grid: grid(&shape, affine)? })
    }
}

impl Source for Scan {
    fn path(&self) -> &Path {
        Path::new(ARRAY)
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn slices(&self) -> Result<Box<dyn SourceSlices>, SourceError> {
        let voxels = Python::attach(|py| match &self.voxels {
            Voxels::I16(array) => Voxels::I16(array.clone_ref(py)),
            Voxels::F32(array) => Voxels::F32(array.clone_ref(py)),
        });
        Ok(Box::new(Slices { voxels, shape: self.grid.shape, next: 0, unusable: 0 }))
    }
}

struct Slices {
    voxels: Voxels,
    shape: [usize; 3],
    next: usize,
    /// Values so far that nothing can be computed with.
    unusable: usize,
}

impl SourceSlices for Slices {
    fn next_slice(&mut self, values: &mut Vec<f32>) -> Result<bool, SourceError> {
        if self.next == self.shape[2] {
            return match self.unusable {
                0 => Ok(false),
                count => {
                    Err(format!("{ARRAY}: {count} voxels are NaN, infinite or beyond ±{MOST_VALUE:e}; replace them before use").into())
                }
            };
        }
        let z = self.next;
        Python::attach(|py| match &self.voxels {
            Voxels::I16(array) => slice(array.bind(py), self.shape, z, values, f32::from),
            Voxels::F32(array) => slice(array.bind(py), self.shape, z, values, |value| value),
        })?;
        self.unusable += values.iter().filter(|value| value.is_nan() || value.abs() > MOST_VALUE).count();
        self.next += 1;
        Ok(true)
    }
}

/// The values of a slice, x fastest.
fn slice<T: Element + Copy>(
    array: &Bound<'_, PyArray3<T>>,
    shape: [usize; 3],
    z: usize,
    values: &mut Vec<f32>,
    value: impl Fn(T) -> f32,
) -> Result<(), SourceError> {
    let array = array.try_readonly().map_err(|error| format!("{ARRAY}: {error}"))?;
    let view: ArrayView3<'_, T> = array.as_array();
    if view.shape() != shape {
        return Err(format!("{ARRAY}: its shape was {shape:?} and is {:?}; leave it alone while it is labelled", view.shape()).into());
    }
    values.clear();
    values.extend(view.index_axis(Axis(2), z).t().iter().map(|&voxel| value(voxel)));
    Ok(())
}

/// Labels that are gathered in memory, x fastest.
#[derive(Clone, Default)]
pub(crate) struct Gathered(Arc<Mutex<Vec<u8>>>);

impl Gathered {
    /// What has come.
    pub(crate) fn take(self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LabelSink for Gathered {
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(labels);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}
