//! The operations.

use serde::{Deserialize, Serialize};

/// An operation. Axes count from 0, the batch; spatial lists go along the spatial axes, which are the last one, two or three.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Convolution of x with weights `(co, ci / groups, kernel..)`, and a bias `(co)` if there is a third operand.
    Conv {
        /// How it walks.
        walk: Walk,
        /// Groups of channels that do not see each other.
        groups: usize,
    },
    /// Transposed convolution of x with weights `(ci, co / groups, kernel..)`, and a bias `(co)` if there is a third operand.
    ConvTranspose {
        /// That of the convolution which this is the transposed of.
        walk: Walk,
        /// Groups of channels that do not see each other.
        groups: usize,
        /// What the result is longer by at its far ends.
        more: Vec<usize>,
    },
    /// x brought to mean 0 and variance 1 over groups of channels, times gamma `(c)`, plus beta `(c)`, negative values times a slope.
    Norm {
        /// Groups of channels; none where each channel is one.
        groups: Option<usize>,
        /// The term under the root.
        eps: f64,
        /// The slope of negative values: 1 changes nothing.
        slope: f64,
    },
    /// A function of each value.
    Each(Function),
    /// x, or where it is negative, x times the second operand.
    Sloped,
    /// Probabilities along an axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// a + b; in this and all others of two operands, sides of 1 are as long as those of the other operand.
    Add,
    /// a − b.
    Subtract,
    /// a · b.
    Multiply,
    /// a / b.
    Divide,
    /// Products of matrices, the last two axes.
    Product,
    /// Operands behind each other.
    Join {
        /// The axis.
        axis: usize,
    },
    /// The greatest value of each window. What is outside is never one.
    MaxPool {
        /// Sides of a window.
        kernel: Vec<usize>,
        /// How windows walk.
        walk: Walk,
    },
    /// The mean of each window.
    AveragePool {
        /// Sides of a window.
        kernel: Vec<usize>,
        /// How windows walk.
        walk: Walk,
        /// Whether zeros outside count.
        outside: bool,
    },
    /// The mean over axes, which stay with a length of 1.
    Mean {
        /// The axes.
        axes: Vec<usize>,
    },
    /// At other spatial sizes, the value of the voxel that the first corner lies in.
    Nearest {
        /// The sizes.
        size: Vec<usize>,
    },
    /// At other spatial sizes, linear between the voxels' middles.
    Linear {
        /// The sizes.
        size: Vec<usize>,
    },
    /// Along an axis, a mixture of two places for each place of the result.
    Blend {
        /// The axis.
        axis: usize,
        /// The first places.
        low: Vec<usize>,
        /// The second places.
        high: Vec<usize>,
        /// The parts of the second ones.
        part: Vec<f32>,
    },
    /// A value around x.
    Pad {
        /// So often before each axis.
        before: Vec<usize>,
        /// So often after each axis.
        after: Vec<usize>,
        /// The value.
        with: f32,
    },
    /// A part of an axis.
    Cut {
        /// The axis.
        axis: usize,
        /// Its first place.
        start: usize,
        /// Its length.
        length: usize,
    },
    /// Places of an axis, in any order.
    Take {
        /// The axis.
        axis: usize,
        /// The places.
        places: Vec<usize>,
    },
    /// The same values in another shape.
    Reshape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The axes in another order.
    Permute {
        /// For each axis of the result that of x.
        order: Vec<usize>,
    },
    /// Axes of length 1 made longer, and new ones before them.
    Expand {
        /// The shape.
        shape: Vec<usize>,
    },
}

/// How windows walk over the spatial axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Steps of the input per step of the output.
    pub stride: Vec<usize>,
    /// How far windows reach beyond both ends.
    pub padding: Vec<usize>,
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Function {
    /// Negative values times a slope, which is 0 for a ReLU.
    LeakyRelu {
        /// The slope.
        slope: f64,
    },
    /// `alpha · (exp(x) − 1)` of negative values.
    Elu {
        /// Alpha.
        alpha: f64,
    },
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// The exponential.
    Exp,
    /// The natural logarithm.
    Log,
    /// The square root.
    Sqrt,
    /// The greatest whole number that is not above x.
    Floor,
    /// The least whole number that is not below x.
    Ceil,
    /// −x.
    Negative,
    /// |x|.
    Absolute,
    /// x, kept between two values.
    Clip {
        /// The least.
        low: f32,
        /// The greatest.
        high: f32,
    },
}
