//! Training as a whole, on small prepared cases and a small network:
//!
//! - `loading`: batches from prepared cases
//! - `optimizer`: AdamW, accumulation and freezing, held against PyTorch
//! - `resume`: the loop, its results, and what a kill does to them
//! - `speed`: how long augmentation and loading take (ignored unless asked for)

mod loading;
mod optimizer;
mod resume;
mod speed;
mod toy;
