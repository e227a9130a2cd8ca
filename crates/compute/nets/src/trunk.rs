//! Encoder-decoders that several methods share, with heads on their maps.

use candle_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::Layers;
use crate::nnunet::{UNetConfig, UNetTrunk};
use crate::params::{Init, ParamSpec};
use crate::preactivated::{ResidualConfig, ResidualTrunk, norm_specs};
use crate::swin_unetr::{STRIDE, SwinTrunk, SwinUnetrConfig};

/// The kind and the size of an encoder-decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrunkConfig {
    /// DoDNet's.
    Residual(ResidualConfig),
    /// nnU-Net's, plain or with a residual encoder.
    UNet(UNetConfig),
    /// Swin UNETR, for images of one channel.
    SwinUnetr(SwinUnetrConfig),
}

impl TrunkConfig {
    /// Whether it takes channels that tell the task, beside the image or in the decoder.
    #[must_use]
    pub fn takes_channels(&self) -> bool {
        !matches!(self, Self::SwinUnetr(_))
    }

    /// Whether there are kernels for most of its layers once they are frozen.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        !matches!(self, Self::Residual(_))
    }

    /// Why there is no such network, or none for patches of that shape.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self, patch: [usize; 3]) -> std::result::Result<(), String> {
        let (reduction, channels) = match self {
            Self::Residual(config) => config.check().map(|()| ([16; 3], config.features[0])),
            Self::UNet(config) => config.check().map(|()| (config.reduction(), config.features[0])),
            Self::SwinUnetr(config) => config.check().map(|()| ([STRIDE; 3], config.feature_size)),
        }?;
        crate::size::check_patch(&patch, channels)?;
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
    Swin(Box<SwinTrunk>),
}

impl Trunk {
    /// The network of that size over `inputs` channels, of which a Swin UNETR takes one.
    #[must_use]
    pub fn new(config: &TrunkConfig, inputs: usize) -> Self {
        let kind = match config {
            TrunkConfig::Residual(config) => Kind::Residual(ResidualTrunk::new(config, inputs), config.groups),
            TrunkConfig::UNet(config) => Kind::UNet(UNetTrunk::new(config, inputs)),
            TrunkConfig::SwinUnetr(config) => Kind::Swin(Box::new(SwinTrunk::new(config))),
        };
        Self { kind }
    }

    /// The same with a decoder that is told so many values of each sample, which a Swin UNETR's is not.
    #[must_use]
    pub fn told(self, values: usize) -> Self {
        let kind = match self.kind {
            Kind::Residual(trunk, groups) => Kind::Residual(trunk.told(values), groups),
            Kind::UNet(trunk) => Kind::UNet(trunk.told(values)),
            swin @ Kind::Swin(_) => swin,
        };
        Self { kind }
    }

