//! The layers of all other networks, beside those of [`Compute`].

use candle_core::{Result, Tensor};
use ops::{ConvOptions, Norm};

use crate::compute::{Compute, EPSILON};
use crate::dodnet::DynamicHead;
use crate::params::Params;
use crate::recompute::recomputed;

/// The term under the root of the weights' standardisation.
const WEIGHT_EPSILON: f64 = 1e-12;

/// The layers that networks beside the student and the 3-D U-Net of the paper are made of. Names are those of parameters without their last part. All give an
/// error when a parameter is missing, shapes do not fit or memory runs out.
#[expect(clippy::missing_errors_doc, reason = "all have the same errors")]
pub trait Layers: Compute + Sized {
    /// Convolution without bias, instance norm, LeakyReLU: `NAME.conv` and, if the norm has parameters, `NAME.norm`.
    fn conv_norm(&self, name: &str, x: &Self::Map, how: ConvNorm) -> Result<Self::Map>;

    /// Transposed convolution whose kernel is as large as its stride, with or without bias.
    fn raise(&self, name: &str, x: &Self::Map, stride: [usize; 3], bias: bool) -> Result<Self::Map>;

    /// Means of boxes of that size, which divides the map's. `name` is that of the block; there is no parameter.
    fn average(&self, name: &str, x: &Self::Map, size: [usize; 3]) -> Result<Self::Map>;

    /// Convolution by the [`standardized`] weights, without bias.
    fn standard_conv(&self, name: &str, x: &Self::Map, stride: usize, padding: usize) -> Result<Self::Map>;

    /// Group norm and ReLU.
    fn group_norm_relu(&self, name: &str, x: &Self::Map, groups: usize) -> Result<Self::Map>;

    /// Linear interpolation to the size of `like`; corners are not aligned.
    fn resize_like(&self, x: &Self::Map, like: &Self::Map) -> Result<Self::Map>;

    /// The sum of two maps of one shape.
    fn add(&self, a: &Self::Map, b: &Self::Map) -> Result<Self::Map>;

    /// The sum of two maps of one shape, and LeakyReLU of that slope for negative values.
    fn add_leaky_relu(&self, a: &Self::Map, b: &Self::Map, slope: f64) -> Result<Self::Map>;

    /// The channels of two maps behind each other.
    fn join(&self, a: &Self::Map, b: &Self::Map) -> Result<Self::Map>;

    /// A map with a channel more for each value, the same in all voxels of all samples.
    fn beside(&self, map: Self::Map, values: &[f32]) -> Result<Self::Map>;

    /// Some samples of a batch.
    fn select(&self, map: &Self::Map, samples: &[usize]) -> Result<Self::Map>;

    /// The mean over all voxels, `(b, c)`.
    fn mean(&self, map: &Self::Map) -> Result<Self::Map>;

