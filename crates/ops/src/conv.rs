//! Convolution and transposed convolution as candle operations.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::{ConvShape, Size3, grouped, norm, unwritten};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Operand};
use crate::tensor::{convolutions_serve, dims_like, floats, volumes};

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
}

impl ConvOptions {
    /// The same stride and padding along every axis, and one group.
    #[must_use]
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 3], padding: [padding; 3], groups: 1 }
    }

    /// For tensors of this rank: the depth of an image is walked in steps of 1 and not padded.
    fn conv(self, rank: usize) -> Conv {
        let (mut stride, mut padding) = (self.stride, self.padding);
        if rank == 4 {
            (stride[0], padding[0]) = (1, 0);
        }
        Conv { stride, padding, groups: self.groups }
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

/// What convolution and its transposed have in common: `(x, w)`, or `(x, w, bias)` with a bias per output channel, to y.
trait Bilinear: Send + Sync + 'static {
    /// The name without and with a bias.
    const NAMES: [&'static str; 2];

    fn run(&self, x: (&CpuStorage, &Layout), w: (&CpuStorage, &Layout), bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)>;

    #[cfg(feature = "cuda")]
    fn run_on_gpu(&self, x: Operand<'_>, w: Operand<'_>, bias: Option<Operand<'_>>) -> Result<(CudaStorage, Shape)>;

    /// The gradients by x and w.
    fn gradients(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>;
}

/// A [`Bilinear`] as an operation of candle's.
struct Op<T>(T);

fn apply<T: Bilinear>(op: T, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, Op(op)),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Op(op)),
    }
}

