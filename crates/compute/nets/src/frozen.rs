//! Trained networks for inference: the fastest kernels that there are, and no gradients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};
use ops::frozen::{Bf16, Channels, Element, InstanceNorm, Int8, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::Report;

use crate::basic_unet::UNet3d;
use crate::compute::{Compute, EPSILON, SLOPE};
use crate::params::Params;
use crate::student::DualUNet2d;

/// The numbers that inference computes with, on the CPU. Sums are single in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision, by the kernels of training: the slowest.
    Exact,
    /// Single precision, with fewer multiplications where that is faster. The default.
    #[default]
    F32,
    /// 16 bits with the range of single precision: fast where the processor multiplies them (AVX-512 BF16), and very slow
    /// where it does not.
    Bf16,
    /// Activations and weights of 8 bits between layers: fast where the processor multiplies these (AVX-512 VNNI, AVX-VNNI), and very
    /// slow where it does not. A layer's activations have the 256 levels between their smallest and their greatest value.
    Int8,
    /// `bf16` where the processor multiplies it, else `f32`: results then depend on the machine in their last digits.
    Auto,
}

impl Precision {
    /// What speaks against it on a device of this machine.
    #[must_use]
    pub fn doubt(self, device: &Device) -> Option<String> {
        let fast = match self {
            _ if !device.is_cpu() => true,
            Self::Bf16 => ops::frozen::bf16_is_fast(),
            Self::Int8 => ops::frozen::int8_is_fast(),
            Self::Exact | Self::F32 | Self::Auto => true,
        };
        (!fast).then(|| {
            format!("warning: this processor does not multiply {self}, which is very slow here; leave `precision` out, or take f32")
        })
    }

    /// Warns of what speaks against it, if anything does.
    pub fn warn(self, device: &Device, report: &Report) {
        if let Some(doubt) = self.doubt(device) {
            report.note(&doubt);
        }
    }
}

/// As a pipeline file names it.
impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Auto => "auto",
        })
    }
}

/// Pixels of a slice up to which slices are shared out among threads, rather than the layers of each.
const SMALL: usize = 1 << 14;

/// The weights of a trained network, ready for inference.
pub enum Trained {
    /// As tensors: on a GPU, and for [`Precision::Exact`].
    Tensors(Params),
    /// Packed, in single precision.
    F32(Frozen<f32>),
    /// Packed, in 16 bits.
    Bf16(Frozen<Bf16>),
    /// Packed, in 8 bits.
    Int8(Frozen<Int8>),
}

impl Trained {
    /// Freezes `params` where they are.
    #[must_use]
    pub fn new(mut params: Params, precision: Precision) -> Self {
        params.set_live(|_| false);
        if !params.device().is_cpu() {
            return Self::Tensors(params);
        }
        match precision {
            Precision::Exact => Self::Tensors(params),
            Precision::Bf16 => Self::Bf16(Frozen::new(params)),
            Precision::Int8 => Self::Int8(Frozen::new(params)),
            Precision::Auto if ops::frozen::bf16_is_fast() => Self::Bf16(Frozen::new(params)),
            Precision::F32 | Precision::Auto => Self::F32(Frozen::new(params)),
        }
    }

    /// The parameters as they were.
    #[must_use]
    pub fn params(&self) -> &Params {
        match self {
            Self::Tensors(params) => params,
            Self::F32(frozen) => &frozen.params,
            Self::Bf16(frozen) => &frozen.params,
            Self::Int8(frozen) => &frozen.params,
        }
    }

    /// Logits `(b, channels, h, w)` of every output, of slices `(b, 1, h, w)`, sizes at least 16.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn student(&self, network: &DualUNet2d, slices: &Tensor) -> Result<Vec<Tensor>> {
        let outputs: Vec<usize> = (0..network.outputs()).collect();
        match self {
            Self::Tensors(params) => network.logits(params, slices, &outputs),
            Self::F32(frozen) => one_by_one(network, frozen, slices, &outputs),
            Self::Bf16(frozen) => one_by_one(network, frozen, slices, &outputs),
            Self::Int8(frozen) => one_by_one(network, frozen, slices, &outputs),
        }
    }

    /// Logits `(1, classes, d, h, w)` of a patch `(1, 1, d, h, w)`, sizes at least 16.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn teacher(&self, network: &UNet3d, patch: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tensors(params) => network.forward(params, patch),
            Self::F32(frozen) => network.forward(frozen, &Map::of_tensor(patch, 0)?),
            Self::Bf16(frozen) => network.forward(frozen, &Map::of_tensor(patch, 0)?),
            Self::Int8(frozen) => network.forward(frozen, &Map::of_tensor(patch, 0)?),
        }
    }
}

