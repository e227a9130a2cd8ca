//! cuDNN's descriptors of a convolution, and its choice of an algorithm.

use std::ffi::c_int;
use std::ptr::null_mut;

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{DType, Result, bail};

use super::count;
use crate::cpu::{ConvShape, Size3};

/// Memory that an algorithm may ask for beside its arguments. The limit is fixed, and not what happens to be free, so that
/// the choice is the same in every run.
const WORKSPACE_LIMIT: usize = 1 << 30;
/// More algorithms than cuDNN has, each with and without tensor cores.
const CANDIDATES: usize = 24;

/// What a convolution maps to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// x and w to y.
    Forward,
    /// dy and w to dx.
    Data,
    /// x and dy to dw.
    Filter,
}

/// A convolution of one shape. Images have two axes in space, volumes three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    pub(super) direction: Direction,
    pub(super) shape: ConvShape,
    pub(super) axes: usize,
    pub(super) dtype: DType,
    /// Whether products of `f32` may be rounded to TF32.
    pub(super) tf32: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Data(sys::cudnnConvolutionBwdDataAlgo_t),
    Filter(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// How a problem is solved: chosen once, then kept.
pub(super) struct Plan {
    pub(super) descriptors: Descriptors,
    pub(super) algorithm: Algorithm,
    /// Bytes of memory beside the arguments.
    pub(super) workspace: usize,
}

impl Plan {
    /// cuDNN's first choice among the deterministic algorithms within the limit of memory. It is its heuristics' choice and
    /// not a measurement's, which would differ from run to run.
    ///
    /// # Errors
    /// When cuDNN refuses the shape, or has no such algorithm.
    #[allow(unsafe_code)]
    pub(super) fn new(handle: sys::cudnnHandle_t, problem: &Problem) -> Result<Self> {
        let descriptors = Descriptors::new(problem)?;
        let Descriptors { x, w, y, conv } = descriptors;
        macro_rules! choose {
            ($query:ident, $performance:ty, $algorithm:path, $($descriptor:expr),*) => {{
                // SAFETY: of the enumerations in it zero is a member of each.
                let mut performances: [$performance; CANDIDATES] = unsafe { std::mem::zeroed() };
                let mut found: c_int = 0;
                // SAFETY: handle and descriptors are alive, and there are as many places for answers as said.
                unsafe { result::$query(handle, $($descriptor),*, CANDIDATES as c_int, &mut found, performances.as_mut_ptr()) }?;
                performances.iter().take(found.unsigned_abs() as usize).find(|p| {
                    p.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && p.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && p.memory <= WORKSPACE_LIMIT
                }).map(|p| ($algorithm(p.algo), p.mathType))
            }};
        }
        type Forward = sys::cudnnConvolutionFwdAlgoPerf_t;
        type Data = sys::cudnnConvolutionBwdDataAlgoPerf_t;
        type Filter = sys::cudnnConvolutionBwdFilterAlgoPerf_t;
        let choice = match problem.direction {
            Direction::Forward => choose!(get_convolution_forward_algorithm, Forward, Algorithm::Forward, x, w, conv, y),
            Direction::Data => choose!(get_convolution_backward_data_algorithm, Data, Algorithm::Data, w, y, conv, x),
            Direction::Filter => choose!(get_convolution_backward_filter_algorithm, Filter, Algorithm::Filter, x, y, conv, w),
        };
        let Some((algorithm, math)) = choice else {
            bail!("cuDNN has no deterministic algorithm within {} MiB for {problem:?}", WORKSPACE_LIMIT >> 20);
        };
        // SAFETY: handle and descriptors are alive.
        let workspace = unsafe {
            result::set_convolution_math_type(conv, math)?;
            match algorithm {
                Algorithm::Forward(a) => result::get_convolution_forward_workspace_size(handle, x, w, conv, y, a)?,
                Algorithm::Data(a) => result::get_convolution_backward_data_workspace_size(handle, w, y, conv, x, a)?,
                Algorithm::Filter(a) => result::get_convolution_backward_filter_workspace_size(handle, x, y, conv, w, a)?,
            }
        };
        Ok(Self { descriptors, algorithm, workspace })
    }
}

/// A convolution as cuDNN sees it, whatever the direction: its input, weights, output and steps.
pub(super) struct Descriptors {
    pub(super) x: sys::cudnnTensorDescriptor_t,
    pub(super) w: sys::cudnnFilterDescriptor_t,
    pub(super) y: sys::cudnnTensorDescriptor_t,
    pub(super) conv: sys::cudnnConvolutionDescriptor_t,
}

impl Descriptors {
    #[allow(unsafe_code)]
    fn new(problem: &Problem) -> Result<Self> {
        use sys::cudnnMathType_t as Math;
        let (shape, axes) = (&problem.shape, problem.axes);
        let (data, math) = match problem.dtype {
            DType::F32 if problem.tf32 => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, Math::CUDNN_DEFAULT_MATH),
            DType::F32 => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, Math::CUDNN_FMA_MATH),
            DType::BF16 => (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, Math::CUDNN_TENSOR_OP_MATH),
            other => bail!("convolution on CUDA computes on f32 and bf16, not on {other:?}"),
        };
        let x = dims(shape.batch, shape.in_channels, shape.input, axes)?;
        let w = dims(shape.out_channels, shape.in_channels / shape.groups, shape.kernel, axes)?;
        let y = dims(shape.batch, shape.out_channels, shape.output(), axes)?;
        let in_space = |size: Size3| size[3 - axes..].iter().map(|&n| count(n).map(|n| n as c_int)).collect::<Result<Vec<_>>>();
        let (padding, stride, dilation) = (in_space(shape.padding)?, in_space(shape.stride)?, in_space([1; 3])?);
        let mut new = Self { x: null_mut(), w: null_mut(), y: null_mut(), conv: null_mut() };
        new.x = result::create_tensor_descriptor()?;
        new.w = result::create_filter_descriptor()?;
        new.y = result::create_tensor_descriptor()?;
        new.conv = result::create_convolution_descriptor()?;
        let (rank, axes) = (x.len() as c_int, axes as c_int);
        // SAFETY: the descriptors were just made; every pointer is to as many numbers as said, which cuDNN copies. Sums are
        // taken in single precision whatever the elements are.
        unsafe {
            result::set_tensornd_descriptor(new.x, data, rank, x.as_ptr(), strides(&x).as_ptr())?;
            result::set_filternd_descriptor(new.w, data, sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW, rank, w.as_ptr())?;
            result::set_tensornd_descriptor(new.y, data, rank, y.as_ptr(), strides(&y).as_ptr())?;
            result::set_convolutionnd_descriptor(
                new.conv,
                axes,
                padding.as_ptr(),
                stride.as_ptr(),
                dilation.as_ptr(),
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(new.conv, math)?;
            result::set_convolution_group_count(new.conv, count(shape.groups)? as c_int)?;
        }
        Ok(new)
    }
}

impl Drop for Descriptors {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: each is destroyed once, if it was made. A failure would leave a few bytes behind.
        unsafe {
            if !self.x.is_null() {
                let _ = result::destroy_tensor_descriptor(self.x);
            }
            if !self.w.is_null() {
                let _ = result::destroy_filter_descriptor(self.w);
            }
            if !self.y.is_null() {
                let _ = result::destroy_tensor_descriptor(self.y);
            }
            if !self.conv.is_null() {
                let _ = result::destroy_convolution_descriptor(self.conv);
            }
        }
    }
}

/// (first, second, size..), all elements of which can be counted.
fn dims(first: usize, second: usize, size: Size3, axes: usize) -> Result<Vec<c_int>> {
    count(first * second * size.iter().product::<usize>())?;
    [first, second].iter().chain(&size[3 - axes..]).map(|&n| count(n).map(|n| n as c_int)).collect()
}

/// The strides of a contiguous tensor.
fn strides(dims: &[c_int]) -> Vec<c_int> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}
