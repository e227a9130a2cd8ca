//! nnU-Net's network as it is trained for one task: one head, whose classes exclude each other.

use candle_core::Result;

use super::{UNetConfig, UNetTrunk};
use crate::Network;
use crate::layers::Layers;
use crate::params::ParamSpec;
use crate::trunk::head_specs;

/// The head's parameters without their last part.
const HEAD: &str = "head.0";

/// A U-Net of any depth from one image channel to the logits of its classes.
pub struct NnUNet {
    trunk: UNetTrunk,
    inputs_of_head: usize,
    classes: usize,
}

impl NnUNet {
    /// The network of that size, which must be sound.
    #[must_use]
    pub fn new(config: &UNetConfig, classes: usize) -> Self {
        Self { trunk: UNetTrunk::new(config, 1), inputs_of_head: config.features[0], classes }
    }

    /// Image `(b, 1, d, h, w)`, each size a multiple of [`UNetConfig::reduction`], to logits `(b, classes, d, h, w)`.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn forward<C: Layers>(&self, compute: &C, image: &C::Map) -> Result<C::Map> {
        let decoded = self.trunk.decode(compute, "", &self.trunk.encode(compute, "", image)?, &[])?;
        compute.head(HEAD, &decoded[0])
    }

    /// Multiplications of a pass over one image.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        let head = size.iter().product::<usize>() * self.inputs_of_head * self.classes;
        self.trunk.macs(size) + head as u64
    }
}

impl Network for NnUNet {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = [self.trunk.encoder_parameters(""), self.trunk.decoder_parameters("")].concat();
        head_specs(HEAD, self.inputs_of_head, self.classes, &mut specs);
        specs
    }
}
