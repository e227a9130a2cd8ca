//! What happens to the samples of a training: drawn as values, and then done.

use prepared::Layout;
use random::rand::RngExt as _;
use random::{Stream, Streams, normal};
use serde::Serialize;

use super::config::{AugmentConfig, Axis, BrightnessConfig, GammaConfig, NoiseConfig, Preset, RangeConfig};
use super::geometry::Geometry;
use super::intensity::{brighten, gamma, noise_gain_shift};
use super::smooth::{blur, coarsen};
use crate::normalisation::Normalisation;
use crate::sampler::Sampling;

/// What may happen to the samples of a training: all that an [`AugmentConfig`] leaves to boxes and normalisation is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    config: AugmentConfig,
    /// The largest angle about each axis, along x, y, z as all that follows.
    degrees: [f64; 3],
    mirrored: [bool; 3],
    /// The axes that zoom, blur and low resolution may change.
    changed: [bool; 3],
    /// The intensity that brightness leaves as it is.
    middle: f32,
}

impl AugmentConfig {
    /// What it comes to for boxes of a kind.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn for_boxes(&self, sampling: Sampling, normalisation: Normalisation) -> Result<Augment, String> {
        let reference = normalisation.reference();
        let config = self.clone().filled(|preset| match preset {
            Preset::NnUnet => reference.deviation,
            Preset::DoDNet => reference.half_window,
        });
        config.check()?;
        let boxes = Boxes::of(sampling);
        let rotation = config.rotation.as_ref().filter(|rotation| rotation.probability > 0.0);
        let turned = match rotation {
            None => [false; 3],
            Some(rotation) => boxes.named("rotation", rotation.axes.as_ref(), boxes.turned_about(), boxes.may_turn_about())?,
        };
        let mirrored = match config.mirror.as_ref().filter(|mirror| mirror.probability > 0.0) {
            None => [false; 3],
            Some(mirror) => boxes.named("mirror", mirror.axes.as_ref(), boxes.mirrored_along(), boxes.mirrored_along())?,
        };
        let most = rotation.and_then(|rotation| rotation.degrees).unwrap_or(boxes.usual_degrees());
        #[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
        let middle = reference.middle as f32;
        let degrees = turned.map(|turned| if turned { most } else { 0.0 });
        let changed = [0, 1, 2].map(|axis| boxes.thin != Some(axis));
        Ok(Augment { config, degrees, mirrored, changed, middle })
    }
}

/// What samples are cut out as, along x, y, z.
struct Boxes {
    shape: [usize; 3],
    slices: bool,
    /// The axis along which a box is so short that it is treated slice by slice, as in nnU-Net.
    thin: Option<usize>,
}

impl Boxes {
    fn of(sampling: Sampling) -> Self {
        // More than so many times as long as thick is thin.
        const THICK: usize = 3;
        match sampling {
            Sampling::Slices { shape: [x, y] } => Self { shape: [x, y, 1], slices: true, thin: Some(2) },
            Sampling::Patches { shape, .. } => {
                let longest = shape.into_iter().max().unwrap_or(1);
                let thin = (0..3).min_by_key(|&axis| shape[axis]).filter(|&axis| shape[axis] * THICK < longest);
                Self { shape, slices: false, thin }
            }
        }
    }

    fn turned_about(&self) -> [bool; 3] {
        [0, 1, 2].map(|axis| self.thin.is_none_or(|thin| thin == axis))
    }

    fn may_turn_about(&self) -> [bool; 3] {
        [0, 1, 2].map(|axis| !self.slices || axis == 2)
    }

    fn mirrored_along(&self) -> [bool; 3] {
        [0, 1, 2].map(|axis| !self.slices || axis != 2)
    }

    /// nnU-Net's largest angle.
    fn usual_degrees(&self) -> f64 {
        let [x, y, _] = self.shape;
        match self.thin {
            None => 30.0,
            Some(_) if self.slices && 2 * x.max(y) > 3 * x.min(y) => 15.0,
            Some(_) => 180.0,
        }
    }

