//! One step of AdamW.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, bail};

use crate::cpu::adamw;
use crate::cpu::isa::Isa;
use crate::tensor::{floats, floats_mut, kernels_serve};

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

/// Step number `step` (the first is 1) of AdamW with bias correction, as PyTorch's: changes `var` and its moments
/// `m` and `v`, all of one shape, in place. The moments start at zero and are the caller's to keep.
///
/// Everything that shares storage with `var` (a detached copy, say) sees the change.
///
/// # Errors
/// When shapes differ or `step` is 0.
pub fn adamw_step(var: &Var, grad: &Tensor, m: &Var, v: &Var, hyper: &AdamW, step: usize) -> Result<()> {
    let shape = var.dims();
    if step == 0 || grad.dims() != shape || m.dims() != shape || v.dims() != shape {
        bail!(
            "adamw_step: step {step} must be at least 1, and the shapes of value {shape:?}, gradient {:?} and moments {:?}, {:?} the same",
            grad.dims(),
            m.dims(),
            v.dims()
        );
    }
    let correction1 = 1.0 - hyper.beta1.powf(step as f64);
    let correction2 = 1.0 - hyper.beta2.powf(step as f64);
    let descend = Descend {
        keep: 1.0 - hyper.lr * hyper.weight_decay,
        step: hyper.lr / correction1,
        scale: 1.0 / correction2.sqrt(),
        eps: hyper.eps,
    };
    let (rate1, rate2) = (1.0 - hyper.beta1, 1.0 - hyper.beta2);
    // The gradient may hang on a graph, and a moment must not.
    let grad = grad.detach().contiguous()?;
    if kernels_serve(&[var, &grad, m, v]) && [var, m, v].iter().all(|t| t.is_contiguous()) {
        m.inplace_op2(&grad, &Blend { rate: rate1, squared: false })?;
        v.inplace_op2(&grad, &Blend { rate: rate2, squared: true })?;
        return var.inplace_op3(m, v, &descend);
    }
    m.set(&((m.as_detached_tensor() * hyper.beta1)? + (&grad * rate1)?)?)?;
    v.set(&((v.as_detached_tensor() * hyper.beta2)? + (grad.sqr()? * rate2)?)?)?;
    let root = ((v.as_detached_tensor().sqrt()? * descend.scale)? + descend.eps)?;
    let change = (m.as_detached_tensor().div(&root)? * descend.step)?;
    var.set(&((var.as_detached_tensor() * descend.keep)? - change)?)
}

/// Moves a moment towards the gradient, or its square.
struct Blend {
    rate: f64,
    squared: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "adamw-moment"
    }

    fn cpu_fwd(&self, moment: &mut CpuStorage, l: &Layout, grad: &CpuStorage, gl: &Layout) -> Result<()> {
        let (moment, grad) = (floats_mut(moment, l)?, floats(grad, gl)?);
        adamw::blend(Isa::current(), moment, grad, self.rate as f32, self.squared);
        Ok(())
    }
}

/// Moves a value against its moments.
struct Descend {
    keep: f64,
    step: f64,
    scale: f64,
    eps: f64,
}

impl InplaceOp3 for Descend {
    fn name(&self) -> &'static str {
        "adamw-value"
    }

    fn cpu_fwd(&self, value: &mut CpuStorage, l: &Layout, m: &CpuStorage, ml: &Layout, v: &CpuStorage, vl: &Layout) -> Result<()> {
        adamw::descend(
            Isa::current(),
            floats_mut(value, l)?,
            floats(m, ml)?,
            floats(v, vl)?,
            self.keep as f32,
            self.step as f32,
            self.scale as f32,
            self.eps as f32,
        );
        Ok(())
    }
}
