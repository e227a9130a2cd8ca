//! Parameters on disk: `.safetensors` under MONAI's names, and PyTorch's `.pth`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};

use crate::params::Params;

/// Why weights cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file is missing.
    #[error("there are no weights at {0}; train them first, or correct the path")]
    Missing(PathBuf),
    /// The file is not what it should be.
    #[error("cannot read the weights {path}: {reason}; expected a whole .safetensors file or a PyTorch state dict (.pth, .pt)")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: candle_core::Error,
    },
    /// The weights are of another network.
    #[error("the weights {path} do not fit the network: {found}. Take weights of the same network, features and number of classes")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is missing, superfluous or of another shape.
        found: String,
    },
    /// The tensors could not be copied or written.
    #[error("cannot write the weights {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl Params {
    /// Loads every parameter from a `.safetensors` file or a PyTorch state dict. A `weights.` prefix is dropped, and
    /// tensors of other groups in the same file (`prefix.`) are left alone only when that prefix is in use.
    ///
    /// # Errors
    /// When the file is missing or damaged, or a parameter is missing, superfluous or of another shape; nothing is changed then.
    pub fn load(&self, path: &Path) -> Result<(), WeightsError> {
        let tensors = named(path)?;
        let found = self.differences(&tensors);
        if !found.is_empty() {
            return Err(WeightsError::Mismatch { path: path.into(), found });
        }
        for (name, var) in self.all() {
            copy(&tensors[name], var).map_err(|reason| WeightsError::Read { path: path.into(), reason })?;
        }
        Ok(())
    }

    /// Loads the parameters that the file has under the same name and in the same shape, and leaves all others as they are: to
    /// begin a new task with what was learnt in another. Returns the names of the parameters that were not loaded.
    ///
    /// # Errors
    /// When the file is missing or damaged, or none of its parameters fits.
    pub fn load_matching(&self, path: &Path) -> Result<Vec<String>, WeightsError> {
        let tensors = named(path)?;
        let mut left = Vec::new();
        for (name, var) in self.all() {
            match tensors.get(name).filter(|tensor| tensor.dims() == var.dims()) {
                Some(tensor) => copy(tensor, var).map_err(|reason| WeightsError::Read { path: path.into(), reason })?,
                None => left.push(name.to_owned()),
            }
        }
        if left.len() == self.all().count() {
            return Err(WeightsError::Mismatch { path: path.into(), found: self.differences(&tensors) });
        }
        Ok(left)
    }

    /// Saves every parameter with `metadata`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
        let failed = |reason: String| WeightsError::Write { path: path.into(), reason };
        let tensors: Vec<(&str, Tensor)> = self.all().map(|(name, var)| (name, var.as_tensor().clone())).collect();
        let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|error| failed(error.to_string()))?;
        stage_kit::write_atomic(path, |file| Ok(file.write_all(&bytes)?)).map_err(|error| failed(format!("{error:#}")))
    }

    fn differences(&self, tensors: &HashMap<String, Tensor>) -> String {
        let mut found = Vec::new();
        for (name, var) in self.all() {
            match tensors.get(name) {
                None => found.push(format!("`{name}` is missing")),
                Some(tensor) if tensor.dims() != var.dims() => {
                    found.push(format!("`{name}` has shape {:?} instead of {:?}", tensor.dims(), var.dims()));
                }
                Some(_) => {}
            }
        }
        let mut superfluous: Vec<&String> = tensors.keys().filter(|name| !self.names().any(|own| own == name.as_str())).collect();
        superfluous.sort();
        found.extend(superfluous.into_iter().map(|name| format!("`{name}` is not a parameter of it")));
        let more = found.len().saturating_sub(5);
        found.truncate(5);
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        found.join(", ")
    }
}

/// The metadata of a `.safetensors` file.
///
/// # Errors
/// When the file is missing or damaged.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>, WeightsError> {
    must_be_there(path)?;
    let failed = |reason: candle_core::Error| WeightsError::Read { path: path.into(), reason };
    let bytes = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| failed(error.into()))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

fn copy(tensor: &Tensor, var: &Var) -> candle_core::Result<()> {
    var.set(&tensor.to_dtype(DType::F32)?.to_device(var.device())?.contiguous()?)
}

/// The tensors of a file, without the prefix `weights.`; where it is in use, those without it are left out.
fn named(path: &Path) -> Result<HashMap<String, Tensor>, WeightsError> {
    let tensors = read(path)?;
    if !tensors.keys().any(|name| name.starts_with("weights.")) {
        return Ok(tensors);
    }
    Ok(tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix("weights.")?.to_owned(), tensor))).collect())
}

fn must_be_there(path: &Path) -> Result<(), WeightsError> {
    if path.is_file() { Ok(()) } else { Err(WeightsError::Missing(path.into())) }
}

fn read(path: &Path) -> Result<HashMap<String, Tensor>, WeightsError> {
    must_be_there(path)?;
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("pth" | "pt") => candle_core::pickle::read_all(path).map(|pairs| pairs.into_iter().collect()),
        _ => candle_core::safetensors::load(path, &Device::Cpu),
    };
    tensors.map_err(|reason| WeightsError::Read { path: path.into(), reason })
}
