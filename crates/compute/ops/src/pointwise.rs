//! What is done to every element by itself and would otherwise take several passes over memory.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::cpu::{filled_in_tasks, filled_with, written};
use crate::tensor::{floats, kernels_serve};

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// `leaky_relu(a + b)` of tensors of one shape: the end of a residual block. The derivative at exactly zero is `slope`,
/// as in PyTorch.
///
/// # Errors
/// When the shapes differ, or `slope` is not above zero.
pub fn add_leaky_relu(a: &Tensor, b: &Tensor, slope: f64) -> Result<Tensor> {
    if a.dims() != b.dims() || slope.is_nan() || slope <= 0.0 {
        bail!("add_leaky_relu: two tensors of one shape and a slope above 0 expected, found {:?}, {:?} and {slope}", a.dims(), b.dims());
    }
    if !kernels_serve(&[a, b]) {
        let sum = (a + b)?;
        return sum.gt(0f64)?.where_cond(&sum, &(&sum * slope)?);
    }
    a.contiguous()?.apply_op2(&b.contiguous()?, AddLeakyRelu { slope: slope as f32 })
}

/// `(a, b)` to y.
struct AddLeakyRelu {
    slope: f32,
}

impl CustomOp2 for AddLeakyRelu {
    fn name(&self) -> &'static str {
        "add-leaky-relu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b, slope) = (floats(s1, l1)?, floats(s2, l2)?, self.slope);
        let sum = |(a, b): (&f32, &f32)| if a + b > 0.0 { a + b } else { slope * (a + b) };
        let y =
            written(a.len(), |y| filled_in_tasks(y, CHUNK, |at, y| filled_with(y, a[at * CHUNK..].iter().zip(&b[at * CHUNK..]).map(sum))));
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    /// The sign of the result is that of the sum, so that neither summand is needed again.
    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = y.apply_op2_no_bwd(&dy.contiguous()?, &AddLeakyReluGradient { slope: self.slope })?;
        Ok((a.track_op().then(|| dx.clone()), b.track_op().then_some(dx)))
    }
}

/// `(y, dy)` to the gradient by either summand.
struct AddLeakyReluGradient {
    slope: f32,
}

impl CustomOp2 for AddLeakyReluGradient {
    fn name(&self) -> &'static str {
        "add-leaky-relu-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, dy, slope) = (floats(s1, l1)?, floats(s2, l2)?, self.slope);
        let gradient = |(y, dy): (&f32, &f32)| if *y > 0.0 { *dy } else { slope * dy };
        let dx = written(y.len(), |dx| {
            filled_in_tasks(dx, CHUNK, |at, dx| filled_with(dx, y[at * CHUNK..].iter().zip(&dy[at * CHUNK..]).map(gradient)))
        });
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}
