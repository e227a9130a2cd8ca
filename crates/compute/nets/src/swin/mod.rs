//! The Swin transformer (Liu et al., 2021) of Swin UNETR, as MONAI's `SwinTransformer`.
//!
//! Tokens are rows `(b * d * h * w, c)`, so that windows, their shifts and paddings are rows that change places.

mod windows;

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use ops::{NO_ROW, RowMap};

use self::windows::Windows;
use crate::compute::EPSILON;
use crate::frozen::Kept;
use crate::params::{Init, ParamSpec, Params};
use crate::recompute::recomputed;
use crate::transformer::{LayerNorm, Linear, Mlp, attention_macs};
use crate::unetr_blocks::volume;

/// Voxels of a side of the cubes that become tokens.
const PATCH: usize = 2;

/// Tokens on a grid.
#[derive(Clone)]
pub struct Tokens {
    /// `(batch * d * h * w, c)`.
    pub rows: Tensor,
    /// Images.
    pub batch: usize,
    /// Tokens along each axis.
    pub size: [usize; 3],
}

impl Tokens {
    /// As a map `(b, c, d, h, w)`, every token normalised.
    fn normed_map(&self) -> Result<Tensor> {
        let width = self.rows.dim(1)?;
        let ones = Tensor::ones(width, self.rows.dtype(), self.rows.device())?;
        let [d, h, w] = self.size;
        ops::layer_norm(&self.rows, &ones, &ones.zeros_like()?, EPSILON)?
            .reshape((self.batch, volume(self.size), width))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((self.batch, width, d, h, w))
    }
}

/// Attention within windows and a perceptron, each after a norm and beside a shortcut.
#[derive(Clone)]
struct SwinBlock {
    name: String,
    width: usize,
    heads: usize,
    window: usize,
    shifted: bool,
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    windows: Arc<Kept<(usize, [usize; 3]), Windows>>,
}

impl SwinBlock {
    fn new(name: String, width: usize, heads: usize, window: usize, shifted: bool) -> Self {
        Self {
            width,
            heads,
            window,
            shifted,
            norm1: LayerNorm::new(format!("{name}.norm1"), width),
            qkv: Linear::new(format!("{name}.attn.qkv"), width, 3 * width, true),
            proj: Linear::new(format!("{name}.attn.proj"), width, width, true),
            norm2: LayerNorm::new(format!("{name}.norm2"), width),
            mlp: Mlp::new(&format!("{name}.mlp"), width, 4 * width),
            windows: Arc::default(),
            name,
        }
    }

    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.norm1.specs(specs);
        let rows = (2 * self.window - 1).pow(3);
        specs.push(ParamSpec { name: self.table(), shape: vec![rows, self.heads], init: Init::Normal { std: 0.02 } });
        self.qkv.specs(specs);
        self.proj.specs(specs);
        self.norm2.specs(specs);
        self.mlp.specs(specs);
    }

    fn table(&self) -> String {
        format!("{}.attn.relative_position_bias_table", self.name)
    }

    fn forward(&self, params: &Params, x: &Tokens) -> Result<Tokens> {
        let (batch, size) = (x.batch, x.size);
        let rows = if params.recomputes(4 * x.rows.elem_count()) {
            let block = self.clone();
            recomputed(params, &self.name, &[&x.rows], move |params, rows| block.run(params, &rows[0], batch, size))?
        } else {
            self.run(params, &x.rows, batch, size)?
        };
        Ok(Tokens { rows, batch, size })
    }

    fn run(&self, params: &Params, x: &Tensor, batch: usize, size: [usize; 3]) -> Result<Tensor> {
        let windows = self.windows.get((batch, size), || Windows::new(batch, size, self.window, self.shifted, x.device()))?;
        let seen = ops::rearrange_rows(&self.norm1.forward(params, x)?, &windows.cut)?;
        let qkv = self.qkv.forward(params, &seen)?.reshape((windows.count, windows.tokens, 3 * self.width))?;
        let attended = ops::attention(&qkv, self.heads, Some(&self.bias(params, &windows)?), windows.mask.as_ref())?;
        let attended = self.proj.forward(params, &attended.reshape(seen.shape())?)?;
        let x = (x + ops::rearrange_rows(&attended, &windows.cut.inverse())?)?;
        &x + self.mlp.forward(params, &self.norm2.forward(params, &x)?)?
    }

    /// The bias of each pair of tokens by where they lie to each other, `(heads, tokens, tokens)`.
    fn bias(&self, params: &Params, windows: &Windows) -> Result<Tensor> {
        let by_pair = params.get(&self.table())?.index_select(&windows.pairs, 0)?;
        by_pair.t()?.contiguous()?.reshape((self.heads, windows.tokens, windows.tokens))
    }

    fn macs(&self, size: [usize; 3]) -> u64 {
        let side = size.map(|n| n.min(self.window));
        let windows: usize = (0..3).map(|axis| size[axis].div_ceil(side[axis])).product();
        let tokens = volume(side);
        let linear = self.qkv.macs(windows * tokens) + self.proj.macs(windows * tokens) + self.mlp.macs(volume(size));
        linear + attention_macs(windows, tokens, self.width)
    }
}

/// Eight neighbours become one token of twice the features: MONAI's `PatchMerging`.
#[derive(Clone)]
struct Merging {
    width: usize,
    norm: LayerNorm,
    reduction: Linear,
}

/// The order in which neighbours stand behind each other, along (d, h, w).
const NEIGHBOURS: [[usize; 3]; 8] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]];

