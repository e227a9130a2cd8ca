//! Sums over channels, and the second stage of every reduction.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DeviceRepr, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{CudaStorage, Layout, Result};

use super::{Module, Operand, blocks, by_element_type, count, module, part, start, storage};

static KERNELS: Module = module!("sums");

/// Elements of a plane that one block sums, as in `kernels/block.cuh`.
const CHUNK: u32 = 8192;

/// How planes are cut into chunks, one for each block.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub(super) planes: u32,
    pub(super) volume: u32,
    pub(super) chunks: u32,
}

impl Planes {
    pub(super) fn new(planes: usize, volume: usize) -> Result<Self> {
        count(planes * volume)?;
        let volume = count(volume)?;
        Ok(Self { planes: count(planes)?, volume, chunks: volume.div_ceil(CHUNK) })
    }

    /// All chunks of all planes.
    pub(super) fn blocks(self) -> u32 {
        self.planes * self.chunks
    }
}

/// How many sums there are and of how many numbers: of `(groups, count, width)` those over `count`.
#[derive(Clone, Copy)]
pub(super) struct Partials {
    pub(super) groups: u32,
    pub(super) count: u32,
    pub(super) width: u32,
}

impl Partials {
    fn sums(self) -> u32 {
        self.groups * self.width
    }
}

/// The sums of partial sums.
#[allow(unsafe_code)]
pub(super) fn sum_partials(device: &CudaDevice, partial: &CudaSlice<f64>, shape: Partials) -> Result<CudaSlice<f64>> {
    // SAFETY: the kernel writes every sum.
    let mut sums = unsafe { device.alloc::<f64>(shape.sums() as usize)? };
    sum_partials_into(device, partial, shape, "f64", &mut sums.slice_mut(..))?;
    Ok(sums)
}

/// The same into a place of its own, rounded to the type that `suffix` names.
#[allow(unsafe_code)]
pub(super) fn sum_partials_into<T: DeviceRepr>(
    device: &CudaDevice,
    partial: &CudaSlice<f64>,
    shape: Partials,
    suffix: &str,
    sums: &mut CudaViewMut<'_, T>,
) -> Result<()> {
    debug_assert_eq!(partial.len(), shape.sums() as usize * shape.count as usize);
    debug_assert_eq!(sums.len(), shape.sums() as usize);
    let kernel = KERNELS.kernel(device, &format!("sum_partials_{suffix}"))?;
    let mut call = kernel.builder();
    call.arg(partial).arg(&shape.count).arg(&shape.width).arg(sums);
    // SAFETY: the kernel's arguments, with the lengths asserted above.
    unsafe { start(call, shape.sums(), 0) }
}

/// The sum of every channel over batch and volume: the gradient of a bias.
pub(crate) fn channel_sums((x, layout): Operand<'_>, channels: usize, volume: usize) -> Result<CudaStorage> {
    by_element_type!(&x.slice, slice, suffix => sum_channels(x.device(), suffix, &part(slice, layout)?, channels, volume))
}

#[allow(unsafe_code)]
fn sum_channels<T: CudaDType + DeviceRepr>(
    device: &CudaDevice,
    suffix: &str,
    x: &CudaView<'_, T>,
    channels: usize,
    volume: usize,
) -> Result<CudaStorage> {
    let planes = Planes::new(x.len() / volume.max(1), volume)?;
    // SAFETY: the first kernel writes every partial sum, the last every sum.
    let (mut partial, mut sums) = unsafe { (device.alloc::<f64>(planes.blocks() as usize)?, device.alloc::<T>(channels)?) };
    let kernel = KERNELS.kernel(device, &format!("plane_sums_{suffix}"))?;
    let mut call = kernel.builder();
    call.arg(x).arg(&planes.volume).arg(&planes.chunks).arg(&mut partial);
    // SAFETY: the kernel's arguments: x holds all planes, partial a sum for each block.
    unsafe { start(call, planes.blocks(), 0)? };
    let of_planes = sum_partials(device, &partial, Partials { groups: planes.planes, count: planes.chunks, width: 1 })?;
    let channels = count(channels)?;
    let shape = Partials { groups: 1, count: planes.planes / channels, width: channels };
    sum_partials_into(device, &of_planes, shape, suffix, &mut sums.slice_mut(..))?;
    Ok(storage(sums, device))
}

/// Adds a value per channel to every plane of `y`: the bias of a convolution.
pub(super) fn add_bias(y: &mut CudaStorage, bias: Operand<'_>, channels: usize, volume: usize) -> Result<()> {
    let device = y.device.clone();
    by_element_type!(&mut y.slice, y, suffix => add_bias_to(&device, suffix, y, bias, channels, volume))
}

#[allow(unsafe_code)]
fn add_bias_to<T: CudaDType + DeviceRepr>(
    device: &CudaDevice,
    suffix: &str,
    y: &mut CudaSlice<T>,
    (bias, layout): (&CudaStorage, &Layout),
    channels: usize,
    volume: usize,
) -> Result<()> {
    let bias = part(bias.as_cuda_slice::<T>()?, layout)?;
    let (channels, volume, count) = (count(channels)?, count(volume)?, count(y.len())?);
    let kernel = KERNELS.kernel(device, &format!("add_bias_{suffix}"))?;
    let mut call = kernel.builder();
    call.arg(&bias).arg(&channels).arg(&volume).arg(&count).arg(y);
    // SAFETY: the kernel's arguments: a bias for each channel, which `crate::conv` has checked, and `count` elements of y.
    unsafe { start(call, blocks(count), 0) }
}
