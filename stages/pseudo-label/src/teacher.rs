//! A trained teacher, and what it makes of a scan.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use inference::{SlidingWindow, View};
use model_card::{Kind, ModelCard};
use ndarray::Array3;
use nets::{Network, Params, TeacherConfig, Trained};
use volume::nifti::Header;
use volume::{Box3, LabelVolume, ScalarVolume};

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
    /// On the model grid.
    pub(crate) image: &'a ScalarVolume,
    /// The part of it that is shown.
    pub(crate) region: Box3,
    pub(crate) window: &'a SlidingWindow,
    /// Of the scan's file.
    pub(crate) header: &'a Header,
}

impl Shown<'_> {
    /// The part that is shown of labels on the model grid.
    pub(crate) fn of(&self, labels: &LabelVolume) -> Array3<u8> {
        self.region.of(&labels.data).to_owned()
    }

    /// A map of the part that is shown, brought to the nearest voxels of the scan's own grid; `outside` elsewhere.
    pub(crate) fn on_image(&self, map: &Array3<u8>, outside: u8) -> LabelVolume {
        let data = self.region.embed_in(map, self.image.grid().shape, outside);
        volume::resample_nearest(&LabelVolume { data, affine: self.image.affine }, &self.header.grid())
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

    /// Labels of a scan, on its own grid.
    pub(crate) fn label(&self, shown: &Shown<'_>) -> Result<LabelVolume> {
        let image = shown.region.of(&shown.image.data);
        let forward = |patch: &Tensor| self.network.infer(&self.weights, patch);
        let labels = inference::segment_windows(&image, shown.window, self.classes, &self.device, forward)?;
        Ok(shown.on_image(&labels, 0))
    }

    /// Labels of what is shown and the probability of each in 255ths, on the model grid.
    pub(crate) fn segment_with_confidence(&self, shown: &Shown<'_>) -> Result<[Array3<u8>; 2]> {
        let image = shown.region.of(&shown.image.data);
        let forward = |patch: &Tensor| self.network.infer(&self.weights, patch);
        Ok(inference::segment_with_confidence(&image, shown.window, self.classes, &self.device, forward)?)
    }

    /// How likely the teacher finds labels of what is shown, in 255ths, when it looks in a certain way.
    pub(crate) fn belief_in(&self, labels: &Array3<u8>, shown: &Shown<'_>, look: &Look) -> Result<Array3<u8>> {
        let image = shown.region.of(&shown.image.data);
        let forward = |patch: &Tensor| self.network.infer(&self.weights, &patch.affine(look.scale, look.shift)?);
        let window = look.window(shown.window);
        Ok(inference::belief_in(&labels.view(), &image, &window, self.classes, &self.device, forward)?)
    }
}
