//! Scores of label maps in arrays.

use labels::Classes;
use metrics::{CaseScores, MapKind, MetricsError, Protocol, Scoring, evaluate_case};
use numpy::{PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value, json};

use crate::arrays::grid;
use crate::told;

/// DSC, NSD and Hausdorff distances of each class, as `evaluate` gives them by its plain protocol.
#[pyfunction]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    truth: PyReadonlyArray3<'py, u8>,
    prediction: PyReadonlyArray3<'py, u8>,
    affine: PyReadonlyArray2<'py, f64>,
    classes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let values: Map<String, Value> =
        classes.iter().map(|(key, value)| Ok((key.extract()?, value.extract::<u8>()?.into()))).collect::<PyResult<_>>()?;
    let declared: Classes = serde_json::from_value(json!([{"group": "class", "classes": values}])).map_err(told)?;
    let (truth, prediction) = (truth.as_array(), prediction.as_array());
    let spacing_mm = grid(truth.shape(), &affine)?.spacing_mm();
    let scoring = Scoring::of(&declared);
    let scores = py.detach(|| evaluate_case(prediction, truth, spacing_mm, &scoring, Protocol::Plain)).map_err(|error| {
        let remedy = match error {
            MetricsError::BadValues { map: MapKind::Truth | MapKind::Prediction, .. } => {
                "; add these values to `classes`, or set them to 0"
            }
            _ => "",
        };
        told(format!("{error}{remedy}"))
    })?;
    as_dict(py, &scores)
}

fn as_dict<'py>(py: Python<'py>, scores: &CaseScores) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for score in &scores.classes {
        let one = PyDict::new(py);
        let numbers = [("dsc", score.dsc), ("nsd", score.nsd), ("hd_mm", score.hd_mm), ("hd95_mm", score.hd95_mm)];
        numbers.into_iter().try_for_each(|(name, value)| one.set_item(name, value))?;
        one.set_item("note", score.note.map(metrics::Note::as_str))?;
        all.set_item(&score.class.key, one)?;
    }
    Ok(all)
}
