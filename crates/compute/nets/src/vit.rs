//! The vision transformer of UNETR (Dosovitskiy et al., 2021), as MONAI's `ViT`.

use candle_core::{Result, Tensor, bail};

use crate::params::{Init, ParamSpec, Params};
use crate::transformer::{LayerNorm, Linear, Mlp, attention_macs};
use crate::unetr_blocks::volume;

/// Voxels of a side of the cubes that become tokens.
pub const PATCH: usize = 16;

/// Attention and a perceptron, each after a norm and beside a shortcut: MONAI's `TransformerBlock`.
#[derive(Clone)]
pub struct VitBlock {
    name: String,
    width: usize,
    heads: usize,
    norm1: LayerNorm,
    qkv: Linear,
    out_proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl VitBlock {
    /// A block of `width` features, which `heads` divides.
    #[must_use]
    pub fn new(name: &str, width: usize, mlp: usize, heads: usize) -> Self {
        Self {
            name: name.to_owned(),
            width,
            heads,
            norm1: LayerNorm::new(format!("{name}.norm1"), width),
            qkv: Linear::new(format!("{name}.attn.qkv"), width, 3 * width, false),
            out_proj: Linear::new(format!("{name}.attn.out_proj"), width, width, true),
            norm2: LayerNorm::new(format!("{name}.norm2"), width),
            mlp: Mlp::new(&format!("{name}.mlp"), width, mlp),
        }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.norm1.specs(specs);
        self.qkv.specs(specs);
        self.out_proj.specs(specs);
        self.norm2.specs(specs);
        self.mlp.specs(specs);
    }

    /// Tokens `(b, n, width)` to as many.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(params, &self.norm1.forward(params, x)?)?;
        let x = (x + self.out_proj.forward(params, &ops::attention(&qkv, self.heads, None, None)?)?)?;
        &x + self.mlp.forward(params, &self.norm2.forward(params, &x)?)?
    }

    fn macs(&self, tokens: usize) -> u64 {
        let linear = self.qkv.macs(tokens) + self.out_proj.macs(tokens) + self.mlp.macs(tokens);
        linear + attention_macs(1, tokens, self.width)
    }
}

/// The encoder of UNETR: cubes of 16³ voxels as tokens, with learnt places.
#[derive(Clone)]
pub struct Vit {
    grid: [usize; 3],
    width: usize,
    blocks: Vec<VitBlock>,
    norm: LayerNorm,
}

impl Vit {
    /// Of an image of `size`, whose sides 16 divides.
    pub(crate) fn new(size: [usize; 3], width: usize, mlp: usize, heads: usize, layers: usize) -> Self {
        Self {
            grid: size.map(|side| side / PATCH),
            width,
            blocks: (0..layers).map(|i| VitBlock::new(&format!("vit.blocks.{i}"), width, mlp, heads)).collect(),
            norm: LayerNorm::new("vit.norm".into(), width),
        }
    }

    /// Tokens along each axis.
    #[must_use]
    pub fn grid(&self) -> [usize; 3] {
        self.grid
    }

    /// Features of a token.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Every parameter; all names begin with `vit.`.
    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let init = Init::Uniform { fan_in: PATCH.pow(3) };
        let name = |leaf: &str| format!("vit.patch_embedding.{leaf}");
        specs.push(ParamSpec { name: name("patch_embeddings.weight"), shape: vec![self.width, 1, PATCH, PATCH, PATCH], init });
        specs.push(ParamSpec { name: name("patch_embeddings.bias"), shape: vec![self.width], init });
        let places = vec![1, volume(self.grid), self.width];
        specs.push(ParamSpec { name: name("position_embeddings"), shape: places, init: Init::Normal { std: 0.02 } });
        for block in &self.blocks {
            block.specs(specs);
            for (leaf, value) in [("weight", 1.0), ("bias", 0.0)] {
                let name = format!("{}.norm_cross_attn.{leaf}", block.name);
                specs.push(ParamSpec { name, shape: vec![self.width], init: Init::Idle { value } });
            }
        }
        self.norm.specs(specs);
    }

    /// Image `(b, 1, d, h, w)` to tokens `(b, n, width)` with their places added, x slowest.
    ///
    /// # Errors
    /// When the image has another size than the network is made for.
    pub fn embed(&self, params: &Params, image: &Tensor) -> Result<Tensor> {
        if image.dims()[1..] != [1, PATCH * self.grid[0], PATCH * self.grid[1], PATCH * self.grid[2]] {
            bail!(
                "an image of {:?} voxels expected, for which the places of tokens are learnt; found {:?}",
                self.grid.map(|n| PATCH * n),
                image.dims()
            );
        }
        // Patches do not overlap, so that the convolution is a matrix product over their voxels.
        let name = |leaf: &str| params.get(&format!("vit.patch_embedding.{leaf}"));
        let patches = patches(image, PATCH)?; // (b, n, 16³)
        let weight = name("patch_embeddings.weight")?.flatten_from(1)?;
        ops::linear(&patches, &weight, Some(&name("patch_embeddings.bias")?))?.broadcast_add(&name("position_embeddings")?)
    }

    /// Tokens `(b, n, width)`, all or some, to what each block makes of them, and the last of it normalised.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn encode(&self, params: &Params, mut tokens: Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let mut states = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            tokens = block.forward(params, &tokens)?;
            states.push(tokens.clone());
        }
        Ok((self.norm.forward(params, &tokens)?, states))
    }

    pub(crate) fn macs(&self) -> u64 {
        let tokens = volume(self.grid);
        let embedding = (tokens * PATCH.pow(3) * self.width) as u64;
        embedding + self.blocks.iter().map(|block| block.macs(tokens)).sum::<u64>()
    }
}

/// The voxels of each cube of `side`³ of an image `(b, 1, d, h, w)`, `(b, cubes, side³)`, x slowest in both.
///
/// # Errors
/// When `side` does not divide a side of the image.
pub fn patches(image: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, _, d, h, w) = image.dims5()?;
    if [d, h, w].iter().any(|length| length % side != 0) {
        bail!("sides that {side} divides expected, found {:?}", image.dims());
    }
    image
        .reshape(&[batch, d / side, side, h / side, side, w / side, side][..])?
        .permute([0, 1, 3, 5, 2, 4, 6].as_slice())?
        .contiguous()?
        .reshape((batch, image.elem_count() / batch / side.pow(3), side.pow(3)))
}
