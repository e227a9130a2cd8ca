//! The memory of an NVIDIA graphics card by NVML, which comes with the driver and is loaded when it is asked for.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_uint, c_void};

/// Why there is no graphics card to look at.
#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    /// The library or one of its functions is missing.
    #[error("NVML cannot be loaded: {0}")]
    Missing(String),
    /// The library says no.
    #[error("NVML's {function} failed with code {code}")]
    Failed {
        /// The function.
        function: &'static str,
        /// What it returned.
        code: c_int,
    },
}

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    _used: u64,
}

type Device = *mut c_void;

type Query = unsafe extern "C" fn(Device, *mut Memory) -> c_int;
type Plain = unsafe extern "C" fn() -> c_int;

/// A graphics card of this machine.
pub struct Gpu {
    device: Device,
    query: Query,
    shutdown: Plain,
}

const LIBRARY: &CStr = c"libnvidia-ml.so.1";

impl Gpu {
    /// Loads NVML and asks for the card of this number.
    ///
    /// # Errors
    /// When there is no driver or no such card.
    pub fn open(number: u32) -> Result<Self, NvmlError> {
        // SAFETY: the name ends in a zero. What the library does when it is loaded is trusted; it is never unloaded.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(NvmlError::Missing(format!("there is no {}", LIBRARY.to_string_lossy())));
        }
        let find = |name: &'static CStr| {
            // SAFETY: the handle is the loader's, and the name ends in a zero.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            if address.is_null() { Err(NvmlError::Missing(format!("it has no {}", name.to_string_lossy()))) } else { Ok(address) }
        };
        let (init, shutdown) = (find(c"nvmlInit_v2")?, find(c"nvmlShutdown")?);
        let (handle, query) = (find(c"nvmlDeviceGetHandleByIndex_v2")?, find(c"nvmlDeviceGetMemoryInfo")?);
        // SAFETY: these are the functions of these names, which NVML declares with these types.
        let (init, shutdown, handle, query) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Plain>(init),
                std::mem::transmute::<*mut c_void, Plain>(shutdown),
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint, *mut Device) -> c_int>(handle),
                std::mem::transmute::<*mut c_void, Query>(query),
            )
        };
        // SAFETY: it takes no arguments, and comes before every other call.
        check("nvmlInit_v2", unsafe { init() })?;
        let mut gpu = Self { device: std::ptr::null_mut(), query, shutdown };
        // SAFETY: the pointer is to a handle that lives during the call.
        check("nvmlDeviceGetHandleByIndex_v2", unsafe { handle(number, &raw mut gpu.device) })?;
        Ok(gpu)
    }

    fn memory(&self) -> Result<Memory, NvmlError> {
        let mut memory = Memory::default();
        // SAFETY: the handle is NVML's, and the pointer is to its structure, which lives during the call.
        check("nvmlDeviceGetMemoryInfo", unsafe { (self.query)(self.device, &raw mut memory) })?;
        Ok(memory)
    }

    /// The bytes in use on the card, by whomever: what there is without what is free.
    ///
    /// # Errors
    /// When NVML does not answer.
    pub fn used(&self) -> Result<u64, NvmlError> {
        self.memory().map(|memory| memory.total.saturating_sub(memory.free))
    }

    /// The bytes of the card.
    ///
    /// # Errors
    /// When NVML does not answer.
    pub fn total(&self) -> Result<u64, NvmlError> {
        self.memory().map(|memory| memory.total)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: it takes no arguments, and the handle is used no more.
        unsafe { (self.shutdown)() };
    }
}

fn check(function: &'static str, code: c_int) -> Result<(), NvmlError> {
    if code == 0 { Ok(()) } else { Err(NvmlError::Failed { function, code }) }
}
