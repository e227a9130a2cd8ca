//! Swin UNETR (Hatamizadeh et al., 2022), as MONAI's (`use_v2=False`, `downsample="merging"`).

use candle_core::{Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::layers::Layers;
use crate::params::{ParamSpec, Params};
use crate::swin::Swin;
use crate::unetr_blocks::{Out, ResBlock, Up, doubled};

/// What is computed by the kernels of training alone.
const ATTENTION: &str = "attention in shifted windows";
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
        crate::size::check_channels("feature_size", &[feature_size])?;
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

/// The transformer, the blocks beside it, and the decoder: Swin UNETR without its logits.
pub(crate) struct SwinTrunk {
    width: usize,
    swin: Swin,
    encoders: [ResBlock; 4],
    encoder10: ResBlock,
    decoders: [Up; 5],
}

impl SwinTrunk {
    pub(crate) fn new(config: &SwinUnetrConfig) -> Self {
        let f = config.feature_size;
        Self {
            width: f,
            swin: Swin::new(f, config.depths, config.num_heads, config.window_size),
            encoders: [(1, 1, f), (2, f, f), (3, 2 * f, 2 * f), (4, 4 * f, 4 * f)]
                .map(|(level, inputs, outputs)| ResBlock::basic(&format!("encoder{level}"), inputs, outputs)),
            encoder10: ResBlock::basic("encoder10", 16 * f, 16 * f),
            decoders: [(5, 16 * f, 8 * f), (4, 8 * f, 4 * f), (3, 4 * f, 2 * f), (2, 2 * f, f), (1, f, f)]
                .map(|(level, inputs, outputs)| Up::new(&format!("decoder{level}"), inputs, outputs)),
        }
    }

    pub(crate) fn encoder_specs(&self, specs: &mut Vec<ParamSpec>) {
        self.swin.specs(specs);
        self.encoders.iter().for_each(|encoder| encoder.specs(specs));
        self.encoder10.specs(specs);
    }

    pub(crate) fn decoder_specs(&self, specs: &mut Vec<ParamSpec>) {
        self.decoders.iter().for_each(|decoder| decoder.specs(specs));
    }

    /// Image `(b, 1, d, h, w)`, sides multiples of 32, to six maps, full resolution first.
    pub(crate) fn encode<C: Layers>(&self, compute: &C, prefix: &str, image: &C::Map) -> candle_core::Result<Vec<C::Map>> {
        let mut maps = compute.as_trained(ATTENTION, &[image], |params, x| match prefix {
            "" => self.tokens(params, x[0]),
            _ => self.tokens(&params.under(prefix), x[0]),
        })?;
        maps[4] = self.encoder10.forward(compute, prefix, &maps[4])?;
        for (map, encoder) in maps[..3].iter_mut().zip(&self.encoders[1..]) {
            *map = encoder.forward(compute, prefix, map)?;
        }
        maps.insert(0, self.encoders[0].forward(compute, prefix, image)?);
        Ok(maps)
    }

    /// What the transformer makes of an image.
    fn tokens(&self, params: &Params, image: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        if image.dims()[2..].iter().any(|side| side % STRIDE != 0) {
            bail!("sides that {STRIDE} divides expected, found {:?}", image.dims());
        }
        self.swin.encode(params, self.swin.embed(params, image)?)
    }

    /// The maps of the encoder to the five of the decoder, full resolution first.
    pub(crate) fn decode<C: Layers>(&self, compute: &C, prefix: &str, encoded: &[C::Map]) -> candle_core::Result<Vec<C::Map>> {
        let mut decoded = Vec::with_capacity(self.decoders.len());
        let mut x = encoded[5].clone();
        for (decoder, skip) in self.decoders.iter().zip(encoded[..5].iter().rev()) {
            x = decoder.forward(compute, prefix, &x, skip)?;
            decoded.push(x.clone());
        }
        decoded.reverse();
        Ok(decoded)
    }

    /// Channels of the decoder's maps, full resolution first.
    pub(crate) fn decoded_channels(&self) -> Vec<usize> {
        [1, 1, 2, 4, 8].map(|factor| factor * self.width).into()
    }
}

/// Swin UNETR from one image channel to the logits of its classes.
pub struct SwinUnetr {
    trunk: SwinTrunk,
    out: Out,
}

impl SwinUnetr {
    /// The network of that size, which must be sound.
    #[must_use]
    pub fn new(config: &SwinUnetrConfig, classes: usize) -> Self {
        Self { trunk: SwinTrunk::new(config), out: Out::new(config.feature_size, classes) }
    }

    /// The transformer.
    #[must_use]
    pub fn encoder(&self) -> &Swin {
        &self.trunk.swin
    }

    /// Image `(b, 1, d, h, w)`, sides multiples of 32, to logits `(b, classes, d, h, w)`.
    ///
    /// # Errors
    /// When a side is no multiple of 32 or memory runs out.
    pub fn forward<C: Layers>(&self, compute: &C, image: &C::Map) -> candle_core::Result<C::Map> {
        let encoded = self.trunk.encode(compute, "", image)?;
        self.out.forward(compute, &self.trunk.decode(compute, "", &encoded)?[0])
    }

    /// Multiplications of a pass over one image, sides multiples of 32.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        let SwinTrunk { swin, encoders, encoder10, decoders, .. } = &self.trunk;
        let at = |factor: usize| size.map(|side| side / factor);
        let mut macs = swin.macs(size) + encoder10.macs(at(STRIDE)) + self.out.macs(size);
        macs += encoders.iter().zip([1, 2, 4, 8]).map(|(encoder, factor)| encoder.macs(at(factor))).sum::<u64>();
        let mut below = at(STRIDE);
        for decoder in decoders {
            macs += decoder.macs(below);
            below = doubled(below);
        }
        macs
    }
}

impl Network for SwinUnetr {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.trunk.encoder_specs(&mut specs);
        self.trunk.decoder_specs(&mut specs);
        self.out.specs(&mut specs);
        specs
    }
}
