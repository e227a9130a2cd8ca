//! The residual encoder-decoder that DoDNet and the methods it is compared with share (Zhang et al., CVPR 2021, 3.2), under
//! the names of the authors' code: blocks normalise first, and every convolution but the last standardises its weights.

use candle_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::Layers;
use crate::params::{Init, ParamSpec};

/// The size of a residual encoder-decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidualConfig {
    /// Channels of the levels, of which the last is used twice: 32, 64, 128, 256 in the paper.
    pub features: [usize; 4],
    /// Residual blocks of the five encoder levels: 1, 2, 2, 2, 2 in the paper.
    pub blocks: [usize; 5],
    /// Groups of the norms; must divide every number of channels. 16 in the paper.
    pub groups: usize,
}

impl ResidualConfig {
    /// Why there is no such network, if there is none.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Self { features, blocks, groups } = self;
        crate::size::check_channels("features", features)?;
        if *groups == 0 || features.iter().any(|&n| n % groups != 0) {
            return Err(format!("groups: {groups} must divide every number of channels in features {features:?}"));
        }
        if blocks.contains(&0) {
            return Err(format!("blocks {blocks:?}: every level needs at least one"));
        }
        Ok(())
    }

    fn channels(&self, level: usize) -> usize {
        self.features[level.min(3)]
    }
}

/// The encoder-decoder. Its encoder and its decoder can stand under prefixes of their own, so that one encoder can have
/// several decoders.
pub struct ResidualTrunk {
    config: ResidualConfig,
    inputs: usize,
    /// Channels that the first convolution of each decoder block reads beside its map.
    told: usize,
}

impl ResidualTrunk {
    /// The network of that size over `inputs` channels.
    #[must_use]
    pub fn new(config: &ResidualConfig, inputs: usize) -> Self {
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
        let f = self.config.channels(4);
        let mut specs = vec![conv_spec(&format!("{prefix}conv1"), 3, self.inputs, self.config.channels(0))];
        self.encoder(prefix).iter().flatten().for_each(|block| block.specs(&mut specs));
        norm_specs(&format!("{prefix}fusionConv.0"), f, &mut specs);
        specs.push(conv_spec(&format!("{prefix}fusionConv.2"), 1, f, f));
        specs
    }

    /// The decoder's parameters under `prefix`.
    #[must_use]
    pub fn decoder_parameters(&self, prefix: &str) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.decoder(prefix).iter().for_each(|block| block.specs(&mut specs));
        specs
    }

    /// Image `(b, inputs, d, h, w)` to the maps of the encoder's levels, full resolution first; the last one is fused.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn encode<C: Layers>(&self, compute: &C, prefix: &str, image: &C::Map) -> Result<Vec<C::Map>> {
        let mut x = compute.standard_conv(&format!("{prefix}conv1"), image, 1, 1)?;
        let mut maps = Vec::with_capacity(5);
        for level in self.encoder(prefix) {
            for block in level {
                x = block.forward(compute, &x, &[], self.config.groups)?;
            }
            maps.push(x.clone()); // (b, f_i, d/2^i, h/2^i, w/2^i)
        }
        let fused = compute.group_norm_relu(&format!("{prefix}fusionConv.0"), &x, self.config.groups)?;
        maps[4] = compute.standard_conv(&format!("{prefix}fusionConv.2"), &fused, 1, 0)?;
        Ok(maps)
    }

    /// The maps of the encoder to those of the decoder, full resolution first. `told` are the values that a decoder is told that
    /// [`ResidualTrunk::told`] speaks of, the same of all samples.
    ///
    /// # Errors
    /// As [`ResidualTrunk::encode`].
    pub fn decode<C: Layers>(&self, compute: &C, prefix: &str, encoded: &[C::Map], told: &[f32]) -> Result<Vec<C::Map>> {
        let mut decoded = Vec::with_capacity(4);
        let mut x = encoded[4].clone();
        for (block, skip) in self.decoder(prefix).iter().zip(encoded[..4].iter().rev()) {
            let raised = compute.resize_like(&x, skip)?;
            x = block.forward(compute, &compute.add(&raised, skip)?, told, self.config.groups)?;
            decoded.push(x.clone());
        }
        decoded.reverse();
        Ok(decoded)
    }

    /// Channels of the decoder's maps, full resolution first.
    #[must_use]
    pub fn decoded_channels(&self) -> Vec<usize> {
        let f = self.config.features;
        vec![f[0], f[0], f[1], f[2]]
    }

    /// Channels of the deepest map.
    #[must_use]
    pub fn deepest_channels(&self) -> usize {
        self.config.channels(4)
    }

    fn encoder(&self, prefix: &str) -> Vec<Vec<Block>> {
        let level = |i: usize| {
            let block = |k: usize| Block {
                name: format!("{prefix}layer{i}.{k}"),
                inputs: self.config.channels(if k == 0 { i.saturating_sub(1) } else { i }),
                outputs: self.config.channels(i),
                stride: if i > 0 && k == 0 { 2 } else { 1 },
                told: 0,
            };
            (0..self.config.blocks[i]).map(block).collect()
        };
        (0..5).map(level).collect()
    }

    /// From the deepest to the last.
    fn decoder(&self, prefix: &str) -> Vec<Block> {
        let f = self.config.features;
        let block = |(name, inputs, outputs): (&str, usize, usize)| Block {
            name: format!("{prefix}{name}.0"),
            inputs,
            outputs,
            stride: 1,
            told: self.told,
        };
        [("x8_resb", f[3], f[2]), ("x4_resb", f[2], f[1]), ("x2_resb", f[1], f[0]), ("x1_resb", f[0], f[0])].map(block).into()
    }
}

