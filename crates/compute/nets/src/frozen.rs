//! Layers of trained networks by the fastest kernels that there are on the CPU: no gradients, and weights that are packed once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};
use ops::frozen::{Channels, Element, InstanceNorm, Map, Method, PackedConv, PackedHead, PackedUpsampling};
use rayon::prelude::*;

use crate::compute::EPSILON;
use crate::params::Params;

/// Pixels of a slice up to which slices are shared out among threads, rather than the layers of each.
const SMALL: usize = 1 << 14;

/// Channels that the kernels of training compute as fast: here they would fill half a vector.
const NARROW: usize = 8;

/// What `one` gives for each image of a batch; small images are shared out among threads, of larger ones the kernels share out parts.
pub(crate) fn of_images<T: Send>(batch: usize, pixels: usize, one: impl Fn(usize) -> Result<T> + Sync + Send) -> Result<Vec<T>> {
    match pixels {
        ..=SMALL => (0..batch).into_par_iter().map(one).collect(),
        _ => (0..batch).map(one).collect(),
    }
}

/// A convolution, the instance norm and the LeakyReLU behind it.
#[derive(Clone, Copy)]
pub(crate) struct Normed<'a> {
    /// The convolution's parameters without their last part. Its bias is left out: the norm takes it away again.
    pub(crate) conv: &'a str,
    /// The norm's, if it has any.
    pub(crate) norm: Option<&'a str>,
    pub(crate) stride: [usize; 3],
    pub(crate) slope: f64,
}

/// Parameters whose weights are packed when they are first used, and kept so.
pub(crate) struct Frozen<E: Element> {
    params: Params,
    convs: Kept<(String, Method), (PackedConv<E>, InstanceNorm)>,
    upsamplings: Kept<String, PackedUpsampling<E>>,
    heads: Kept<String, PackedHead<E>>,
}

impl<E: Element> Frozen<E> {
    pub(crate) fn new(params: Params) -> Self {
        Self { params, convs: Kept::default(), upsamplings: Kept::default(), heads: Kept::default() }
    }

    /// Whether there are kernels for a convolution with that stride and padding that are worth their while.
    pub(crate) fn has_conv(&self, conv: &str, stride: [usize; 3], padding: [usize; 3]) -> Result<bool> {
        let weight = self.params.get(&format!("{conv}.weight"))?;
        let kernel = padding.map(|side| 2 * side + 1);
        Ok(weight.dims().get(2..) == Some(&kernel) && weight.dim(0)? > NARROW && PackedConv::<E>::has(kernel, stride))
    }

    /// A normalised convolution of maps whose channels are joined.
    pub(crate) fn conv_norm(&self, layer: Normed<'_>, sources: &[&Map<E>]) -> Result<Map<E>> {
        let weight = self.params.get(&format!("{}.weight", layer.conv))?;
        let method = sources.first().map_or(Method::Direct, |source| Method::fastest::<E>(&weight, source.size(), layer.stride));
        let packed = self.convs.get((layer.conv.to_owned(), method), || {
            let channels: Vec<Channels> = sources.iter().map(|source| source.channels()).collect();
            let [gamma, beta] = self.params.norm(layer.norm, weight.dim(0)?)?;
            let norm = InstanceNorm::new(&gamma, &beta, EPSILON, layer.slope)?;
            Ok((PackedConv::new(&weight, &channels, layer.stride, method)?, norm))
        })?;
        let (y, moments) = packed.0.run(sources)?;
        packed.1.run(y, &moments)
    }

    /// The same of a transposed convolution whose kernel is as large as its stride.
    pub(crate) fn has_upsampling(&self, name: &str, stride: [usize; 3]) -> Result<bool> {
        Ok(self.params.get(&format!("{name}.weight"))?.dim(1)? > NARROW && PackedUpsampling::<E>::has(stride))
    }

    /// A transposed convolution, to a size that may be one longer than it gives.
    pub(crate) fn upsample(&self, name: &str, bias: bool, x: &Map<E>, size: Option<[usize; 3]>) -> Result<Map<E>> {
        let layer = self.upsamplings.get(name.to_owned(), || {
            let weight = self.params.get(&format!("{name}.weight"))?;
            let bias = match bias {
                true => self.params.get(&format!("{name}.bias"))?,
                false => Tensor::zeros(weight.dim(1)?, weight.dtype(), weight.device())?,
            };
            PackedUpsampling::new(&weight, &bias)
        })?;
        layer.run(x, size.unwrap_or_else(|| layer.raised(x.size())))
    }

    /// A 1×1 convolution to logits.
    pub(crate) fn head(&self, name: &str, x: &Map<E>) -> Result<Tensor> {
        let get = |leaf: &str| self.params.get(&format!("{name}.{leaf}"));
        self.heads.get(name.to_owned(), || PackedHead::new(&get("weight")?, &get("bias")?))?.run(x)
    }
}

#[cfg(test)]
impl<E: Element> Frozen<E> {
    /// The layers whose weights are packed, in order.
    pub(crate) fn packed(&self) -> Vec<String> {
        let convs = self.convs.keys().into_iter().map(|(name, _)| name.trim_end_matches(".conv").to_owned());
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
