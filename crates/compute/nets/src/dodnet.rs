//! DoDNet: one encoder-decoder for many partially labelled datasets, with a head whose filters are made for each image
//! and task (Zhang et al., CVPR 2021, 3.3 to 3.5).
//!
//! The shared part is computed once for an image, whatever the number of tasks. Filters come from a controller that sees
//! the pooled deepest features and a one-hot code of the task.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use ops::ConvOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::compute::Compute as _;
use crate::layers::Layers;
use crate::params::{Init, ParamSpec, Params};
use crate::preactivated::{ResidualConfig, ResidualTrunk, norm_specs};

/// The size of a dynamic head, and what its controller sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicHeadConfig {
    /// Layers of 1×1×1 convolutions: 3 in the paper (Table 3: 2 to 4).
    pub depth: usize,
    /// Channels of all layers but the last: 8 in the paper (Table 4: 4 to 16).
    pub width: usize,
    /// Whether filters depend on the image (Table 5).
    #[serde(default = "on")]
    pub image_feature: bool,
    /// Whether filters depend on the task (Table 5). Without it tasks cannot be told apart.
    #[serde(default = "on")]
    pub task_encoding: bool,
}

fn on() -> bool {
    true
}

impl DynamicHeadConfig {
    /// Why there is no such head, if there is none.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.depth == 0 || self.width == 0 {
            return Err(format!("head: depth {} and width {} must be at least 1", self.depth, self.width));
        }
        if !self.image_feature && !self.task_encoding {
            return Err("head: without image_feature and task_encoding the controller sees nothing; turn one on".into());
        }
        Ok(())
    }

    /// Inputs and outputs of each layer.
    fn layers(&self, outputs: usize) -> Vec<(usize, usize)> {
        (0..self.depth).map(|layer| (self.width, if layer + 1 == self.depth { outputs } else { self.width })).collect()
    }

    /// How many values the controller generates.
    fn generated(&self, outputs: usize) -> usize {
        self.layers(outputs).into_iter().map(|(inputs, outputs)| inputs * outputs + outputs).sum()
    }
}

/// What the heads of all tasks share.
pub struct DoDNetFeatures<M = Tensor> {
    /// `(b, width, d, h, w)`.
    map: M,
    /// `(b, c)`, when the controller sees the image.
    pooled: Option<M>,
}

/// A head whose filters a controller makes: `controller`, a 1×1×1 convolution.
pub struct DynamicHead<'a, M> {
    /// What the head looks at, `(b, width, d, h, w)`.
    pub map: &'a M,
    /// What the controller sees of the image, `(b, c)`.
    pub pooled: Option<&'a M>,
    /// So many values tell it the task, 1 for its own and 0 for the others; none if it is not told.
    pub tasks: usize,
    /// Inputs and outputs of each layer of 1×1×1 convolutions with ReLU between them. The controller's values are the weights of all
    /// layers, then their biases.
    pub layers: Vec<(usize, usize)>,
}

/// The network.
///
/// With the paper's sizes and 7 tasks it has 17,329,528 parameters.
pub struct DoDNet {
    trunk: ResidualTrunk,
    groups: usize,
    head: DynamicHeadConfig,
    tasks: usize,
    outputs: usize,
}

impl DoDNet {
    /// A network for `tasks` tasks of `outputs` classes each; the paper's are an organ and its tumor.
    #[must_use]
    pub fn new(trunk: &ResidualConfig, head: &DynamicHeadConfig, tasks: usize, outputs: usize) -> Self {
        Self { trunk: ResidualTrunk::new(trunk, 1), groups: trunk.groups, head: head.clone(), tasks, outputs }
    }

    /// The controller's values that become the biases of the outputs, as far as they depend on neither image nor task: the name
    /// of a parameter, and which of its values.
    #[must_use]
    pub fn output_biases(&self) -> (String, Range<usize>) {
        let generated = self.head.generated(self.outputs);
        ("controller.bias".into(), generated - self.outputs..generated)
    }

    /// One pass of the shared part over images `(b, 1, d, h, w)`.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn features<C: Layers>(&self, compute: &C, image: &C::Map) -> Result<DoDNetFeatures<C::Map>> {
        let encoded = self.trunk.encode(compute, "", image)?;
        let pooled = match self.head.image_feature {
            true => Some(compute.mean(&compute.group_norm_relu("GAP.0", &encoded[4], self.groups)?)?),
            false => None,
        };
        let decoded = self.trunk.decode(compute, "", &encoded, &[])?;
        let map = compute.head("precls_conv.2", &compute.group_norm_relu("precls_conv.0", &decoded[0], self.groups)?)?;
        Ok(DoDNetFeatures { map, pooled })
    }

    /// Logits `(pairs, outputs, d, h, w)` of pairs of a sample and a task; pairs of one sample follow each other.
    ///
    /// # Errors
    /// When there are no pairs, or as [`DoDNet::features`].
    pub fn logits<C: Layers>(&self, compute: &C, features: &DoDNetFeatures<C::Map>, pairs: &[(usize, usize)]) -> Result<C::Map> {
        let tasks = if self.head.task_encoding { self.tasks } else { 0 };
        let layers = self.head.layers(self.outputs);
        compute.dynamic_head(&DynamicHead { map: &features.map, pooled: features.pooled.as_ref(), tasks, layers }, pairs)
    }
}

