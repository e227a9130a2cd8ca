//! A trained teacher, and what it makes of a scan.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use inference::{ShownScan, SlidingWindow, View};
use labelling::Found;
use model_card::{Kind, ModelCard};
use ndarray::{Array3, Axis, ShapeBuilder as _, s};
use nets::{Network, Params, TeacherConfig, Trained};

use crate::Config;
use crate::trust::Look;

/// A trained network, frozen.
pub(crate) struct Teacher {
    network: nets::Teacher,
    weights: Trained,
    pub(crate) classes: usize,
    device: Device,
}

/// A scan as teachers are shown it.
pub(crate) struct Shown<'a> {
    pub(crate) scan: &'a ShownScan,
    pub(crate) window: &'a SlidingWindow,
}

impl Shown<'_> {
    /// The part that is shown of labels.
    pub(crate) fn of(&self, labels: &Found) -> Array3<u8> {
        let (slices, region, [nx, ny, _]) = (labels.on(&self.scan.grid), self.scan.region, self.scan.grid.shape);
        let (mut part, mut plane) = (Array3::zeros(region.shape.f()), Array3::zeros([nx, ny, 1].f()));
        for (z, mut part) in part.axis_iter_mut(Axis(2)).enumerate() {
            slices.write(region.start[2] + z, plane.as_slice_memory_order_mut().unwrap_or_default());
            let [x, y, _] = region.start;
            part.assign(&plane.slice(s![x..x + region.shape[0], y..y + region.shape[1], 0]));
        }
        part
    }

    /// A map of the part that is shown; `outside` elsewhere.
    pub(crate) fn found(&self, map: Array3<u8>, outside: u8) -> Found {
        Found::inside(map, self.scan.region, self.scan.grid, outside)
    }
}

impl Teacher {
    /// The teacher of these classes behind the weights at `path`, and how scans are shown to it.
    pub(crate) fn load(
        path: &Path,
        network: Option<&TeacherConfig>,
        classes: &[&str],
        config: &Config,
        device: &Device,
    ) -> Result<(Self, View)> {
        let card = ModelCard::of(&nets::metadata(path)?, path)?;
        if let Some(card) = &card {
            card.must_be(Kind::Teacher, path)?;
            card.must_find(classes, path)?;
        }
        let network = network.map(serde_json::to_value).transpose()?;
        let (network, view) = config.view().resolve(network, card.as_ref(), path)?;
        let network: TeacherConfig = serde_json::from_value(network).with_context(|| format!("the network of {}", path.display()))?;
        network.check(view.window.patch).map_err(anyhow::Error::msg)?;
        let network = nets::Teacher::new(&network, classes.len());
        let params = Params::init(&network.parameters(), streams::Streams::new(0), device)?;
        params.load(path)?;
        Ok((Self { network, weights: Trained::new(params, config.precision), classes: classes.len(), device: device.clone() }, view))
    }

    /// Labels of a scan.
    pub(crate) fn label(&self, shown: &Shown<'_>) -> Result<Found> {
        let forward = |patch: &Tensor| self.network.infer(&self.weights, patch);
        let labels = inference::segment_windows(shown.scan, shown.window, self.classes, &self.device, forward)?;
        Ok(shown.found(labels, 0))
    }

    /// Labels of what is shown and the probability of each in 255ths, on the model grid.
    pub(crate) fn segment_with_confidence(&self, shown: &Shown<'_>) -> Result<[Array3<u8>; 2]> {
        let forward = |patch: &Tensor| self.network.infer(&self.weights, patch);
        Ok(inference::segment_with_confidence(shown.scan, shown.window, self.classes, &self.device, forward)?)
    }

    /// How likely the teacher finds labels of what is shown, in 255ths, when it looks in a certain way.
    pub(crate) fn belief_in(&self, labels: &Array3<u8>, shown: &Shown<'_>, look: &Look) -> Result<Array3<u8>> {
        let forward = |patch: &Tensor| self.network.infer(&self.weights, &patch.affine(look.scale, look.shift)?);
        let window = look.window(shown.window);
        Ok(inference::belief_in(&labels.view(), shown.scan, &window, self.classes, &self.device, forward)?)
    }
}
