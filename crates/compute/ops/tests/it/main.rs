//! The operations held against naive formulas, finite differences and reference values.

mod adamw;
mod bf16;
mod conv;
mod conv_options;
#[cfg(feature = "cuda")]
mod cuda;
mod frozen;
mod loss;
mod memory_and_device;
mod norm;
mod normed;
mod pointwise;
mod pool;
mod pytorch;
mod support;
mod tokens;
mod upsample;
