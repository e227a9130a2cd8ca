//! Parameters on disk: `.safetensors` under MONAI's names, and PyTorch's `.pth`.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

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
    /// A PyTorch file that holds no state dict.
    #[error("cannot read the weights: {0}")]
    Pth(#[from] pth::PthError),
    /// A file whose name does not say what it holds.
    #[error(
        "cannot read the weights {0}: its ending is neither .safetensors nor .pth or .pt (a PyTorch state dict); rename it to what it is"
    )]
    Ending(PathBuf),
    /// Names as a wrapper of the network writes them.
    #[error(
        "the names in {path} all begin with `{prefix}`, as {by} writes them; save them without: \
        torch.save({{k.removeprefix(\"{prefix}\"): v for k, v in torch.load(FILE).items()}}, OTHER)"
    )]
    Prefix {
        /// The file.
        path: PathBuf,
        /// What they begin with.
        prefix: &'static str,
        /// Who writes such names.
        by: &'static str,
    },
    /// Weights that are no numbers.
    #[error(
        "{path}: {found}; a network with such weights finds nothing, or nothing but background. Take the weights of an earlier epoch, or train again"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The parameters, with how many of their values are NaN or infinite.
        found: String,
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
    /// What MONAI's networks save and do not compute with may be there or not.
    ///
    /// # Errors
    /// When the file is missing or damaged, or a parameter is missing, superfluous or of another shape; nothing is changed then.
    pub fn load(&self, path: &Path) -> Result<(), WeightsError> {
        let tensors = named(path)?;
        let mut found = self.differences(&tensors, |_| true);
        let mut superfluous: Vec<&String> = self.unknown(&tensors).collect();
        superfluous.sort();
        found.extend(superfluous.into_iter().map(|name| format!("`{name}` is not a parameter of it")));
        self.copy(path, &tensors, |_| true, &found)
    }

    /// Loads the parameters whose name satisfies `wanted` from a file that may hold others, of an encoder alone or of a network
    /// with another head, say.
    ///
    /// # Errors
    /// When the file is missing or damaged, or a wanted parameter is missing or of another shape; nothing is changed then.
    pub fn load_part(&self, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Taken, WeightsError> {
        let tensors = named(path)?;
        self.copy(path, &tensors, &wanted, &self.differences(&tensors, &wanted))?;
        let names = || self.names().filter(|name| wanted(name));
        let taken = names().filter(|name| tensors.contains_key(*name)).count();
        Ok(Taken { taken, fresh: self.names().count() - names().count(), unused: tensors.len() - taken })
    }

    fn copy(
        &self,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
        wanted: impl Fn(&str) -> bool,
        differences: &[String],
    ) -> Result<(), WeightsError> {
        if !differences.is_empty() {
            return Err(WeightsError::Mismatch { path: path.into(), found: shortened(differences) });
        }
        let taken = self.names().filter(|name| wanted(name)).filter_map(|name| Some((name, tensors.get(name)?)));
        self.take(path, &taken.collect::<Vec<_>>())
    }

    /// Loads the parameters that the file has under the same name and in the same shape, and leaves all others as they are: to
    /// begin a new task with what was learnt in another. Returns the names of the parameters that were not loaded.
    ///
    /// # Errors
    /// When the file is missing or damaged, or none of its parameters fits.
    pub fn load_matching(&self, path: &Path) -> Result<Vec<String>, WeightsError> {
        let tensors = named(path)?;
        let fitting = self.all().map(|(name, var)| (name, tensors.get(name).filter(|tensor| tensor.dims() == var.dims())));
        let (taken, left): (Vec<_>, Vec<_>) = fitting.partition(|(_, tensor)| tensor.is_some());
        self.take(path, &taken.iter().filter_map(|(name, tensor)| Some((*name, (*tensor)?))).collect::<Vec<_>>())?;
        if taken.is_empty() {
            return Err(WeightsError::Mismatch { path: path.into(), found: shortened(&self.differences(&tensors, |_| true)) });
        }
        Ok(left.into_iter().map(|(name, _)| name.to_owned()).collect())
    }

    /// Takes values from the file at `path`, unless any of them is NaN or infinite.
    fn take(&self, path: &Path, taken: &[(&str, &Tensor)]) -> Result<(), WeightsError> {
        let failed = |reason| WeightsError::Read { path: path.into(), reason };
        let mut found = Vec::new();
        for (name, tensor) in taken {
            let values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>()).map_err(failed)?;
            let bad = values.iter().filter(|value| !value.is_finite()).count();
            if bad > 0 {
                found.push(format!("{bad} of {} values of `{name}` are NaN or infinite", values.len()));
            }
        }
        if !found.is_empty() {
            return Err(WeightsError::NotFinite { path: path.into(), found: shortened(&found) });
        }
        let device = self.device();
        let ours = |(name, tensor): &(_, &Tensor)| Ok((*name, tensor.to_dtype(DType::F32)?.to_device(&device)?));
        taken.iter().map(ours).collect::<candle_core::Result<Vec<_>>>().and_then(|values| self.set_all(values)).map_err(failed)
    }

    /// Saves every parameter with `metadata`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
        self.save_part(path, metadata, |_| true)
    }

    /// Saves the parameters whose name satisfies `wanted`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_part(&self, path: &Path, metadata: &BTreeMap<String, String>, wanted: impl Fn(&str) -> bool) -> Result<(), WeightsError> {
        let failed = |reason: String| WeightsError::Write { path: path.into(), reason };
        let tensors: Vec<(&str, Tensor)> =
            self.all().filter(|(name, _)| wanted(name)).map(|(name, var)| (name, var.into_inner())).collect();
        let bytes = safetensors::serialize(tensors, None).map_err(|error| failed(error.to_string()))?;
        let (header, data) = with_metadata(&bytes, metadata).ok_or_else(|| failed("its header cannot be written".into()))?;
        stage_kit::write_atomic(path, |file| {
            file.write_all(&header)?;
            Ok(file.write_all(data)?)
        })
        .map_err(|error| failed(format!("{error:#}")))
    }

    /// What a file lacks of the parameters that are wanted. Those that nothing is computed with may be missing.
    fn differences(&self, tensors: &HashMap<String, Tensor>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (name, var) in self.all().filter(|(name, _)| wanted(name)) {
            match tensors.get(name) {
                None if self.is_idle(name) => {}
                None => found.push(format!("`{name}` is missing")),
                Some(tensor) if tensor.dims() != var.dims() => {
                    found.push(format!("`{name}` has shape {:?} instead of {:?}", tensor.dims(), var.dims()));
                }
                Some(_) => {}
            }
        }
        found
    }

    /// The names in a file that mean nothing here.
    fn unknown<'t>(&self, tensors: &'t HashMap<String, Tensor>) -> impl Iterator<Item = &'t String> {
        tensors.keys().filter(|name| !self.names().any(|own| own == name.as_str()) && !is_leftover(name))
    }
}

