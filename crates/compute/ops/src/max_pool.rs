//! Maximum pooling with any kernel.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::max_pool::{self as kernel, Windows};
use crate::cpu::{Size3, written, written_with};
use crate::pool::max_pool2;
use crate::tensor::{dims_like, floats, kernels_serve, volumes};

/// The windows of a pooling, along depth, height and width. An image has no depth, and its entry is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Voxels of a window.
    pub kernel: [usize; 3],
    /// Steps from window to window.
    pub stride: [usize; 3],
    /// How far windows reach beyond the borders, at most half a kernel. What is outside is never a maximum.
    pub padding: [usize; 3],
}

/// The greatest value of every window of `x` `(b, c, h, w)` or `(b, c, d, h, w)`; sizes become
/// `(n + 2 * padding - kernel) / stride + 1`, rounded down. The gradient goes to the first maximum of each window.
///
/// # Errors
/// When the windows do not fit into `x`.
pub fn max_pool(x: &Tensor, options: PoolOptions) -> Result<Tensor> {
    let op = MaxPool::new(x.rank(), options);
    op.windows(x.dims())?;
    let last = 5 - x.rank();
    if op.kernel[last..].iter().chain(&op.stride[last..]).all(|&n| n == 2) && op.padding == [0; 3] {
        return max_pool2(x);
    }
    if !kernels_serve(&[x]) {
        return composed::max_pool(x, op.kernel, op.stride, op.padding);
    }
    x.contiguous()?.apply_op1(op)
}

/// x to y, keeping the places of the maxima for the gradient.
struct MaxPool {
    kernel: Size3,
    stride: Size3,
    padding: Size3,
    places: OnceLock<Arc<Vec<u32>>>,
}

impl MaxPool {
    fn new(rank: usize, PoolOptions { mut kernel, mut stride, mut padding }: PoolOptions) -> Self {
        if rank == 4 {
            (kernel[0], stride[0], padding[0]) = (1, 1, 0);
        }
        Self { kernel, stride, padding, places: OnceLock::new() }
    }

    fn windows(&self, dims: &[usize]) -> Result<Windows> {
        let (_, _, input) = volumes("max_pool", dims)?;
        let Self { kernel, stride, padding, .. } = *self;
        let fits = |a: usize| stride[a] > 0 && 2 * padding[a] <= kernel[a] && (1..=input[a] + 2 * padding[a]).contains(&kernel[a]);
        if input.contains(&0) || !(0..3).all(fits) || u32::try_from(input.iter().product::<usize>()).is_err() {
            bail!("max_pool: windows {kernel:?} with stride {stride:?} and padding {padding:?}, at most half of them, do not fit {dims:?}");
        }
        Ok(Windows { input, kernel, stride, padding })
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let windows = self.windows(l.dims())?;
        let dims = dims_like(l.dims(), l.dims()[0], l.dims()[1], windows.output());
        let x = floats(s, l)?;
        let (places, y) = written_with(dims.iter().product(), |y| kernel::forward(Isa::current(), windows, x, y));
        self.places.get_or_init(|| Arc::new(places));
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some(places) = self.places.get() else {
            bail!("max-pool: gradient asked for before the forward pass");
        };
        let op = MaxPoolGradient { windows: self.windows(x.dims())?, places: places.clone() };
        dy.contiguous()?.apply_op1_no_bwd(&op).map(Some)
    }
}

/// dy to dx.
struct MaxPoolGradient {
    windows: Windows,
    places: Arc<Vec<u32>>,
}

impl CustomOp1 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = dims_like(l.dims(), l.dims()[0], l.dims()[1], self.windows.input);
        let dy = floats(s, l)?;
        let dx = written(dims.iter().product(), |dx| kernel::backward(self.windows, &self.places, dy, dx));
        Ok((CpuStorage::F32(dx), dims.into()))
    }
}
