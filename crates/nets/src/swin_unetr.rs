//! Swin UNETR (Hatamizadeh et al., 2022), as MONAI's (`use_v2=False`, `downsample="merging"`).

use candle_core::{Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::params::{ParamSpec, Params};
use crate::residual::{Out, ResBlock, Up, doubled};
use crate::swin::Swin;

/// Sides of images are multiples of this: a token and four mergings.
pub(crate) const STRIDE: usize = 32;

/// The size of a Swin UNETR; left out, the published one. Names are MONAI's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwinUnetrConfig {
    /// Channels of the finest maps and features of the first tokens.
    pub feature_size: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Heads of the attention in each stage, divisors of `feature_size` times 1, 2, 4 and 8.
    pub num_heads: [usize; 4],
    /// Tokens along each side of a window.
    pub window_size: usize,
}

impl Default for SwinUnetrConfig {
    fn default() -> Self {
        Self { feature_size: 48, depths: [2; 4], num_heads: [3, 6, 12, 24], window_size: 7 }
    }
}

impl SwinUnetrConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { feature_size, num_heads, window_size, depths: _ } = *self;
        for (stage, heads) in num_heads.into_iter().enumerate() {
            let width = feature_size << stage;
            if heads == 0 || width == 0 || width % heads != 0 {
                return Err(format!("num_heads {num_heads:?}: {heads} must divide the {width} features of stage {}", stage + 1));
            }
        }
        if !(1..=16).contains(&window_size) {
            return Err(format!("window_size {window_size} must be 1 to 16"));
        }
        Ok(())
    }
}

/// Swin UNETR from one image channel to the logits of its classes.
pub struct SwinUnetr {
    swin: Swin,
    encoders: [ResBlock; 4],
    encoder10: ResBlock,
    decoders: [Up; 5],
    out: Out,
}

impl SwinUnetr {
    /// The network of that size, which must be sound.
    #[must_use]
    pub fn new(config: &SwinUnetrConfig, classes: usize) -> Self {
        let f = config.feature_size;
        Self {
            swin: Swin::new(f, config.depths, config.num_heads, config.window_size),
            encoders: [(1, 1, f), (2, f, f), (3, 2 * f, 2 * f), (4, 4 * f, 4 * f)]
                .map(|(level, inputs, outputs)| ResBlock::basic(&format!("encoder{level}"), inputs, outputs)),
            encoder10: ResBlock::basic("encoder10", 16 * f, 16 * f),
            decoders: [(5, 16 * f, 8 * f), (4, 8 * f, 4 * f), (3, 4 * f, 2 * f), (2, 2 * f, f), (1, f, f)]
                .map(|(level, inputs, outputs)| Up::new(&format!("decoder{level}"), inputs, outputs)),
            out: Out::new(f, classes),
        }
    }

    /// The transformer.
    #[must_use]
    pub fn encoder(&self) -> &Swin {
        &self.swin
    }

    /// Image `(b, 1, d, h, w)`, sides multiples of 32, to logits `(b, classes, d, h, w)`.
    ///
    /// # Errors
    /// When a side is no multiple of 32 or memory runs out.
    pub fn forward(&self, params: &Params, image: &Tensor) -> candle_core::Result<Tensor> {
        if image.dims()[2..].iter().any(|side| side % STRIDE != 0) {
            bail!("sides that {STRIDE} divides expected, found {:?}", image.dims());
        }
        let maps = self.swin.encode(params, self.swin.embed(params, image)?)?;
        let mut x = self.encoder10.forward(params, &maps[4])?;
        x = self.decoders[0].forward(params, &x, &maps[3])?;
        for level in (1..4).rev() {
            x = self.decoders[4 - level].forward(params, &x, &self.encoders[level].forward(params, &maps[level - 1])?)?;
        }
        x = self.decoders[4].forward(params, &x, &self.encoders[0].forward(params, image)?)?;
        self.out.forward(params, &x)
    }

    /// Multiplications of a pass over one image, sides multiples of 32.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        let at = |factor: usize| size.map(|side| side / factor);
        let mut macs = self.swin.macs(size) + self.encoder10.macs(at(STRIDE)) + self.out.macs(size);
        macs += self.encoders.iter().zip([1, 2, 4, 8]).map(|(encoder, factor)| encoder.macs(at(factor))).sum::<u64>();
        let mut below = at(STRIDE);
        for decoder in &self.decoders {
            macs += decoder.macs(below);
            below = doubled(below);
        }
        macs
    }
}

impl Network for SwinUnetr {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.swin.specs(&mut specs);
        self.encoders.iter().for_each(|encoder| encoder.specs(&mut specs));
        self.encoder10.specs(&mut specs);
        self.decoders.iter().for_each(|decoder| decoder.specs(&mut specs));
        self.out.specs(&mut specs);
        specs
    }
}
