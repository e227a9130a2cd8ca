//! Maximum pooling by 2, and replication of last planes.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result};

use super::{Module, Operand, blocks, count, elements, module, start, storage};
use crate::cpu::Size3;
use crate::cpu::pad::Padding;
use crate::cpu::pool::Pooling;

static KERNELS: Module = module!("pool");

fn counts(size: Size3) -> Result<[u32; 3]> {
    Ok([count(size[0])?, count(size[1])?, count(size[2])?])
}

fn volume(size: Size3) -> usize {
    size.iter().product()
}

/// The maximum of every window.
#[allow(unsafe_code)]
pub(crate) fn max_pool2(x: Operand<'_>, pooling: Pooling) -> Result<CudaStorage> {
    let device = x.0.device();
    let x = elements::<f32>(x)?;
    let ([depth, height, width], window) = (counts(pooling.input)?, count(pooling.window[0])?);
    count(x.len())?;
    let windows = count(x.len() / volume(pooling.input) * volume(pooling.output()))?;
    // SAFETY: the kernel writes every element.
    let mut y = unsafe { device.alloc::<f32>(windows as usize)? };
    let kernel = KERNELS.kernel(device, "max_pool2")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&depth).arg(&height).arg(&width).arg(&window).arg(&windows).arg(&mut y);
    // SAFETY: the kernel's arguments: x holds whole volumes of the size given, y an element for each of their windows.
    unsafe { start(call, blocks(windows), 0)? };
    Ok(storage(y, device))
}

/// Each window's gradient at its first maximum, zero elsewhere.
#[allow(unsafe_code)]
pub(crate) fn max_pool2_gradient(x: Operand<'_>, dy: Operand<'_>, pooling: Pooling) -> Result<CudaStorage> {
    let device = x.0.device();
    let (x, dy) = (elements::<f32>(x)?, elements::<f32>(dy)?);
    let ([depth, height, width], window) = (counts(pooling.input)?, count(pooling.window[0])?);
    count(x.len())?;
    let started: Size3 = std::array::from_fn(|a| pooling.input[a].div_ceil(pooling.window[a]));
    let windows = count(x.len() / volume(pooling.input) * volume(started))?;
    // SAFETY: the kernel writes every element.
    let mut dx = unsafe { device.alloc::<f32>(x.len())? };
    let kernel = KERNELS.kernel(device, "max_pool2_gradient")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&dy).arg(&depth).arg(&height).arg(&width).arg(&window).arg(&windows).arg(&mut dx);
    // SAFETY: the kernel's arguments: x and dx hold whole volumes of the size given, dy an element for each whole window.
    unsafe { start(call, blocks(windows), 0)? };
    Ok(storage(dx, device))
}

/// Every volume with its last planes doubled.
pub(crate) fn pad_replicate_end(x: Operand<'_>, padding: Padding) -> Result<CudaStorage> {
    let len = elements::<f32>(x)?.len() / volume(padding.input) * volume(padding.output());
    pad(x, padding, "pad_replicate_end", len)
}

/// Every volume with the gradients of the doubled planes added to the planes they came from.
pub(crate) fn pad_replicate_end_gradient(dy: Operand<'_>, padding: Padding) -> Result<CudaStorage> {
    let len = elements::<f32>(dy)?.len() / volume(padding.output()) * volume(padding.input);
    pad(dy, padding, "pad_replicate_end_gradient", len)
}

#[allow(unsafe_code)]
fn pad(from: Operand<'_>, padding: Padding, kernel: &str, len: usize) -> Result<CudaStorage> {
    let device = from.0.device();
    let from = elements::<f32>(from)?;
    let ([depth, height, width], [grow_d, grow_h, grow_w]) = (counts(padding.input)?, counts(padding.grow)?);
    count(from.len())?;
    let len = count(len)?;
    // SAFETY: the kernel writes every element.
    let mut to = unsafe { device.alloc::<f32>(len as usize)? };
    let kernel = KERNELS.kernel(device, kernel)?;
    let mut call = kernel.builder();
    call.arg(&from).arg(&depth).arg(&height).arg(&width).arg(&grow_d).arg(&grow_h).arg(&grow_w).arg(&len).arg(&mut to);
    // SAFETY: the kernel's arguments: of as many volumes, one side holds the size given and the other the grown one.
    unsafe { start(call, blocks(len), 0)? };
    Ok(storage(to, device))
}
