//! Random changes of samples during training: those of the paper (3.2), nnU-Net's, and DoDNet's.
//!
//! What is drawn ([`Augmentation`]) is kept apart from what it does to a box ([`Geometry::resampling`], [`Augmentation::apply`]), so
//! that a sample can be reproduced from its numbers alone, and image, label map and trust move together.

mod config;
mod draw;
mod geometry;
mod intensity;
mod power;
mod preset;
mod resample;
mod smooth;
mod wide;

pub use config::{
    AugmentConfig, Axis, BlurConfig, BrightnessConfig, GammaConfig, LowResolutionConfig, MirrorConfig, NoiseConfig, OffsetConfig, Preset,
    RangeConfig, RotationConfig, ZoomConfig,
};
pub use draw::{Augment, Augmentation, Brightness, Noise};
pub use geometry::{Geometry, Resampling};
