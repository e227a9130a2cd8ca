//! Training as a whole, on small prepared cases and a small network:
//!
//! - `augment`: drawn changes and what they do to boxes, held against torch, batchgeneratorsv2 and scipy
//! - `draws`: what is drawn, of which parameters
//! - `frozen`: a student of which one decoder moves
//! - `loading`: batches from prepared cases
//! - `normalisation`: how intensities are shown to a network
//! - `optimizer`: AdamW, accumulation and freezing, held against PyTorch
//! - `parts`: any cut of a batch into parts is the batch
//! - `resume`: the loop, its results, and what a kill does to them
//! - `sides`: samples that are rotated, zoomed and mirrored, and which class is which in a mirror image
//! - `together`: several ranks, which train as one does
//! - `trust`: how much labels count, and which cases are left out

mod augment;
mod draws;
mod frozen;
mod loading;
mod normalisation;
mod optimizer;
mod parts;
mod resume;
mod sides;
mod together;
mod toy;
mod trust;
