//! Every kernel on every instruction set, with each buffer of floats or labels against a page that nobody may touch:
//! a read or write by one element beyond its end, or before its start, or after it was freed, ends the process.
//!
//! Miri and sanitizers run the same cases (`.ci/sanitize`); they have allocators of their own.

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
#[allow(unsafe_code)]
mod allocator;
mod cases;

use candle_core::{DType, Device, Result, Tensor, Var};
use ops::{Isa, with_isa};

use crate::cases::{Case, cases};

/// Runs a case with its gradients, on threads of its own, whose scratch buffers have not grown on other cases.
fn run(case: &Case, isa: Isa) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().map_err(candle_core::Error::wrap)?;
    pool.install(|| {
        with_isa(isa, || {
            let inputs: Vec<Var> = case.inputs.iter().map(|dims| Var::from_tensor(&wave(dims)?)).collect::<Result<_>>()?;
            let arguments: Vec<Tensor> = inputs.iter().map(|input| input.as_tensor().clone()).collect();
            let y = (case.run)(&arguments)?;
            if y.dtype() == DType::F32 && y.track_op() {
                let gradients = y.sqr()?.sum_all()?.backward()?;
                assert!(inputs.iter().all(|input| gradients.get(input).is_some()), "{}: no gradient", case.name);
            }
            Ok(())
        })?
    })
}

/// Some values from -1 to 1, in a vector without spare capacity.
fn wave(dims: &[usize]) -> Result<Tensor> {
    let len: usize = dims.iter().product();
    let mut values = Vec::with_capacity(len);
    values.extend((0..len).map(|i| (i as f32 * 0.7).sin()));
    Tensor::from_vec(values, dims, &Device::Cpu)
}

fn run_all() -> Result<()> {
    for case in cases() {
        // Shown by `--nocapture`: the last one is the one that ended the process.
        eprintln!("{}", case.name);
        for isa in Isa::available() {
            run(&case, isa).map_err(|error| error.context(format!("{}, {isa:?}", case.name)))?;
        }
    }
    Ok(())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
#[test]
fn every_kernel_runs() -> Result<()> {
    run_all()
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
#[allow(unsafe_code)]
mod guarded {
    use super::*;
    use crate::allocator::{Place, guard};

    #[test]
    fn no_kernel_leaves_its_buffers() -> Result<()> {
        for place in [Place::BeforeGuard, Place::BehindGuard] {
            let _guarded = guard(place);
            run_all()?;
        }
        Ok(())
    }

    /// Set in the child process that is to be ended by its guard.
    const CHILD: &str = "GUARDED_CHILD";

    #[test]
    fn one_element_too_many_ends_the_process() {
        if let Ok(misdeed) = std::env::var(CHILD) {
            let place = if misdeed == "before" { Place::BehindGuard } else { Place::BeforeGuard };
            let guarded = guard(place);
            let values = vec![1.0f32; 37];
            drop(guarded);
            let at = values.as_ptr();
            let at = if misdeed == "before" { at.wrapping_sub(1) } else { at.wrapping_add(37) };
            if misdeed == "freed" {
                drop(values);
            }
            // SAFETY: none; the guard is to end the process here.
            let read = unsafe { at.wrapping_sub(usize::from(misdeed == "freed")).read_volatile() };
            println!("{read} was read");
            return;
        }
        for misdeed in ["before", "after", "freed"] {
            let mut child = std::process::Command::new(std::env::current_exe().expect("this program has a path"));
            let name = "guarded::one_element_too_many_ends_the_process";
            let ended = child.args(["--exact", name, "--nocapture"]).env(CHILD, misdeed).output().expect("a child process");
            // A sanitizer reports the signal and exits; without one it is the signal that ends the process.
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(!ended.status.success() && !said.contains("was read"), "{misdeed}: {said}");
        }
    }
}
