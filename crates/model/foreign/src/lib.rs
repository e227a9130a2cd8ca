//! Models that other programs have trained, as files of this one: weights under the names of its networks, with a card that says what
//! they are. What follows from such a file asks no longer where it came from.
//!
//! [`nnunet`] reads the results folder of a training by nnU-Net, which says all of itself. [`monai`] reads the state dict of a network
//! of MONAI's, and [`onnx`] a graph of any convolutional network, of which everything else must be said.

mod axes;
mod error;
mod fit;
pub mod monai;
pub mod nnunet;
pub mod onnx;
mod state;

use std::collections::BTreeMap;
use std::path::Path;

use model_card::ModelCard;
use nets::Params;

pub use error::ForeignError;

/// A model that another program has trained.
pub struct Foreign {
    /// What it is.
    pub card: ModelCard,
    /// Its weights.
    pub params: Params,
    /// How many tensors were taken.
    pub taken: usize,
    /// How many were left, by what they are; no prediction depends on them.
    pub left: BTreeMap<&'static str, usize>,
    /// What its file says beside the card, by field.
    pub more: BTreeMap<String, String>,
}

impl Foreign {
    /// Writes the model to `path`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, or a number of the card is no number.
    pub fn save(&self, path: &Path) -> Result<(), ForeignError> {
        let unwritten = |reason| ForeignError::Card { path: path.into(), reason };
        let mut metadata = self.card.to_metadata().map_err(unwritten)?;
        metadata.extend(self.more.clone());
        Ok(self.params.save(path, &metadata)?)
    }

    /// What was taken and what was left, for people.
    #[must_use]
    pub fn account(&self) -> String {
        let mut text = format!("{} tensors taken", self.taken);
        for (what, number) in &self.left {
            text += &format!(", {number} left ({what})");
        }
        text
    }
}
