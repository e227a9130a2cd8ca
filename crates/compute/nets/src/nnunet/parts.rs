//! What the levels of a U-Net are made of.

use candle_core::Result;

use crate::layers::{ConvNorm, Layers};
use crate::params::{Init, ParamSpec};

/// The slope of LeakyReLU for negative values.
const SLOPE: f64 = 0.01;

/// A piece of an encoder level.
pub(super) enum Part {
    Plain(Conv),
    /// Two convolutions beside their input, or beside a 1×1×1 convolution of it.
    Residual {
        /// Whose name, kernel, stride and channels those of the block are.
        conv: Conv,
        /// Whether the input is averaged over the stride, rather than stepped over, and convolved only where its channels change.
        averaged: bool,
    },
}

impl Part {
    pub(super) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        match self {
            Self::Plain(conv) => conv.specs(specs),
            Self::Residual { conv, averaged } => {
                conv.residual(*averaged).into_iter().for_each(|(conv, start)| conv.specs_with(start, specs));
            }
        }
    }

    pub(super) fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        let (convs, averaged) = match self {
            Self::Plain(conv) => return conv.forward(compute, x),
            Self::Residual { conv, averaged } => (conv.residual(*averaged), averaged.then_some(conv.stride)),
        };
        let y = convs[1].0.normalised(compute, &convs[0].0.forward(compute, x)?, 1.0)?;
        let skip = match averaged.filter(|stride| *stride != [1; 3]) {
            None => x.clone(),
            Some(stride) => compute.average(&convs[0].0.name, x, stride)?,
        };
        let skip = match convs.get(2) {
            None => skip,
            Some((projection, _)) => projection.normalised(compute, &skip, 1.0)?,
        };
        compute.add_leaky_relu(&y, &skip, SLOPE)
    }

    /// Multiplications that make a map of that size.
    pub(super) fn macs(&self, size: [usize; 3]) -> u64 {
        match self {
            Self::Plain(conv) => conv.macs(size),
            Self::Residual { conv, averaged } => conv.residual(*averaged).iter().map(|(conv, _)| conv.macs(size)).sum(),
        }
    }
}

/// Convolution, instance norm, LeakyReLU.
pub(super) struct Conv {
    pub(super) name: String,
    pub(super) kernel: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Conv {
    /// The convolutions of a residual block that begins with this one, and how the scale of their norm starts: the last one's
    /// at 0, so that a block starts as its skip. The third one is the projection, where there is one.
    fn residual(&self, averaged: bool) -> Vec<(Conv, Init)> {
        let Self { ref name, kernel, stride, inputs, outputs } = *self;
        let conv = |leaf: &str, kernel, stride, inputs| Conv { name: format!("{name}.{leaf}"), kernel, stride, inputs, outputs };
        let mut convs = vec![(conv("conv1", kernel, stride, inputs), Init::Ones), (conv("conv2", kernel, [1; 3], outputs), Init::Zeros)];
        if inputs != outputs || (stride != [1; 3] && !averaged) {
            convs.push((conv("skip", [1; 3], if averaged { [1; 3] } else { stride }, inputs), Init::Ones));
        }
        convs
    }

    pub(super) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.specs_with(Init::Ones, specs);
    }

    fn specs_with(&self, start: Init, specs: &mut Vec<ParamSpec>) {
        let Self { name, kernel, inputs, outputs, .. } = self;
        let init = Init::Uniform { fan_in: inputs * kernel.iter().product::<usize>() };
        let spec = |leaf: &str, shape: Vec<usize>, init| ParamSpec { name: format!("{name}.{leaf}"), shape, init };
        specs.push(spec("conv.weight", [&[*outputs, *inputs], &kernel[..]].concat(), init));
        specs.push(spec("norm.weight", vec![*outputs], start));
        specs.push(spec("norm.bias", vec![*outputs], Init::Zeros));
    }

    pub(super) fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        self.normalised(compute, x, SLOPE)
    }

    pub(super) fn macs(&self, size: [usize; 3]) -> u64 {
        let all = size.iter().chain(&self.kernel).product::<usize>();
        (all * self.inputs * self.outputs) as u64
    }

    /// With another slope than LeakyReLU's; 1 leaves it out. The convolution has no bias, which the norm would take away.
    fn normalised<C: Layers>(&self, compute: &C, x: &C::Map, slope: f64) -> Result<C::Map> {
        let padding = self.kernel.map(|side| side / 2);
        compute.conv_norm(&self.name, x, ConvNorm { stride: self.stride, padding, slope, learnt: true })
    }
}
