//! Training as a whole, on small prepared cases and a small network:
//!
//! - `loading`: batches from prepared cases
//! - `normalisation`: how intensities are shown to a network
//! - `optimizer`: AdamW, accumulation and freezing, held against PyTorch
//! - `resume`: the loop, its results, and what a kill does to them
//! - `trust`: how much labels count, and which cases are left out

mod loading;
mod normalisation;
mod optimizer;
mod resume;
mod toy;
mod trust;
