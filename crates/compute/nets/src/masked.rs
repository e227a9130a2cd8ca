//! Encoders that learn from images alone: most cubes are hidden, and a light decoder tells what they hold.
//!
//! A vision transformer learns as a masked autoencoder (He et al., 2022): it sees the tokens that are left, and a small
//! transformer puts learnt tokens in the places of the others and tells their voxels. A Swin transformer cannot leave tokens
//! out of its windows; it learns as in SimMIM (Xie et al., 2022): learnt tokens stand for the hidden ones from the beginning,
//! cubes are as large as what its last features see, and these alone tell the voxels.

use candle_core::{Result, Tensor, bail};
use ops::{NO_ROW, RowMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::params::{Init, ParamSpec, Params};
use crate::swin_unetr::STRIDE;
use crate::transformer::{LayerNorm, Linear};
use crate::unetr_blocks::volume;
use crate::vit::{PATCH, patches};
use crate::{Network, Swin, Teacher, TeacherConfig, Vit, VitBlock};

/// Added to variances before roots are taken, as by He et al.
const EPSILON: f64 = 1e-6;

/// The decoder of a masked autoencoder. SimMIM has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderConfig {
    /// Features of its tokens.
    pub width: usize,
    /// Its blocks.
    pub depth: usize,
    /// Heads of its attention, a divisor of the width.
    pub heads: usize,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self { width: 384, depth: 4, heads: 6 }
    }
}

/// The cubes of a batch that are hidden, as many in each image.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// For each image and cube, x slowest, whether it is hidden.
    flags: Vec<bool>,
    images: usize,
}

impl Hidden {
    /// Hides cubes of each image.
    ///
    /// # Errors
    /// When the images do not hide equally many, or one hides all or none.
    pub fn new(of_images: &[Vec<bool>]) -> Result<Self> {
        let count = |flags: &Vec<bool>| (flags.len(), flags.iter().filter(|hidden| **hidden).count());
        let Some((cubes, hidden)) = of_images.first().map(count) else { bail!("no images, of which cubes could be hidden") };
        if of_images.iter().any(|flags| count(flags) != (cubes, hidden)) || hidden == 0 || hidden == cubes {
            bail!("as many hidden cubes in every image expected, and some that are not");
        }
        Ok(Self { flags: of_images.concat(), images: of_images.len() })
    }

    /// The rows of one kind.
    fn rows(&self, hidden: bool) -> Result<RowMap> {
        let chosen = self.flags.iter().enumerate().filter(|(_, flag)| **flag == hidden).map(|(row, _)| row as u32);
        RowMap::new(chosen.collect(), self.flags.len())
    }

    /// A column with 1 for each hidden cube.
    fn column(&self, like: &Tensor) -> Result<Tensor> {
        let column: Vec<f32> = self.flags.iter().map(|&hidden| f32::from(u8::from(hidden))).collect();
        Tensor::from_vec(column, (self.flags.len(), 1), like.device())?.to_dtype(like.dtype())
    }
}

/// An encoder with what it needs to learn from hidden cubes.
pub struct Masked {
    encoder: Encoder,
    /// Cubes along each axis.
    grid: [usize; 3],
}

enum Encoder {
    Vit { vit: Vit, width: usize, embed: Linear, blocks: Vec<VitBlock>, norm: LayerNorm, predict: Linear },
    Swin { swin: Swin, predict: Linear },
}

