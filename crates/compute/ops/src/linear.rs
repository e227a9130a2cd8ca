//! Linear layers over rows.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::isa::Isa;
use crate::cpu::linear as kernel;
use crate::cpu::written;
use crate::tensor::{floats, kernels_serve};

/// Elements per task of a sum.
const CHUNK: usize = 1 << 15;

/// Every row of `x` `(.., inputs)` times the transpose of `weight` `(outputs, inputs)`, plus `bias` `(outputs)` if there is one.
///
/// # Errors
/// When shapes do not fit each other, or rows are empty.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if inputs == 0 || x.dims().last() != Some(&inputs) || bias.is_some_and(|bias| bias.dims() != [outputs]) {
        bail!("linear: rows of {inputs} numbers and a bias of {outputs} expected, found {:?} and {:?}", x.dims(), bias.map(Tensor::dims));
    }
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outputs);
    let rows = x.reshape(((), inputs))?;
    if !kernels_serve(&[x, weight, bias.unwrap_or(weight)]) || x.elem_count() == 0 {
        let y = rows.matmul(&weight.t()?)?;
        return match bias {
            Some(bias) => y.broadcast_add(bias)?.reshape(shape),
            None => y.reshape(shape),
        };
    }
    let (rows, weight) = (rows.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => rows.apply_op3(&weight, &bias.contiguous()?, Linear)?.reshape(shape),
        None => rows.apply_op2(&weight, Linear)?.reshape(shape),
    }
}

/// `(x, weight)` or `(x, weight, bias)` to y.
struct Linear;

impl Linear {
    fn run(x: &[f32], weight: &[f32], bias: Option<&[f32]>, [rows, inputs, outputs]: [usize; 3]) -> (CpuStorage, Shape) {
        let y = written(rows * outputs, |y| kernel::forward(Isa::current(), x, weight, bias, inputs, y));
        (CpuStorage::F32(y), (rows, outputs).into())
    }

    /// The gradients by rows and weights.
    fn gradients(x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dx = x.track_op().then(|| dy.matmul(weight)).transpose()?;
        let dw = weight.track_op().then(|| dy.t()?.matmul(x)).transpose()?;
        Ok([dx, dw])
    }
}

fn sizes(x: &Layout, weight: &Layout) -> [usize; 3] {
    [x.dims()[0], x.dims()[1], weight.dims()[0]]
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::run(floats(x, lx)?, floats(w, lw)?, None, sizes(lx, lw)))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw] = Self::gradients(x, weight, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(Self::run(floats(x, lx)?, floats(w, lw)?, Some(floats(b, lb)?), sizes(lx, lw)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw] = Self::gradients(x, weight, dy)?;
        let db = bias.track_op().then(|| dy.contiguous()?.apply_op1_no_bwd(&SumRows)).transpose()?;
        Ok((dx, dw, db))
    }
}

/// Rows `(.., n)` to their sum `(n)`, task by task in order.
struct SumRows;

impl CustomOp1 for SumRows {
    fn name(&self) -> &'static str {
        "sum-rows"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let row = l.dims().last().copied().unwrap_or(1);
        let sum_of = |rows: &[f32]| {
            let mut sum = vec![0.0f32; row];
            for values in rows.chunks_exact(row) {
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            sum
        };
        let partial: Vec<Vec<f32>> = x.par_chunks(rows_per_task(row) * row).map(sum_of).collect();
        let mut total = vec![0.0f64; row];
        for sum in &partial {
            total.iter_mut().zip(sum).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        Ok((CpuStorage::F32(total.into_iter().map(|sum| sum as f32).collect()), row.into()))
    }
}

/// Few enough that a sum in single precision stays accurate.
fn rows_per_task(row: usize) -> usize {
    (CHUNK / row).clamp(1, 1024)
}
