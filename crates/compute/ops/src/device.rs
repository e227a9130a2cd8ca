//! Which device to compute on, and how its memory is managed.

#[cfg(not(feature = "cuda"))]
use candle_core::bail;
use candle_core::{Device, Result};

/// A wish for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU if there is one that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU, or an error.
    Cuda,
    /// The same, with the factors of `f32` products rounded to the 10 bits of TF32, which tensor cores multiply several
    /// times as fast.
    CudaTf32,
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "cuda-tf32" => Ok(Self::CudaTf32),
            _ => Err(format!("unknown device `{name}`: choose auto, cpu, cuda or cuda-tf32")),
        }
    }
}

/// The device chosen. `Auto` says on standard error why it took the CPU when a GPU was to be expected. Whether products are
/// rounded to TF32 holds for the whole process, from the last call on.
///
/// # Errors
/// When a GPU is asked for and cannot be had: no driver, no GPU, or compiled without the feature `cuda`.
pub fn device(choice: Choice) -> Result<Device> {
    // Matrix products of candle's and our convolutions go by the same switch. It does nothing on the CPU.
    candle_core::cuda::set_gemm_reduced_precision_f32(choice == Choice::CudaTf32);
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda | Choice::CudaTf32 => first_gpu(),
        Choice::Auto => Ok(first_gpu().unwrap_or_else(|reason| {
            if cfg!(feature = "cuda") {
                let reason = reason.to_string(); // with a backtrace behind it, if that is asked for
                eprintln!("no GPU, computing on the CPU: {}", reason.lines().next().unwrap_or_default());
            }
            Device::Cpu
        })),
    }
}

#[cfg(feature = "cuda")]
fn first_gpu() -> Result<Device> {
    crate::cuda::load_libraries()?;
    Device::new_cuda(0)
}

#[cfg(not(feature = "cuda"))]
fn first_gpu() -> Result<Device> {
    bail!("compiled without the feature `cuda`: build with `--features cuda` to use a GPU");
}

/// Prepares the process for training and inference. Call it first in `main`, before any other thread is there.
pub fn tune_process() {
    tune_allocator();
    // candle's own workers spin for work between two operations, beside our threads and on their cores: a fifth of the
    // processor time of a training step, measured on two cores.
    if std::env::var_os(SPIN_LIMIT).is_none() {
        #[allow(unsafe_code)]
        // SAFETY: the environment is changed at the very start of the program, when no other thread can be reading it.
        unsafe {
            std::env::set_var(SPIN_LIMIT, "500");
        }
    }
}

/// How often candle's workers look for work before they sleep.
const SPIN_LIMIT: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";

/// Gives the memory back to the system that the C allocator has kept, for measurements of what comes next. Does nothing where
/// the C library is not glibc.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim takes free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the C allocator keep freed memory instead of giving it back to the system after every operation.
///
/// Tensors of some megabytes otherwise live in mappings of their own, whose pages are zeroed by the system at first
/// touch, every time. Does nothing where the C library is not glibc.
fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: mallopt only sets parameters of the allocator; a setting it does not take it reports and ignores.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        // -1 is never; the greatest number would be 2 GiB, which a step of the paper's teacher frees at its end.
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
