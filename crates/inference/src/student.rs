//! Trained students, ready for scans: one or several together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor};
use nets::{DualUNet2d, Network, Params, Precision, Trained, WeightsError};
use streams::Streams;
use volume::ModelGrid;

use crate::model::{StudentConfig, StudentError, StudentParams};

/// The field of a model's metadata that holds its [`StudentConfig`].
const FIELD: &str = "student";

/// How inference is to go, where the models leave it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The numbers to compute with, in place of what the models say.
    pub precision: Option<Precision>,
    /// Takes the mean over a slice and its three mirror images.
    pub flips: bool,
}

/// One trained student, or several whose mean counts.
pub struct Student {
    pub(crate) config: StudentConfig,
    members: Vec<(DualUNet2d, Trained)>,
    flips: bool,
    pub(crate) device: Device,
}

impl Student {
    /// A student of the weights in a file: `.safetensors` or a PyTorch state dict, under MONAI's names.
    ///
    /// # Errors
    /// When the file is missing, damaged or of another network.
    pub fn new(config: StudentConfig, weights: &Path, device: &Device) -> std::result::Result<Self, StudentError> {
        config.check()?;
        let members = vec![member(&config, weights, device)?];
        Ok(Self { config, members, flips: false, device: device.clone() })
    }

    /// The student behind weights that `train-student` has written, or others of which the parameters say enough.
    ///
    /// # Errors
    /// As [`StudentParams::resolve`] and [`Student::new`].
    pub fn load(params: &StudentParams, weights: &Path, device: &Device) -> std::result::Result<Self, StudentError> {
        Self::new(params.resolve(weights)?, weights, device)
    }

    /// The students in files that [`Student::save`] has written; the mean of their probabilities counts.
    ///
    /// # Errors
    /// When there is none, a file is missing or damaged or holds weights without a config, or they do not go together.
    pub fn open(models: &[PathBuf], manner: Manner, device: &Device) -> std::result::Result<Self, StudentError> {
        let configs = models.iter().map(|model| config_of(model, manner)).collect::<std::result::Result<Vec<_>, _>>()?;
        let (Some(first), Some(config)) = (models.first(), configs.first().cloned()) else { return Err(StudentError::NoModel) };
        let mut members = Vec::new();
        for (model, own) in models.iter().zip(configs) {
            if (StudentConfig { network: config.network.clone(), ..own.clone() }) != config {
                return Err(StudentError::Ensemble { first: first.clone(), path: model.clone() });
            }
            members.push(member(&own, model, device)?);
        }
        Ok(Self { config, members, flips: manner.flips, device: device.clone() })
    }

    /// The grid that scans are brought onto.
    #[must_use]
    pub fn grid(&self) -> &ModelGrid {
        &self.config.grid
    }

    /// Writes weights, config and `more` metadata as one file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, or this is an ensemble.
    pub fn save(&self, model: &Path, mut more: BTreeMap<String, String>) -> std::result::Result<(), StudentError> {
        let failed = |reason: String| WeightsError::Write { path: model.into(), reason };
        let [(_, weights)] = &self.members[..] else {
            return Err(failed(format!("{} models do not go into one file", self.members.len())).into());
        };
        more.insert(FIELD.into(), serde_json::to_string(&self.config).map_err(|error| failed(error.to_string()))?);
        Ok(weights.params().save(model, &more)?)
    }

    /// Of slices `(n, 1, h, w)` what is largest where a class is most likely: logits of a single network, mean
    /// probabilities of several or with flips. `(n, 14, h, w)` of organs and `(n, 2, h, w)` of cancer.
    pub(crate) fn scores(&self, slices: &Tensor) -> Result<[Tensor; 2]> {
        if let ([(network, weights)], false) = (&self.members[..], self.flips) {
            return weights.student(network, slices);
        }
        let mirrors: &[&[usize]] = if self.flips { &[&[], &[2], &[3], &[2, 3]] } else { &[&[]] };
        let mut sums: Option<[Tensor; 2]> = None;
        for axes in mirrors {
            let mirrored = if axes.is_empty() { slices.clone() } else { slices.flip(axes)? };
            for (network, weights) in &self.members {
                let [organs, cancer] = weights.student(network, &mirrored)?;
                let likely = |logits: &Tensor| -> Result<Tensor> {
                    let shares = candle_nn::ops::softmax(logits, 1)?;
                    if axes.is_empty() { Ok(shares) } else { shares.flip(axes) }
                };
                let here = [likely(&organs)?, likely(&cancer)?];
                sums = Some(match sums {
                    None => here,
                    Some([a, b]) => [(a + &here[0])?, (b + &here[1])?],
                });
            }
        }
        sums.ok_or_else(|| candle_core::Error::Msg("no student".into()))
    }
}

fn member(config: &StudentConfig, weights: &Path, device: &Device) -> std::result::Result<(DualUNet2d, Trained), StudentError> {
    let network = DualUNet2d::new(&config.network);
    let params = Params::init(&network.parameters(), Streams::new(0), device)?;
    params.load(weights)?;
    Ok((network, Trained::new(params, config.precision)))
}

fn config_of(model: &Path, manner: Manner) -> std::result::Result<StudentConfig, StudentError> {
    let refused = |reason: String| StudentError::NotAModel { path: model.into(), reason };
    let metadata = nets::metadata(model)?;
    let text = metadata.get(FIELD).ok_or_else(|| refused("holds weights alone".into()))?;
    let mut config: StudentConfig =
        serde_json::from_str(text).map_err(|error| refused(format!("holds a config that cannot be read ({error})")))?;
    config.check()?;
    config.precision = manner.precision.unwrap_or(config.precision);
    Ok(config)
}
