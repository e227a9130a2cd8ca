//! From a trained network and an image on the model grid to label maps, in bounded memory.
//!
//! Labels are decided slab by slab into `u8`; the logits of a whole volume are never held.

mod model;
mod slab;
mod slices;
mod window;

pub use model::{MODEL_FILE, Student, StudentConfig, StudentError};
pub use slices::{SliceLabels, SliceWindow, segment_slices};
pub use window::{SlidingWindow, WindowError, segment_heads, segment_windows};