impl Masked {
    /// The encoder of a sound `config` on patches of a size that it takes.
    ///
    /// # Errors
    /// When the network has no transformer, or the decoder's heads do not divide its width.
    pub fn new(config: &TeacherConfig, patch: [usize; 3], decoder: &DecoderConfig) -> std::result::Result<Self, String> {
        let DecoderConfig { width, depth, heads } = *decoder;
        if heads == 0 || width == 0 || width % heads != 0 {
            return Err(format!("decoder: heads {heads} must divide width {width}"));
        }
        let encoder = match Teacher::new(config, 1) {
            Teacher::UNet(_) | Teacher::NnUNet(_) => {
                return Err("network: a 3-D U-Net has no encoder to pre-train; give unetr or swin_unetr".into());
            }
            Teacher::Unetr(network) => Encoder::Vit {
                width,
                embed: Linear::new("decoder.embed".into(), network.encoder().width(), width, true),
                blocks: (0..depth).map(|i| VitBlock::new(&format!("decoder.blocks.{i}"), width, 4 * width, heads)).collect(),
                norm: LayerNorm::new("decoder.norm".into(), width),
                predict: Linear::new("decoder.predict".into(), width, PATCH.pow(3), true),
                vit: network.encoder().clone(),
            },
            Teacher::SwinUnetr(network) => Encoder::Swin {
                predict: Linear::new("decoder.predict".into(), 16 * network.encoder().width(), STRIDE.pow(3), true),
                swin: network.encoder().clone(),
            },
        };
        let side = encoder.side();
        Ok(Self { encoder, grid: patch.map(|length| length / side) })
    }

    /// Voxels of a side of a cube.
    #[must_use]
    pub fn side(&self) -> usize {
        self.encoder.side()
    }

    /// Cubes of an image.
    #[must_use]
    pub fn cubes(&self) -> usize {
        volume(self.grid)
    }

    /// Whether a parameter is the encoder's, which is what stays of the network.
    #[must_use]
    pub fn is_of_encoder(name: &str) -> bool {
        !name.starts_with("decoder.")
    }

