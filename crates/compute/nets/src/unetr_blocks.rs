//! The convolutional blocks that UNETR and Swin UNETR are made of beside their transformers: MONAI's `UnetResBlock`,
//! `UnetrUpBlock` and `UnetrPrUpBlock`. Convolutions have no bias and instance norms neither scale nor shift.

use candle_core::{Result, Tensor, bail};

use crate::layers::{Block, ConvNorm, Layers};
use crate::params::{Init, ParamSpec};

/// The slope of LeakyReLU for negative values.
const SLOPE: f64 = 0.01;

/// The number of voxels.
pub(crate) fn volume(size: [usize; 3]) -> usize {
    size.iter().product()
}

/// `size` after a transposed convolution by 2.
pub(crate) fn doubled(size: [usize; 3]) -> [usize; 3] {
    size.map(|side| 2 * side)
}

fn conv_spec(name: String, kernel: usize, inputs: usize, outputs: usize) -> ParamSpec {
    let init = Init::Uniform { fan_in: inputs * kernel.pow(3) };
    ParamSpec { name, shape: vec![outputs, inputs, kernel, kernel, kernel], init }
}

/// Two 3×3×3 convolutions with instance norm, beside a shortcut, which is a 1×1×1 convolution with instance norm where the
/// number of channels changes.
#[derive(Clone)]
pub(crate) struct ResBlock {
    name: String,
    inputs: usize,
    outputs: usize,
}

impl ResBlock {
    pub(crate) fn new(name: String, inputs: usize, outputs: usize) -> Self {
        Self { name, inputs, outputs }
    }

    /// MONAI's `UnetrBasicBlock` around it.
    pub(crate) fn basic(name: &str, inputs: usize, outputs: usize) -> Self {
        Self::new(format!("{name}.layer"), inputs, outputs)
    }

    fn changes_channels(&self) -> bool {
        self.inputs != self.outputs
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let Self { name, inputs, outputs } = self;
        specs.push(conv_spec(format!("{name}.conv1.conv.weight"), 3, *inputs, *outputs));
        specs.push(conv_spec(format!("{name}.conv2.conv.weight"), 3, *outputs, *outputs));
        if self.changes_channels() {
            specs.push(conv_spec(format!("{name}.conv3.conv.weight"), 1, *inputs, *outputs));
        }
    }

    /// The same with `prefix` before its names.
    fn under(&self, prefix: &str) -> Self {
        Self { name: format!("{prefix}{}", self.name), ..*self }
    }

    pub(crate) fn forward<C: Layers>(&self, compute: &C, prefix: &str, x: &C::Map) -> Result<C::Map> {
        compute.block(&self.under(prefix), &[x])
    }

    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        let shortcut = if self.changes_channels() { self.inputs } else { 0 };
        (volume(size) * self.outputs * (27 * (self.inputs + self.outputs) + shortcut)) as u64
    }
}

impl Block for ResBlock {
    fn name(&self) -> &str {
        &self.name
    }

    fn widest(&self, inputs: &[&Tensor]) -> usize {
        inputs.first().map_or(0, |x| x.elem_count() / self.inputs * self.outputs)
    }

    fn run<C: Layers>(&self, compute: &C, inputs: &[&C::Map]) -> Result<C::Map> {
        let conv_norm = |layer: &str, x: &C::Map, side: usize, slope: f64| {
            let how = ConvNorm { stride: [1; 3], padding: [side; 3], slope, learnt: false };
            compute.conv_norm(&format!("{}.{layer}", self.name), x, how)
        };
        let [x] = inputs else { bail!("a block of one input expected, found {}", inputs.len()) };
        let y = conv_norm("conv2", &conv_norm("conv1", x, 1, SLOPE)?, 1, 1.0)?;
        let shortcut = if self.changes_channels() { conv_norm("conv3", x, 0, 1.0)? } else { (*x).clone() };
        compute.add_leaky_relu(&y, &shortcut, SLOPE)
    }
}

/// A transposed convolution by 2 that leaves nothing out and adds nothing.
#[derive(Clone)]
struct Doubling {
    name: String,
    inputs: usize,
    outputs: usize,
}

