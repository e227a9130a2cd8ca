//! AdamW.

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};
use candle_nn::ParamsAdamW;

/// AdamW (Loshchilov and Hutter, 2019), with the arithmetic of `torch.optim.AdamW` and moments that can be saved, which candle's keeps
/// to itself. One pass over all parameters, shared by the threads.
pub(crate) struct AdamW {
    pub(crate) vars: Vec<Var>,
    /// Of the gradients.
    pub(crate) means: Vec<Var>,
    /// Means of the squared gradients.
    pub(crate) squares: Vec<Var>,
    pub(crate) steps: u64,
    config: ParamsAdamW,
}

impl candle_nn::Optimizer for AdamW {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, config: ParamsAdamW) -> Result<Self> {
        let (means, squares) = (zeros(&vars)?, zeros(&vars)?);
        Ok(Self { vars, means, squares, steps: 0, config })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = self.config;
        let moments = self.means.iter().zip(&self.squares);
        let parameters = self.vars.iter().zip(moments).filter_map(|(value, (m, v))| {
            let gradient = gradients.get(value)?;
            Some(ops::Parameter { value, gradient, m, v })
        });
        let parameters: Vec<_> = parameters.collect();
        ops::adamw(&parameters, &ops::AdamW { lr, beta1, beta2, eps, weight_decay }, self.steps as usize + 1)?;
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

/// What an optimizer keeps of each parameter, before its first step.
pub(crate) fn zeros(vars: &[Var]) -> Result<Vec<Var>> {
    vars.iter().map(|var| Var::zeros(var.shape(), var.dtype(), var.device())).collect()
}