impl Merging {
    fn new(name: &str, width: usize) -> Self {
        Self {
            width,
            norm: LayerNorm::new(format!("{name}.norm"), 8 * width),
            reduction: Linear::new(format!("{name}.reduction"), 8 * width, 2 * width, false),
        }
    }

    /// An axis of odd length gets a row of zeros.
    fn forward(&self, params: &Params, x: &Tokens) -> Result<Tokens> {
        let size = x.size.map(|n| n.div_ceil(2));
        let [_, h, w] = x.size;
        let mut rows = Vec::with_capacity(8 * x.batch * volume(size));
        for image in 0..x.batch {
            for place in 0..volume(size) {
                let place = [place / (size[1] * size[2]), place / size[2] % size[1], place % size[2]];
                rows.extend(NEIGHBOURS.iter().map(|offset| {
                    let at: [usize; 3] = std::array::from_fn(|axis| 2 * place[axis] + offset[axis]);
                    let inside = (0..3).all(|axis| at[axis] < x.size[axis]);
                    if inside { (image * volume(x.size) + (at[0] * h + at[1]) * w + at[2]) as u32 } else { NO_ROW }
                }));
            }
        }
        let joined = ops::rearrange_rows(&x.rows, &RowMap::new(rows, x.rows.dim(0)?)?)?.reshape(((), 8 * self.width))?;
        let rows = self.reduction.forward(params, &self.norm.forward(params, &joined)?)?;
        Ok(Tokens { rows, batch: x.batch, size })
    }

    fn macs(&self, size: [usize; 3]) -> u64 {
        self.reduction.macs(size.iter().map(|n| n.div_ceil(2)).product())
    }
}

#[derive(Clone)]
struct Stage {
    blocks: Vec<SwinBlock>,
    merging: Merging,
}

/// The encoder of Swin UNETR.
#[derive(Clone)]
pub struct Swin {
    width: usize,
    stages: Vec<Stage>,
}

impl Swin {
    pub(crate) fn new(width: usize, depths: [usize; 4], heads: [usize; 4], window: usize) -> Self {
        let stage = |i: usize| {
            let (name, width) = (format!("swinViT.layers{}.0", i + 1), width << i);
            let block = |j: usize| SwinBlock::new(format!("{name}.blocks.{j}"), width, heads[i], window, j % 2 == 1);
            Stage { blocks: (0..depths[i]).map(block).collect(), merging: Merging::new(&format!("{name}.downsample"), width) }
        };
        Self { width, stages: (0..4).map(stage).collect() }
    }

    /// Features of a token before the first stage.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Every parameter; all names begin with `swinViT.`.
    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let init = Init::Uniform { fan_in: PATCH.pow(3) };
        let name = |leaf: &str| format!("swinViT.patch_embed.proj.{leaf}");
        specs.push(ParamSpec { name: name("weight"), shape: vec![self.width, 1, PATCH, PATCH, PATCH], init });
        specs.push(ParamSpec { name: name("bias"), shape: vec![self.width], init });
        for stage in &self.stages {
            stage.blocks.iter().for_each(|block| block.specs(specs));
            stage.merging.norm.specs(specs);
            stage.merging.reduction.specs(specs);
        }
    }

    /// Image `(b, 1, d, h, w)` to tokens, one for each 2×2×2 voxels; odd sides are padded with zeros.
    ///
    /// # Errors
    /// When the image has more than one channel.
    pub fn embed(&self, params: &Params, image: &Tensor) -> Result<Tokens> {
        let (batch, channels, ..) = image.dims5()?;
        if channels != 1 {
            bail!("an image of one channel expected, found {:?}", image.dims());
        }
        let mut padded = image.clone();
        for axis in 2..5 {
            let odd = padded.dim(axis)? % PATCH;
            padded = if odd > 0 { padded.pad_with_zeros(axis, 0, PATCH - odd)? } else { padded };
        }
        let get = |leaf: &str| params.get(&format!("swinViT.patch_embed.proj.{leaf}"));
        // Patches do not overlap, so that the convolution is a matrix product over their voxels.
        let voxels = crate::vit::patches(&padded, PATCH)?.reshape(((), PATCH.pow(3)))?;
        let rows = ops::linear(&voxels, &get("weight")?.flatten_from(1)?, Some(&get("bias")?))?;
        let (_, _, d, h, w) = padded.dims5()?;
        Ok(Tokens { rows, batch, size: [d, h, w].map(|side| side / PATCH) })
    }

    /// Tokens to maps `(b, c · 2^i, d / 2^i, h / 2^i, w / 2^i)`: of the tokens themselves, and after each of the four stages.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn encode(&self, params: &Params, mut tokens: Tokens) -> Result<Vec<Tensor>> {
        let mut maps = vec![tokens.normed_map()?];
        for stage in &self.stages {
            for block in &stage.blocks {
                tokens = block.forward(params, &tokens)?;
            }
            tokens = stage.merging.forward(params, &tokens)?;
            maps.push(tokens.normed_map()?);
        }
        Ok(maps)
    }

    /// Of an image whose sides are even.
    pub(crate) fn macs(&self, image: [usize; 3]) -> u64 {
        let mut size = image.map(|side| side / PATCH);
        let mut macs = (volume(size) * PATCH.pow(3) * self.width) as u64;
        for stage in &self.stages {
            macs += stage.blocks.iter().map(|block| block.macs(size)).sum::<u64>() + stage.merging.macs(size);
            size = size.map(|n| n.div_ceil(2));
        }
        macs
    }
}
