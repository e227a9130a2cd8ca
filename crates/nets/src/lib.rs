//! The networks of the method: the 3-D teacher and the dual-decoding 2-D student.
//!
//! A network is structure alone: it names its parameters ([`Network::parameters`]) and computes with the ones it is
//! given. Values live in [`Params`], under the names that PyTorch and MONAI give them, so that a MONAI checkpoint
//! loads, a freeze plan is a rule over names, and a checkpoint is a map of names to tensors.
//!
//! Tensors are `(b, c, d, h, w)` and `(b, c, h, w)` with `(d, h, w) = (x, y, z)` and `(h, w) = (x, y)` of the volume.

mod blocks;
mod compute;
mod device;
mod dodnet;
mod frozen;
mod params;
mod residual;
mod student;
mod teacher;
mod trunk;
mod unet;
mod weights;

pub use compute::Compute;
pub use device::device;
pub use dodnet::{DoDNet, DoDNetFeatures, DynamicHeadConfig};
pub use frozen::{Frozen, Precision, Trained};
pub use params::{Init, ParamSpec, Params, ParamsError};
pub use residual::{ResidualConfig, ResidualTrunk};
pub use student::{DualUNet2d, DualUNet2dConfig, Features};
pub use teacher::{UNet3d, UNet3dConfig};
pub use trunk::{Trunk, TrunkConfig};
pub use unet::{UNetConfig, UNetTrunk};
pub use weights::{WeightsError, metadata};

/// Something with parameters.
pub trait Network {
    /// Every parameter with its shape and the distribution it starts from.
    fn parameters(&self) -> Vec<ParamSpec>;
}
