//! Networks in training that are frozen in part. What lies before the first live layer is computed as for inference: by the frozen
//! kernels, from weights that are packed once, and nothing of it is kept for gradients.
//!
//! Which layers these are follows as a batch passes the network: a layer is computed frozen if none of its parameters is live, and
//! neither is any layer before it. A frozen layer behind a live one hands gradients on to its input and has none itself.

use std::sync::OnceLock;

use candle_core::{Result, Tensor};
use ops::Factors;
use ops::frozen::{Bf16, Element, Map};

use crate::basic_unet::UNet3d;
use crate::compute::Compute;
use crate::frozen::{Frozen, of_images};
use crate::params::Params;
use crate::student::DualUNet2d;

/// The parameters of a network in training, and how it is computed. Which of them are live is settled, and the values of the others are,
/// once a batch has passed.
pub enum Learning {
    /// With tensors throughout: on a GPU, and where nothing is frozen.
    Tensors(Params),
    /// Frozen parts in single precision.
    F32(Partly<f32>),
    /// Frozen parts in 16 bits.
    Bf16(Partly<Bf16>),
}

impl Learning {
    /// Computes with `params` as they are frozen now, in the numbers that they compute with.
    #[must_use]
    pub fn new(params: Params) -> Self {
        if !params.device().is_cpu() || params.live().count() == params.all().count() {
            return Self::Tensors(params);
        }
        match params.walk(1, 1).factors {
            Factors::F32 => Self::F32(Partly::new(params)),
            Factors::Bf16 => Self::Bf16(Partly::new(params)),
        }
    }

    /// The parameters, live and frozen.
    #[must_use]
    pub fn params(&self) -> &Params {
        match self {
            Self::Tensors(params) => params,
            Self::F32(partly) => &partly.params,
            Self::Bf16(partly) => &partly.params,
        }
    }

    /// The parameters, to be frozen otherwise.
    #[must_use]
    pub fn into_params(self) -> Params {
        match self {
            Self::Tensors(params) => params,
            Self::F32(partly) => partly.params,
            Self::Bf16(partly) => partly.params,
        }
    }

    /// [`DualUNet2d::logits`] with gradients for live parameters.
    ///
    /// # Errors
    /// When there is no such output, shapes do not fit or memory runs out.
    pub fn student(&self, network: &DualUNet2d, slices: &Tensor, outputs: &[usize]) -> Result<Vec<Tensor>> {
        match self {
            Self::Tensors(params) => network.logits(params, slices, outputs),
            Self::F32(partly) => network.logits(partly, &Passed::of_batch(slices)?, outputs),
            Self::Bf16(partly) => network.logits(partly, &Passed::of_batch(slices)?, outputs),
        }
    }

    /// [`UNet3d::forward`] of patches `(b, 1, d, h, w)`, with gradients for live parameters.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn teacher(&self, network: &UNet3d, patches: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tensors(params) => network.forward(params, patches),
            Self::F32(partly) => network.forward(partly, &Passed::of_batch(patches)?),
            Self::Bf16(partly) => network.forward(partly, &Passed::of_batch(patches)?),
        }
    }
}

/// Parameters of which some are live, and the packed weights of those layers that lie before all live ones.
pub struct Partly<E: Element> {
    params: Params,
    frozen: Frozen<E>,
}

/// A batch between two layers.
pub enum Passed<E> {
    /// Before the first live layer.
    Still(Still<E>),
    /// Behind it.
    Moving(Tensor),
}

/// Activations that depend on no live parameter.
pub struct Still<E> {
    /// One for each image.
    maps: Vec<Map<E>>,
    /// The same as a tensor, once a live layer has asked for it.
    tensor: OnceLock<Tensor>,
}

impl<E: Element> Passed<E> {
    fn of_batch(batch: &Tensor) -> Result<Self> {
        let maps = (0..batch.dim(0)?).map(|i| Map::of_tensor(batch, i)).collect::<Result<_>>()?;
        Ok(Self::Still(Still { maps, tensor: OnceLock::from(batch.clone()) }))
    }

    /// For a live layer.
    fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Moving(tensor) => Ok(tensor.clone()),
            Self::Still(still) => match still.tensor.get() {
                Some(tensor) => Ok(tensor.clone()),
                None => {
                    let tensor = Map::to_batch(&still.maps)?;
                    Ok(still.tensor.get_or_init(|| tensor).clone())
                }
            },
        }
    }

    fn still(&self) -> Option<&[Map<E>]> {
        match self {
            Self::Still(still) => Some(&still.maps),
            Self::Moving(_) => None,
        }
    }
}

impl<E: Element> Partly<E> {
    fn new(params: Params) -> Self {
        Self { frozen: Frozen::new(params.frozen()), params }
    }

    /// The activations that the layer `name` is computed of, image by image, if neither it nor anything before it is live.
    fn before<'a>(&self, name: &str, sources: &[&'a Passed<E>]) -> Option<Vec<&'a [Map<E>]>> {
        let within = |live: &str| live.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        if self.params.live().any(|(live, _)| within(live)) {
            return None;
        }
        sources.iter().map(|source| source.still()).collect()
    }
}