    /// What the hidden cubes of images `(b, 1, d, h, w)` are thought to hold, normalised, `(hidden, side³)`, image after image.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn predict(&self, params: &Params, image: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        if hidden.images != image.dim(0)? || hidden.flags.len() != hidden.images * self.cubes() {
            bail!("{} cubes to hide or show in each of {} images expected", self.cubes(), image.dim(0)?);
        }
        match &self.encoder {
            Encoder::Vit { vit, width, embed, blocks, norm, predict } => {
                let tokens = vit.embed(params, image)?;
                let shown = hidden.rows(false)?;
                let seen = ops::rearrange_rows(&tokens.reshape(((), vit.width()))?, &shown)?.reshape((hidden.images, (), vit.width()))?;
                let seen = embed.forward(params, &vit.encode(params, seen)?.0)?;
                let seen = ops::rearrange_rows(&seen.reshape(((), *width))?, &shown.inverse())?;
                let unseen = hidden.column(&seen)?.matmul(&params.get("decoder.mask_token")?)?;
                let all = (seen + unseen)?.reshape((hidden.images, self.cubes(), *width))?;
                let mut all = all.broadcast_add(&params.get("decoder.position_embeddings")?)?;
                for block in blocks {
                    all = block.forward(params, &all)?;
                }
                let asked = ops::rearrange_rows(&norm.forward(params, &all)?.reshape(((), *width))?, &hidden.rows(true)?)?;
                predict.forward(params, &asked)
            }
            Encoder::Swin { swin, predict } => {
                let mut tokens = swin.embed(params, image)?;
                let of_tokens = self.spread(hidden, tokens.size);
                let kept = of_tokens.flags.iter().enumerate().map(|(row, &hidden)| if hidden { NO_ROW } else { row as u32 });
                let shown = ops::rearrange_rows(&tokens.rows, &RowMap::new(kept.collect(), of_tokens.flags.len())?)?;
                tokens.rows = (shown + of_tokens.column(&tokens.rows)?.matmul(&params.get("decoder.mask_token")?)?)?;
                let maps = swin.encode(params, tokens)?;
                let last = &maps[maps.len() - 1]; // (b, 16 width, cubes)
                let rows = last.flatten_from(2)?.transpose(1, 2)?.contiguous()?.reshape(((), last.dim(1)?))?;
                predict.forward(params, &ops::rearrange_rows(&rows, &hidden.rows(true)?)?)
            }
        }
    }

    /// The finer tokens, `size` of them along each axis, that lie in hidden cubes.
    fn spread(&self, hidden: &Hidden, size: [usize; 3]) -> Hidden {
        let per_cube: [usize; 3] = std::array::from_fn(|axis| size[axis] / self.grid[axis]);
        let flags = (0..hidden.images * volume(size)).map(|row| {
            let (image, place) = (row / volume(size), row % volume(size));
            let place = [place / (size[1] * size[2]), place / size[2] % size[1], place % size[2]];
            let cube = (0..3).fold(0, |cube, axis| cube * self.grid[axis] + place[axis] / per_cube[axis]);
            hidden.flags[image * self.cubes() + cube]
        });
        Hidden { flags: flags.collect(), images: hidden.images }
    }

    /// The loss by the hidden cubes, each brought to mean 0 and variance 1: the mean square of He et al. for vision transformers,
    /// and the mean distance of SimMIM for Swin.
    ///
    /// # Errors
    /// As [`Masked::predict`].
    pub fn loss(&self, params: &Params, image: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        let cubes = patches(image, self.side())?.reshape(((), self.side().pow(3)))?;
        let truth = ops::rearrange_rows(&cubes, &hidden.rows(true)?)?;
        let ones = Tensor::ones(self.side().pow(3), truth.dtype(), truth.device())?;
        let truth = ops::layer_norm(&truth, &ones, &ones.zeros_like()?, EPSILON)?;
        let apart = (self.predict(params, image, hidden)? - truth)?;
        match self.encoder {
            Encoder::Vit { .. } => apart.sqr()?.mean_all(),
            Encoder::Swin { .. } => apart.abs()?.mean_all(),
        }
    }

    /// The image with its hidden cubes as they are thought to be; each gets the mean and the deviation that it has in truth,
    /// of which the network knows nothing.
    ///
    /// # Errors
    /// As [`Masked::predict`].
    pub fn reconstruct(&self, params: &Params, image: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        let voxels = self.side().pow(3);
        let cubes = patches(image, self.side())?.reshape(((), voxels))?;
        let asked = hidden.rows(true)?;
        let truth = ops::rearrange_rows(&cubes, &asked)?;
        let mean = truth.mean_keepdim(1)?;
        let deviation = (truth.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
        let thought = self.predict(params, image, hidden)?.detach().broadcast_mul(&deviation)?.broadcast_add(&mean)?;
        self.joined(&(self.shown_cubes(&cubes, hidden)? + ops::rearrange_rows(&thought, &asked.inverse())?)?, image)
    }

    /// The image with its hidden cubes black.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn shown(&self, image: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        let cubes = patches(image, self.side())?.reshape(((), self.side().pow(3)))?;
        self.joined(&self.shown_cubes(&cubes, hidden)?, image)
    }

    fn shown_cubes(&self, cubes: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        let shown = hidden.rows(false)?;
        ops::rearrange_rows(&ops::rearrange_rows(cubes, &shown)?, &shown.inverse())
    }

    /// Cubes back to an image.
    fn joined(&self, cubes: &Tensor, like: &Tensor) -> Result<Tensor> {
        let ([a, b, c], side) = (self.grid, self.side());
        cubes
            .reshape(&[like.dim(0)?, a, b, c, side, side, side][..])?
            .permute([0, 1, 4, 2, 5, 3, 6].as_slice())?
            .contiguous()?
            .reshape(like.shape())
    }
}

impl Encoder {
    fn side(&self) -> usize {
        match self {
            Self::Vit { .. } => PATCH,
            Self::Swin { .. } => STRIDE,
        }
    }
}

impl Network for Masked {
    /// Those of the encoder under its names, and the rest under `decoder.`.
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        let mut learnt = |leaf: &str, shape: Vec<usize>| {
            specs.push(ParamSpec { name: format!("decoder.{leaf}"), shape, init: Init::Normal { std: 0.02 } });
        };
        match &self.encoder {
            Encoder::Vit { vit, width, embed, blocks, norm, predict } => {
                learnt("mask_token", vec![1, *width]);
                learnt("position_embeddings", vec![1, self.cubes(), *width]);
                vit.specs(&mut specs);
                embed.specs(&mut specs);
                blocks.iter().for_each(|block| block.specs(&mut specs));
                norm.specs(&mut specs);
                predict.specs(&mut specs);
            }
            Encoder::Swin { swin, predict } => {
                learnt("mask_token", vec![1, swin.width()]);
                swin.specs(&mut specs);
                predict.specs(&mut specs);
            }
        }
        specs
    }
}
