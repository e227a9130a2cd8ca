//! From a trained network and an image on the model grid to label maps, in bounded memory.
//!
//! Labels are decided slab by slab into `u8`; the logits of a whole volume are never held, nor, by the student, the volume.

mod image;
mod model;
mod scan;
mod slab;
mod slices;
mod student;
mod view;
mod window;

pub use image::{Image, ShownError, ShownScan};
pub use model::{MODEL_FILE, StudentConfig, StudentError, StudentParams};
pub use scan::{LabelMaps, LabelledPlane};
pub use slices::{PlaneLabels, SliceWindow, SliceWindowParams, WindowSize};
pub use student::{Manner, Student};
pub use view::{View, ViewError, ViewParams, WindowParams};
pub use window::{HELD, LESS};
pub use window::{SlidingWindow, WindowError, belief_in, segment_heads, segment_windows, segment_with_confidence};
