//! UNETR (Hatamizadeh et al., 2022), as MONAI's: a vision transformer whose states are raised to the sizes of a U-Net.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::layers::Layers;
use crate::params::{ParamSpec, Params};
use crate::unetr_blocks::{Out, Raise, ResBlock, Up, doubled};
use crate::vit::{PATCH, Vit};

/// What is computed by the kernels of training alone.
const ATTENTION: &str = "attention between all tokens";
/// Blocks of the transformer; its states after the 4th, 7th and 10th are skips.
const LAYERS: usize = 12;
const SKIPS: [usize; 3] = [3, 6, 9];

/// The size of a UNETR; left out, that of ViT-B/16 on 128³. Names are MONAI's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnetrConfig {
    /// Voxels of the image along x, y, z, each a multiple of 16: the patch of the training. The places of tokens are learnt.
    pub img_size: [usize; 3],
    /// Channels of the finest maps.
    pub feature_size: usize,
    /// Features of a token.
    pub hidden_size: usize,
    /// Features within the perceptrons.
    pub mlp_dim: usize,
    /// Heads of the attention, a divisor of `hidden_size`.
    pub num_heads: usize,
}

impl Default for UnetrConfig {
    fn default() -> Self {
        Self { img_size: [128; 3], feature_size: 16, hidden_size: 768, mlp_dim: 3072, num_heads: 12 }
    }
}

impl UnetrConfig {
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let Self { img_size, feature_size, hidden_size, mlp_dim, num_heads } = *self;
        for (name, channels) in [("feature_size", feature_size), ("hidden_size", hidden_size), ("mlp_dim", mlp_dim)] {
            crate::size::check_channels(name, &[channels])?;
        }
        if img_size.iter().any(|side| *side == 0 || side % PATCH != 0) {
            return Err(format!("img_size {img_size:?}: every side must be a multiple of {PATCH} voxels, which make a token"));
        }
        if num_heads == 0 || hidden_size == 0 || hidden_size % num_heads != 0 {
            return Err(format!("num_heads {num_heads} must divide hidden_size {hidden_size}"));
        }
        Ok(())
    }
}

/// UNETR from one image channel to the logits of its classes.
pub struct Unetr {
    vit: Vit,
    encoder1: ResBlock,
    encoders: [Raise; 3],
    decoders: [Up; 4],
    out: Out,
}

impl Unetr {
    /// The network of that size, which must be sound.
    #[must_use]
    pub fn new(config: &UnetrConfig, classes: usize) -> Self {
        let UnetrConfig { img_size, feature_size: f, hidden_size, mlp_dim, num_heads } = *config;
        Self {
            vit: Vit::new(img_size, hidden_size, mlp_dim, num_heads, LAYERS),
            encoder1: ResBlock::basic("encoder1", 1, f),
            encoders: [(2, 2), (4, 1), (8, 0)]
                .map(|(factor, further)| (factor * f, further))
                .map(|(outputs, further)| Raise::new(&format!("encoder{}", 4 - further), hidden_size, outputs, further)),
            decoders: [(5, hidden_size, 8 * f), (4, 8 * f, 4 * f), (3, 4 * f, 2 * f), (2, 2 * f, f)]
                .map(|(level, inputs, outputs)| Up::new(&format!("decoder{level}"), inputs, outputs)),
            out: Out::new(f, classes),
        }
    }

    /// The transformer.
    #[must_use]
    pub fn encoder(&self) -> &Vit {
        &self.vit
    }

    /// Image `(b, 1, d, h, w)` of the size that the network is made for to logits `(b, classes, d, h, w)`.
    ///
    /// # Errors
    /// When the image has another size or memory runs out.
    pub fn forward<C: Layers>(&self, compute: &C, image: &C::Map) -> Result<C::Map> {
        let tokens = compute.as_trained(ATTENTION, &[image], |params, x| self.tokens(params, x[0]))?;
        let [at_8, at_4, at_2, deepest] = &tokens[..] else { bail!("four states expected, found {}", tokens.len()) };
        let mut x = deepest.clone(); // (b, hidden, d/16, h/16, w/16)
        for (decoder, encoder, state) in [(0, 2, at_8), (1, 1, at_4), (2, 0, at_2)] {
            x = self.decoders[decoder].forward(compute, "", &x, &self.encoders[encoder].forward(compute, state)?)?;
        }
        let x = self.decoders[3].forward(compute, "", &x, &self.encoder1.forward(compute, "", image)?)?;
        self.out.forward(compute, &x)
    }

    /// What the transformer makes of an image: its states for the skips, the deepest level's first, and the last one, all as maps.
    fn tokens(&self, params: &Params, image: &Tensor) -> Result<Vec<Tensor>> {
        let (deepest, states) = self.vit.encode(params, self.vit.embed(params, image)?)?;
        let [d, h, w] = self.vit.grid();
        let map = |tokens: &Tensor| tokens.transpose(1, 2)?.contiguous()?.reshape((tokens.dim(0)?, self.vit.width(), d, h, w));
        SKIPS.iter().rev().map(|&state| &states[state]).chain([&deepest]).map(map).collect()
    }

    /// Multiplications of a pass over one image.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let grid = self.vit.grid();
        let size = grid.map(|n| PATCH * n);
        let mut macs = self.vit.macs() + self.encoder1.macs(size) + self.out.macs(size);
        macs += self.encoders.iter().map(|encoder| encoder.macs(grid)).sum::<u64>();
        let mut below = grid;
        for decoder in &self.decoders {
            macs += decoder.macs(below);
            below = doubled(below);
        }
        macs
    }
}

impl Network for Unetr {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.vit.specs(&mut specs);
        self.encoder1.specs(&mut specs);
        self.encoders.iter().for_each(|encoder| encoder.specs(&mut specs));
        self.decoders.iter().for_each(|decoder| decoder.specs(&mut specs));
        self.out.specs(&mut specs);
        specs
    }
}
