//! Softmax losses over channels, and the most likely channel.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result};

use super::sums::{Partials, sum_partials};
use super::{Module, Operand, THREADS, blocks, count, elements, module, start, storage};
use crate::cpu::loss::{ClassSlope, ClassSums};

static KERNELS: Module = module!("loss");

/// Voxels of one block, as in `kernels/loss.cu`.
const VOXELS: u32 = 4 * THREADS;
/// Bytes of shared memory that `loss_sums` needs per class: three numbers for each warp of a block.
const SHARED: u32 = 3 * THREADS / 32 * 4;

/// Logits `(batch, classes, voxels)` and one label per voxel.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) logits: Operand<'a>,
    pub(crate) labels: Operand<'a>,
    pub(crate) classes: usize,
    pub(crate) voxels: usize,
}

/// The sums that the losses are made of, as `cpu::loss::sums`: per batch entry and class, and of the log-probabilities of
/// the labels. Behind them the highest label if that is beyond the classes, else 0.
#[allow(unsafe_code)]
pub(crate) fn sums(batch: Batch<'_>, squared: bool) -> Result<(Vec<ClassSums>, f64, u8)> {
    let device = batch.logits.0.device();
    let (logits, labels) = (elements::<f32>(batch.logits)?, elements::<u8>(batch.labels)?);
    count(logits.len())?;
    let (classes, voxels, squared) = (count(batch.classes)?, count(batch.voxels)?, u32::from(squared));
    let (entries, chunks, width) = (count(labels.len())? / voxels, voxels.div_ceil(VOXELS), 3 * classes + 2);
    // SAFETY: the kernel writes every partial sum.
    let mut partial = unsafe { device.alloc::<f64>((entries * chunks) as usize * width as usize)? };
    let kernel = KERNELS.kernel(device, "loss_sums")?;
    let mut call = kernel.builder();
    call.arg(&logits).arg(&labels).arg(&classes).arg(&voxels).arg(&chunks).arg(&squared).arg(&mut partial);
    // SAFETY: the kernel's arguments: logits and labels of all entries, sums for each block; shared memory as it needs. A
    // label beyond the classes is counted and not used.
    unsafe { start(call, entries * chunks, SHARED * classes)? };
    let sums = sum_partials(device, &partial, Partials { groups: entries, count: chunks, width })?;
    let sums = device.clone_dtoh(&sums)?;
    let (mut of_classes, mut log_likelihood, mut foreign) = (Vec::new(), 0.0, 0.0);
    for sums in sums.chunks_exact(width as usize) {
        let (classes, of_entry) = sums.split_at(3 * batch.classes);
        of_classes.extend(classes.chunks_exact(3).map(|s| ClassSums { overlap: s[0], mass: s[1], count: s[2] }));
        log_likelihood += of_entry[0];
        foreign += of_entry[1];
    }
    let highest = if foreign > 0.0 { device.clone_dtoh(&labels)?.into_iter().max().unwrap_or(0) } else { 0 };
    Ok((of_classes, log_likelihood, highest))
}

/// The gradient by the logits, as `cpu::loss::backward`, times `d_loss`. The labels must have passed [`sums`].
#[allow(unsafe_code)]
pub(crate) fn backward(
    batch: Batch<'_>,
    d_loss: Operand<'_>,
    squared: bool,
    slopes: &[ClassSlope],
    cross_entropy: f32,
) -> Result<CudaStorage> {
    let device = batch.logits.0.device();
    let (logits, labels, d_loss) = (elements::<f32>(batch.logits)?, elements::<u8>(batch.labels)?, elements::<f32>(d_loss)?);
    count(logits.len())?;
    let (classes, voxels, squared, n) = (count(batch.classes)?, count(batch.voxels)?, u32::from(squared), count(labels.len())?);
    let slopes: Vec<f32> = slopes.iter().flat_map(|slope| [slope.truth, slope.mass]).collect();
    let slopes = device.clone_htod(&slopes)?;
    // SAFETY: the kernel writes every element.
    let mut gradient = unsafe { device.alloc::<f32>(logits.len())? };
    let kernel = KERNELS.kernel(device, "loss_gradient")?;
    let mut call = kernel.builder();
    call.arg(&logits).arg(&labels).arg(&slopes).arg(&d_loss).arg(&classes).arg(&voxels).arg(&n).arg(&squared);
    call.arg(&cross_entropy).arg(&mut gradient);
    // SAFETY: the kernel's arguments: logits, gradient and labels of all entries, two slopes for each entry and class.
    unsafe { start(call, blocks(n), 0)? };
    Ok(storage(gradient, device))
}

/// The channel of the greatest logit, the first one of several, per batch entry and voxel.
#[allow(unsafe_code)]
pub(crate) fn argmax(logits: Operand<'_>, classes: usize, voxels: usize) -> Result<CudaStorage> {
    let device = logits.0.device();
    let logits = elements::<f32>(logits)?;
    count(logits.len())?;
    let n = count(logits.len() / classes)?;
    let (classes, voxels) = (count(classes)?, count(voxels)?);
    // SAFETY: the kernel writes every element.
    let mut labels = unsafe { device.alloc::<u8>(n as usize)? };
    let kernel = KERNELS.kernel(device, "argmax_channels")?;
    let mut call = kernel.builder();
    call.arg(&logits).arg(&classes).arg(&voxels).arg(&n).arg(&mut labels);
    // SAFETY: the kernel's arguments: logits of all classes of whole entries, and a label for each voxel.
    unsafe { start(call, blocks(n), 0)? };
    Ok(storage(labels, device))
}
