//! Products of rows of positions with weights, in `f32`, `bf16` and 8 bits: what frozen layers and trained convolutions compute with.
//!
//! Channels lie together, so that a vector holds some of them for one position; sums are `f32` in any case.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod arithmetic;
pub(crate) mod bf16;
pub(crate) mod int8;
pub(crate) mod rows;
pub(crate) mod tiles;
pub(crate) mod transforms;
