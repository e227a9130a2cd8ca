//! The size of a U-Net.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More levels than any patch has sides for.
const MOST_LEVELS: usize = 10;

/// The longest step from a level to the next.
const LONGEST_STRIDE: usize = 8;

/// The longest side of a kernel.
const LONGEST_KERNEL: usize = 15;

/// More convolutions or blocks than any level has.
const MOST_BLOCKS: usize = 64;

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
    /// The layers of a network that nnU-Net's second version has built, where they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<UNetLayers>,
}

/// The layers of a U-Net level by level, as the second version of nnU-Net declares them, full resolution first. With them transposed
/// convolutions have a bias, and a residual block takes the mean over what its stride steps over before it changes the channels of
/// its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UNetLayers {
    /// Voxels of the kernels along x, y, z, in place of `first_kernel`; one triple for each level.
    pub kernels: Vec<[usize; 3]>,
    /// Convolutions of each level of the encoder; residual blocks count in place of them.
    pub convs: Vec<usize>,
    /// Convolutions of each level of the decoder, one fewer than of the encoder.
    pub decoder_convs: Vec<usize>,
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
        let Self { features, strides, blocks, first_kernel, layers } = self;
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
        if let Some(blocks) = blocks {
            check_each("blocks", blocks, features.len())?;
        }
        if !first_kernel.iter().all(is_side) {
            return Err(format!("first_kernel {first_kernel:?}: sides must be odd and at most {LONGEST_KERNEL}"));
        }
        layers.as_ref().map_or(Ok(()), |layers| layers.check(features.len()))
    }

    /// What all strides together divide a size by.
    #[must_use]
    pub fn reduction(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|stride| stride[axis]).product())
    }

    pub(super) fn kernel(&self, level: usize) -> [usize; 3] {
        match &self.layers {
            Some(layers) => layers.kernels[level],
            None if level == 0 => self.first_kernel,
            None => three(),
        }
    }

    /// Convolutions or blocks of a level of the encoder.
    pub(super) fn encoder_parts(&self, level: usize) -> usize {
        let convs = self.layers.as_ref().map_or(2, |layers| layers.convs[level]);
        self.blocks.as_ref().map_or(convs, |blocks| blocks[level])
    }

    /// Convolutions of a level of the decoder.
    pub(super) fn decoder_convs(&self, level: usize) -> usize {
        let usual = if self.blocks.is_some() { 1 } else { 2 };
        self.layers.as_ref().map_or(usual, |layers| layers.decoder_convs[level])
    }

    pub(super) fn stride(&self, level: usize) -> [usize; 3] {
        if level == 0 { [1; 3] } else { self.strides[level - 1] }
    }
}

impl UNetLayers {
    fn check(&self, levels: usize) -> std::result::Result<(), String> {
        let Self { kernels, convs, decoder_convs } = self;
        if kernels.len() != levels || !kernels.iter().flatten().all(is_side) {
            return Err(format!(
                "layers.kernels {kernels:?}: one triple of odd sides up to {LONGEST_KERNEL} is needed for each of the {levels} levels"
            ));
        }
        check_each("layers.convs", convs, levels)?;
        check_each("layers.decoder_convs", decoder_convs, levels - 1)
    }
}

fn is_side(side: &usize) -> bool {
    side % 2 == 1 && *side <= LONGEST_KERNEL
}

fn check_each(what: &str, numbers: &[usize], levels: usize) -> std::result::Result<(), String> {
    if numbers.len() == levels && numbers.iter().all(|number| (1..=MOST_BLOCKS).contains(number)) {
        return Ok(());
    }
    Err(format!("{what} {numbers:?}: a number from 1 to {MOST_BLOCKS} is needed for each of {levels} levels"))
}
