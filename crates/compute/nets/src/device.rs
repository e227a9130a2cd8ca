//! The device that a run computes on.

use candle_core::Device;
use stage_kit::DeviceChoice;

/// The device for `choice`.
///
/// # Errors
/// When a GPU was asked for and there is none.
pub fn device(choice: DeviceChoice) -> candle_core::Result<Device> {
    ops::device(match choice {
        DeviceChoice::Auto => ops::Choice::Auto,
        DeviceChoice::Cpu => ops::Choice::Cpu,
        DeviceChoice::Cuda => ops::Choice::Cuda,
        DeviceChoice::CudaTf32 => ops::Choice::CudaTf32,
    })
}
