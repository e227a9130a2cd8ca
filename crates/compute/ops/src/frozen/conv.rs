//! Convolutions that keep the size, or halve it.

use candle_core::{Result, Tensor, bail};

use super::direct::Direct;
use super::map::{Channels, Map, STRIDE};
use super::norm::Moments;
use super::winograd::Winograd;
use crate::cpu::Size3;
use crate::cpu::lanes::arithmetic::Element;
use crate::tensor::volumes;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// By its definition.
    Direct,
    /// With fewer multiplications between transformations of input and output, which round as well: for kernels of 3.
    Winograd,
}

impl Method {
    /// The faster one for `weight` `(co, ci, kernel..)` on maps of a size, with steps of `stride`.
    #[must_use]
    pub fn fastest<E: Element>(weight: &Tensor, size: Size3, stride: Size3) -> Self {
        match *weight.dims() {
            // The transformations would need more than 8 bits.
            _ if E::LEVELS || stride != [1; 3] => Self::Direct,
            // There must be enough products to pay for the transformations, and enough tiles to pay for more weights.
            [out_channels, in_channels, 3, 3] if out_channels >= 32 && in_channels >= 32 && size[1] * size[2] >= 128 => Self::Winograd,
            [_, in_channels, 3, 3, 3] if in_channels >= 8 && size.iter().product::<usize>() >= 512 => Self::Winograd,
            _ => Self::Direct,
        }
    }
}

/// The weights of a convolution with a kernel of 1 or 3 along each axis and the zero padding that keeps the size, but for a stride of 2;
/// over one map, or over several as if their channels were joined.
pub struct PackedConv<E: Element> {
    kernel: Size3,
    /// The channels of each map.
    sources: Vec<Channels>,
    weights: Weights<E>,
}

enum Weights<E: Element> {
    Direct(Direct<E>),
    Winograd(Winograd<E>),
}

impl<E: Element> PackedConv<E> {
    /// Packs `weight` `(co, ci, kernel..)` for maps of the given channels, ci together.
    ///
    /// # Errors
    /// When the channels do not add up, or the method or this module does not have such a kernel or stride.
    pub fn new(weight: &Tensor, sources: &[Channels], stride: Size3, method: Method) -> Result<Self> {
        let (_, in_channels, kernel) = volumes("frozen conv", weight.dims())?;
        if !Self::has(kernel, stride) || sources.iter().map(|channels| channels.count).sum::<usize>() != in_channels {
            bail!("frozen conv: weights {:?} and steps of {stride:?} do not fit maps of {sources:?}", weight.dims());
        }
        let weights = match method {
            Method::Direct => Weights::Direct(Direct::new(weight, sources, stride)?),
            Method::Winograd
                if matches!(kernel, [1 | 3, 3, 3])
                    && stride == [1; 3]
                    && !E::LEVELS
                    && sources.iter().all(|channels| channels.are_whole()) =>
            {
                Weights::Winograd(Winograd::new(weight, sources)?)
            }
            Method::Winograd => {
                bail!(
                    "frozen conv: Winograd's method is for kernels of 3, steps of 1, whole vectors and more than 8 bits, found {:?} for {sources:?}",
                    weight.dims()
                )
            }
        };
        Ok(Self { kernel, sources: sources.to_vec(), weights })
    }

    /// Whether there are such convolutions.
    #[must_use]
    pub fn has(kernel: Size3, stride: Size3) -> bool {
        kernel.iter().all(|k| matches!(k, 1 | 3)) && stride.iter().all(|step| (1..=STRIDE).contains(step))
    }

    /// The convolution without bias, and the moments of its channels.
    ///
    /// # Errors
    /// When the maps are not those that the weights were packed for.
    pub fn run(&self, sources: &[&Map<E>]) -> Result<(Map<E::Raw>, Moments)> {
        let channels: Vec<Channels> = sources.iter().map(|source| source.channels()).collect();
        let Some(first) = sources.first().filter(|_| channels == self.sources) else {
            bail!("frozen conv: packed for maps of {:?}, found {channels:?}", self.sources)
        };
        if sources.iter().any(|source| source.size() != first.size() || source.border() != first.border()) {
            bail!("frozen conv: maps of one size expected, found {:?}", sources.iter().map(|s| s.size()).collect::<Vec<_>>());
        }
        if (0..3).any(|a| self.kernel[a] / 2 > first.border()[a]) {
            bail!("frozen conv: a kernel of {:?} has no room in a map of size {:?}", self.kernel, first.size());
        }
        Ok(match &self.weights {
            Weights::Direct(weights) => weights.run(sources),
            Weights::Winograd(weights) => weights.run(sources),
        })
    }
}
