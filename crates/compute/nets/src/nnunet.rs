//! The U-Nets of MultiTalent (Ulrich et al., MICCAI 2023, 2.2), which are nnU-Net's: strided convolutions on the way down,
//! transposed ones on the way up, instance norm; with plain or residual blocks in the encoder.

use candle_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::Layers;
use crate::params::{Init, ParamSpec};

/// The slope of LeakyReLU for negative values.
const SLOPE: f64 = 0.01;

/// More levels than any patch has sides for.
const MOST_LEVELS: usize = 10;

/// The longest step from a level to the next.
const LONGEST_STRIDE: usize = 8;

/// The size of a U-Net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the levels: 30, 60, 120, 240, 320, 320 in MultiTalent.
    pub features: Vec<usize>,
    /// What the size is divided by along x, y, z from each level to the next: four times 2, 2, 2 and once 2, 2, 1 in MultiTalent.
    pub strides: Vec<[usize; 3]>,
    /// Residual blocks of the encoder's levels: 1, 2, 3, 4, 4, 4 in MultiTalent's residual-encoder U-Net. Without them two
    /// plain convolutions a level.
    #[serde(default)]
    pub blocks: Option<Vec<usize>>,
    /// Voxels of the kernels of the first level along x, y, z: 3, 3, 1 in MultiTalent's residual-encoder U-Net.
    #[serde(default = "three")]
    pub first_kernel: [usize; 3],
}

fn three() -> [usize; 3] {
    [3; 3]
}

impl UNetConfig {
    /// Why there is no such network, if there is none.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Self { features, strides, blocks, first_kernel } = self;
        crate::size::check_channels("features", features)?;
        if !(2..=MOST_LEVELS).contains(&features.len()) {
            return Err(format!("features {features:?}: 2 to {MOST_LEVELS} levels are needed"));
        }
        if strides.len() + 1 != features.len() || strides.iter().flatten().any(|stride| !(1..=LONGEST_STRIDE).contains(stride)) {
            return Err(format!(
                "strides {strides:?}: one triple of 1 to {LONGEST_STRIDE} is needed between each two of the {} levels",
                features.len()
            ));
        }
        if blocks.as_ref().is_some_and(|blocks| blocks.len() != features.len() || blocks.contains(&0)) {
            return Err(format!("blocks {blocks:?}: at least one for each of the {} levels is needed", features.len()));
        }
        if first_kernel.iter().any(|side| side % 2 == 0) {
            return Err(format!("first_kernel {first_kernel:?}: sides must be odd"));
        }
        Ok(())
    }

    /// What all strides together divide a size by.
    #[must_use]
    pub fn reduction(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|stride| stride[axis]).product())
    }

    fn kernel(&self, level: usize) -> [usize; 3] {
        if level == 0 { self.first_kernel } else { three() }
    }

    fn stride(&self, level: usize) -> [usize; 3] {
        if level == 0 { [1; 3] } else { self.strides[level - 1] }
    }
}

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
            specs.push(ParamSpec { name: format!("{}.weight", self.up(prefix, level)), shape, init });
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
            let raised = compute.raise(&self.up(prefix, level), &x, self.config.strides[level])?;
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
            if self.config.blocks.is_some() { Part::Residual(conv) } else { Part::Plain(conv) }
        };
        (0..self.config.blocks.as_ref().map_or(2, |blocks| blocks[level])).map(part).collect()
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
        (0..if self.config.blocks.is_some() { 1 } else { 2 }).map(conv).collect()
    }

    fn up(&self, prefix: &str, level: usize) -> String {
        format!("{prefix}decoder.{level}.up")
    }
}

/// A piece of an encoder level.
enum Part {
    Plain(Conv),
    /// Two convolutions beside their input, or beside a 1×1×1 convolution of it.
    Residual(Conv),
}

impl Part {
    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        match self {
            Self::Plain(conv) => conv.specs(specs),
            Self::Residual(conv) => conv.residual().into_iter().for_each(|(conv, start)| conv.specs_with(start, specs)),
        }
    }

    fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        let convs = match self {
            Self::Plain(conv) => return conv.forward(compute, x),
            Self::Residual(conv) => conv.residual(),
        };
        let y = convs[1].0.normalised(compute, &convs[0].0.forward(compute, x)?, 1.0)?;
        let skip = match convs.get(2) {
            None => x.clone(),
            Some((projection, _)) => projection.normalised(compute, x, 1.0)?,
        };
        compute.leaky_relu(&compute.add(&y, &skip)?, SLOPE)
    }
}

/// Convolution, instance norm, LeakyReLU.
struct Conv {
    name: String,
    kernel: [usize; 3],
    stride: [usize; 3],
    inputs: usize,
    outputs: usize,
}

impl Conv {
    /// The convolutions of a residual block that begins with this one, and how the scale of their norm starts: the last one's
    /// at 0, so that a block starts as its skip. The third one is the projection, where there is one.
    fn residual(&self) -> Vec<(Conv, Init)> {
        let Self { ref name, kernel, stride, inputs, outputs } = *self;
        let conv = |leaf: &str, kernel, stride, inputs| Conv { name: format!("{name}.{leaf}"), kernel, stride, inputs, outputs };
        let mut convs = vec![(conv("conv1", kernel, stride, inputs), Init::Ones), (conv("conv2", kernel, [1; 3], outputs), Init::Zeros)];
        if stride != [1; 3] || inputs != outputs {
            convs.push((conv("skip", [1; 3], stride, inputs), Init::Ones));
        }
        convs
    }

    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.specs_with(Init::Ones, specs);
    }

    fn specs_with(&self, start: Init, specs: &mut Vec<ParamSpec>) {
        let Self { name, kernel, inputs, outputs, .. } = self;
        let init = Init::Uniform { fan_in: inputs * kernel.iter().product::<usize>() };
        let spec = |leaf: &str, shape: Vec<usize>, init| ParamSpec { name: format!("{name}.{leaf}"), shape, init };
        specs.push(spec("conv.weight", [&[*outputs, *inputs], &kernel[..]].concat(), init));
        specs.push(spec("norm.weight", vec![*outputs], start));
        specs.push(spec("norm.bias", vec![*outputs], Init::Zeros));
    }

    fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        self.normalised(compute, x, SLOPE)
    }

    /// With another slope than LeakyReLU's; 1 leaves it out. The convolution has no bias, which the norm would take away.
    fn normalised<C: Layers>(&self, compute: &C, x: &C::Map, slope: f64) -> Result<C::Map> {
        compute.conv_norm(&self.name, x, self.stride, self.kernel.map(|side| side / 2), slope)
    }
}
