//! One step of AdamW, in one pass over a parameter.

use std::cell::Cell;

use candle_core::cuda_backend::cudarc::driver::{CudaViewMut, PushKernelArg};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

use super::{Module, blocks, count, elements, module, start};
use crate::cpu::adamw::Step;

static KERNELS: Module = module!("adamw");

/// Changes a value and its moments in place; all of one length, contiguous, none sharing storage with another.
pub(crate) fn step(value: &Tensor, gradient: &Tensor, m: &Tensor, v: &Tensor, by: &Step) -> Result<()> {
    changed(value, |value, value_layout| {
        changed(m, |m, m_layout| changed(v, |v, v_layout| run([(value, value_layout), (m, m_layout), (v, v_layout)], gradient, by)))
    })
}

/// Calls `f` with the storage of a tensor, to be changed.
fn changed(tensor: &Tensor, f: impl FnOnce(&mut CudaStorage, &Layout) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Once(Cell::new(Some(f))))
}

/// A closure as an operation of candle's, which lends only one storage at a time to be changed.
struct Once<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut CudaStorage, &Layout) -> Result<()>> InplaceOp1 for Once<F> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("adamw: value and moments are on different devices");
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.0.take().map_or(Ok(()), |f| f(storage, layout))
    }
}

#[allow(unsafe_code)]
fn run([value, m, v]: [(&mut CudaStorage, &Layout); 3], gradient: &Tensor, by: &Step) -> Result<()> {
    let (storage, layout) = gradient.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("adamw: the gradient is on another device than the value");
    };
    let device = storage.device.clone();
    let gradient = elements::<f32>((storage, layout))?;
    let n = count(gradient.len())?;
    let (mut value, mut m, mut v) = (place(value)?, place(m)?, place(v)?);
    let kernel = KERNELS.kernel(&device, "adamw")?;
    let mut call = kernel.builder();
    call.arg(&gradient).arg(&by.rate1).arg(&by.rate2).arg(&by.keep).arg(&by.step).arg(&by.scale).arg(&by.eps);
    call.arg(&n).arg(&mut value).arg(&mut m).arg(&mut v);
    // SAFETY: the kernel's arguments; all have one shape, which `crate::adamw` has checked.
    unsafe { start(call, blocks(n), 0) }
}

/// The elements of a contiguous tensor, to be changed.
fn place<'a>((storage, layout): (&'a mut CudaStorage, &Layout)) -> Result<CudaViewMut<'a, f32>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice_mut::<f32>()?.slice_mut(start..end)),
        None => bail!("adamw: contiguous tensors expected, found {layout:?}"),
    }
}
