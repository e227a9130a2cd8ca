//! Models that label arrays.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use inference::{LabelledPlane, Manner};
use model_card::model_file;
use nets::Precision;
use numpy::{PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use stage_kit::DeviceChoice;

use crate::arrays::{self, Gathered};
use crate::{files, told};

/// One trained model, or several.
#[pyclass(frozen, subclass, module = "flare")]
pub(crate) struct Model {
    model: inference::Model,
    exact: bool,
}

#[pymethods]
impl Model {
    /// Opens the files of models, or the folders that they are in. `exact` turns every shortcut off, as that of `predict` does.
    #[new]
    #[pyo3(signature = (*models, exact = false, flips = false, device = "auto"))]
    fn new(py: Python<'_>, models: &Bound<'_, PyTuple>, exact: bool, flips: bool, device: &str) -> PyResult<Self> {
        let files: Vec<PathBuf> = models.iter().map(|path| Ok(model_file(&path.extract::<PathBuf>()?))).collect::<PyResult<_>>()?;
        let device: DeviceChoice =
            serde_json::from_value(device.into()).map_err(|_| told(format!("device {device:?}; expected auto, cpu, cuda or cuda-tf32")))?;
        let precision = Some(if exact { Precision::F32 } else { Precision::Auto });
        let manner = Manner { precision, flips, partial: Some(partial::open) };
        let open = || inference::Model::open(&files, &manner, &nets::device(device)?).map_err(anyhow::Error::from);
        let model = py.detach(open).map_err(told)?;
        for file in files.iter().filter(|_| flips) {
            if let Some(doubt) = inference::unseen_mirrors(file).map_err(told)? {
                warn(py, format!("{}: {doubt}", file.display()))?;
            }
        }
        Ok(Self { model, exact })
    }

    /// The classes that are found, by name, and the values that they have in label maps.
    #[getter]
    fn classes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let classes = PyDict::new(py);
        self.model.classes().all().into_iter().try_for_each(|class| classes.set_item(&class.key, class.value))?;
        Ok(classes)
    }

    /// The labels of a scan in HU, `int16` or `float32`, `[x, y, z]`, with its affine to RAS.
    fn predict<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        affine: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray3<u8>>> {
        let source = arrays::Scan::of(image, &affine)?;
        let shape = volume::Source::grid(&source).shape;
        let (labels, doubt) = py.detach(|| self.label(source)).map_err(told)?;
        if let Some(doubt) = doubt {
            warn(py, doubt)?;
        }
        arrays::array(py, shape, labels)
    }

    /// Writes a label map with the names and colours of the classes.
    fn write(&self, path: PathBuf, labels: PyReadonlyArray3<'_, u8>, affine: PyReadonlyArray2<'_, f64>) -> PyResult<()> {
        files::write_labels(&path, &labels, &affine, &self.model.classes().all())
    }
}

/// Warns whoever called the package.
fn warn(py: Python<'_>, doubt: String) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &CString::new(doubt)?, 2)
}

impl Model {
    /// The labels, x fastest, and what speaks against the values being in HU.
    fn label(&self, source: arrays::Scan) -> anyhow::Result<(Vec<u8>, Option<String>)> {
        let scan = self.model.scan(Arc::new(source))?;
        let region = if self.exact { self.model.region(&scan)? } else { scan.body()? };
        let labels = Gathered::default();
        let mut back = scan.labels_into(Box::new(labels.clone()), &region);
        let folder = tempfile::tempdir()?;
        let mut put = |LabelledPlane { z, labels }: LabelledPlane| -> anyhow::Result<()> { Ok(back.add(z, &labels.overlaid()?)?) };
        if self.model.streams() {
            self.model.label(&scan, &region, !self.exact, folder.path(), &mut put)?;
        } else {
            let maps = self.model.label_maps(&scan, &region, !self.exact, folder.path())?;
            maps.each_plane(scan.runs_down(), &mut put)?;
        }
        back.finish()?;
        Ok((labels.take(), scan.doubt().map(|doubt| doubt.to_string())))
    }
}
