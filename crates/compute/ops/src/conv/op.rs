//! Convolutions and their gradients as operations of candle's.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::way::{self, Factors};
use crate::cpu::isa::Isa;
use crate::cpu::{ConvShape, Size3, grouped, norm, written};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Operand};
use crate::tensor::{dims_like, floats, volumes};

/// What convolution and its transposed have in common: `(x, w)`, or `(x, w, bias)` with a bias per output channel, to y.
pub(super) trait Bilinear: Send + Sync + 'static {
    /// The name without and with a bias.
    const NAMES: [&'static str; 2];

    fn run(&self, x: (&CpuStorage, &Layout), w: (&CpuStorage, &Layout), bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)>;

    #[cfg(feature = "cuda")]
    fn run_on_gpu(&self, x: Operand<'_>, w: Operand<'_>, bias: Option<Operand<'_>>) -> Result<(CudaStorage, Shape)>;

    /// The gradients by x and w, of those that take one.
    fn gradients(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>;
}

/// A [`Bilinear`] as an operation of candle's.
struct Op<T>(T);

pub(super) fn apply<T: Bilinear>(op: T, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
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
pub(super) struct Conv {
    pub(super) stride: Size3,
    pub(super) padding: Size3,
    pub(super) groups: usize,
    pub(super) factors: Factors,
}

impl Conv {
    pub(super) fn shape(&self, x: &[usize], w: &[usize]) -> Result<ConvShape> {
        let (batch, in_channels, input) = volumes("conv", x)?;
        let (out_channels, _, kernel) = volumes("conv", w)?;
        let groups = self.groups;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            bail!("conv: {groups} groups do not divide the channels of input {x:?} and the filters of weights {w:?}");
        }
        if w.len() != x.len() || w[1] != in_channels / groups {
            bail!("conv: weights (co, {}, kernel..) expected for input {x:?} in {groups} groups, found {w:?}", in_channels / groups);
        }
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

impl Conv {
    /// The gradient by an input of this shape.
    pub(super) fn by_input(&self, input: &[usize], w: &Tensor, dy: &Tensor) -> Result<Tensor> {
        dy.apply_op2_no_bwd(w, &ConvByInput { conv: *self, input: input.to_vec() })
    }

    /// The gradient by weights of this shape.
    pub(super) fn by_weight(&self, x: &Tensor, weight: &[usize], dy: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(dy, &ConvByWeight { conv: *self, weight: weight.to_vec() })
    }
}

impl Bilinear for Conv {
    const NAMES: [&'static str; 2] = ["conv", "conv-bias"];

    fn run(&self, (s1, l1): (&CpuStorage, &Layout), (s2, l2): (&CpuStorage, &Layout), bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(l1.dims(), l2.dims())?;
        let dims = dims_like(l1.dims(), shape.batch, shape.out_channels, shape.output());
        let (x, w) = (floats(s1, l1)?, floats(s2, l2)?);
        let y = written(dims.iter().product(), |y| way::forward(&shape, self.factors, x, w, bias, y));
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
        Ok((wanted(x, || self.by_input(x.dims(), w, dy))?, wanted(w, || self.by_weight(x, w.dims(), dy))?))
    }
}

/// Computes a gradient only for an argument that takes one.
pub(super) fn wanted(of: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
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
        let (dy, w) = (floats(s1, l1)?, floats(s2, l2)?);
        let dx = written(self.input.iter().product(), |dx| way::backward_data(&shape, self.conv.factors, dy, w, dx));
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
        let mut dw = vec![0.0; self.weight.iter().product()];
        let (x, dy) = (floats(s1, l1)?, floats(s2, l2)?);
        way::backward_filter(&shape, self.conv.factors, x, dy, &mut dw);
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
pub(super) struct ChannelSums;

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
pub(super) struct ConvTranspose {
    pub(super) conv: Conv,
    pub(super) output_padding: Size3,
}

impl ConvTranspose {
    /// The shape of the convolution that this is the transposed of: its input is our output.
    pub(super) fn shape(&self, x: &[usize], w: &[usize]) -> Result<ConvShape> {
        let (batch, channels, size) = volumes("conv_transpose", x)?;
        if w.len() != x.len() || w[0] != channels {
            bail!("conv_transpose: weights ({channels}, co, kernel..) expected for input {x:?}, found {w:?}");
        }
        let (_, out_channels, kernel) = volumes("conv_transpose", w)?;
        let Conv { stride, padding, groups, .. } = self.conv;
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
        let (x, w) = (floats(s1, l1)?, floats(s2, l2)?);
        let y = written(dims.iter().product(), |y| grouped::backward_data(Isa::current(), &shape, x, w, bias, y));
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