/// How much of a file was taken, in tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Parameters that got their values from the file.
    pub taken: usize,
    /// Parameters that were not wanted of it.
    pub fresh: usize,
    /// Tensors of the file that nobody wanted.
    pub unused: usize,
}

/// Whether a name is of a tensor that MONAI's transformers save and do not learn, now or in earlier versions.
#[must_use]
pub fn is_leftover(name: &str) -> bool {
    name.ends_with(".relative_position_index") || name.contains(".cross_attn.")
}

/// The first few of many findings.
fn shortened(found: &[String]) -> String {
    let mut text = found[..found.len().min(5)].join(", ");
    if found.len() > 5 {
        text += &format!(", and {} more", found.len() - 5);
    }
    text
}

/// The header of a `.safetensors` file that has none, with `metadata` in it, and the data that follow. The crate takes
/// metadata as a hash map and writes them in an order that is another each time; here equal weights make equal files.
fn with_metadata<'b>(bytes: &'b [u8], metadata: &BTreeMap<String, String>) -> Option<(Vec<u8>, &'b [u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (plain, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let tensors = plain.trim_ascii_end().strip_prefix(b"{")?;
    let comma: &[u8] = if tensors == b"}" { b"" } else { b"," };
    let mut header = [&b"{\"__metadata__\":"[..], serde_json::to_string(metadata).ok()?.as_bytes(), comma, tensors].concat();
    // As the format recommends: the data begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Some(([&(header.len() as u64).to_le_bytes()[..], &header].concat(), data))
}

/// The bytes of a `.safetensors` file with other metadata; none if they are no such file.
#[must_use]
pub fn with_other_metadata(bytes: &[u8], metadata: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    tensors.remove("__metadata__");
    let plain = serde_json::to_vec(&tensors).ok()?;
    let plain = [&(plain.len() as u64).to_le_bytes()[..], &plain].concat();
    let (header, _) = with_metadata(&plain, metadata)?;
    Some([&header, data].concat())
}

/// The metadata of a `.safetensors` file; a PyTorch state dict has none. Only the header is read.
///
/// # Errors
/// When the file is missing or damaged.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>, WeightsError> {
    must_be_there(path)?;
    if is_pickle(path) {
        return Ok(HashMap::new());
    }
    let failed = |reason: candle_core::Error| WeightsError::Read { path: path.into(), reason };
    let header = || -> std::io::Result<serde_json::Value> {
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER_BYTES {
            return Err(std::io::Error::other("it is no safetensors file"));
        }
        Ok(serde_json::from_reader(std::io::BufReader::new(file.take(length)))?)
    };
    let header = header().map_err(|error| failed(error.into()))?;
    let fields = header.get("__metadata__").and_then(serde_json::Value::as_object);
    let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Ok(fields.into_iter().flatten().filter_map(text).collect())
}

/// The safetensors format allows no longer header.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// The tensors of a file, without the prefix `weights.`; where it is in use, those without it are left out.
fn named(path: &Path) -> Result<HashMap<String, Tensor>, WeightsError> {
    let tensors = read(path)?;
    for (prefix, by) in [("module.", "torch.nn.DataParallel"), ("_orig_mod.", "torch.compile")] {
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(prefix)) {
            return Err(WeightsError::Prefix { path: path.into(), prefix, by });
        }
    }
    if !tensors.keys().any(|name| name.starts_with("weights.")) {
        return Ok(tensors);
    }
    Ok(tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix("weights.")?.to_owned(), tensor))).collect())
}

fn must_be_there(path: &Path) -> Result<(), WeightsError> {
    if path.is_file() { Ok(()) } else { Err(WeightsError::Missing(path.into())) }
}

fn is_pickle(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("pth" | "pt"))
}

fn read(path: &Path) -> Result<HashMap<String, Tensor>, WeightsError> {
    must_be_there(path)?;
    let failed = |reason| WeightsError::Read { path: path.into(), reason };
    if is_pickle(path) {
        let tensor =
            |(name, pth::Tensor { shape, values }): (String, pth::Tensor)| Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?));
        return pth::read(path)?.into_iter().map(tensor).collect::<candle_core::Result<_>>().map_err(failed);
    }
    if path.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(WeightsError::Ending(path.into()));
    }
    candle_core::safetensors::load(path, &Device::Cpu).map_err(failed)
}
