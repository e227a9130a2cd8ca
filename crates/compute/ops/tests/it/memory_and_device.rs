//! Choice of device and instruction set.

use anyhow::Result;
use ops::{Choice, Isa, device, tune_process, with_isa};

#[test]
fn automatic_choice_always_yields_a_device() -> Result<()> {
    tune_process();
    device(Choice::Auto)?;
    assert!(device(Choice::Cpu)?.is_cpu());
    Ok(())
}

#[cfg(not(feature = "cuda"))]
#[test]
fn asking_for_a_gpu_without_the_feature_says_how_to_get_one() {
    let message = device(Choice::Cuda).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(message.contains("--features cuda"), "{message}");
    assert!(device(Choice::Auto).is_ok_and(|device| device.is_cpu()));
}

/// That this test runs without a driver is half of what it says: CUDA's libraries are not needed for the start.
#[cfg(feature = "cuda")]
#[test]
fn without_a_gpu_the_reason_is_named_and_the_cpu_taken() -> Result<()> {
    match device(Choice::Cuda) {
        Ok(device) => assert!(device.is_cuda()),
        Err(reason) => {
            let reason = reason.to_string();
            assert!(reason.contains(".so") || reason.contains("CUDA_ERROR"), "{reason}");
            assert!(device(Choice::Auto)?.is_cpu());
        }
    }
    Ok(())
}

#[test]
fn choices_are_read_from_their_names() {
    assert_eq!("auto".parse(), Ok(Choice::Auto));
    assert_eq!("cpu".parse(), Ok(Choice::Cpu));
    assert_eq!("cuda".parse(), Ok(Choice::Cuda));
    assert_eq!("cuda-tf32".parse(), Ok(Choice::CudaTf32));
    assert!("gpu".parse::<Choice>().is_err_and(|e| e.contains("choose auto, cpu, cuda or cuda-tf32")));
}

#[test]
fn the_instruction_set_is_confined_and_restored() -> Result<()> {
    let best = Isa::current();
    assert_eq!(Isa::available().first(), Some(&Isa::Portable));
    assert_eq!(Isa::available().last(), Some(&best));
    assert_eq!(with_isa(Isa::Portable, Isa::current)?, Isa::Portable);
    assert_eq!(Isa::current(), best);
    Ok(())
}
