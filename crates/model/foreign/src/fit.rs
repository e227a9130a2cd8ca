//! Weights of another program as those of a network of this one.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use nets::{Init, ParamSpec, Params};
use random::Streams;

use crate::axes::Axes;
use crate::error::ForeignError;

/// A parameter, and where its values come from.
pub(crate) struct Wanted {
    pub(crate) spec: ParamSpec,
    /// The name there; none if there are no values, and zeros mean that.
    pub(crate) theirs: Option<String>,
}

/// More complaints than the largest network has parameters.
const MOST_COMPLAINTS: usize = 2000;

/// The parameters with their values. `unknown` are the names that nobody knows, `remedy` says what to do if weights do not fit.
///
/// # Errors
/// Names all that is missing, of another shape, no number or unknown.
pub(crate) fn fit(
    path: &Path,
    wanted: &[Wanted],
    tensors: &BTreeMap<String, Tensor>,
    unknown: &[String],
    axes: &Axes,
    remedy: &'static str,
) -> Result<Params, ForeignError> {
    let mut found = Vec::new();
    for Wanted { spec, theirs } in wanted {
        let Some(name) = theirs else { continue };
        match tensors.get(name) {
            None if is_idle(spec) => {}
            None => found.push(format!("`{name}` is missing")),
            Some(tensor) => found.extend(complaint(name, tensor, &axes.shape_before(&spec.shape))?),
        }
    }
    found.extend(unknown.iter().map(|name| format!("`{name}` is no parameter of it")));
    if found.len() > MOST_COMPLAINTS {
        let more = format!("and {} more", found.len() - MOST_COMPLAINTS);
        found.truncate(MOST_COMPLAINTS);
        found.push(more);
    }
    if !found.is_empty() {
        return Err(ForeignError::Weights { path: path.into(), found, remedy });
    }
    // Nothing is drawn for what gets its values next.
    let start = |wanted: &Wanted| match wanted.spec.init {
        Init::Idle { .. } => wanted.spec.clone(),
        _ => ParamSpec { init: Init::Zeros, ..wanted.spec.clone() },
    };
    let params = Params::init(&wanted.iter().map(start).collect::<Vec<_>>(), Streams::new(0), &Device::Cpu)?;
    for Wanted { spec, theirs } in wanted {
        if let Some(tensor) = theirs.as_ref().and_then(|name| tensors.get(name)) {
            params.set(&spec.name, &axes.kernels(tensor)?)?;
        }
    }
    Ok(params)
}

/// Whether the network has a parameter for the sake of its files alone.
fn is_idle(spec: &ParamSpec) -> bool {
    matches!(spec.init, Init::Idle { .. })
}

/// What is wrong with a tensor, if anything.
fn complaint(name: &str, tensor: &Tensor, shape: &[usize]) -> candle_core::Result<Option<String>> {
    if tensor.dims() != shape {
        return Ok(Some(format!("`{name}` has shape {:?} instead of {shape:?}", tensor.dims())));
    }
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    Ok((bad > 0).then(|| format!("{bad} of {} values of `{name}` are NaN or infinite", values.len())))
}
