//! What may happen to samples, as pipeline files say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Random changes of samples. What is neither named nor part of the `preset` does not happen.
///
/// Intensities are changed as the network is shown them, after `normalisation`: numbers that stand for intensities are in that scale,
/// which goes from 0 to 1 with `unit`, from -1 to 1 with `signed`, and counts deviations from a mean with `foreground`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// What happens where nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Rotates boxes. Together with `zoom` and `mirror` it is one resampling of a larger box, so that no corner is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationConfig>,
    /// Makes what is shown smaller or larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zoom: Option<ZoomConfig>,
    /// Mirrors boxes. Along x, left and right classes change their places; see `mirror` of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorConfig>,
    /// Gaussian noise on every voxel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
    /// Intensities are multiplied by `1 + f`, `f` uniform in ±`range` (MONAI's `RandScaleIntensity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<RangeConfig>,
    /// `f` uniform in ±`range` is added to all intensities (MONAI's `RandShiftIntensity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<RangeConfig>,
    /// Smooths images by a Gaussian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<BlurConfig>,
    /// Multiplies the distance of intensities from the middle of the window (`unit` and `signed`) or from the mean (`foreground`) by a
    /// factor: nnU-Net's multiplicative brightness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<BrightnessConfig>,
    /// Adds a normally distributed number to all intensities: additive brightness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<OffsetConfig>,
    /// Multiplies the distance of intensities from the mean of their box by a factor, within the range that they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<BrightnessConfig>,
    /// Makes images coarser and fine again: nearest voxels of a smaller grid, and linear between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_resolution: Option<LowResolutionConfig>,
    /// As `gamma`, of the negative image, and before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma_inverted: Option<GammaConfig>,
    /// Raises intensities, from 0 to 1 over the range of their box, to a power, and gives them the mean and the deviation of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<GammaConfig>,
}

/// Changes that others have found to work. Any of them may be said otherwise beside it; with `probability: 0` it does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// nnU-Net's of version 2: rotation by up to 30° about every axis (in slices and thick patches by up to 180°, or 15° where a slice is
    /// long, about z alone), zoom, noise, blur, brightness, contrast, low resolution, gamma of both kinds, mirroring along all axes.
    /// Noise is in parts of the deviation of the intensities, which stands for `1/√12` of the window where it is not known.
    NnUnet,
    /// That of DoDNet's program: zoom, mirroring along all axes, noise, blur, brightness of both kinds, contrast, low resolution,
    /// gamma. Noise is in parts of half the window.
    DoDNet,
}

/// An axis of the patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// From left to right.
    X,
    /// From the back to the front.
    Y,
    /// From the feet to the head.
    Z,
}

/// Rotation about axes of the patient by angles in space, whatever the voxel size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationConfig {
    /// The chance that a sample is rotated.
    pub probability: f64,
    /// The largest angle, to either side, for each axis; up to 180. nnU-Net's for such boxes if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degrees: Option<f64>,
    /// The axes that are rotated about. If left out all of them; only the thin one where a box is three times as long as thick, and
    /// z for slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Vec<Axis>>,
}

/// Zoom along all axes; along the two others where a box is three times as long as thick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoomConfig {
    /// The chance that a sample is zoomed.
    pub probability: f64,
    /// The least and the greatest part of a scan that a box shows, by its own length: above 1 things look smaller.
    #[serde(default = "zoom_range")]
    pub range: [f64; 2],
    /// Whether each axis has a zoom of its own.
    #[serde(default)]
    pub each_axis: bool,
}

/// Mirroring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The chance for each axis by itself.
    #[serde(default = "one_half")]
    pub probability: f64,
    /// The axes; all that a box has if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Vec<Axis>>,
}

/// Gaussian noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// The chance that a sample gets noise.
    pub probability: f64,
    /// The standard deviation; by default its upper limit, as below.
    pub std: f64,
    /// Whether every sample gets exactly `std`. Off, the deviation is drawn uniformly from 0..`std`, which is what
    /// MONAI's `RandGaussianNoise` does by default.
    #[serde(default)]
    pub fixed_std: bool,
}

/// A uniform change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The largest change, up or down.
    pub range: f64,
}

/// Gaussian blur.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlurConfig {
    /// The chance that a sample is blurred.
    pub probability: f64,
    /// The least and the greatest deviation of the Gaussian in voxels; each axis has one of its own.
    #[serde(default = "blur_sigma")]
    pub sigma: [f64; 2],
}

/// A factor, as likely below 1 as above where it may be both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrightnessConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The least and the greatest factor.
    #[serde(default = "brightness_range")]
    pub range: [f64; 2],
}

/// Additive brightness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The standard deviation of what is added.
    pub std: f64,
}

/// Simulated low resolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LowResolutionConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The least and the greatest number of voxels along an axis that are kept, as parts of all. A thin axis keeps all.
    #[serde(default = "kept_voxels")]
    pub range: [f64; 2],
}

/// A power, as likely below 1 as above where it may be both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GammaConfig {
    /// The chance that a sample is changed.
    pub probability: f64,
    /// The least and the greatest power.
    #[serde(default = "gamma_range")]
    pub range: [f64; 2],
}

fn one_half() -> f64 {
    0.5
}

// nnU-Net's ranges.

pub(super) fn zoom_range() -> [f64; 2] {
    [0.7, 1.4]
}

pub(super) fn blur_sigma() -> [f64; 2] {
    [0.5, 1.0]
}

pub(super) fn brightness_range() -> [f64; 2] {
    [0.75, 1.25]
}

pub(super) fn kept_voxels() -> [f64; 2] {
    [0.5, 1.0]
}

pub(super) fn gamma_range() -> [f64; 2] {
    [0.7, 1.5]
}
