//! Training as a whole, on small prepared cases and a small network:
//!
//! - `augment`: drawn changes and what they do to boxes, held against torch, batchgeneratorsv2 and scipy
//! - `draws`: what is drawn, of which parameters
//! - `loading`: batches from prepared cases
//! - `normalisation`: how intensities are shown to a network
//! - `optimizer`: AdamW, accumulation and freezing, held against PyTorch
//! - `resume`: the loop, its results, and what a kill does to them
//! - `trust`: how much labels count, and which cases are left out

mod augment;
mod draws;
mod loading;
mod normalisation;
mod optimizer;
mod resume;
mod toy;
mod trust;