impl DynamicHead<'_, Tensor> {
    /// Logits of pairs of a sample and a task, as [`DoDNet::logits`] gives them.
    pub(crate) fn run(&self, params: &Params, pairs: &[(usize, usize)]) -> Result<Tensor> {
        let filters = self.filters(params, pairs)?;
        let mut first = 0;
        let mut logits = Vec::new();
        for of_sample in pairs.chunk_by(|a, b| a.0 == b.0) {
            let map = self.map.narrow(0, of_sample[0].0, 1)?;
            logits.push(self.apply(&map, &filters.narrow(0, first, of_sample.len())?)?);
            first += of_sample.len();
        }
        if logits.len() == 1 { Ok(logits.remove(0)) } else { Tensor::cat(&logits, 0) }
    }

    /// The generated values `(pairs, generated)`: the weights of all layers, then their biases.
    fn filters(&self, params: &Params, pairs: &[(usize, usize)]) -> Result<Tensor> {
        let mut seen = Vec::new();
        if let Some(pooled) = self.pooled {
            let rows = pairs.iter().map(|&(sample, _)| pooled.narrow(0, sample, 1)).collect::<Result<Vec<_>>>()?;
            seen.push(Tensor::cat(&rows, 0)?);
        }
        if self.tasks > 0 {
            let code = pairs.iter().flat_map(|&(_, task)| (0..self.tasks).map(move |k| f32::from(u8::from(k == task))));
            seen.push(Tensor::from_iter(code, self.map.device())?.reshape((pairs.len(), self.tasks))?.to_dtype(DType::F32)?);
        }
        let seen = Tensor::cat(&seen, 1)?.reshape((pairs.len(), (), 1, 1, 1))?;
        params.head("controller", &seen)?.flatten_from(1)
    }

    /// The heads of the tasks of one sample: `map (1, width, d, h, w)` and `filters (t, generated)` to `(t, outputs, d, h, w)`.
    fn apply(&self, map: &Tensor, filters: &Tensor) -> Result<Tensor> {
        let tasks = filters.dim(0)?;
        let mut weight_at = 0;
        let mut bias_at = self.layers.iter().map(|(inputs, outputs)| inputs * outputs).sum();
        let mut x = map.clone();
        for (layer, &(inputs, outputs)) in self.layers.iter().enumerate() {
            let weight = filters.narrow(1, weight_at, inputs * outputs)?.reshape((tasks * outputs, inputs, 1, 1, 1))?;
            let bias = filters.narrow(1, bias_at, outputs)?.reshape(tasks * outputs)?;
            // All tasks look at the same map; from the second layer on each has one of its own.
            let groups = if layer == 0 { 1 } else { tasks };
            x = ops::conv_with(&x, &weight, Some(&bias), ConvOptions { groups, ..ConvOptions::new(1, 0) })?;
            if layer + 1 < self.layers.len() {
                x = x.relu()?;
            }
            weight_at += inputs * outputs;
            bias_at += outputs;
        }
        let size = x.dims()[2..].to_vec();
        x.reshape([&[tasks, x.dim(1)? / tasks], &size[..]].concat())
    }
}

impl Network for DoDNet {
    fn parameters(&self) -> Vec<ParamSpec> {
        let conv = |name: &str, inputs: usize, outputs: usize| {
            let init = Init::Uniform { fan_in: inputs };
            let weight = ParamSpec { name: format!("{name}.weight"), shape: vec![outputs, inputs, 1, 1, 1], init };
            [weight, ParamSpec { name: format!("{name}.bias"), shape: vec![outputs], init }]
        };
        let mut specs = self.trunk.encoder_parameters("");
        specs.extend(self.trunk.decoder_parameters(""));
        let (deepest, full) = (self.trunk.deepest_channels(), self.trunk.decoded_channels()[0]);
        norm_specs("precls_conv.0", full, &mut specs);
        specs.extend(conv("precls_conv.2", full, self.head.width));
        if self.head.image_feature {
            norm_specs("GAP.0", deepest, &mut specs);
        }
        let seen = usize::from(self.head.image_feature) * deepest + usize::from(self.head.task_encoding) * self.tasks;
        specs.extend(conv("controller", seen, self.head.generated(self.outputs)));
        specs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(head: &DynamicHeadConfig) -> usize {
        let trunk = ResidualConfig { features: [32, 64, 128, 256], blocks: [1, 2, 2, 2, 2], groups: 16 };
        DoDNet::new(&trunk, head, 7, 2).parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn the_papers_network_has_17_329_528_parameters_and_generates_162() {
        let head = DynamicHeadConfig { depth: 3, width: 8, image_feature: true, task_encoding: true };
        assert_eq!((count(&head), head.generated(2)), (17_329_528, 162));
    }

    #[test]
    fn the_ablations_change_the_head_alone() {
        let head = DynamicHeadConfig { depth: 3, width: 8, image_feature: true, task_encoding: true };
        let whole = count(&head);
        let generated = |depth, width| DynamicHeadConfig { depth, width, ..head.clone() }.generated(2);
        assert_eq!([generated(2, 8), generated(4, 8), generated(3, 4), generated(3, 16)], [90, 234, 50, 578]);
        assert_eq!(count(&DynamicHeadConfig { task_encoding: false, ..head.clone() }), whole - 7 * 162);
        assert_eq!(count(&DynamicHeadConfig { image_feature: false, ..head.clone() }), whole - 256 * 162 - 512);
    }
}
