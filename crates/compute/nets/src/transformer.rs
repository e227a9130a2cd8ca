//! Layers of transformers, over rows `(.., n)` of features.

use candle_core::{Result, Tensor};

use crate::compute::EPSILON;
use crate::params::{Init, ParamSpec, Params};

/// A matrix product with every row, and a bias unless it has none.
#[derive(Clone)]
pub(crate) struct Linear {
    name: String,
    inputs: usize,
    outputs: usize,
    bias: bool,
}

impl Linear {
    pub(crate) fn new(name: String, inputs: usize, outputs: usize, bias: bool) -> Self {
        Self { name, inputs, outputs, bias }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        let init = Init::Uniform { fan_in: self.inputs };
        specs.push(ParamSpec { name: format!("{}.weight", self.name), shape: vec![self.outputs, self.inputs], init });
        if self.bias {
            specs.push(ParamSpec { name: format!("{}.bias", self.name), shape: vec![self.outputs], init });
        }
    }

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let own = params.builder().pp(&self.name);
        let bias = self.bias.then(|| own.get(self.outputs, "bias")).transpose()?;
        // candle's layer takes three times as long where rows are short, as those of Swin transformers are.
        ops::linear(x, &own.get((self.outputs, self.inputs), "weight")?, bias.as_ref())
    }

    pub(crate) fn macs(&self, rows: usize) -> u64 {
        (rows * self.inputs * self.outputs) as u64
    }
}

/// Layer normalisation with scale and shift.
#[derive(Clone)]
pub(crate) struct LayerNorm {
    name: String,
    width: usize,
}

impl LayerNorm {
    pub(crate) fn new(name: String, width: usize) -> Self {
        Self { name, width }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        specs.push(ParamSpec { name: format!("{}.weight", self.name), shape: vec![self.width], init: Init::Ones });
        specs.push(ParamSpec { name: format!("{}.bias", self.name), shape: vec![self.width], init: Init::Zeros });
    }

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let get = |leaf: &str| params.get(&format!("{}.{leaf}", self.name));
        ops::layer_norm(x, &get("weight")?, &get("bias")?, EPSILON)
    }
}

/// Two matrix products with GELU between them.
#[derive(Clone)]
pub(crate) struct Mlp {
    linear1: Linear,
    linear2: Linear,
}

impl Mlp {
    pub(crate) fn new(name: &str, width: usize, hidden: usize) -> Self {
        Self {
            linear1: Linear::new(format!("{name}.linear1"), width, hidden, true),
            linear2: Linear::new(format!("{name}.linear2"), hidden, width, true),
        }
    }

    pub(crate) fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.linear1.specs(specs);
        self.linear2.specs(specs);
    }

    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        self.linear2.forward(params, &ops::gelu(&self.linear1.forward(params, x)?)?)
    }

    pub(crate) fn macs(&self, rows: usize) -> u64 {
        self.linear1.macs(rows) + self.linear2.macs(rows)
    }
}

/// Products of queries with keys and of scores with values, of `groups` of `tokens` that see each other.
pub(crate) fn attention_macs(groups: usize, tokens: usize, width: usize) -> u64 {
    (2 * groups * tokens * tokens * width) as u64
}
