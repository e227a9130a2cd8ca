//! The memory of an NVIDIA graphics card by NVML, which comes with the driver and is loaded when it is asked for.

use nvml_wrapper::Nvml;
use nvml_wrapper::struct_wrappers::device::MemoryInfo;

/// Why there is no graphics card to look at.
#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    /// The library does not load, or does not start.
    #[error("NVML cannot be loaded: {0}")]
    Missing(#[source] nvml_wrapper::error::NvmlError),
    /// The card does not answer.
    #[error("NVML reports no memory of graphics card {number}: {reason}")]
    Failed {
        /// The card.
        number: u32,
        /// What NVML says.
        #[source]
        reason: nvml_wrapper::error::NvmlError,
    },
}

/// A graphics card of this machine.
pub struct Gpu {
    nvml: Nvml,
    number: u32,
}

impl Gpu {
    /// Loads NVML and asks for the card of this number.
    ///
    /// # Errors
    /// When there is no driver or no such card.
    pub fn open(number: u32) -> Result<Self, NvmlError> {
        let gpu = Self { nvml: Nvml::init().map_err(NvmlError::Missing)?, number };
        gpu.memory().map(|_| gpu)
    }

    fn memory(&self) -> Result<MemoryInfo, NvmlError> {
        let memory = self.nvml.device_by_index(self.number).and_then(|device| device.memory_info());
        memory.map_err(|reason| NvmlError::Failed { number: self.number, reason })
    }

    /// The bytes in use on the card, by whomever, the driver included: what there is without what is free.
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