    /// The axes that a parameter names, which must be among those that it `may`.
    fn named(&self, parameter: &str, axes: Option<&Vec<Axis>>, otherwise: [bool; 3], may: [bool; 3]) -> Result<[bool; 3], String> {
        let Some(axes) = axes else { return Ok(otherwise) };
        let names = ["x", "y", "z"];
        let named = [Axis::X, Axis::Y, Axis::Z].map(|axis| axes.contains(&axis));
        match (0..3).find(|&axis| named[axis] && !may[axis]) {
            None => Ok(named),
            Some(axis) => {
                let may: Vec<&str> = (0..3).filter(|&axis| may[axis]).map(|axis| names[axis]).collect();
                Err(format!("augment.{parameter}.axes has {}; of slices it may have {}", names[axis], may.join(" and ")))
            }
        }
    }
}

impl Augment {
    /// Along which of x, y and z samples may be mirrored.
    #[must_use]
    pub fn mirrored(&self) -> [bool; 3] {
        self.mirrored
    }

    /// Whether left and right may change places.
    #[must_use]
    pub fn swaps_sides(&self) -> bool {
        self.mirrored[0]
    }

    /// Draws what happens to the sample at a place of the run. Every change has a stream of its own and every number is drawn whether
    /// it is used or not, so that a change of one parameter leaves the other draws as they were.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
    pub fn draw(&self, streams: &Streams, place: &[u64]) -> Augmentation {
        let config = &self.config;
        let stream = |change: &str| streams.stream(&format!("augment {change}"), place);
        let factor = |change: &str, probability: f64, range: [f64; 2]| {
            let mut stream = stream(change);
            let drawn = chance(&mut stream, probability);
            let factor = around_one(&mut stream, range);
            drawn.then_some(factor)
        };
        let gamma = |change: &str, gamma: Option<GammaConfig>| gamma.and_then(|it| factor(change, it.probability, it.range));
        let brightness = |change: &str, config: Option<BrightnessConfig>| config.and_then(|it| factor(change, it.probability, it.range));
        Augmentation {
            geometry: self.draw_geometry(&stream),
            blur: config.blur.and_then(|blur| {
                let mut stream = stream("blur");
                let drawn = chance(&mut stream, blur.probability);
                let sigma = [(); 3].map(|()| uniform(&mut stream, blur.sigma) as f32);
                drawn.then(|| [0, 1, 2].map(|axis| if self.changed[axis] { sigma[axis] } else { 0.0 }))
            }),
            brightness: brightness("brightness", config.brightness).map(|factor| Brightness { factor, about: self.middle }),
            offset: config.offset.map_or(0.0, |offset| {
                let mut stream = stream("offset");
                let drawn = chance(&mut stream, offset.probability);
                let size = offset.std as f32 * normal(&mut stream);
                if drawn { size } else { 0.0 }
            }),
            contrast: brightness("contrast", config.contrast),
            low_resolution: config.low_resolution.and_then(|low| {
                let mut stream = stream("low resolution");
                let drawn = chance(&mut stream, low.probability);
                let kept = uniform(&mut stream, low.range) as f32;
                drawn.then(|| self.changed.map(|changed| if changed { kept } else { 1.0 }))
            }),
            gamma_inverted: gamma("inverted gamma", config.gamma_inverted),
            gamma: gamma("gamma", config.gamma),
            ..self.draw_noise(&mut streams.stream("augment", place))
        }
    }

    fn draw_geometry(&self, stream: &impl Fn(&str) -> Stream) -> Geometry {
        let AugmentConfig { rotation, zoom, mirror, .. } = &self.config;
        let mut geometry = Geometry::default();
        if let Some(rotation) = rotation {
            let mut stream = stream("rotation");
            let drawn = chance(&mut stream, rotation.probability);
            let degrees = self.degrees.map(|most| uniform(&mut stream, [-most, most]));
            if drawn {
                geometry.degrees = degrees;
            }
        }
        if let Some(zoom) = zoom {
            let mut stream = stream("zoom");
            let drawn = chance(&mut stream, zoom.probability);
            let of_axis = [(); 3].map(|()| uniform(&mut stream, zoom.range));
            if drawn {
                let of = |axis: usize| if zoom.each_axis { of_axis[axis] } else { of_axis[0] };
                geometry.zoom = [0, 1, 2].map(|axis| if self.changed[axis] { of(axis) } else { 1.0 });
            }
        }
        if let Some(mirror) = mirror {
            let mut stream = stream("mirror");
            let drawn = [(); 3].map(|()| chance(&mut stream, mirror.probability));
            geometry.mirror = [0, 1, 2].map(|axis| drawn[axis] && self.mirrored[axis]);
        }
        geometry
    }

