//! The operations on NVIDIA GPUs: cuDNN's convolutions, and kernels of our own (`kernels/*.cu`) for what is fused.
//!
//! Each mirrors the kernel of the same name in `cpu`, and the tests hold it against that. Sums are taken in two stages in an
//! order that follows from shapes alone, without atomic additions, and of cuDNN's algorithms only deterministic ones are
//! taken: results are the same in every run on the same GPU.

pub(crate) mod adamw;
pub(crate) mod conv;
mod cudnn;
#[cfg(lazy_cuda)]
mod lazy;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod sums;
#[cfg(lazy_cuda)]
mod translated;

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorageSlice, WrapErr};
use candle_core::{CudaStorage, Layout, Result, bail};

/// Threads of every block, as in `kernels/block.cuh`.
const THREADS: u32 = 256;

/// An argument of an operation. It must be contiguous.
pub(crate) type Operand<'a> = (&'a CudaStorage, &'a Layout);

/// Says what is missing before CUDA is asked for anything.
///
/// # Errors
/// When a library that every computation needs cannot be loaded.
pub(crate) fn load_libraries() -> Result<()> {
    #[cfg(lazy_cuda)]
    lazy::load()?;
    Ok(())
}

/// One of our files of kernels, compiled.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

macro_rules! module {
    ($name:literal) => {
        crate::cuda::Module { name: concat!("ops-", $name), ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")) }
    };
}
use module;

impl Module {
    /// A kernel by its name. The module is loaded, and translated for the GPU, at the first call for a device.
    fn kernel(&self, device: &CudaDevice, name: &str) -> Result<Kernel> {
        let function = device.get_or_load_custom_func(name, self.name, self.ptx)?.into_cuda_function();
        Ok(Kernel { function, stream: device.cuda_stream() })
    }
}

/// A kernel, and where it is to run.
struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// Starts a kernel with this many blocks, and bytes of shared memory for each. No blocks is no work.
///
/// # Safety
/// The arguments must be those of the kernel, in order and in type; its buffers must be as long as it takes them to be.
#[allow(unsafe_code)]
unsafe fn start(mut call: LaunchArgs<'_>, blocks: u32, shared_mem_bytes: u32) -> Result<()> {
    if blocks > 0 {
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes };
        // SAFETY: the condition of this function.
        unsafe { call.launch(config) }.w()?;
    }
    Ok(())
}

/// Blocks with a thread for each of `count` elements.
fn blocks(count: u32) -> u32 {
    count.div_ceil(THREADS)
}

/// A number of elements, as kernels and cuDNN count them.
fn count(elements: usize) -> Result<u32> {
    match i32::try_from(elements) {
        Ok(count) => Ok(count.unsigned_abs()),
        Err(_) => bail!("a tensor of {elements} elements: on a GPU at most {} are possible", i32::MAX),
    }
}

/// The elements of a contiguous tensor.
fn elements<'a, T: CudaDType>((storage, layout): Operand<'a>) -> Result<CudaView<'a, T>> {
    part(storage.as_cuda_slice::<T>()?, layout)
}

/// The elements of a contiguous tensor in its storage's buffer.
fn part<'a, T>(slice: &'a CudaSlice<T>, layout: &Layout) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(slice.slice(start..end)),
        None => bail!("a contiguous tensor expected, found {layout:?}"),
    }
}

/// The storage of a result.
fn storage<T: CudaDType>(slice: CudaSlice<T>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(slice, device.clone())
}

/// Calls a function generic over the element type with the buffer of a storage that our kernels know.
macro_rules! by_element_type {
    ($storage:expr, $slice:ident, $suffix:ident => $body:expr) => {
        match $storage {
            crate::cuda::CudaStorageSlice::F32($slice) => {
                let $suffix = "f32";
                $body
            }
            crate::cuda::CudaStorageSlice::BF16($slice) => {
                let $suffix = "bf16";
                $body
            }
            _ => candle_core::bail!("our CUDA kernels compute on f32 and bf16 only"),
        }
    };
}
use by_element_type;