/// Twice group norm, ReLU and 3×3×3 convolution, beside the input or a 1×1×1 convolution of it.
struct Block {
    name: String,
    inputs: usize,
    outputs: usize,
    stride: usize,
    /// Channels that its first convolution reads beside the normalised input.
    told: usize,
}

impl Block {
    fn projects(&self) -> bool {
        self.stride != 1 || self.inputs != self.outputs
    }

    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let Self { name, inputs, outputs, told, .. } = self;
        norm_specs(&format!("{name}.gn1"), *inputs, specs);
        specs.push(conv_spec(&format!("{name}.conv1"), 3, inputs + told, *outputs));
        norm_specs(&format!("{name}.gn2"), *outputs, specs);
        specs.push(conv_spec(&format!("{name}.conv2"), 3, *outputs, *outputs));
        if self.projects() {
            norm_specs(&format!("{name}.downsample.0"), *inputs, specs);
            specs.push(conv_spec(&format!("{name}.downsample.2"), 1, *inputs, *outputs));
        }
    }

    fn forward<C: Layers>(&self, compute: &C, x: &C::Map, told: &[f32], groups: usize) -> Result<C::Map> {
        let name = |leaf: &str| format!("{}.{leaf}", self.name);
        let normalised = compute.group_norm_relu(&name("gn1"), x, groups)?;
        let y = compute.standard_conv(&name("conv1"), &compute.beside(normalised, told)?, self.stride, 1)?;
        let y = compute.standard_conv(&name("conv2"), &compute.group_norm_relu(&name("gn2"), &y, groups)?, 1, 1)?;
        if !self.projects() {
            return compute.add(&y, x);
        }
        let normalised = compute.group_norm_relu(&name("downsample.0"), x, groups)?;
        compute.add(&y, &compute.standard_conv(&name("downsample.2"), &normalised, self.stride, 0)?)
    }
}

fn conv_spec(name: &str, kernel: usize, inputs: usize, outputs: usize) -> ParamSpec {
    let shape = vec![outputs, inputs, kernel, kernel, kernel];
    ParamSpec { name: format!("{name}.weight"), shape, init: Init::Uniform { fan_in: inputs * kernel.pow(3) } }
}

pub(crate) fn norm_specs(name: &str, channels: usize, specs: &mut Vec<ParamSpec>) {
    specs.push(ParamSpec { name: format!("{name}.weight"), shape: vec![channels], init: Init::Ones });
    specs.push(ParamSpec { name: format!("{name}.bias"), shape: vec![channels], init: Init::Zeros });
}
