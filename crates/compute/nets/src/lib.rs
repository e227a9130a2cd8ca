//! The networks of the method: the 3-D teacher and the dual-decoding 2-D student.
//!
//! A network is structure alone: it names its parameters ([`Network::parameters`]) and computes with the ones it is
//! given. Values live in [`Params`], under the names that PyTorch and MONAI give them, so that a MONAI checkpoint
//! loads, a freeze plan is a rule over names, and a checkpoint is a map of names to tensors.
//!
//! Tensors are `(b, c, d, h, w)` and `(b, c, h, w)` with `(d, h, w) = (x, y, z)` and `(h, w) = (x, y)` of the volume.

mod basic_unet;
mod blocks;
mod compute;
mod device;
mod dodnet;
mod frozen;
mod layers;
mod learning;
mod masked;
mod nnunet;
mod params;
mod partly;
mod passed;
mod preactivated;
mod precision;
mod recompute;
mod size;
mod student;
mod swin;
mod swin_unetr;
mod teacher;
mod transformer;
mod trunk;
mod unetr;
mod unetr_blocks;
mod vit;
mod weights;

pub use basic_unet::{UNet3d, UNet3dConfig};
pub use compute::{Compute, EPSILON, SLOPE};
pub use device::device;
pub use dodnet::{DoDNet, DoDNetFeatures, DynamicHead, DynamicHeadConfig};
pub use layers::{Block, ConvNorm, Layers, standardized};
pub use learning::{Learning, Numeric, Pass, Trained};
pub use masked::{DecoderConfig, Hidden, Masked};
pub use nnunet::{NnUNet, UNetConfig, UNetLayers, UNetTrunk};
pub use params::{Init, ParamSpec, Params, ParamsError};
pub use preactivated::{ResidualConfig, ResidualTrunk};
pub use precision::Precision;
pub use student::{DualUNet2d, DualUNet2dConfig};
pub use swin::{Swin, Tokens};
pub use swin_unetr::{SwinUnetr, SwinUnetrConfig};
pub use teacher::{Teacher, TeacherConfig};
pub use trunk::{Trunk, TrunkConfig};
pub use unetr::{Unetr, UnetrConfig};
pub use vit::{PATCH as TOKEN_SIDE, Vit, VitBlock, patches};
pub use weights::{Taken, WeightsError, is_leftover, metadata, with_other_metadata};

/// Something with parameters.
pub trait Network {
    /// Every parameter with its shape and the distribution it starts from.
    fn parameters(&self) -> Vec<ParamSpec>;
}
