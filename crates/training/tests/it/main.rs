//! Training as a whole, on small prepared cases and a small network:
//!
//! - `loading`: batches from prepared cases
//! - `optimizer`: AdamW, accumulation and freezing, held against PyTorch
//! - `resume`: the loop, its results, and what a kill does to them
//! - `trust`: how much labels count, and which cases are left out

mod loading;
mod optimizer;
mod resume;
mod toy;
mod trust;
