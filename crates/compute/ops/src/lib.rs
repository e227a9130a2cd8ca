//! What candle lacks for training 2-D and 3-D segmentation networks: convolution and its gradients at the speed of
//! the machine, normalisation with activation, pooling, resampling, the Dice and cross-entropy loss, AdamW; and for
//! transformers attention, layer normalisation, softmax and GELU.
//!
//! Tensors are `(b, c, h, w)` or `(b, c, d, h, w)`. On the CPU, for `f32`, every operation is a candle custom operation
//! over kernels of this crate (`cpu`): vectorised for AVX-512, for AVX2, and in portable arithmetic, chosen at run time. On
//! NVIDIA GPUs, with the feature `cuda`, convolutions are cuDNN's, of `f32` and `bf16`, and what a convolutional U-Net
//! needs besides for `f32` has kernels too (`cuda`). What neither serves is composed of candle's own operations
//! (`composed`). All ways give the same gradients, which the tests hold against finite differences.
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//!
//! # fn main() -> candle_core::Result<()> {
//! let image = Tensor::randn(0f32, 1.0, (2, 1, 33, 40), &Device::Cpu)?;
//! let truth = Tensor::zeros((2, 33, 40), DType::U8, &Device::Cpu)?;
//! let weight = Var::randn(0f32, 0.3, (3, 1, 3, 3), &Device::Cpu)?;
//! let logits = ops::conv(&image, &weight, None, 1, 1)?;
//! let gradients = ops::dice_ce(&logits, &truth)?.backward()?;
//! assert_eq!(gradients.get(&weight).map(|g| g.dims().to_vec()), Some(vec![3, 1, 3, 3]));
//! # Ok(())
//! # }
//! ```
//!
//! Results of the kernels do not depend on the number of threads: sums are cut by shape alone and added in order.

mod argmax;
mod attention;
mod binary;
mod composed;
mod conv;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
pub mod frozen;
mod linear;
mod loss;
mod max_pool;
mod norm;
mod optim;
mod pointwise;
mod pool;
mod rearrange;
mod tensor;
mod tokens;
mod upsample;

pub use argmax::{argmax_channels, argmax_overlay};
pub use attention::attention;
pub use binary::binary_sums;
pub use conv::{
    ConvOptions, Factors, Norm, bf16_trains_faster, conv, conv_norm_leaky_relu, conv_transpose, conv_transpose_with, conv_with,
};
pub use cpu::isa::{Isa, with_isa};
pub use device::{Choice, device, release_memory, tune_process};
pub use linear::linear;
pub use loss::{DiceCe, Target, cross_entropy, dice_ce};
pub use max_pool::{PoolOptions, max_pool};
pub use norm::{group_norm_leaky_relu, instance_norm_leaky_relu};
pub use optim::{AdamW, Parameter, adamw, adamw_step};
pub use pointwise::add_leaky_relu;
pub use pool::{concat_channels, max_pool2, pad_replicate_end};
pub use rearrange::{NO_ROW, RowMap, rearrange_rows};
pub use tokens::{gelu, layer_norm, softmax, standardize_weights};
pub use upsample::{upsample_linear, upsample_nearest};
