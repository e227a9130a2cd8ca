//! Stochastic gradient descent with momentum.

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};

use crate::adamw::zeros;

/// The constants of gradient descent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SgdConfig {
    pub(crate) lr: f64,
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
    pub(crate) weight_decay: f64,
}

/// Gradient descent with the arithmetic of `torch.optim.SGD`; candle's has no momentum.
pub(crate) struct Sgd {
    pub(crate) vars: Vec<Var>,
    pub(crate) velocities: Vec<Var>,
    pub(crate) steps: u64,
    config: SgdConfig,
}

impl candle_nn::Optimizer for Sgd {
    type Config = SgdConfig;

    fn new(vars: Vec<Var>, config: SgdConfig) -> Result<Self> {
        let velocities = zeros(&vars)?;
        Ok(Self { vars, velocities, steps: 0, config })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let SgdConfig { lr, momentum, nesterov, weight_decay } = self.config;
        for (value, velocity) in self.vars.iter().zip(&self.velocities) {
            let Some(gradient) = gradients.get(value) else { continue };
            let (weight, mut gradient) = (value.as_detached_tensor(), gradient.detach());
            if weight_decay != 0.0 {
                gradient = (gradient + (&weight * weight_decay)?)?;
            }
            let moved = ((velocity.as_detached_tensor() * momentum)? + &gradient)?;
            velocity.set(&moved)?;
            let direction = if nesterov { (gradient + (moved * momentum)?)? } else { moved };
            value.set(&(weight - (direction * lr)?)?)?;
        }
        self.steps += 1;
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.config.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.config.lr = lr;
    }
}
