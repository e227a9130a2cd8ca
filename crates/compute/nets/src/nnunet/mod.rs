//! The U-Nets of MultiTalent (Ulrich et al., MICCAI 2023, 2.2), which are nnU-Net's: strided convolutions on the way down,
//! transposed ones on the way up, instance norm; with plain or residual blocks in the encoder.

mod config;
mod parts;
mod whole;

use candle_core::Result;

use crate::layers::Layers;
use crate::params::{Init, ParamSpec};

pub use config::{UNetConfig, UNetLayers};
use parts::{Conv, Part};
pub use whole::NnUNet;

/// The encoder-decoder.
pub struct UNetTrunk {
    config: UNetConfig,
    inputs: usize,
    /// Channels that the first convolution of each decoder level reads beside its maps.
    told: usize,
}

impl UNetTrunk {
    /// The network of that size over `inputs` channels.
    #[must_use]
    pub fn new(config: &UNetConfig, inputs: usize) -> Self {
        Self { config: config.clone(), inputs, told: 0 }
    }

    /// The same with a decoder that is told so many values of each sample.
    #[must_use]
    pub fn told(self, told: usize) -> Self {
        Self { told, ..self }
    }

    /// The encoder's parameters under `prefix`.
    #[must_use]
    pub fn encoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        if self.config.blocks.is_some() {
            self.stem(prefix).specs(&mut specs);
        }
        (0..self.config.features.len()).flat_map(|level| self.encoder_level(prefix, level)).for_each(|part| part.specs(&mut specs));
        specs
    }

    /// The decoder's parameters under `prefix`.
    #[must_use]
    pub fn decoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        let f = &self.config.features;
        let mut specs = Vec::new();
        for level in 0..f.len() - 1 {
            let kernel = self.config.strides[level];
            let init = Init::Uniform { fan_in: f[level] * kernel.iter().product::<usize>() };
            let shape = [&[f[level + 1], f[level]], &kernel[..]].concat();
            let up = self.up(prefix, level);
            specs.push(ParamSpec { name: format!("{up}.weight"), shape, init });
            if self.config.layers.is_some() {
                specs.push(ParamSpec { name: format!("{up}.bias"), shape: vec![f[level]], init });
            }
            self.decoder_level(prefix, level).iter().for_each(|conv| conv.specs(&mut specs));
        }
        specs
    }

    /// Image `(b, inputs, d, h, w)`, each size a multiple of [`UNetConfig::reduction`], to the maps of the encoder's levels,
    /// full resolution first.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn encode<C: Layers>(&self, compute: &C, prefix: &str, image: &C::Map) -> Result<Vec<C::Map>> {
        let mut x = image.clone();
        if self.config.blocks.is_some() {
            x = self.stem(prefix).forward(compute, &x)?;
        }
        let mut maps = Vec::with_capacity(self.config.features.len());
        for level in 0..self.config.features.len() {
            for part in self.encoder_level(prefix, level) {
                x = part.forward(compute, &x)?;
            }
            maps.push(x.clone());
        }
        Ok(maps)
    }

    /// The maps of the encoder to those of the decoder, full resolution first. `told` are the values that a decoder is told that
    /// [`UNetTrunk::told`] speaks of, the same of all samples.
    ///
    /// # Errors
    /// As [`UNetTrunk::encode`].
    pub fn decode<C: Layers>(&self, compute: &C, prefix: &str, encoded: &[C::Map], told: &[f32]) -> Result<Vec<C::Map>> {
        let deepest = self.config.features.len() - 1;
        let mut x = encoded[deepest].clone();
        let mut decoded = Vec::with_capacity(deepest);
        for level in (0..deepest).rev() {
            let raised = compute.raise(&self.up(prefix, level), &x, self.config.strides[level], self.config.layers.is_some())?;
            x = compute.beside(compute.join(&raised, &encoded[level])?, told)?;
            for conv in self.decoder_level(prefix, level) {
                x = conv.forward(compute, &x)?;
            }
            decoded.push(x.clone());
        }
        decoded.reverse();
        Ok(decoded)
    }

    /// Channels of the decoder's maps, full resolution first.
    #[must_use]
    pub fn decoded_channels(&self) -> Vec<usize> {
        let f = &self.config.features;
        f[..f.len() - 1].to_vec()
    }

    /// Multiplications of a pass over one image, up to the decoder's last map.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        let f = &self.config.features;
        let (mut at, mut macs) = (size, 0);
        if self.config.blocks.is_some() {
            macs += self.stem("").macs(at);
        }
        for level in 0..f.len() {
            let stride = self.config.stride(level);
            let below = std::array::from_fn(|axis| at[axis] / stride[axis]);
            macs += self.encoder_level("", level).iter().map(|part| part.macs(below)).sum::<u64>();
            if level + 1 < f.len() {
                let kernel: usize = self.config.strides[level].iter().product();
                let next: usize = (0..3).map(|axis| below[axis] / self.config.strides[level][axis]).product();
                macs += (next * kernel * f[level + 1] * f[level]) as u64;
                macs += self.decoder_level("", level).iter().map(|conv| conv.macs(below)).sum::<u64>();
            }
            at = below;
        }
        macs
    }

    fn stem(&self, prefix: &str) -> Conv {
        Conv {
            name: format!("{prefix}encoder.stem"),
            kernel: self.config.kernel(0),
            stride: [1; 3],
            inputs: self.inputs,
            outputs: self.config.features[0],
        }
    }

    fn encoder_level(&self, prefix: &str, level: usize) -> Vec<Part> {
        let f = &self.config.features;
        let before = match (level, &self.config.blocks) {
            (0, None) => self.inputs,
            (0, Some(_)) => f[0],
            _ => f[level - 1],
        };
        let part = |k: usize| {
            let conv = Conv {
                name: format!("{prefix}encoder.{level}.{k}"),
                kernel: self.config.kernel(level),
                stride: if k == 0 { self.config.stride(level) } else { [1; 3] },
                inputs: if k == 0 { before } else { f[level] },
                outputs: f[level],
            };
            match (self.config.blocks.is_some(), self.config.layers.is_some()) {
                (false, _) => Part::Plain(conv),
                (true, averaged) => Part::Residual { conv, averaged },
            }
        };
        (0..self.config.encoder_parts(level)).map(part).collect()
    }

    fn decoder_level(&self, prefix: &str, level: usize) -> Vec<Conv> {
        let outputs = self.config.features[level];
        let conv = |k: usize| Conv {
            name: format!("{prefix}decoder.{level}.{k}"),
            kernel: self.config.kernel(level),
            stride: [1; 3],
            inputs: if k == 0 { 2 * outputs + self.told } else { outputs },
            outputs,
        };
        (0..self.config.decoder_convs(level)).map(conv).collect()
    }

    fn up(&self, prefix: &str, level: usize) -> String {
        format!("{prefix}decoder.{level}.up")
    }
}
