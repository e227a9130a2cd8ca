//! The forward pass of trained networks on the CPU: nothing is kept for gradients, so everything may be laid out for
//! speed.
//!
//! Activations are [`Map`]s of one image: channels last, with a border of zeros, in `f32` or in [`Bf16`]. A convolution
//! then reads, for every kernel row, one contiguous run of values per position, and needs no packing of its input.
//! Sums are `f32` in both. Weights are packed once. Instance norms take their statistics from the sums of the
//! convolution before they are rounded.
//!
//! In `bf16`, processors with AVX-512 BF16 do twice the work per instruction and those with AMX 16 times, and activations
//! take half the memory.

mod conv;
pub(crate) mod direct;
mod head;
mod map;
mod norm;
mod packed;
mod pool;
mod sums;
mod up;
mod winograd;

pub use crate::cpu::lanes::arithmetic::Element;
pub use crate::cpu::lanes::bf16::{Bf16, Bf16Path, bf16_is_fast};
pub use conv::{Method, PackedConv};
pub use head::PackedHead;
pub use map::{Channels, Map};
pub use norm::InstanceNorm;
pub use up::PackedUpsampling;
