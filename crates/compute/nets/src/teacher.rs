//! The networks that a teacher may be (paper 2.3 and Table 5).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::Layers;
use crate::learning::{Numeric, Pass};
use crate::params::ParamSpec;
use crate::size::{check_channels, check_patch};
use crate::swin_unetr::STRIDE;
use crate::{Network, NnUNet, SwinUnetr, SwinUnetrConfig, TrunkConfig, UNet3d, UNet3dConfig, UNetConfig, Unetr, UnetrConfig};

/// The least side of the 3-D U-Net's patches, which it halves four times.
const UNET_SIDE: usize = 16;

/// The kind and the size of a teacher: `{features: [..]}` for the 3-D U-Net, `{unet: {..}}` for nnU-Net's, `{unetr: {..}}` or
/// `{swin_unetr: {..}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Fields", into = "Fields")]
pub enum TeacherConfig {
    /// The 3-D U-Net.
    UNet(UNet3dConfig),
    /// nnU-Net's.
    NnUNet(UNetConfig),
    /// UNETR.
    Unetr(UnetrConfig),
    /// Swin UNETR.
    SwinUnetr(SwinUnetrConfig),
}

/// A teacher as it stands in a pipeline file: exactly one of these.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The 3-D U-Net, by the channels of its five encoder levels and of its last decoder level; the paper's are 16, 16, 32, 64, 128, 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<[usize; 6]>,
    /// nnU-Net's U-Net, of any depth, plain or with residual blocks in its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unet: Option<UNetConfig>,
    /// UNETR; `{}` for the published size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unetr: Option<UnetrConfig>,
    /// Swin UNETR; `{}` for the published size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swin_unetr: Option<SwinUnetrConfig>,
}

impl TryFrom<Fields> for TeacherConfig {
    type Error = String;

    fn try_from(fields: Fields) -> std::result::Result<Self, String> {
        let Fields { features, unet, unetr, swin_unetr } = fields;
        let kinds = [
            features.map(|features| Self::UNet(UNet3dConfig { features })),
            unet.map(Self::NnUNet),
            unetr.map(Self::Unetr),
            swin_unetr.map(Self::SwinUnetr),
        ];
        let [config] = <[Self; 1]>::try_from(kinds.into_iter().flatten().collect::<Vec<_>>()).map_err(|_| {
            "give exactly one of features (the 3-D U-Net), unet, unetr and swin_unetr; an overlay takes one away with null".to_owned()
        })?;
        Ok(config)
    }
}

impl From<TeacherConfig> for Fields {
    fn from(config: TeacherConfig) -> Self {
        let none = Self { features: None, unet: None, unetr: None, swin_unetr: None };
        match config {
            TeacherConfig::UNet(config) => Self { features: Some(config.features), ..none },
            TeacherConfig::NnUNet(config) => Self { unet: Some(config), ..none },
            TeacherConfig::Unetr(config) => Self { unetr: Some(config), ..none },
            TeacherConfig::SwinUnetr(config) => Self { swin_unetr: Some(config), ..none },
        }
    }
}

impl TeacherConfig {
    /// Why the network cannot be built, or cannot take patches of this many voxels.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self, patch: [usize; 3]) -> std::result::Result<(), String> {
        match self {
            Self::UNet(_) if patch.iter().any(|&side| side < UNET_SIDE) => {
                Err(format!("patch: {patch:?}: every side must be at least {UNET_SIDE} voxels, because the network halves it four times"))
            }
            Self::UNet(config) => {
                check_channels("features", &config.features)?;
                check_patch(&patch, config.features[0].max(config.features[5]))
            }
            Self::NnUNet(config) => TrunkConfig::UNet(config.clone()).check(patch),
            Self::Unetr(config) => {
                config.check()?;
                check_patch(&patch, config.feature_size)?;
                if patch == config.img_size {
                    return Ok(());
                }
                Err(format!(
                    "patch: {patch:?}: must be the img_size {:?} of the UNETR, which learns the places of its tokens",
                    config.img_size
                ))
            }
            Self::SwinUnetr(config) => {
                config.check()?;
                check_patch(&patch, config.feature_size)?;
                if patch.iter().all(|&side| side > 0 && side % STRIDE == 0) {
                    return Ok(());
                }
                Err(format!("patch: {patch:?}: every side must be a multiple of {STRIDE} voxels, because the network halves it five times"))
            }
        }
    }
}

/// A teacher: a network from one image channel to the logits of its classes.
pub enum Teacher {
    /// The 3-D U-Net.
    UNet(UNet3d),
    /// nnU-Net's.
    NnUNet(NnUNet),
    /// UNETR.
    Unetr(Unetr),
    /// Swin UNETR.
    SwinUnetr(SwinUnetr),
}

impl Teacher {
    /// The network of that kind and size, which must be sound ([`TeacherConfig::check`]).
    #[must_use]
    pub fn new(config: &TeacherConfig, classes: usize) -> Self {
        match config {
            TeacherConfig::UNet(config) => Self::UNet(UNet3d::new(config, classes)),
            TeacherConfig::NnUNet(config) => Self::NnUNet(NnUNet::new(config, classes)),
            TeacherConfig::Unetr(config) => Self::Unetr(Unetr::new(config, classes)),
            TeacherConfig::SwinUnetr(config) => Self::SwinUnetr(SwinUnetr::new(config, classes)),
        }
    }

    /// Image `(b, 1, d, h, w)` to logits `(b, classes, d, h, w)`, with gradients for live parameters.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn forward<C: Layers>(&self, compute: &C, image: &C::Map) -> Result<C::Map> {
        match self {
            Self::UNet(network) => network.forward(compute, image),
            Self::NnUNet(network) => network.forward(compute, image),
            Self::Unetr(network) => network.forward(compute, image),
            Self::SwinUnetr(network) => network.forward(compute, image),
        }
    }

    /// Multiplications (each with an addition) of convolutions, matrix products and attention in a forward pass over one image of
    /// `size`. Norms and activations do not count.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        match self {
            Self::UNet(network) => network.macs(size),
            Self::NnUNet(network) => network.macs(size),
            Self::Unetr(network) => network.macs(),
            Self::SwinUnetr(network) => network.macs(size),
        }
    }
}

/// Images `(b, 1, d, h, w)` to logits `(b, classes, d, h, w)`.
impl Pass for Teacher {
    type Answer = Tensor;

    fn take<C: Numeric>(&self, compute: &C, batch: &Tensor) -> Result<Tensor> {
        compute.tensor(&self.forward(compute, &compute.of_tensor(batch))?)
    }
}

impl Network for Teacher {
    fn parameters(&self) -> Vec<ParamSpec> {
        match self {
            Self::UNet(network) => network.parameters(),
            Self::NnUNet(network) => network.parameters(),
            Self::Unetr(network) => network.parameters(),
            Self::SwinUnetr(network) => network.parameters(),
        }
    }
}
