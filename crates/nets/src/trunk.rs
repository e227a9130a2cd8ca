//! Encoder-decoders that several methods share, with heads on their maps.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::params::{Init, ParamSpec, Params};
use crate::preactivated::{ResidualConfig, ResidualTrunk, norm_relu, norm_specs};
use crate::unet::{UNetConfig, UNetTrunk};

/// The kind and the size of an encoder-decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrunkConfig {
    /// DoDNet's.
    Residual(ResidualConfig),
    /// nnU-Net's, plain or with a residual encoder.
    UNet(UNetConfig),
}

impl TrunkConfig {
    /// Why there is no such network, or none for patches of that shape.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self, patch: [usize; 3]) -> Result<(), String> {
        let reduction = match self {
            Self::Residual(config) => config.check().map(|()| [16; 3]),
            Self::UNet(config) => config.check().map(|()| config.reduction()),
        }?;
        if patch.iter().zip(reduction).any(|(side, by)| *side == 0 || side % by != 0) {
            return Err(format!("patch {patch:?}: sides must be multiples of {reduction:?}, by which the network divides them"));
        }
        Ok(())
    }
}

/// An encoder-decoder and the heads on its maps.
pub struct Trunk {
    kind: Kind,
}

enum Kind {
    Residual(ResidualTrunk, usize),
    UNet(UNetTrunk),
}

impl Trunk {
    /// The network of that size over `inputs` channels.
    #[must_use]
    pub fn new(config: &TrunkConfig, inputs: usize) -> Self {
        let kind = match config {
            TrunkConfig::Residual(config) => Kind::Residual(ResidualTrunk::new(config, inputs), config.groups),
            TrunkConfig::UNet(config) => Kind::UNet(UNetTrunk::new(config, inputs)),
        };
        Self { kind }
    }

    /// The encoder's parameters under `prefix`.
    #[must_use]
    pub fn encoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.encoder_parameters(prefix),
            Kind::UNet(trunk) => trunk.encoder_parameters(prefix),
        }
    }

    /// The decoder's parameters under `prefix`.
    #[must_use]
    pub fn decoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decoder_parameters(prefix),
            Kind::UNet(trunk) => trunk.decoder_parameters(prefix),
        }
    }

    /// The parameters under `prefix` of the head of `classes` logits on the decoder's map at `level`, 0 the full resolution.
    #[must_use]
    pub fn head_parameters(&self, prefix: &str, level: usize, classes: usize) -> Vec<ParamSpec> {
        let inputs = self.decoded_channels()[level];
        let name = format!("{prefix}head.{level}");
        let mut specs = Vec::new();
        if let Kind::Residual(..) = self.kind {
            norm_specs(&format!("{name}.norm"), inputs, &mut specs);
        }
        let init = Init::Uniform { fan_in: inputs };
        specs.push(ParamSpec { name: format!("{name}.weight"), shape: vec![classes, inputs, 1, 1, 1], init });
        specs.push(ParamSpec { name: format!("{name}.bias"), shape: vec![classes], init });
        specs
    }

    /// Images `(b, inputs, d, h, w)` to the maps of the encoder's levels, full resolution first.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn encode(&self, params: &Params, prefix: &str, image: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.encode(params, prefix, image),
            Kind::UNet(trunk) => trunk.encode(params, prefix, image),
        }
    }

    /// The maps of the encoder to those of the decoder, full resolution first.
    ///
    /// # Errors
    /// As [`Trunk::encode`].
    pub fn decode(&self, params: &Params, prefix: &str, encoded: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decode(params, prefix, encoded),
            Kind::UNet(trunk) => trunk.decode(params, prefix, encoded),
        }
    }

    /// Logits of a head on the decoder's map at `level`.
    ///
    /// # Errors
    /// As [`Trunk::encode`].
    pub fn head(&self, params: &Params, prefix: &str, level: usize, map: &Tensor) -> candle_core::Result<Tensor> {
        let name = format!("{prefix}head.{level}");
        let map = match self.kind {
            Kind::Residual(_, groups) => norm_relu(params, &format!("{name}.norm"), map, groups)?,
            Kind::UNet(_) => map.clone(),
        };
        ops::conv(&map, &params.get(&format!("{name}.weight"))?, Some(&params.get(&format!("{name}.bias"))?), 1, 0)
    }

    /// Channels of the decoder's maps, full resolution first.
    #[must_use]
    pub fn decoded_channels(&self) -> Vec<usize> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decoded_channels(),
            Kind::UNet(trunk) => trunk.decoded_channels(),
        }
    }
}
