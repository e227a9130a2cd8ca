//! The Python package `flare`: what `predict` and `evaluate` do, with NumPy arrays.
//!
//! `python/flare/__init__.py` is what people import. It brings arrays into the types that are taken here.

#![expect(clippy::needless_pass_by_value, reason = "what Python gives comes by value")]

mod arrays;
mod files;
mod model;
mod scores;

use std::fmt::Display;

use pyo3::exceptions::PyValueError;
use pyo3::{PyErr, create_exception, pymodule};

create_exception!(flare, Error, PyValueError, "A scan, a model or a label map that cannot be used, and what to do.");

/// What went wrong, in words.
fn told(error: impl Display) -> PyErr {
    Error::new_err(format!("{error:#}"))
}

/// What Python imports.
#[pymodule]
mod _flare {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::Error;
    #[pymodule_export]
    use crate::files::{read, read_labels, write};
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::scores::evaluate;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
