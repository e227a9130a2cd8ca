//! The blocks of MONAI's BasicUNet, for two and three spatial dimensions alike.

use candle_core::Result;

use crate::compute::Compute;
use crate::params::{Init, ParamSpec};

fn conv_specs(name: &str, dims: usize, kernel: usize, inputs: usize, outputs: usize, specs: &mut Vec<ParamSpec>) {
    let fan_in = inputs * kernel.pow(dims as u32);
    let shape = [vec![outputs, inputs], vec![kernel; dims]].concat();
    specs.push(ParamSpec { name: format!("{name}.weight"), shape, init: Init::Uniform { fan_in } });
    specs.push(ParamSpec { name: format!("{name}.bias"), shape: vec![outputs], init: Init::Uniform { fan_in } });
}

/// A 1×1 convolution to the logits of the classes.
pub(crate) struct Head {
    name: String,
    dims: usize,
    inputs: usize,
    classes: usize,
}

impl Head {
    pub(crate) fn new(name: String, dims: usize, inputs: usize, classes: usize) -> Self {
        Self { name, dims, inputs, classes }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        conv_specs(&self.name, self.dims, 1, self.inputs, self.classes, specs);
    }

    pub(crate) fn forward<C: Compute>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        compute.head(&self.name, x)
    }

    pub(crate) fn macs(&self, voxels: usize) -> u64 {
        (voxels * self.inputs * self.classes) as u64
    }
}

/// Twice: 3×3 convolution, instance norm, LeakyReLU.
pub(crate) struct TwoConv {
    name: String,
    dims: usize,
    inputs: usize,
    outputs: usize,
}

impl TwoConv {
    pub(crate) fn new(name: String, dims: usize, inputs: usize, outputs: usize) -> Self {
        Self { name, dims, inputs, outputs }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        for (k, inputs) in [self.inputs, self.outputs].into_iter().enumerate() {
            let name = format!("{}.conv_{k}", self.name);
            conv_specs(&format!("{name}.conv"), self.dims, 3, inputs, self.outputs, specs);
            specs.push(ParamSpec { name: format!("{name}.adn.N.weight"), shape: vec![self.outputs], init: Init::Ones });
            specs.push(ParamSpec { name: format!("{name}.adn.N.bias"), shape: vec![self.outputs], init: Init::Zeros });
        }
    }

    /// Over maps whose channels are joined.
    pub(crate) fn forward<C: Compute>(&self, compute: &C, sources: &[&C::Map]) -> Result<C::Map> {
        let x = compute.conv_norm_act(&format!("{}.conv_0", self.name), sources)?;
        compute.conv_norm_act(&format!("{}.conv_1", self.name), &[&x])
    }

    pub(crate) fn macs(&self, voxels: usize) -> u64 {
        (voxels * 3usize.pow(self.dims as u32) * (self.inputs + self.outputs) * self.outputs) as u64
    }
}

/// Max pooling by 2, then [`TwoConv`].
pub(crate) struct Down {
    convs: TwoConv,
}

impl Down {
    pub(crate) fn new(name: &str, dims: usize, inputs: usize, outputs: usize) -> Self {
        Self { convs: TwoConv::new(format!("{name}.convs"), dims, inputs, outputs) }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.convs.specs(specs);
    }

    pub(crate) fn forward<C: Compute>(&self, compute: &C, x: &C::Map) -> Result<C::Map> {
        self.convs.forward(compute, &[&compute.max_pool2(x)?])
    }

    /// Of a result of so many voxels.
    pub(crate) fn macs(&self, voxels: usize) -> u64 {
        self.convs.macs(voxels)
    }
}

/// Transposed convolution by 2, concatenation behind the skip, then [`TwoConv`].
pub(crate) struct UpCat {
    name: String,
    dims: usize,
    inputs: usize,
    raised: usize,
    convs: TwoConv,
}

impl UpCat {
    /// `inputs` channels come from below and `skip` from the encoder; the transposed convolution halves the channels,
    /// unless `keep` says to keep them.
    pub(crate) fn new(name: String, dims: usize, inputs: usize, skip: usize, outputs: usize, keep: bool) -> Self {
        let raised = if keep { inputs } else { inputs / 2 };
        let convs = TwoConv::new(format!("{name}.convs"), dims, skip + raised, outputs);
        Self { name, dims, inputs, raised, convs }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let (name, fan_in) = (format!("{}.upsample.deconv", self.name), self.raised * 2usize.pow(self.dims as u32));
        let shape = [vec![self.inputs, self.raised], vec![2; self.dims]].concat();
        specs.push(ParamSpec { name: format!("{name}.weight"), shape, init: Init::Uniform { fan_in } });
        specs.push(ParamSpec { name: format!("{name}.bias"), shape: vec![self.raised], init: Init::Uniform { fan_in } });
        self.convs.specs(specs);
    }

    pub(crate) fn forward<C: Compute>(&self, compute: &C, below: &C::Map, skip: &C::Map) -> Result<C::Map> {
        let raised = compute.upsample(&format!("{}.upsample.deconv", self.name), below, skip)?;
        self.convs.forward(compute, &[skip, &raised])
    }

    /// From a map of `below` voxels to one of `voxels`.
    pub(crate) fn macs(&self, below: usize, voxels: usize) -> u64 {
        (below * 2usize.pow(self.dims as u32) * self.inputs * self.raised) as u64 + self.convs.macs(voxels)
    }
}
