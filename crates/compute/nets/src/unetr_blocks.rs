//! The convolutional blocks that UNETR and Swin UNETR are made of beside their transformers: MONAI's `UnetResBlock`,
//! `UnetrUpBlock` and `UnetrPrUpBlock`. Convolutions have no bias and instance norms neither scale nor shift.

use candle_core::{Result, Tensor};
use ops::Norm;

use crate::compute::EPSILON;
use crate::params::{Init, ParamSpec, Params};
use crate::recompute::recomputed;

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

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        if !params.recomputes(self.widest(x)?) {
            return self.run(params, x);
        }
        let block = self.clone();
        recomputed(params, &self.name, &[x], move |params, inputs| block.run(params, &inputs[0]))
    }

    /// Elements of each of the maps between its layers.
    fn widest(&self, x: &Tensor) -> Result<usize> {
        Ok(x.elem_count() / x.dim(1)? * self.outputs)
    }

    fn run(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let ones = Tensor::ones(self.outputs, x.dtype(), x.device())?;
        let zeros = ones.zeros_like()?;
        let conv_norm = |layer: &str, x: &Tensor, padding: usize, slope: f64| {
            let weight = params.get(&format!("{}.{layer}.conv.weight", self.name))?;
            let norm = Norm { gamma: &ones, beta: &zeros, eps: EPSILON, slope };
            ops::conv_norm_leaky_relu(&[x], &weight, None, params.walk(1, padding), norm)
        };
        let y = conv_norm("conv1", x, 1, SLOPE)?;
        let y = conv_norm("conv2", &y, 1, 1.0)?;
        let shortcut = if self.changes_channels() { conv_norm("conv3", x, 0, 1.0)? } else { x.clone() };
        ops::add_leaky_relu(&y, &shortcut, SLOPE)
    }

    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        let shortcut = if self.changes_channels() { self.inputs } else { 0 };
        (volume(size) * self.outputs * (27 * (self.inputs + self.outputs) + shortcut)) as u64
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

    fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        ops::conv_transpose(x, &params.get(&format!("{}.conv.weight", self.name))?, None, 2)
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

    pub(crate) fn forward(&self, params: &Params, below: &Tensor, skip: &Tensor) -> Result<Tensor> {
        if !params.recomputes(self.block.widest(skip)?) {
            return self.run(params, below, skip);
        }
        let up = self.clone();
        recomputed(params, &self.name, &[below, skip], move |params, inputs| up.run(params, &inputs[0], &inputs[1]))
    }

    fn run(&self, params: &Params, below: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let raised = self.doubling.forward(params, below)?;
        self.block.run(params, &ops::concat_channels(&[&raised, skip])?)
    }

    /// Of a map of `size` below.
    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        self.doubling.macs(size) + self.block.macs(doubled(size))
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

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let mut y = self.first.forward(params, x)?;
        for (doubling, block) in &self.further {
            y = block.forward(params, &doubling.forward(params, &y)?)?;
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

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        ops::conv(x, &params.get("out.conv.conv.weight")?, Some(&params.get("out.conv.conv.bias")?), 1, 0)
    }

    pub(crate) fn macs(&self, size: [usize; 3]) -> u64 {
        (volume(size) * self.inputs * self.classes) as u64
    }
}
