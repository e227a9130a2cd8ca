//! Stochastic gradient descent with momentum, and the choice between it and AdamW.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use nets::Params;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optim::{AdamW, AdamWConfig, Gradients, OptimError};

/// How gradients move parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// AdamW with decoupled weight decay.
    #[default]
    AdamW,
    /// Gradient descent with momentum; weight decay adds to the gradient.
    Sgd {
        /// The share of its velocity that a parameter keeps; 0.99 in DoDNet and MultiTalent.
        momentum: f64,
        /// Whether the gradient is that at the place where the velocity leads (Nesterov).
        #[serde(default)]
        nesterov: bool,
    },
}

impl OptimizerConfig {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Why the parameters make no sense, if they do not.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Sgd { momentum, .. } if !(0.0..1.0).contains(&momentum) => {
                Err(format!("optimizer.sgd.momentum is {momentum}; it must be at least 0 and below 1"))
            }
            Self::Sgd { momentum: 0.0, nesterov: true } => {
                Err("optimizer.sgd.momentum is 0; Nesterov's gradient takes a momentum above 0".into())
            }
            _ => Ok(()),
        }
    }
}

/// An optimizer with its state, which can be saved.
pub(crate) enum Optimizer {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Optimizer {
    pub(crate) fn new(config: OptimizerConfig, weight_decay: f64, params: &Params) -> Result<Self, OptimError> {
        Ok(match config {
            OptimizerConfig::AdamW => Self::AdamW(AdamW::new(params, AdamWConfig::with_weight_decay(weight_decay))?),
            OptimizerConfig::Sgd { momentum, nesterov } => Self::Sgd(Sgd::new(params, momentum, nesterov, weight_decay)?),
        })
    }

    pub(crate) fn steps(&self) -> u64 {
        match self {
            Self::AdamW(adam) => adam.steps(),
            Self::Sgd(sgd) => sgd.steps,
        }
    }

    pub(crate) fn step(&mut self, params: &Params, gradients: &Gradients, lr: f64) -> Result<(), OptimError> {
        match self {
            Self::AdamW(adam) => adam.step(params, gradients, lr),
            Self::Sgd(sgd) => sgd.step(params, gradients, lr),
        }
    }

    pub(crate) fn moments(&self) -> BTreeMap<String, Tensor> {
        match self {
            Self::AdamW(adam) => adam.moments(),
            Self::Sgd(sgd) => sgd.moments(),
        }
    }

    pub(crate) fn restore(&mut self, steps: u64, moments: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        match self {
            Self::AdamW(adam) => adam.restore(steps, moments),
            Self::Sgd(sgd) => sgd.restore(steps, moments),
        }
    }
}

/// Gradient descent over the live parameters, with the arithmetic of `torch.optim.SGD`.
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    steps: u64,
    velocities: BTreeMap<String, Var>,
}

impl Sgd {
    /// An optimizer that has not stepped yet.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(params: &Params, momentum: f64, nesterov: bool, weight_decay: f64) -> Result<Self, OptimError> {
        let velocities = params.live().map(|(name, var)| Ok((name.to_owned(), Var::zeros(var.shape(), DType::F32, var.device())?)));
        Ok(Self { momentum, nesterov, weight_decay, steps: 0, velocities: velocities.collect::<Result<_, OptimError>>()? })
    }

    /// Moves every live parameter by one step at the learning rate `lr`.
    ///
    /// # Errors
    /// [`OptimError::NoGradient`] when a live parameter is not among `gradients`; nothing has moved then.
    pub fn step(&mut self, params: &Params, gradients: &Gradients, lr: f64) -> Result<(), OptimError> {
        let missing: Vec<String> =
            params.live().filter(|(name, _)| !gradients.contains_key(*name)).map(|(name, _)| format!("`{name}`")).collect();
        if !missing.is_empty() {
            return Err(OptimError::NoGradient(missing.join(", ")));
        }
        for (name, value) in params.live() {
            let velocity = self
                .velocities
                .get(name)
                .ok_or_else(|| OptimError::StateMismatch(format!("`{name}` became live after the optimizer was made")))?;
            let (weight, mut gradient) = (value.as_detached_tensor(), gradients[name].detach());
            if self.weight_decay != 0.0 {
                gradient = (gradient + (&weight * self.weight_decay)?)?;
            }
            let moved = ((velocity.as_detached_tensor() * self.momentum)? + &gradient)?;
            velocity.set(&moved)?;
            let direction = if self.nesterov { (gradient + (moved * self.momentum)?)? } else { moved };
            value.set(&(weight - (direction * lr)?)?)?;
        }
        self.steps += 1;
        Ok(())
    }

    fn moments(&self) -> BTreeMap<String, Tensor> {
        self.velocities.iter().map(|(name, velocity)| (format!("velocity.{name}"), velocity.as_detached_tensor())).collect()
    }

    fn restore(&mut self, steps: u64, moments: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        if moments.len() != self.velocities.len() {
            let found = format!("{} tensors saved, {} expected", moments.len(), self.velocities.len());
            return Err(OptimError::StateMismatch(found));
        }
        let saved = |name: &str, like: &Var| match moments.get(&format!("velocity.{name}")) {
            Some(saved) if saved.dims() == like.dims() => Ok(saved.to_device(like.device())?),
            Some(saved) => Err(OptimError::StateMismatch(format!("`{name}` has shape {:?} instead of {:?}", saved.dims(), like.dims()))),
            None => Err(OptimError::StateMismatch(format!("the velocity of `{name}` is missing"))),
        };
        let values = self.velocities.iter().map(|(name, velocity)| Ok((velocity, saved(name, velocity)?)));
        for (velocity, value) in values.collect::<Result<Vec<_>, OptimError>>()? {
            velocity.set(&value)?;
        }
        self.steps = steps;
        Ok(())
    }
}
