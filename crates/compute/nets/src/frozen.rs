//! Trained networks for inference: the fastest kernels that there are, and no gradients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};
use ops::frozen::{Bf16, Channels, Element, InstanceNorm, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// `bf16` where the processor multiplies it, else `f32`: results then depend on the machine in their last digits.
    Auto,
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
        }
    }

    /// Logits `(b, channels, h, w)` of every decoder, of slices `(b, 1, h, w)`, sizes at least 16.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn student(&self, network: &DualUNet2d, slices: &Tensor) -> Result<Vec<Tensor>> {
        fn logits<C: Compute>(network: &DualUNet2d, compute: &C, slices: &C::Map) -> Result<Vec<Tensor>> {
            let features = network.features(compute, slices)?;
            (0..network.decoders()).map(|decoder| network.decode(compute, &features, decoder)).collect()
        }
        fn one_by_one<E: Element>(network: &DualUNet2d, frozen: &Frozen<E>, slices: &Tensor) -> Result<Vec<Tensor>> {
            let one = |i: usize| logits(network, frozen, &Map::of_tensor(slices, i)?);
            let (batch, _, height, width) = slices.dims4()?;
            let each: Vec<Vec<Tensor>> = match height * width {
                ..=SMALL => (0..batch).into_par_iter().map(one).collect::<Result<_>>()?,
                _ => (0..batch).map(one).collect::<Result<_>>()?,
            };
            let join = |decoder: usize| Tensor::cat(&each.iter().map(|logits| &logits[decoder]).collect::<Vec<_>>(), 0);
            (0..network.decoders()).map(join).collect()
        }
        match self {
            Self::Tensors(params) => logits(network, params, slices),
            Self::F32(frozen) => one_by_one(network, frozen, slices),
            Self::Bf16(frozen) => one_by_one(network, frozen, slices),
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
        }
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
    fn new(params: Params) -> Self {
        Self { params, convs: Kept::default(), upsamplings: Kept::default(), heads: Kept::default() }
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
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        // What is in the map is whole, also after a panic elsewhere.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thing) = kept.get(&key) {
            return Ok(Arc::clone(thing));
        }
        let thing = Arc::new(make()?);
        kept.insert(key, Arc::clone(&thing));
        Ok(thing)
    }
}

impl<E: Element> Compute for Frozen<E> {
    type Map = Map<E>;

    fn conv_norm_act(&self, name: &str, sources: &[&Map<E>]) -> Result<Map<E>> {
        let get = |leaf: &str| self.params.get(&format!("{name}.{leaf}"));
        let weight = get("conv.weight")?;
        let method = sources.first().map_or(Method::Direct, |source| Method::fastest(&weight, source.size()));
        let layer = self.convs.get((name.to_owned(), method), || {
            let channels: Vec<Channels> = sources.iter().map(|source| source.channels()).collect();
            let norm = InstanceNorm::new(&get("adn.N.weight")?, &get("adn.N.bias")?, EPSILON, SLOPE)?;
            Ok((PackedConv::new(&weight, &channels, method)?, norm))
        })?;
        // The bias of the convolution is left out: the norm takes it away again.
        let (mut y, moments) = layer.0.run(sources)?;
        layer.1.run(&mut y, &moments)?;
        Ok(y)
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
