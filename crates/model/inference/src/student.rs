//! Trained students, ready for scans: one or several together.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use labels::Classes;
use model_card::{Habits, ModelInput, Output};
use nets::{DualUNet2d, Network, Params, Trained, WeightsError};
use random::Streams;
use volume::{ModelGrid, Scaling};

use crate::error::ModelError;
use crate::mirrors::Mirrors;
use crate::model::Manner;
use crate::params::{StudentConfig, StudentParams};
use crate::together::{output_of, scaled};

/// The field of a model's metadata that holds the [`StudentParams`] it was exported with.
const FIELD: &str = "student";

/// One trained student, or several whose mean counts.
pub struct Student {
    pub(crate) config: StudentConfig,
    members: Vec<Member>,
    mirrors: Mirrors,
    pub(crate) device: Device,
}

struct Member {
    network: DualUNet2d,
    weights: Trained,
    scaling: Scaling,
}

impl Student {
    /// The student behind weights that `train-student` has written, or others of which the parameters say enough: `.safetensors` or
    /// a PyTorch state dict, under MONAI's names.
    ///
    /// # Errors
    /// As [`StudentParams::resolve`], and when the weights are of another network.
    pub fn load(params: &StudentParams, weights: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        let config = params.resolve(weights)?;
        let member = Member::load(&config, weights, device)?;
        Ok(Self { config, members: vec![member], mirrors: Mirrors::none(), device: device.clone() })
    }

    /// The student in a file that `train-student` or [`Student::export`] has written.
    ///
    /// # Errors
    /// As [`Student::load`].
    pub fn open(model: &Path, manner: &Manner, device: &Device) -> std::result::Result<Self, ModelError> {
        let mut params = exported_params(model)?.unwrap_or_default();
        params.precision = manner.precision.unwrap_or(params.precision);
        Self::load(&params, model, device)?.with_flips(manner.flips)
    }

    /// Takes other students along, of which the mean counts then. `path` names them in messages.
    ///
    /// # Errors
    /// When they are shown scans otherwise.
    pub(crate) fn join(&mut self, other: Self, first: &Path, path: &Path) -> std::result::Result<(), ModelError> {
        let found = self.config.differences(&other.config);
        if !found.is_empty() {
            return Err(ModelError::Disagreement { first: first.into(), path: path.into(), found });
        }
        self.members.extend(other.members);
        Ok(())
    }

    /// Puts the weights of a student, what they say of themselves and what `params` say into one file, which needs no parameters.
    ///
    /// # Errors
    /// As [`Student::load`], and when the file cannot be written.
    pub fn export(params: &StudentParams, weights: &Path, model: &Path) -> std::result::Result<(), ModelError> {
        let student = Self::load(params, weights, &Device::Cpu)?;
        let mut metadata: BTreeMap<String, String> = nets::metadata(weights)?.into_iter().collect();
        let failed = |error: serde_json::Error| WeightsError::Write { path: model.into(), reason: error.to_string() };
        metadata.insert(FIELD.into(), serde_json::to_string(params).map_err(failed)?);
        let saved = student.members.iter().try_for_each(|member| member.weights.params().save(model, &metadata));
        Ok(saved?)
    }

    /// Structure and parameters; of several those of the first.
    #[must_use]
    pub fn network(&self) -> (&DualUNet2d, &Params) {
        let first = &self.members[0];
        (&first.network, first.weights.params())
    }

    /// How scans are shown to it. A student that is shown whole slices has no patch.
    #[must_use]
    pub fn input(&self) -> ModelInput {
        let StudentConfig { grid, scaling, crop_foreground, window, .. } = self.config;
        let patch = window.size.map(Vec::from).unwrap_or_default();
        ModelInput { grid, scaling, crop_foreground, patch, habits: Habits::default() }
    }

    /// With `flips`, takes the mean over a slice and its three mirror images, in those from left to right with left and right classes
    /// exchanged.
    ///
    /// # Errors
    /// When it finds a class of one side without that of the other.
    pub fn with_flips(self, flips: bool) -> std::result::Result<Self, ModelError> {
        let mirrors = if flips { Mirrors::all(2, self.outputs(), self.classes()).map_err(ModelError::Flips)? } else { Mirrors::none() };
        Ok(Self { mirrors, ..self })
    }

    /// The classes that it finds.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.config.classes
    }

    /// The grid that scans are brought onto.
    #[must_use]
    pub fn grid(&self) -> &ModelGrid {
        &self.config.grid
    }

    /// The place of the output that tells all classes of a group apart. `path` names the student in messages.
    ///
    /// # Errors
    /// [`CardError::Classes`](model_card::CardError::Classes).
    pub fn output_of(&self, group: usize, classes: &Classes, path: &Path) -> std::result::Result<usize, ModelError> {
        output_of(self.outputs(), self.classes(), group, classes, path)
    }

    /// What its label maps stand for, in their order.
    #[must_use]
    pub fn outputs(&self) -> &[Output] {
        &self.config.outputs
    }

    /// Of slices `(n, 1, h, w)` what is largest where a class is most likely, for each output `(n, channels, h, w)`: logits of a
    /// single network, probabilities of several or with flips.
    pub(crate) fn scores(&self, slices: &Tensor) -> Result<Vec<Tensor>> {
        if let ([member], true) = (&self.members[..], self.mirrors.is_none()) {
            return member.logits(slices);
        }
        self.mirrors.sum(slices, &self.members, |member, slices| {
            member.logits(slices)?.iter().map(|logits| candle_nn::ops::softmax(logits, 1)).collect()
        })
    }
}

impl Member {
    fn load(config: &StudentConfig, weights: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        let decoders: Vec<_> = config.outputs.iter().map(Output::decoder).collect();
        let network = DualUNet2d::new(&config.network, &decoders);
        let params = Params::init(&network.parameters(), Streams::new(0), device)?;
        params.load(weights)?;
        Ok(Self { network, weights: Trained::new(params, config.precision), scaling: config.scaling })
    }

    fn logits(&self, slices: &Tensor) -> Result<Vec<Tensor>> {
        self.weights.student(&self.network, &scaled(slices, &self.scaling)?)
    }
}

/// The parameters that a model was exported with.
pub(crate) fn exported_params(model: &Path) -> std::result::Result<Option<StudentParams>, ModelError> {
    let refused = |error: serde_json::Error| {
        let reason = format!("holds parameters that cannot be read ({error}), perhaps of an earlier version");
        ModelError::NotAModel { path: model.into(), reason }
    };
    nets::metadata(model)?.get(FIELD).map(|text| serde_json::from_str(text).map_err(refused)).transpose()
}