/// What a frozen layer makes of each image.
fn each<E: Element, T: Send>(sources: &[&[Map<E>]], one: impl Fn(&[&Map<E>]) -> Result<T> + Sync + Send) -> Result<Vec<T>> {
    let images = sources.first().map_or(0, |maps| maps.len());
    let pixels = sources.first().and_then(|maps| maps.first()).map_or(0, |map| map.size().iter().product());
    of_images(images, pixels, |i| one(&sources.iter().map(|maps| &maps[i]).collect::<Vec<_>>()))
}

fn still<E: Element>(maps: Vec<Map<E>>) -> Passed<E> {
    Passed::Still(Still { maps, tensor: OnceLock::new() })
}

impl<E: Element> Compute for Partly<E> {
    type Map = Passed<E>;
    type Logits = Tensor;

    fn conv_norm_act(&self, name: &str, sources: &[&Passed<E>]) -> Result<Passed<E>> {
        if let Some(maps) = self.before(name, sources) {
            return each(&maps, |sources| self.frozen.conv_norm_act(name, sources)).map(still);
        }
        let tensors = sources.iter().map(|source| source.tensor()).collect::<Result<Vec<_>>>()?;
        self.params.conv_norm_act(name, &tensors.iter().collect::<Vec<_>>()).map(Passed::Moving)
    }

    fn max_pool2(&self, x: &Passed<E>) -> Result<Passed<E>> {
        match x {
            Passed::Still(x) => each(&[&x.maps], |x| self.frozen.max_pool2(x[0])).map(still),
            Passed::Moving(x) => self.params.max_pool2(x).map(Passed::Moving),
        }
    }

    fn upsample(&self, name: &str, x: &Passed<E>, like: &Passed<E>) -> Result<Passed<E>> {
        if let Some(maps) = self.before(name, &[x, like]) {
            return each(&maps, |maps| self.frozen.upsample(name, maps[0], maps[1])).map(still);
        }
        self.params.upsample(name, &x.tensor()?, &like.tensor()?).map(Passed::Moving)
    }

    fn head(&self, name: &str, x: &Passed<E>) -> Result<Tensor> {
        match self.before(name, &[x]) {
            Some(maps) => Tensor::cat(&each(&maps, |x| self.frozen.head(name, x[0]))?, 0),
            None => self.params.head(name, &x.tensor()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use random::Streams;

    use super::*;
    use crate::{DualUNet2dConfig, Network as _};

    /// The layers that are computed frozen while the parameters that satisfy `live` learn.
    fn frozen_layers(live: impl Fn(&str) -> bool) -> Vec<String> {
        let decoders = [("organ_decoder".to_owned(), 3), ("cancer_decoder".to_owned(), 2)];
        let network = DualUNet2d::new(&DualUNet2dConfig { features: [4, 4, 8, 8, 16, 4] }, &decoders);
        let mut params = Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap();
        params.set_live(live);
        let partly = Partly::<f32>::new(params);
        let slices = Passed::of_batch(&Tensor::rand(0f32, 1.0, (2, 1, 16, 16), &Device::Cpu).unwrap()).unwrap();
        network.logits(&partly, &slices, &[0, 1]).unwrap();
        partly.frozen.packed()
    }

    #[test]
    fn what_lies_before_the_first_live_layer_is_frozen_and_nothing_behind_it() {
        let two = |name: &str| [0, 1].map(|k| format!("{name}.conv_{k}"));
        let up = |name: &str| [&two(&format!("{name}.convs"))[..], &[format!("{name}.upsample.deconv")]].concat();
        let decoder =
            |name: &str| [&[format!("{name}.final_conv")][..], &up(&format!("{name}.upcat_1")), &up(&format!("{name}.upcat_2"))].concat();
        let sorted = |layers: &[Vec<String>]| {
            let mut layers = layers.concat();
            layers.sort();
            layers
        };
        let encoder = [&["conv_0".to_owned()][..], &[1, 2, 3, 4].map(|k| format!("down_{k}.convs"))].concat();
        let upper = |levels: usize| encoder[..levels].iter().flat_map(|name| two(name)).collect::<Vec<_>>();
        let shared = [upper(5), up("upcat_4"), up("upcat_3")].concat();
        assert_eq!(frozen_layers(|_| false), sorted(&[shared.clone(), decoder("organ_decoder"), decoder("cancer_decoder")]));
        assert_eq!(frozen_layers(|name| name.starts_with("organ_decoder.")), sorted(&[shared.clone(), decoder("cancer_decoder")]));
        let decoders = |name: &str| name.contains("_decoder.");
        assert_eq!(frozen_layers(decoders), sorted(&[shared]));
        // The levels above are skipped to the decoders, where they meet what moves.
        assert_eq!(frozen_layers(|name| name.starts_with("down_2.")), sorted(&[upper(2)]));
        assert_eq!(frozen_layers(|name| name == "conv_0.conv_1.adn.N.bias"), ["conv_0.conv_0"]);
        let all_but_heads = |name: &str| name.contains(".final_conv.bias");
        assert_eq!(frozen_layers(all_but_heads).len(), frozen_layers(|_| false).len() - 2, "a head of which a part is live is live");
    }
}
