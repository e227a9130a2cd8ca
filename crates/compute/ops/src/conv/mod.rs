//! Convolution and transposed convolution.

mod bf16;
mod normed;
mod op;
mod way;
mod winograd;

use candle_core::{DType, Result, Tensor, bail};

pub use self::normed::{Norm, conv_norm_leaky_relu};
use self::op::{Conv, ConvTranspose, apply};
pub use self::way::{Factors, bf16_trains_faster};
use crate::composed;
use crate::cpu::ConvShape;
use crate::tensor::convolutions_serve;

/// How a convolution walks, along depth, height and width. An image has no depth, and its entry is not looked at.
///
/// ```
/// let depthwise = ops::ConvOptions { groups: 32, ..ops::ConvOptions::new(1, 3) };
/// let flat = ops::ConvOptions { padding: [0, 1, 1], ..ops::ConvOptions::new(1, 0) };
/// # assert_ne!(depthwise, flat);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Steps of the input per step of the output.
    pub stride: [usize; 3],
    /// Zeros before the first and after the last plane.
    pub padding: [usize; 3],
    /// Groups of channels that do not see each other: output channels of group i see the input channels of group i.
    pub groups: usize,
    /// What the products are made of.
    pub factors: Factors,
}

impl ConvOptions {
    /// The same stride and padding along every axis, one group, products of `f32`.
    #[must_use]
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 3], padding: [padding; 3], groups: 1, factors: Factors::F32 }
    }

    /// For tensors of this rank: the depth of an image is walked in steps of 1 and not padded.
    fn conv(self, rank: usize) -> Conv {
        let (mut stride, mut padding) = (self.stride, self.padding);
        if rank == 4 {
            (stride[0], padding[0]) = (1, 0);
        }
        Conv { stride, padding, groups: self.groups, factors: self.factors }
    }
}

/// Convolution of `x` `(b, ci, h, w)` or `(b, ci, d, h, w)` with `weight` `(co, ci, kernel..)`, plus `bias` `(co)`,
/// with the same stride and zero padding along every axis: a cross-correlation, as in PyTorch.
///
/// The gradients of arguments that take none are not computed.
///
/// # Errors
/// When shapes do not fit each other, or the kernel does not fit into the padded input.
pub fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    conv_with(x, weight, bias, ConvOptions::new(stride, padding))
}

/// [`conv`] with a stride and a padding for each axis, and with groups: `weight` is `(co, ci / groups, kernel..)`.
///
/// # Errors
/// As [`conv`], and when the groups do not divide both numbers of channels.
pub fn conv_with(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, options: ConvOptions) -> Result<Tensor> {
    let op = options.conv(x.rank());
    let shape = op.shape(x.dims(), weight.dims())?;
    check_bias("conv", bias, shape.out_channels)?;
    if rounded_on_gpu(x, &shape, options.factors) {
        let rounded = |tensor: &Tensor| tensor.to_dtype(DType::BF16);
        let y = conv_with(&rounded(x)?, &rounded(weight)?, bias.map(rounded).transpose()?.as_ref(), options)?;
        return y.to_dtype(DType::F32);
    }
    if !serve(x, weight, bias) {
        return composed::conv(x, weight, bias, &shape);
    }
    apply(op, x, weight, bias)
}

/// Transposed convolution of `x` `(b, ci, h, w)` or `(b, ci, d, h, w)` with `weight` `(ci, co, kernel..)`, plus
/// `bias` `(co)`, without padding: sizes become `(n - 1) * stride + kernel`.
///
/// # Errors
/// When shapes do not fit each other.
pub fn conv_transpose(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Result<Tensor> {
    conv_transpose_with(x, weight, bias, ConvOptions::new(stride, 0), [0; 3])
}

/// [`conv_transpose`] with options: `weight` is `(ci, co / groups, kernel..)`, and sizes become
/// `(n - 1) * stride + kernel - 2 * padding + output_padding`. The options are those of the convolution that this is
/// the transposed of: its stride spreads the input, and its padding cuts the result. Several sizes of input have the
/// same size of output under a stride; `output_padding`, less than the stride, chooses among them.
///
/// # Errors
/// When shapes do not fit each other, or nothing is left of the result.
pub fn conv_transpose_with(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: ConvOptions,
    output_padding: [usize; 3],
) -> Result<Tensor> {
    let mut op = ConvTranspose { conv: options.conv(x.rank()), output_padding };
    if x.rank() == 4 {
        op.output_padding[0] = 0;
    }
    let shape = op.shape(x.dims(), weight.dims())?;
    check_bias("conv_transpose", bias, shape.in_channels)?;
    if !serve(x, weight, bias) {
        return composed::conv_transpose(x, weight, bias, &shape);
    }
    apply(op, x, weight, bias)
}

/// Whether a convolution is one of tensors of `bf16` between tensors of `f32`.
fn rounded_on_gpu(x: &Tensor, shape: &ConvShape, factors: Factors) -> bool {
    x.device().is_cuda() && x.dtype() == DType::F32 && way::rounds(shape, factors)
}

fn serve(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> bool {
    convolutions_serve(&[x, weight, bias.unwrap_or(x)])
}

fn check_bias(op: &str, bias: Option<&Tensor>, channels: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.dims() != [channels] => {
            bail!("{op}: a bias of shape [{channels}] expected, one value per output channel, found {:?}", bias.dims())
        }
        _ => Ok(()),
    }
}
