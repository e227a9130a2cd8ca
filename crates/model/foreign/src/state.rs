//! State dicts in files, wherever they lie in them.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::ForeignError;

/// Where checkpoints hold a network's weights.
const UNDER: [&str; 6] = ["state_dict", "model_state_dict", "model", "network", "net", "state"];

/// The tensors of a file under their names, without what stands before all of them.
pub(crate) struct State {
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// What stood before every name, such as `module.`.
    pub(crate) prefix: String,
}

impl State {
    /// Reads a `.safetensors` file, or what `torch.save` has written: a state dict, or a checkpoint that has one under a usual name.
    pub(crate) fn read(path: &Path) -> Result<Self, ForeignError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let tensors = match ending {
            "safetensors" => {
                let failed = |reason| nets::WeightsError::Read { path: path.into(), reason };
                let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(failed)?;
                tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?))).collect::<Result<_, ForeignError>>()?
            }
            "pt" | "pth" => of_torch(pth::Saved::read(path)?.tensors(&UNDER, |_| true)?)?,
            _ => return Err(nets::WeightsError::Ending(path.into()).into()),
        };
        Ok(Self::without_prefix(tensors))
    }

    /// Wrappers write a part before every name. The parameters of a network have no first part in common.
    fn without_prefix(mut tensors: BTreeMap<String, Tensor>) -> Self {
        let mut prefix = String::new();
        while let Some(part) = common_part(&tensors) {
            tensors = tensors.into_iter().map(|(name, tensor)| (name[part.len()..].to_owned(), tensor)).collect();
            prefix += &part;
        }
        Self { tensors, prefix }
    }
}

/// Tensors of PyTorch's as those of this program.
pub(crate) fn of_torch(tensors: BTreeMap<String, pth::Tensor>) -> Result<BTreeMap<String, Tensor>, ForeignError> {
    let tensor = |(name, pth::Tensor { shape, values }): (String, pth::Tensor)| Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?));
    tensors.into_iter().map(tensor).collect()
}

fn common_part(tensors: &BTreeMap<String, Tensor>) -> Option<String> {
    let first = tensors.keys().next()?;
    let part = &first[..=first.find('.')?];
    (tensors.len() > 1 && tensors.keys().all(|name| name.starts_with(part))).then(|| part.to_owned())
}
