//! The forward pass of trained networks on the CPU: nothing is kept for gradients, so everything may be laid out for
//! speed.
//!
//! Activations are [`Map`]s of one image: channels last, with a border of zeros, in `f32`, in [`Bf16`] or in [`Int8`]. A convolution
//! then reads, for every kernel row, one contiguous run of values per position, and needs no packing of its input.
//! Sums are `f32`, or whole numbers of 32 bits. Weights are packed once. Instance norms take their statistics from the sums of the
//! convolution before they are rounded.
//!
//! In 8 bits, activations are whole numbers, [`Levels`] of their map, which processors with VNNI multiply four at a time. Sums wait in
//! 16 bits until the range of their layer is known.
//!
//! In `bf16`, processors with AVX-512 BF16 do twice the work per instruction and those with AMX 16 times, and activations
//! take half the memory.

mod add;
mod conv;
pub(crate) mod direct;
mod head;
mod levels;
mod map;
mod norm;
mod packed;
mod pool;
mod sums;
mod up;
mod winograd;

pub use crate::cpu::lanes::arithmetic::{Element, Number};
pub use crate::cpu::lanes::bf16::{Bf16, Bf16Path, bf16_is_fast};
pub use crate::cpu::lanes::int8::{Int8, Int8Path, int8_is_fast};
pub use conv::{Method, PackedConv};
pub use head::PackedHead;
pub use levels::Levels;
pub use map::{Channels, Map};
pub use norm::{InstanceNorm, Line};
pub use up::PackedUpsampling;
