//! Trained models as ONNX graphs, which other programs compute.
//!
//! No network is described here: [`Recorder`] is one more way to compute layers ([`nets::Compute`], [`nets::Layers`]), which writes them
//! down while the structure of a network walks over it.

mod graph;
mod layers;
mod model;
mod proto;
mod recorder;

pub use graph::Value;
pub use model::{OnnxError, of_model};
pub use recorder::Recorder;
