//! Trained models before scans, as any other 3-D network.

use std::error::Error;
use std::path::Path;

use candle_core::{Device, Tensor};
use inference::VolumeNetwork;
use model_card::{ModelCard, Output};
use nets::Precision;

use crate::trained::TrainedModel;

impl VolumeNetwork for TrainedModel {
    fn outputs(&self) -> &[Output] {
        Self::outputs(self)
    }

    fn logits(&self, patch: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        self.scores(patch)
    }

    /// The scores are probabilities, the threshold's that of background.
    fn probabilities(&self, patch: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        self.scores(patch)
    }
}

/// Opens the model in a file for [`inference::Model::open`], which knows its card already.
///
/// # Errors
/// As [`TrainedModel::load`].
pub fn open(
    path: &Path,
    _: &ModelCard,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn VolumeNetwork>, Box<dyn Error + Send + Sync>> {
    Ok(Box::new(TrainedModel::load(path, precision, device)?))
}
