//! Instance and group normalisation with leaky ReLU.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, PushKernelArg};
use candle_core::{CudaStorage, Result};

use super::sums::{Partials, Planes, sum_partials, sum_partials_into};
use super::{Module, Operand, count, elements, module, start, storage};

static KERNELS: Module = module!("norm");

/// Mean and reciprocal standard deviation of every group of every batch entry, one behind the other, on the GPU.
pub(crate) type Statistics = CudaSlice<f32>;

/// y, and the statistics for the gradient; `volume` elements in a channel, `per_group` channels in a group.
#[allow(unsafe_code)]
pub(crate) fn forward(
    x: Operand<'_>,
    gamma: Operand<'_>,
    beta: Operand<'_>,
    volume: usize,
    per_group: usize,
    eps: f32,
    slope: f32,
) -> Result<(CudaStorage, Statistics)> {
    let device = x.0.device();
    let (x, gamma, beta) = (elements::<f32>(x)?, elements::<f32>(gamma)?, elements::<f32>(beta)?);
    let (channels, cut) = (count(gamma.len())?, Planes::new(x.len() / volume, volume)?);
    let groups = Planes::new(x.len() / volume / per_group, volume * per_group)?;
    let per_group = count(per_group)?;
    // SAFETY: the kernels write every element: two moments for each chunk, two statistics for each group, and y.
    let (mut moments, mut statistics, mut y) = unsafe {
        let moments = device.alloc::<f64>(2 * groups.blocks() as usize)?;
        (moments, device.alloc::<f32>(2 * groups.planes as usize)?, device.alloc::<f32>(x.len())?)
    };
    let kernel = KERNELS.kernel(device, "norm_moments")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&groups.volume).arg(&groups.chunks).arg(&mut moments);
    // SAFETY: the kernel's arguments: x holds all groups, and moments are as above.
    unsafe { start(call, groups.blocks(), 0)? };
    let kernel = KERNELS.kernel(device, "norm_statistics")?;
    let mut call = kernel.builder();
    call.arg(&moments).arg(&groups.volume).arg(&groups.chunks).arg(&eps).arg(&mut statistics);
    // SAFETY: the kernel's arguments, with lengths as above.
    unsafe { start(call, groups.planes, 0)? };
    let kernel = KERNELS.kernel(device, "norm_apply")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&statistics).arg(&gamma).arg(&beta).arg(&channels).arg(&per_group);
    call.arg(&cut.volume).arg(&cut.chunks).arg(&slope).arg(&mut y);
    // SAFETY: the kernel's arguments: y is of x's length, gamma and beta have a value for each channel.
    unsafe { start(call, cut.blocks(), 0)? };
    Ok((storage(y, device), statistics))
}

/// The gradients by x, gamma and beta, one behind the other. `affine` holds gamma and behind it beta.
#[allow(unsafe_code)]
pub(crate) fn backward(
    x: Operand<'_>,
    dy: Operand<'_>,
    affine: Operand<'_>,
    statistics: &Statistics,
    volume: usize,
    per_group: usize,
    slope: f32,
) -> Result<CudaStorage> {
    let device = x.0.device();
    let (x, dy, affine) = (elements::<f32>(x)?, elements::<f32>(dy)?, elements::<f32>(affine)?);
    let (gamma, beta) = (affine.slice(..affine.len() / 2), affine.slice(affine.len() / 2..));
    let (channels, per_group, cut) = (count(gamma.len())?, count(per_group)?, Planes::new(x.len() / volume, volume)?);
    // SAFETY: the kernels write every element: two sums for each chunk, dx, and two gradients for each channel.
    let (mut partial, mut all) = unsafe { (device.alloc::<f64>(2 * cut.blocks() as usize)?, device.alloc::<f32>(x.len() + affine.len())?) };
    let kernel = KERNELS.kernel(device, "norm_gradient_sums")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&dy).arg(statistics).arg(&gamma).arg(&beta).arg(&channels).arg(&per_group);
    call.arg(&cut.volume).arg(&cut.chunks).arg(&slope).arg(&mut partial);
    // SAFETY: the kernel's arguments: dy is of x's length, statistics are the forward pass's of the same x.
    unsafe { start(call, cut.blocks(), 0)? };
    // (2, planes): of d h, then of d.
    let sums = sum_partials(device, &partial, Partials { groups: 2 * cut.planes, count: cut.chunks, width: 1 })?;
    let (mut dx, mut parameters) = all.split_at_mut(x.len());
    let kernel = KERNELS.kernel(device, "norm_gradient")?;
    let mut call = kernel.builder();
    call.arg(&x).arg(&dy).arg(statistics).arg(&gamma).arg(&beta).arg(&sums).arg(&channels).arg(&per_group);
    call.arg(&cut.volume).arg(&cut.chunks).arg(&slope).arg(&mut dx);
    // SAFETY: as above, and dx is of x's length.
    unsafe { start(call, cut.blocks(), 0)? };
    let batch = Partials { groups: 2, count: cut.planes / channels, width: channels };
    sum_partials_into(device, &sums, batch, "f32", &mut parameters)?;
    Ok(storage(all, device))
}
