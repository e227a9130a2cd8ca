//! The residual encoder-decoder that DoDNet and the methods it is compared with share (Zhang et al., CVPR 2021, 3.2), under
//! the names of the authors' code: blocks normalise first, and every convolution but the last standardises its weights.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::params::{Init, ParamSpec, Params};

/// The term under the root of the group norm.
const EPSILON: f64 = 1e-5;
/// The term under the root of the weights' standardisation.
const WEIGHT_EPSILON: f64 = 1e-12;

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
    pub fn check(&self) -> Result<(), String> {
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
    pub fn encode(&self, params: &Params, prefix: &str, image: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        let mut x = conv(params, &format!("{prefix}conv1"), image, 1, 1)?;
        let mut maps = Vec::with_capacity(5);
        for level in self.encoder(prefix) {
            for block in level {
                x = block.forward(params, &x, None, self.config.groups)?;
            }
            maps.push(x.clone()); // (b, f_i, d/2^i, h/2^i, w/2^i)
        }
        let fused = norm_relu(params, &format!("{prefix}fusionConv.0"), &x, self.config.groups)?;
        maps[4] = conv(params, &format!("{prefix}fusionConv.2"), &fused, 1, 0)?;
        Ok(maps)
    }

    /// The maps of the encoder to those of the decoder, full resolution first. `told` `(b, values)` is what a decoder is told that
    /// [`ResidualTrunk::told`] speaks of.
    ///
    /// # Errors
    /// As [`ResidualTrunk::encode`].
    pub fn decode(&self, params: &Params, prefix: &str, encoded: &[Tensor], told: Option<&Tensor>) -> candle_core::Result<Vec<Tensor>> {
        let mut decoded = Vec::with_capacity(4);
        let mut x = encoded[4].clone();
        for (block, skip) in self.decoder(prefix).iter().zip(encoded[..4].iter().rev()) {
            let raised = ops::upsample_linear(&x, &skip.dims()[2..])?;
            x = block.forward(params, &(raised + skip)?, told, self.config.groups)?;
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

    fn forward(&self, params: &Params, x: &Tensor, told: Option<&Tensor>, groups: usize) -> candle_core::Result<Tensor> {
        let name = |leaf: &str| format!("{}.{leaf}", self.name);
        let normalised = norm_relu(params, &name("gn1"), x, groups)?;
        let y = conv(params, &name("conv1"), &beside(normalised, told)?, self.stride, 1)?;
        let y = conv(params, &name("conv2"), &norm_relu(params, &name("gn2"), &y, groups)?, 1, 1)?;
        if !self.projects() {
            return y + x;
        }
        y + conv(params, &name("downsample.2"), &norm_relu(params, &name("downsample.0"), x, groups)?, self.stride, 0)?
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

/// A map `(b, c, d, h, w)` with a channel for each value of `told` `(b, values)`, the same in all voxels.
pub(crate) fn beside(map: Tensor, told: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let Some(told) = told else { return Ok(map) };
    let (samples, values) = told.dims2()?;
    let shape = [&[samples, values], &map.dims()[2..]].concat();
    let told = told.reshape((samples, values, 1, 1, 1))?.broadcast_as(shape)?.contiguous()?;
    ops::concat_channels(&[&map, &told])
}

/// Convolution with standardised weights and no bias.
fn conv(params: &Params, name: &str, x: &Tensor, stride: usize, padding: usize) -> candle_core::Result<Tensor> {
    let weight = params.get(&format!("{name}.weight"))?;
    #[expect(clippy::cast_precision_loss, reason = "filters are small")]
    let n = weight.elem_count() as f64 / weight.dim(0)? as f64;
    // The authors divide by the deviation of a sample, n - 1 in its denominator; the operation by that of a population.
    let weight = (ops::standardize_weights(&weight, WEIGHT_EPSILON)? * ((n - 1.0) / n).sqrt())?;
    ops::conv_with(x, &weight, None, params.walk(stride, padding))
}

pub(crate) fn norm_relu(params: &Params, name: &str, x: &Tensor, groups: usize) -> candle_core::Result<Tensor> {
    let get = |leaf: &str| params.get(&format!("{name}.{leaf}"));
    ops::group_norm_leaky_relu(x, groups, &get("weight")?, &get("bias")?, EPSILON, 0.0)
}