impl<T: Bilinear> CustomOp2 for Op<T> {
    fn name(&self) -> &'static str {
        T::NAMES[0]
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.run((s1, l1), (s2, l2), None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.0.run_on_gpu((s1, l1), (s2, l2), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.0.gradients(x, w, &dy.contiguous()?)
    }
}

impl<T: Bilinear> CustomOp3 for Op<T> {
    fn name(&self) -> &'static str {
        T::NAMES[1]
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.run((s1, l1), (s2, l2), Some(floats(s3, l3)?))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.run_on_gpu((s1, l1), (s2, l2), Some((s3, l3)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dw) = self.0.gradients(x, w, &dy)?;
        let db = wanted(bias, || dy.apply_op1_no_bwd(&ChannelSums))?;
        Ok((dx, dw, db))
    }
}

/// Convolution.
#[derive(Clone, Copy)]
struct Conv {
    stride: Size3,
    padding: Size3,
    groups: usize,
}

impl Conv {
    fn shape(&self, x: &[usize], w: &[usize]) -> Result<ConvShape> {
        let (batch, in_channels, input) = volumes("conv", x)?;
        let groups = self.groups;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !w[0].is_multiple_of(groups) {
            bail!("conv: {groups} groups do not divide the channels of input {x:?} and the filters of weights {w:?}");
        }
        if w.len() != x.len() || w[1] != in_channels / groups {
            bail!("conv: weights (co, {}, kernel..) expected for input {x:?} in {groups} groups, found {w:?}", in_channels / groups);
        }
        let (out_channels, _, kernel) = volumes("conv", w)?;
        let shape = ConvShape { batch, in_channels, out_channels, groups, input, kernel, stride: self.stride, padding: self.padding };
        if in_channels == 0 || out_channels == 0 {
            bail!("conv: input {x:?} and weights {w:?} must have channels");
        }
        for a in 0..3 {
            let room = input[a] + 2 * self.padding[a];
            if kernel[a] == 0 || self.stride[a] == 0 || kernel[a] > room {
                bail!(
                    "conv: kernel {kernel:?} with stride {:?} does not fit into input {input:?} padded by {:?}",
                    self.stride,
                    self.padding
                );
            }
        }
        Ok(shape)
    }
}

impl Bilinear for Conv {
    const NAMES: [&'static str; 2] = ["conv", "conv-bias"];

    fn run(&self, (s1, l1): (&CpuStorage, &Layout), (s2, l2): (&CpuStorage, &Layout), bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(l1.dims(), l2.dims())?;
        let dims = dims_like(l1.dims(), shape.batch, shape.out_channels, shape.output());
        let mut y = unwritten(dims.iter().product());
        grouped::forward(Isa::current(), &shape, floats(s1, l1)?, floats(s2, l2)?, bias, &mut y);
        Ok((CpuStorage::F32(y), dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn run_on_gpu(&self, x: Operand<'_>, w: Operand<'_>, bias: Option<Operand<'_>>) -> Result<(CudaStorage, Shape)> {
        let dims = x.1.dims();
        let shape = self.shape(dims, w.1.dims())?;
        let y = cuda::conv::forward(&shape, dims.len() - 2, x, w, bias)?;
        Ok((y, dims_like(dims, shape.batch, shape.out_channels, shape.output()).into()))
    }

    fn gradients(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = wanted(x, || dy.apply_op2_no_bwd(w, &ConvByInput { conv: *self, input: x.dims().to_vec() }))?;
        let dw = wanted(w, || x.apply_op2_no_bwd(dy, &ConvByWeight { conv: *self, weight: w.dims().to_vec() }))?;
        Ok((dx, dw))
    }
}

/// Computes a gradient only for an argument that takes one.
fn wanted(of: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    if of.track_op() { gradient().map(Some) } else { Ok(None) }
}

/// `(dy, w)` to dx.
struct ConvByInput {
    conv: Conv,
    input: Vec<usize>,
}

impl CustomOp2 for ConvByInput {
    fn name(&self) -> &'static str {
        "conv-by-input"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.conv.shape(&self.input, l2.dims())?;
        let mut dx = unwritten(self.input.iter().product());
        grouped::backward_data(Isa::current(), &shape, floats(s1, l1)?, floats(s2, l2)?, None, &mut dx);
        Ok((CpuStorage::F32(dx), self.input.as_slice().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = self.conv.shape(&self.input, l2.dims())?;
        let dx = cuda::conv::backward_data(&shape, self.input.len() - 2, (s1, l1), (s2, l2), None)?;
        Ok((dx, self.input.as_slice().into()))
    }
}

/// `(x, dy)` to dw.
struct ConvByWeight {
    conv: Conv,
    weight: Vec<usize>,
}

impl CustomOp2 for ConvByWeight {
    fn name(&self) -> &'static str {
        "conv-by-weight"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.conv.shape(l1.dims(), &self.weight)?;
        let mut dw = unwritten(self.weight.iter().product());
        grouped::backward_filter(Isa::current(), &shape, floats(s1, l1)?, floats(s2, l2)?, &mut dw);
        Ok((CpuStorage::F32(dw), self.weight.as_slice().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = self.conv.shape(l1.dims(), &self.weight)?;
        let dw = cuda::conv::backward_filter(&shape, self.weight.len() - 2, (s1, l1), (s2, l2))?;
        Ok((dw, self.weight.as_slice().into()))
    }
}

/// The gradient by a bias: dy summed over batch and space.
struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "channel-sums"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, channels, size) = volumes("channel-sums", l.dims())?;
        let sums = norm::channel_sums(Isa::current(), floats(s, l)?, channels, size.iter().product());
        Ok((CpuStorage::F32(sums), channels.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (_, channels, size) = volumes("channel-sums", l.dims())?;
        Ok((cuda::sums::channel_sums((s, l), channels, size.iter().product())?, channels.into()))
    }
}

/// The transposed of a convolution from y's shape to x's.
#[derive(Clone, Copy)]
struct ConvTranspose {
    conv: Conv,
    output_padding: Size3,
}

impl ConvTranspose {
    /// The shape of the convolution that this is the transposed of: its input is our output.
    fn shape(&self, x: &[usize], w: &[usize]) -> Result<ConvShape> {
        let (batch, channels, size) = volumes("conv_transpose", x)?;
        if w.len() != x.len() || w[0] != channels {
            bail!("conv_transpose: weights ({channels}, co, kernel..) expected for input {x:?}, found {w:?}");
        }
        let (_, out_channels, kernel) = volumes("conv_transpose", w)?;
        let Conv { stride, padding, groups } = self.conv;
        if size.contains(&0) || kernel.contains(&0) || stride.contains(&0) {
            bail!("conv_transpose: input {x:?}, weights {w:?} and stride {stride:?} must not be empty");
        }
        let mut output = [0; 3];
        for a in 0..3 {
            let full = (size[a] - 1) * stride[a] + kernel[a] + self.output_padding[a];
            if self.output_padding[a] >= stride[a] || full <= 2 * padding[a] {
                bail!(
                    "conv_transpose: output padding {:?} must be less than stride {stride:?}, and padding {padding:?} leave something of input {x:?}",
                    self.output_padding
                );
            }
            output[a] = full - 2 * padding[a];
        }
        self.conv.shape(&dims_like(x, batch, out_channels * groups, output), w)
    }
}

impl Bilinear for ConvTranspose {
    const NAMES: [&'static str; 2] = ["conv-transpose", "conv-transpose-bias"];

    fn run(&self, (s1, l1): (&CpuStorage, &Layout), (s2, l2): (&CpuStorage, &Layout), bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(l1.dims(), l2.dims())?;
        let dims = dims_like(l1.dims(), shape.batch, shape.in_channels, shape.input);
        let mut y = unwritten(dims.iter().product());
        grouped::backward_data(Isa::current(), &shape, floats(s1, l1)?, floats(s2, l2)?, bias, &mut y);
        Ok((CpuStorage::F32(y), dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn run_on_gpu(&self, x: Operand<'_>, w: Operand<'_>, bias: Option<Operand<'_>>) -> Result<(CudaStorage, Shape)> {
        let dims = x.1.dims();
        let shape = self.shape(dims, w.1.dims())?;
        let y = cuda::conv::backward_data(&shape, dims.len() - 2, x, w, bias)?;
        Ok((y, dims_like(dims, shape.batch, shape.in_channels, shape.input).into()))
    }

    fn gradients(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = wanted(x, || dy.apply_op2_no_bwd(w, &Op(self.conv)))?;
        let dw = wanted(w, || dy.apply_op2_no_bwd(x, &ConvByWeight { conv: self.conv, weight: w.dims().to_vec() }))?;
        Ok((dx, dw))
    }
}
