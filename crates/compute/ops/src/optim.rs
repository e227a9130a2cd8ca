//! AdamW over all parameters.

use std::cell::RefCell;
use std::collections::HashSet;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};
use rayon::prelude::*;

use crate::cpu::adamw::{self, Step};
use crate::cpu::isa::Isa;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::tensor::{all_kernels_serve, floats, floats_mut};

/// The settings of AdamW (Loshchilov and Hutter, 2019), with PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decoupled weight decay: values shrink by `lr * weight_decay` each step.
    pub weight_decay: f64,
}

impl AdamW {
    /// PyTorch's defaults but for the learning rate: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    #[must_use]
    pub fn with_lr(lr: f64) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// A parameter with its gradient and its moments, all of one shape. The moments start at zero and are the caller's to
/// keep and to save.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// What is learned.
    pub value: &'a Var,
    /// The gradient of the loss by the value.
    pub gradient: &'a Tensor,
    /// The mean of the gradients.
    pub m: &'a Var,
    /// The mean of their squares.
    pub v: &'a Var,
}

/// Step number `step` (the first is 1) of AdamW with bias correction, as PyTorch's: changes the values and the moments
/// of all parameters in place, in one pass over each that the threads share.
///
/// Everything that shares storage with a value (a detached copy, say) sees the change. No other thread may compute with
/// the variables meanwhile.
///
/// # Errors
/// When the shapes of a parameter differ, when a variable is given twice, or when `step` is 0. Nothing has changed then.
pub fn adamw(parameters: &[Parameter<'_>], hyper: &AdamW, step: usize) -> Result<()> {
    if step == 0 {
        bail!("adamw: steps are counted from 1, found step 0");
    }
    for Parameter { value, gradient, m, v } in parameters {
        let shape = value.dims();
        if gradient.dims() != shape || m.dims() != shape || v.dims() != shape {
            bail!(
                "adamw: the shapes of value {shape:?}, gradient {:?} and moments {:?}, {:?} must be the same",
                gradient.dims(),
                m.dims(),
                v.dims()
            );
        }
    }
    // A gradient may hang on a graph, and a moment must not.
    let gradients: Vec<Tensor> = parameters.iter().map(|p| p.gradient.detach().contiguous()).collect::<Result<_>>()?;
    check_distinct(parameters, &gradients)?;
    let update = Update::new(hyper, step);
    let isa = Isa::current();
    let on_kernels = |p: &Parameter<'_>| {
        all_kernels_serve(&[p.value, p.gradient, p.m, p.v]) && [p.value, p.m, p.v].iter().all(|variable| variable.is_contiguous())
    };
    if parameters.iter().all(|p| p.value.device().is_cpu() && on_kernels(p)) {
        return parameters.par_iter().zip(&gradients).try_for_each(|(parameter, gradient)| update.run(isa, parameter, gradient));
    }
    parameters.iter().zip(&gradients).try_for_each(|(parameter, gradient)| {
        #[cfg(feature = "cuda")]
        if parameter.value.device().is_cuda() && on_kernels(parameter) {
            return cuda::adamw::step(parameter.value, gradient, parameter.m, parameter.v, &update.single());
        }
        update.composed(parameter, gradient)
    })
}

/// [`adamw`] of one parameter.
///
/// # Errors
/// As [`adamw`].
pub fn adamw_step(value: &Var, gradient: &Tensor, m: &Var, v: &Var, hyper: &AdamW, step: usize) -> Result<()> {
    adamw(&[Parameter { value, gradient, m, v }], hyper, step)
}

/// A variable is locked while it changes, so a second one over the same memory would wait for itself.
fn check_distinct(parameters: &[Parameter<'_>], gradients: &[Tensor]) -> Result<()> {
    // Tensors over the same memory share their storage, on whichever device it is.
    let address = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
    let mut seen = HashSet::new();
    for variable in parameters.iter().flat_map(|p| [p.value, p.m, p.v]) {
        if !seen.insert(address(variable)) {
            bail!("adamw: a value or a moment is given twice, or two share their memory");
        }
    }
    if gradients.iter().any(|gradient| seen.contains(&address(gradient))) {
        bail!("adamw: a gradient shares its memory with a value or a moment");
    }
    Ok(())
}

/// The numbers of one step.
struct Update {
    rate1: f64,
    rate2: f64,
    keep: f64,
    step: f64,
    scale: f64,
    eps: f64,
}

impl Update {
    fn new(hyper: &AdamW, step: usize) -> Self {
        let correction1 = 1.0 - hyper.beta1.powf(step as f64);
        let correction2 = 1.0 - hyper.beta2.powf(step as f64);
        Self {
            rate1: 1.0 - hyper.beta1,
            rate2: 1.0 - hyper.beta2,
            keep: 1.0 - hyper.lr * hyper.weight_decay,
            step: hyper.lr / correction1,
            scale: 1.0 / correction2.sqrt(),
            eps: hyper.eps,
        }
    }

    /// For the kernels.
    fn single(&self) -> Step {
        Step {
            rate1: self.rate1 as f32,
            rate2: self.rate2 as f32,
            keep: self.keep as f32,
            step: self.step as f32,
            scale: self.scale as f32,
            eps: self.eps as f32,
        }
    }

    fn run(&self, isa: Isa, Parameter { value, m, v, .. }: &Parameter<'_>, gradient: &Tensor) -> Result<()> {
        let (storage, layout) = gradient.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("adamw: a gradient on the CPU expected");
        };
        let gradient = floats(storage, layout)?;
        locked(value, |value| {
            locked(m, |m| {
                locked(v, |v| {
                    adamw::update(isa, self.single(), value, gradient, m, v);
                    Ok(())
                })
            })
        })
    }

    fn composed(&self, Parameter { value, m, v, .. }: &Parameter<'_>, gradient: &Tensor) -> Result<()> {
        m.set(&((m.as_detached_tensor() * (1.0 - self.rate1))? + (gradient * self.rate1)?)?)?;
        v.set(&((v.as_detached_tensor() * (1.0 - self.rate2))? + (gradient.sqr()? * self.rate2)?)?)?;
        let root = ((v.as_detached_tensor().sqrt()? * self.scale)? + self.eps)?;
        let change = (m.as_detached_tensor().div(&root)? * self.step)?;
        value.set(&((value.as_detached_tensor() * self.keep)? - change)?)
    }
}

/// Runs `f` with the elements of a variable, which nobody else can reach meanwhile.
fn locked(variable: &Var, f: impl FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
    variable.inplace_op1(&Locked(RefCell::new(f)))
}

struct Locked<F>(RefCell<F>);

impl<F: FnMut(&mut [f32]) -> Result<()>> InplaceOp1 for Locked<F> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        (self.0.borrow_mut())(floats_mut(storage, layout)?)
    }
}