impl Doubling {
    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let init = Init::Uniform { fan_in: self.outputs * 8 };
        specs.push(ParamSpec { name: format!("{}.conv.weight", self.name), shape: vec![self.inputs, self.outputs, 2, 2, 2], init });
    }

    fn forward<C: Layers>(&self, compute: &C, prefix: &str, x: &C::Map) -> Result<C::Map> {
        compute.raise(&format!("{prefix}{}.conv", self.name), x, [2; 3], false)
    }

    /// Of a map of `size` before it.
    fn macs(&self, size: [usize; 3]) -> u64 {
        (8 * volume(size) * self.inputs * self.outputs) as u64
    }
}

/// Transposed convolution by 2, the skip behind it, then [`ResBlock`].
#[derive(Clone)]
pub(crate) struct Up {
    name: String,
    doubling: Doubling,
    block: ResBlock,
}

impl Up {
    pub(crate) fn new(name: &str, inputs: usize, outputs: usize) -> Self {
        Self {
            name: name.to_owned(),
            doubling: Doubling { name: format!("{name}.transp_conv"), inputs, outputs },
            block: ResBlock::new(format!("{name}.conv_block"), 2 * outputs, outputs),
        }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.doubling.specs(specs);
        self.block.specs(specs);
    }

    pub(crate) fn forward<C: Layers>(&self, compute: &C, prefix: &str, below: &C::Map, skip: &C::Map) -> Result<C::Map> {
        let Self { name, doubling, block } = self;
        let doubling = Doubling { name: format!("{prefix}{}", doubling.name), ..*doubling };
        compute.block(&Self { name: format!("{prefix}{name}"), doubling, block: block.under(prefix) }, &[below, skip])
    }

    /// Of a map of `size` below.
    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        self.doubling.macs(size) + self.block.macs(doubled(size))
    }
}

impl Block for Up {
    fn name(&self) -> &str {
        &self.name
    }

    fn widest(&self, inputs: &[&Tensor]) -> usize {
        inputs.get(1).map_or(0, |skip| skip.elem_count())
    }

    fn run<C: Layers>(&self, compute: &C, inputs: &[&C::Map]) -> Result<C::Map> {
        let [below, skip] = inputs else { bail!("a block of two inputs expected, found {}", inputs.len()) };
        let raised = self.doubling.forward(compute, "", below)?;
        self.block.run(compute, &[&compute.join(&raised, skip)?])
    }
}

/// A transposed convolution by 2, and as often again as there are further levels, each followed by [`ResBlock`].
#[derive(Clone)]
pub(crate) struct Raise {
    first: Doubling,
    further: Vec<(Doubling, ResBlock)>,
}

impl Raise {
    pub(crate) fn new(name: &str, inputs: usize, outputs: usize, further: usize) -> Self {
        let level = |i: usize| {
            let doubling = Doubling { name: format!("{name}.blocks.{i}.0"), inputs: outputs, outputs };
            (doubling, ResBlock::new(format!("{name}.blocks.{i}.1"), outputs, outputs))
        };
        Self { first: Doubling { name: format!("{name}.transp_conv_init"), inputs, outputs }, further: (0..further).map(level).collect() }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.first.specs(specs);
        for (doubling, block) in &self.further {
            doubling.specs(specs);
            block.specs(specs);
        }
    }

    pub(crate) fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        let mut y = self.first.forward(compute, "", x)?;
        for (doubling, block) in &self.further {
            y = block.forward(compute, "", &doubling.forward(compute, "", &y)?)?;
        }
        Ok(y)
    }

    /// Of a map of `size` before it.
    pub(crate) fn macs(&self, mut size: [usize; 3]) -> u64 {
        let mut macs = self.first.macs(size);
        for (doubling, block) in &self.further {
            size = doubled(size);
            macs += doubling.macs(size) + block.macs(doubled(size));
        }
        macs
    }
}

/// A 1×1×1 convolution to the logits of the classes: MONAI's `UnetOutBlock`.
pub(crate) struct Out {
    inputs: usize,
    classes: usize,
}

impl Out {
    pub(crate) fn new(inputs: usize, classes: usize) -> Self {
        Self { inputs, classes }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        specs.push(conv_spec("out.conv.conv.weight".into(), 1, self.inputs, self.classes));
        specs.push(ParamSpec { name: "out.conv.conv.bias".into(), shape: vec![self.classes], init: Init::Uniform { fan_in: self.inputs } });
    }

    pub(crate) fn forward<C: Layers>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        compute.head("out.conv.conv", x)
    }

    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        (volume(size) * self.inputs * self.classes) as u64
    }
}