fn one_by_one<E: Element>(network: &DualUNet2d, frozen: &Frozen<E>, slices: &Tensor, outputs: &[usize]) -> Result<Vec<Tensor>> {
    let (batch, _, height, width) = slices.dims4()?;
    let each = of_images(batch, height * width, |i| network.logits(frozen, &Map::of_tensor(slices, i)?, outputs))?;
    let join = |place: usize| Tensor::cat(&each.iter().map(|logits| &logits[place]).collect::<Vec<_>>(), 0);
    (0..outputs.len()).map(join).collect()
}

/// What `one` gives for each image of a batch; small images are shared out among threads, of larger ones the kernels share out parts.
pub(crate) fn of_images<T: Send>(batch: usize, pixels: usize, one: impl Fn(usize) -> Result<T> + Sync + Send) -> Result<Vec<T>> {
    match pixels {
        ..=SMALL => (0..batch).into_par_iter().map(one).collect(),
        _ => (0..batch).map(one).collect(),
    }
}

/// Parameters whose weights are packed when they are first used, and kept so.
pub struct Frozen<E: Element> {
    params: Params,
    convs: Kept<(String, Method), (PackedConv<E>, InstanceNorm)>,
    upsamplings: Kept<String, PackedUpsampling<E>>,
    heads: Kept<String, PackedHead<E>>,
}

impl<E: Element> Frozen<E> {
    pub(crate) fn new(params: Params) -> Self {
        Self { params, convs: Kept::default(), upsamplings: Kept::default(), heads: Kept::default() }
    }
}

#[cfg(test)]
impl<E: Element> Frozen<E> {
    /// The layers whose weights are packed, in order.
    pub(crate) fn packed(&self) -> Vec<String> {
        let convs = self.convs.keys().into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = convs.chain(self.upsamplings.keys()).chain(self.heads.keys()).collect();
        names.sort();
        names
    }
}

/// Things that are made once.
pub(crate) struct Kept<K, T>(Mutex<BTreeMap<K, Arc<T>>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, T> Kept<K, T> {
    /// The thing of that key. It is made while nothing is locked: to make one is work for all threads, and a thread that waits for the
    /// others may be given work that asks for the same thing.
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        // What is in the map is whole, also after a panic elsewhere.
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept().get(&key).map(Arc::clone);
        match found {
            Some(thing) => Ok(thing),
            None => {
                let thing = Arc::new(make()?);
                Ok(Arc::clone(kept().entry(key).or_insert(thing)))
            }
        }
    }
}

impl<E: Element> Compute for Frozen<E> {
    type Map = Map<E>;
    type Logits = Tensor;

    fn conv_norm_act(&self, name: &str, sources: &[&Map<E>]) -> Result<Map<E>> {
        let get = |leaf: &str| self.params.get(&format!("{name}.{leaf}"));
        let weight = get("conv.weight")?;
        let method = sources.first().map_or(Method::Direct, |source| Method::fastest::<E>(&weight, source.size()));
        let layer = self.convs.get((name.to_owned(), method), || {
            let channels: Vec<Channels> = sources.iter().map(|source| source.channels()).collect();
            let norm = InstanceNorm::new(&get("adn.N.weight")?, &get("adn.N.bias")?, EPSILON, SLOPE)?;
            Ok((PackedConv::new(&weight, &channels, method)?, norm))
        })?;
        // The bias of the convolution is left out: the norm takes it away again.
        let (y, moments) = layer.0.run(sources)?;
        layer.1.run(y, &moments)
    }

    fn max_pool2(&self, x: &Map<E>) -> Result<Map<E>> {
        x.max_pool2()
    }

    fn upsample(&self, name: &str, x: &Map<E>, like: &Map<E>) -> Result<Map<E>> {
        let get = |leaf: &str| self.params.get(&format!("{name}.{leaf}"));
        self.upsamplings.get(name.to_owned(), || PackedUpsampling::new(&get("weight")?, &get("bias")?))?.run(x, like.size())
    }

    fn head(&self, name: &str, x: &Map<E>) -> Result<Tensor> {
        let get = |leaf: &str| self.params.get(&format!("{name}.{leaf}"));
        self.heads.get(name.to_owned(), || PackedHead::new(&get("weight")?, &get("bias")?))?.run(x)
    }
}

#[cfg(test)]
impl<K: Ord + Clone, T> Kept<K, T> {
    fn keys(&self) -> Vec<K> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_may_be_asked_for_while_it_is_made() {
        let kept = Kept::default();
        let inner = || kept.get("layer", || Ok(1));
        assert_eq!(*kept.get("layer", || inner().map(|_| 2)).unwrap(), 1, "what is there first stays");
        assert_eq!(*kept.get("layer", || Ok(3)).unwrap(), 1);
    }
}