    /// The paper's changes, from one stream.
    fn draw_noise(&self, stream: &mut Stream) -> Augmentation {
        let AugmentConfig { noise, scale, shift, .. } = self.config;
        let never = RangeConfig { probability: 0.0, range: 0.0 };
        let (scale, shift) = (scale.unwrap_or(never), shift.unwrap_or(never));
        let noise = noise.unwrap_or(NoiseConfig { probability: 0.0, std: 0.0, fixed_std: false });
        let mut chance = |probability: f64| chance(stream, probability);
        let (noisy, scaled, shifted) = (chance(noise.probability), chance(scale.probability), chance(shift.probability));
        let mut symmetric = |range: f64| range * (2.0 * stream.random::<f64>() - 1.0);
        let (scale, shift) = (symmetric(scale.range), symmetric(shift.range));
        let share = if noise.fixed_std { 1.0 } else { stream.random::<f64>() };
        #[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
        Augmentation {
            noise: noisy.then(|| Noise { std: (noise.std * share) as f32, seed: stream.random() }),
            scale: if scaled { scale as f32 } else { 0.0 },
            shift: if shifted { shift as f32 } else { 0.0 },
            ..Augmentation::default()
        }
    }
}

fn chance(stream: &mut Stream, probability: f64) -> bool {
    stream.random::<f64>() < probability
}

fn uniform(stream: &mut Stream, [from, to]: [f64; 2]) -> f64 {
    from + (to - from) * stream.random::<f64>()
}

/// A factor of a range: where this has 1 within it, as likely below as above.
#[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
fn around_one(stream: &mut Stream, [from, to]: [f64; 2]) -> f32 {
    let below = chance(stream, 0.5);
    let range = match (from < 1.0, to > 1.0) {
        (true, true) if below => [from, 1.0],
        (true, true) => [1.0, to],
        _ => [from, to],
    };
    uniform(stream, range) as f32
}

/// What was drawn for one sample. By default nothing happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Augmentation {
    /// Where the box comes from, besides its place.
    pub geometry: Geometry,
    /// The noise, if there is any.
    pub noise: Option<Noise>,
    /// Intensities are multiplied by `1 + scale`.
    pub scale: f32,
    /// Added to all intensities.
    pub shift: f32,
    /// The deviation of a Gaussian along x, y, z, in voxels; 0 for none.
    pub blur: Option<[f32; 3]>,
    /// A factor of the distance from an intensity.
    pub brightness: Option<Brightness>,
    /// Added to all intensities.
    pub offset: f32,
    /// A factor of the distance from the mean.
    pub contrast: Option<f32>,
    /// The part of the voxels along x, y, z that is kept.
    pub low_resolution: Option<[f32; 3]>,
    /// A power of the negative image.
    pub gamma_inverted: Option<f32>,
    /// A power of the image.
    pub gamma: Option<f32>,
}

/// Gaussian noise of mean 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// Standard deviation.
    pub std: f32,
    /// The root of the noise's own streams.
    pub seed: u64,
}

/// Multiplicative brightness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Brightness {
    /// What the distance is multiplied by.
    pub factor: f32,
    /// The intensity that stays.
    pub about: f32,
}

impl Augmentation {
    /// Changes the intensities of a box of `shape` voxels, whose axes are in the order of `layout`. The geometry is not touched; see
    /// [`Geometry::resampling`].
    ///
    /// In this order: noise, scale, shift, blur, brightness, offset, contrast, low resolution, gamma of the negative image, gamma.
    pub fn apply(&self, image: &mut [f32], shape: [usize; 3], layout: Layout) {
        noise_gain_shift(image, self.noise, 1.0 + self.scale, self.shift);
        if let Some(sigma) = self.blur {
            blur(image, shape, layout.stored(sigma));
        }
        let gain = self.brightness.map_or(1.0, |brightness| brightness.factor);
        let stays = self.brightness.map_or(0.0, |brightness| brightness.about * (1.0 - brightness.factor));
        brighten(image, gain, stays + self.offset, self.contrast);
        if let Some(kept) = self.low_resolution {
            coarsen(image, shape, layout.stored(kept));
        }
        if let Some(exponent) = self.gamma_inverted {
            gamma(image, exponent, true);
        }
        if let Some(exponent) = self.gamma {
            gamma(image, exponent, false);
        }
    }
}