    /// The encoder's parameters under `prefix`.
    #[must_use]
    pub fn encoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.encoder_parameters(prefix),
            Kind::UNet(trunk) => trunk.encoder_parameters(prefix),
            Kind::Swin(trunk) => under(prefix, |specs| trunk.encoder_specs(specs)),
        }
    }

    /// The decoder's parameters under `prefix`.
    #[must_use]
    pub fn decoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decoder_parameters(prefix),
            Kind::UNet(trunk) => trunk.decoder_parameters(prefix),
            Kind::Swin(trunk) => under(prefix, |specs| trunk.decoder_specs(specs)),
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
        head_specs(&name, inputs, classes, &mut specs);
        specs
    }

    /// The name of the bias of such a head.
    #[must_use]
    pub fn head_bias(prefix: &str, level: usize) -> String {
        format!("{prefix}head.{level}.bias")
    }

    /// Images `(b, inputs, d, h, w)` to the maps of the encoder's levels, full resolution first.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn encode<C: Layers>(&self, compute: &C, prefix: &str, image: &C::Map) -> Result<Vec<C::Map>> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.encode(compute, prefix, image),
            Kind::UNet(trunk) => trunk.encode(compute, prefix, image),
            Kind::Swin(trunk) => trunk.encode(compute, prefix, image),
        }
    }

    /// The maps of the encoder to those of the decoder, full resolution first.
    ///
    /// # Errors
    /// As [`Trunk::encode`].
    pub fn decode<C: Layers>(&self, compute: &C, prefix: &str, encoded: &[C::Map]) -> Result<Vec<C::Map>> {
        self.decode_told(compute, prefix, encoded, &[])
    }

    /// The same by a decoder that is told some values at every level ([`Trunk::told`]), the same of all samples.
    ///
    /// # Errors
    /// As [`Trunk::encode`].
    pub fn decode_told<C: Layers>(&self, compute: &C, prefix: &str, encoded: &[C::Map], told: &[f32]) -> Result<Vec<C::Map>> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decode(compute, prefix, encoded, told),
            Kind::UNet(trunk) => trunk.decode(compute, prefix, encoded, told),
            Kind::Swin(trunk) => trunk.decode(compute, prefix, encoded),
        }
    }

    /// Logits of a head on the decoder's map at `level`.
    ///
    /// # Errors
    /// As [`Trunk::encode`].
    pub fn head<C: Layers>(&self, compute: &C, prefix: &str, level: usize, map: &C::Map) -> Result<C::Map> {
        let name = format!("{prefix}head.{level}");
        match self.kind {
            Kind::Residual(_, groups) => compute.head(&name, &compute.group_norm_relu(&format!("{name}.norm"), map, groups)?),
            Kind::UNet(_) | Kind::Swin(_) => compute.head(&name, map),
        }
    }

    /// Channels of the decoder's maps, full resolution first.
    #[must_use]
    pub fn decoded_channels(&self) -> Vec<usize> {
        match &self.kind {
            Kind::Residual(trunk, _) => trunk.decoded_channels(),
            Kind::UNet(trunk) => trunk.decoded_channels(),
            Kind::Swin(trunk) => trunk.decoded_channels(),
        }
    }
}

/// The parameters of a 1×1×1 convolution to logits.
pub(crate) fn head_specs(name: &str, inputs: usize, classes: usize, specs: &mut Vec<ParamSpec>) {
    let init = Init::Uniform { fan_in: inputs };
    specs.push(ParamSpec { name: format!("{name}.weight"), shape: vec![classes, inputs, 1, 1, 1], init });
    specs.push(ParamSpec { name: format!("{name}.bias"), shape: vec![classes], init });
}

/// Parameters with `prefix` before their names.
fn under(prefix: &str, add: impl Fn(&mut Vec<ParamSpec>)) -> Vec<ParamSpec> {
    let mut specs = Vec::new();
    add(&mut specs);
    specs.iter_mut().for_each(|spec| spec.name.insert_str(0, prefix));
    specs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Network as _, Params, SwinUnetr};
    use candle_core::{Device, Tensor};
    use random::Streams;

    #[test]
    fn a_swin_unetr_in_parts_is_the_whole() {
        let config = SwinUnetrConfig { feature_size: 12, window_size: 4, ..SwinUnetrConfig::default() };
        let whole = SwinUnetr::new(&config, 3);
        let trunk = Trunk::new(&TrunkConfig::SwinUnetr(config), 1);
        let values = Params::init(&whole.parameters(), Streams::new(1), &Device::Cpu).unwrap();
        let prefix = "liver.";
        let specs = [trunk.encoder_parameters(prefix), trunk.decoder_parameters(prefix), trunk.head_parameters(prefix, 0, 3)].concat();
        let parts = Params::init(&specs, Streams::new(2), &Device::Cpu).unwrap();
        assert_eq!(parts.count(), values.count());
        for (name, value) in values.all() {
            let name = name.replace("out.conv.conv", "head.0");
            parts.set(&format!("{prefix}{name}"), value.as_tensor()).unwrap();
        }
        let image = Tensor::arange(0f32, 2.0 * 32768.0, &Device::Cpu).unwrap().sin().unwrap().reshape((2, 1, 32, 32, 32)).unwrap();
        let decoded = trunk.decode(&parts, prefix, &trunk.encode(&parts, prefix, &image).unwrap()).unwrap();
        let channels: Vec<usize> = decoded.iter().map(|map| map.dims()[1]).collect();
        assert_eq!(channels, trunk.decoded_channels());
        let logits = trunk.head(&parts, prefix, 0, &decoded[0]).unwrap();
        let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(bits(&logits) == bits(&whole.forward(&values, &image).unwrap()));
    }
}