    /// Logits of pairs of a sample and a task, pairs of one sample behind each other.
    fn dynamic_head(&self, head: &DynamicHead<'_, Self::Map>, pairs: &[(usize, usize)]) -> Result<Self::Map>;

    /// What there is no layer for: `what` says it, and `run` computes it.
    fn as_trained(
        &self,
        what: &str,
        inputs: &[&Self::Map],
        run: impl FnOnce(&Params, &[&Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Self::Map>>;

    /// A part of a network.
    fn block<B: Block>(&self, block: &B, inputs: &[&Self::Map]) -> Result<Self::Map> {
        block.run(self, inputs)
    }
}

/// How a convolution without bias goes over a map, and what is behind it.
#[derive(Clone, Copy)]
pub struct ConvNorm {
    /// From one place to the next.
    pub stride: [usize; 3],
    /// Zeros at each end; the kernel is one longer than both ends together.
    pub padding: [usize; 3],
    /// The slope of LeakyReLU for negative values, 1 to leave it out.
    pub slope: f64,
    /// Whether the norm has a scale and a shift.
    pub learnt: bool,
}

/// A part of a network of one or two inputs. In training, what is between its layers may be computed again in place of being kept.
pub trait Block: Clone + Send + Sync + 'static {
    /// What the names of its parameters begin with, without the dot.
    fn name(&self) -> &str;

    /// Elements of the largest map between its layers.
    fn widest(&self, inputs: &[&Tensor]) -> usize;

    /// Its layers.
    ///
    /// # Errors
    /// Those of the layers.
    fn run<C: Layers>(&self, compute: &C, inputs: &[&C::Map]) -> Result<C::Map>;
}

/// The weights of filters `(co, ..)`, each brought to mean 0 and variance 1.
///
/// # Errors
/// When there are no weights.
pub fn standardized(weight: &Tensor) -> Result<Tensor> {
    #[expect(clippy::cast_precision_loss, reason = "filters are small")]
    let n = weight.elem_count() as f64 / weight.dim(0)? as f64;
    // DoDNet's authors divide by the deviation of a sample, n - 1 in its denominator; the operation by that of a population.
    ops::standardize_weights(weight, WEIGHT_EPSILON)? * ((n - 1.0) / n).sqrt()
}

/// With gradients for live parameters.
impl Layers for Params {
    fn conv_norm(&self, name: &str, x: &Tensor, how: ConvNorm) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.conv.weight"))?;
        let options = ConvOptions { stride: how.stride, padding: how.padding, ..self.walk(1, 0) };
        let [gamma, beta] = self.norm(how.learnt.then(|| format!("{name}.norm")).as_deref(), weight.dim(0)?)?;
        ops::conv_norm_leaky_relu(&[x], &weight, None, options, Norm { gamma: &gamma, beta: &beta, eps: EPSILON, slope: how.slope })
    }

    fn raise(&self, name: &str, x: &Tensor, stride: [usize; 3], bias: bool) -> Result<Tensor> {
        let options = ConvOptions { stride, ..ConvOptions::new(1, 0) };
        let bias = bias.then(|| self.get(&format!("{name}.bias"))).transpose()?;
        ops::conv_transpose_with(x, &self.get(&format!("{name}.weight"))?, bias.as_ref(), options, [0; 3])
    }

    fn average(&self, _: &str, x: &Tensor, [i, j, k]: [usize; 3]) -> Result<Tensor> {
        let (b, c, d, h, w) = x.dims5()?;
        x.reshape(&[b * c, d / i, i, h / j, j, w / k, k][..])?.mean((2, 4, 6))?.reshape((b, c, d / i, h / j, w / k))
    }

    fn standard_conv(&self, name: &str, x: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
        ops::conv_with(x, &standardized(&self.get(&format!("{name}.weight"))?)?, None, self.walk(stride, padding))
    }

    fn group_norm_relu(&self, name: &str, x: &Tensor, groups: usize) -> Result<Tensor> {
        let get = |leaf: &str| self.get(&format!("{name}.{leaf}"));
        ops::group_norm_leaky_relu(x, groups, &get("weight")?, &get("bias")?, EPSILON, 0.0)
    }

    fn resize_like(&self, x: &Tensor, like: &Tensor) -> Result<Tensor> {
        ops::upsample_linear(x, &like.dims()[2..])
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a + b
    }

    fn add_leaky_relu(&self, a: &Tensor, b: &Tensor, slope: f64) -> Result<Tensor> {
        ops::add_leaky_relu(a, b, slope)
    }

    fn join(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        ops::concat_channels(&[a, b])
    }

    fn beside(&self, map: Tensor, values: &[f32]) -> Result<Tensor> {
        if values.is_empty() {
            return Ok(map);
        }
        let shape = [&[map.dim(0)?, values.len()], &map.dims()[2..]].concat();
        let told = Tensor::from_slice(values, (1, values.len(), 1, 1, 1), map.device())?.broadcast_as(shape)?.contiguous()?;
        ops::concat_channels(&[&map, &told])
    }

    fn select(&self, map: &Tensor, samples: &[usize]) -> Result<Tensor> {
        if samples.len() == map.dim(0)? {
            return Ok(map.clone());
        }
        let rows = samples.iter().map(|&sample| map.narrow(0, sample, 1)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&rows, 0)
    }

    fn mean(&self, map: &Tensor) -> Result<Tensor> {
        map.flatten_from(2)?.mean(2)
    }

    fn dynamic_head(&self, head: &DynamicHead<'_, Tensor>, pairs: &[(usize, usize)]) -> Result<Tensor> {
        head.run(self, pairs)
    }

    fn as_trained(&self, _: &str, inputs: &[&Tensor], run: impl FnOnce(&Params, &[&Tensor]) -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        run(self, inputs)
    }

    fn block<B: Block>(&self, block: &B, inputs: &[&Tensor]) -> Result<Tensor> {
        if !self.recomputes(block.widest(inputs)) {
            return block.run(self, inputs);
        }
        let part = block.clone();
        recomputed(self, block.name(), inputs, move |params, inputs| part.run(params, &inputs.iter().collect::<Vec<_>>()))
    }
}
