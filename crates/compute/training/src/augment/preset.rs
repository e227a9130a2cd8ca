//! What presets stand for, and what is wrong with changes that pipeline files name.

use super::config::{
    AugmentConfig, BlurConfig, BrightnessConfig, GammaConfig, LowResolutionConfig, MirrorConfig, NoiseConfig, OffsetConfig, Preset,
    RotationConfig, ZoomConfig, blur_sigma, brightness_range, gamma_range, kept_voxels, zoom_range,
};

impl AugmentConfig {
    /// The same with what the preset adds. `unit` is what the preset's noise is counted in.
    pub(super) fn filled(self, unit: impl Fn(Preset) -> f64) -> Self {
        let Some(preset) = self.preset else { return self };
        let of = Self::of_preset(preset, unit(preset));
        Self {
            preset: self.preset,
            rotation: self.rotation.or(of.rotation),
            zoom: self.zoom.or(of.zoom),
            mirror: self.mirror.or(of.mirror),
            noise: self.noise.or(of.noise),
            scale: self.scale,
            shift: self.shift,
            blur: self.blur.or(of.blur),
            brightness: self.brightness.or(of.brightness),
            offset: self.offset.or(of.offset),
            contrast: self.contrast.or(of.contrast),
            low_resolution: self.low_resolution.or(of.low_resolution),
            gamma_inverted: self.gamma_inverted.or(of.gamma_inverted),
            gamma: self.gamma.or(of.gamma),
        }
    }

    fn of_preset(preset: Preset, unit: f64) -> Self {
        let zoom = Some(ZoomConfig { probability: 0.2, range: zoom_range(), each_axis: false });
        let mirror = Some(MirrorConfig { probability: 0.5, axes: None });
        let noise = Some(NoiseConfig { probability: 0.1, std: 0.1 * unit, fixed_std: false });
        // Where theirs is decided for each sample and then for each channel, this is the product.
        let blur = Some(BlurConfig { probability: 0.2 * 0.5, sigma: blur_sigma() });
        let brightness = Some(BrightnessConfig { probability: 0.15, range: brightness_range() });
        let low_resolution = Some(LowResolutionConfig { probability: 0.25 * 0.5, range: kept_voxels() });
        let gamma = |probability| Some(GammaConfig { probability, range: gamma_range() });
        let both = Self { zoom, mirror, noise, blur, brightness, contrast: brightness, low_resolution, ..Self::default() };
        match preset {
            Preset::NnUnet => {
                let rotation = Some(RotationConfig { probability: 0.2, degrees: None, axes: None });
                Self { rotation, gamma_inverted: gamma(0.1), gamma: gamma(0.3), ..both }
            }
            Preset::DoDNet => Self { offset: Some(OffsetConfig { probability: 0.15 * 0.5, std: 0.1 * unit }), gamma: gamma(0.15), ..both },
        }
    }

    /// Why the parameters make no sense, if they do not.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { rotation, zoom, mirror, noise, scale, shift, blur, brightness, offset, contrast, low_resolution, .. } = self;
        let chances = [
            ("rotation", rotation.as_ref().map(|it| it.probability)),
            ("zoom", zoom.map(|it| it.probability)),
            ("mirror", mirror.as_ref().map(|it| it.probability)),
            ("noise", noise.map(|it| it.probability)),
            ("scale", scale.map(|it| it.probability)),
            ("shift", shift.map(|it| it.probability)),
            ("blur", blur.map(|it| it.probability)),
            ("brightness", brightness.map(|it| it.probability)),
            ("offset", offset.map(|it| it.probability)),
            ("contrast", contrast.map(|it| it.probability)),
            ("low_resolution", low_resolution.map(|it| it.probability)),
            ("gamma_inverted", self.gamma_inverted.map(|it| it.probability)),
            ("gamma", self.gamma.map(|it| it.probability)),
        ];
        for (name, probability) in chances.into_iter().filter_map(|(name, chance)| Some((name, chance?))) {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!("augment.{name}.probability is {probability}; it must be in 0..1"));
            }
        }
        let sizes = [("noise", noise.map(|it| it.std)), ("scale", scale.map(|it| it.range)), ("shift", shift.map(|it| it.range))];
        for (name, size) in sizes.into_iter().chain([("offset", offset.map(|it| it.std))]) {
            if let Some(size) = size.filter(|size| !(size.is_finite() && *size >= 0.0)) {
                return Err(format!("augment.{name}: the size {size} must be 0 or more"));
            }
        }
        let ranges = [
            ("zoom.range", zoom.map(|it| it.range), 0.1, 10.0),
            ("blur.sigma", blur.map(|it| it.sigma), 0.1, 10.0),
            ("brightness.range", brightness.map(|it| it.range), 0.0, 10.0),
            ("contrast.range", contrast.map(|it| it.range), 0.0, 10.0),
            ("low_resolution.range", low_resolution.map(|it| it.range), 0.05, 1.0),
            ("gamma_inverted.range", self.gamma_inverted.map(|it| it.range), 0.1, 10.0),
            ("gamma.range", self.gamma.map(|it| it.range), 0.1, 10.0),
        ];
        for (name, range, least, most) in ranges {
            let Some([from, to]) = range else { continue };
            if !(least <= from && from <= to && to <= most) {
                return Err(format!(
                    "augment.{name} is [{from}, {to}]; it must be two numbers from {least} to {most}, the lesser one first"
                ));
            }
        }
        match rotation.as_ref().and_then(|it| it.degrees) {
            Some(degrees) if !(0.0..=180.0).contains(&degrees) => {
                Err(format!("augment.rotation.degrees is {degrees}; it must be in 0..180"))
            }
            _ => Ok(()),
        }
    }
}
