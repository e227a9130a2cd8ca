//! How the layers of a network are computed: with gradients for training, frozen for inference, or not at all: whoever implements
//! [`Compute`] may write them down instead.

use candle_core::{Result, Tensor};
use ops::Norm;

use crate::params::Params;

/// The slope of LeakyReLU for negative values.
pub const SLOPE: f64 = 0.1;
/// The term under the root of norms.
pub const EPSILON: f64 = 1e-5;

/// The layers that networks are made of. Names are those of parameters without their last part.
pub trait Compute {
    /// What passes between layers.
    type Map: Clone;

    /// 3×3 convolution of maps whose channels are joined, instance norm, LeakyReLU: `NAME.conv` and `NAME.adn.N`.
    ///
    /// # Errors
    /// When a parameter is missing, shapes do not fit or memory runs out; so of all layers.
    fn conv_norm_act(&self, name: &str, sources: &[&Self::Map]) -> Result<Self::Map>;

    /// Maxima of windows of 2.
    ///
    /// # Errors
    /// As above.
    fn max_pool2(&self, x: &Self::Map) -> Result<Self::Map>;

    /// Transposed convolution by 2 to the size of `like`; the last row of an odd size, which pooling has dropped, comes back
    /// as a copy of its neighbour.
    ///
    /// # Errors
    /// As above.
    fn upsample(&self, name: &str, x: &Self::Map, like: &Self::Map) -> Result<Self::Map>;

    /// 1×1 convolution to logits `(b, classes, size..)`.
    ///
    /// # Errors
    /// As above.
    fn head(&self, name: &str, x: &Self::Map) -> Result<Self::Map>;
}

/// With gradients for live parameters.
impl Compute for Params {
    type Map = Tensor;

    fn conv_norm_act(&self, name: &str, sources: &[&Tensor]) -> Result<Tensor> {
        let get = |leaf: &str| self.get(&format!("{name}.{leaf}"));
        let norm = Norm { gamma: &get("adn.N.weight")?, beta: &get("adn.N.bias")?, eps: EPSILON, slope: SLOPE };
        ops::conv_norm_leaky_relu(sources, &get("conv.weight")?, Some(&get("conv.bias")?), self.walk(1, 1), norm)
    }

    fn max_pool2(&self, x: &Tensor) -> Result<Tensor> {
        ops::max_pool2(x)
    }

    fn upsample(&self, name: &str, x: &Tensor, like: &Tensor) -> Result<Tensor> {
        let get = |leaf: &str| self.get(&format!("{name}.{leaf}"));
        let raised = ops::conv_transpose(x, &get("weight")?, Some(&get("bias")?), 2)?;
        let missing: Vec<bool> = like.dims()[2..].iter().zip(&raised.dims()[2..]).map(|(s, r)| s > r).collect();
        ops::pad_replicate_end(&raised, &missing)
    }

    fn head(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        ops::conv(x, &self.get(&format!("{name}.weight"))?, Some(&self.get(&format!("{name}.bias"))?), 1, 0)
    }
}
