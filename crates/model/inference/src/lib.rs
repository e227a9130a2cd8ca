//! From trained networks and a scan to label maps, in bounded memory.
//!
//! A model is one file that says of itself what it is, which classes it finds and how scans are shown to it. Labels are decided slab
//! by slab into `u8`; the logits of a whole volume are never held, nor, by the student, the volume.

mod error;
mod graphs;
mod image;
mod maps;
mod mirrors;
mod model;
mod params;
mod scan;
mod slab;
mod slices;
mod student;
mod together;
mod view;
mod volumetric;
mod window;

pub use error::{ModelError, single_alone};
pub use graphs::TrainedGraph;
pub use image::{Image, ShownError, ShownScan};
pub use maps::{LabelMaps, LabelledPlane};
pub use mirrors::unseen_mirrors;
pub use model::{Manner, Model, OpenPartial};
pub use params::{StudentConfig, StudentParams};
pub use slices::{PlaneLabels, SliceWindow, SliceWindowParams, WindowSize};
pub use student::Student;
pub use view::{View, ViewParams, WindowParams};
pub use volumetric::{Look, TrainedTeacher, VolumeNetwork, VolumeParams, Volumetric};
pub use window::{HELD, LESS, SlidingWindow, WindowError};
