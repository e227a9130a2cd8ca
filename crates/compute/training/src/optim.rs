//! Gradients summed over micro-batches, and the optimizer that they move parameters by, with a state that can be saved.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::{Optimizer as _, ParamsAdamW};
use nets::Params;
use ranks::{RankError, Ranks};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adamw::AdamW;
use crate::sgd::{Sgd, SgdConfig};
use crate::together::Together;

/// Why a step of training cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OptimError {
    /// The loss does not depend on a live parameter.
    #[error("the live parameters {0} get no gradient from the loss; freeze them, or let the loss depend on them")]
    NoGradient(String),
    /// A saved state of other parameters.
    #[error("the saved optimizer state does not fit the live parameters: {0}")]
    StateMismatch(String),
    /// A failure of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Other ranks are lost.
    #[error(transparent)]
    Ranks(RankError),
}

/// Sums gradients over the micro-batches of a batch.
///
/// The losses of the micro-batches, each times its share, sum to that of the batch ([`crate::Trainable::losses`]). Gradients
/// follow, exactly up to rounding.
#[derive(Default)]
pub struct Accumulator {
    sum: GradStore,
    unreached_are_zero: bool,
    /// Where other ranks have parts of the batch too.
    together: Option<Together>,
}

impl Accumulator {
    /// For a loss that a batch need not reach in every parameter, such as that of one head for each dataset: what it does
    /// not reach has the gradient zero.
    #[must_use]
    pub fn unreached_are_zero() -> Self {
        Self { unreached_are_zero: true, ..Self::default() }
    }

    /// For a batch of which each of the ranks has some parts. In each round every rank calls [`Accumulator::add`], or
    /// [`Accumulator::pass`] if it has no part left; then [`Accumulator::gather`] makes the sums whole. They are those of one rank with
    /// all parts, to the bit.
    #[must_use]
    pub fn among(self, ranks: &Ranks) -> Self {
        let together = (ranks.size() > 1).then(|| Together::new(ranks.clone()));
        Self { together, ..self }
    }

    /// Adds the gradients of `share · loss` with respect to all live parameters.
    ///
    /// # Errors
    /// [`OptimError::NoGradient`] with every live parameter that the loss does not reach.
    pub fn add(&mut self, params: &Params, loss: &Tensor, share: f64) -> Result<(), OptimError> {
        // The exact factor 1 is left out, so that a batch in one piece is bit-identical to no accumulation.
        let store = if share == 1.0 { loss.backward()? } else { (loss * share)?.backward()? };
        let gradients: Vec<Option<Tensor>> = params.live().map(|(_, var)| store.get(&var).cloned()).collect();
        let live = params.live().zip(&gradients);
        let unreached: Vec<String> = live.filter(|(_, gradient)| gradient.is_none()).map(|((name, _), _)| format!("`{name}`")).collect();
        if !unreached.is_empty() && !self.unreached_are_zero {
            return Err(OptimError::NoGradient(unreached.join(", ")));
        }
        if let Some(together) = &mut self.together {
            return together.add(&vars(params), Some(&gradients));
        }
        for ((_, var), gradient) in params.live().zip(gradients) {
            let sum = match (self.sum.get(&var), gradient) {
                (Some(sum), Some(gradient)) => (sum + gradient)?,
                (None, Some(gradient)) => gradient,
                (Some(_), None) => continue,
                (None, None) => var.zeros_like()?,
            };
            self.sum.insert(&var, sum.detach());
        }
        Ok(())
    }

    /// A round in which this rank has no part.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn pass(&mut self, params: &Params) -> Result<(), OptimError> {
        self.together.as_mut().map_or(Ok(()), |together| together.add(&vars(params), None))
    }

    /// Makes the sums of all ranks known to each of them, after the last round.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn gather(&mut self, params: &Params) -> Result<(), OptimError> {
        if let Some(together) = self.together.take() {
            self.sum = together.gathered(&vars(params))?;
        }
        Ok(())
    }

    /// Brings the gradients of the live parameters together to a Euclidean length of at most `longest`, as PyTorch's
    /// `clip_grad_norm_` does.
    ///
    /// # Errors
    /// Those of the tensor library.
    pub fn clip(&mut self, params: &Params, longest: f64) -> Result<(), OptimError> {
        let mut squares = 0.0;
        for gradient in params.live().filter_map(|(_, var)| self.sum.get(&var)) {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
        let factor = longest / (squares.sqrt() + 1e-6);
        if factor < 1.0 {
            for (_, var) in params.live() {
                if let Some(gradient) = self.sum.remove(&var) {
                    self.sum.insert(&var, (gradient * factor)?);
                }
            }
        }
        Ok(())
    }

    /// The gradients of the whole batch.
    #[must_use]
    pub fn into_gradients(self) -> GradStore {
        self.sum
    }
}

fn vars(params: &Params) -> Vec<Var> {
    params.live().map(|(_, var)| var).collect()
}

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

/// Moves the live parameters of a network by one of candle's kind of optimizers, and keeps what that one knows under their names.
pub struct Optimizer {
    rule: Rule,
    names: Vec<String>,
}

enum Rule {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Optimizer {
    /// An optimizer of the parameters that are live now. It has not stepped yet. `weight_decay` is decoupled with AdamW (the paper:
    /// 1e-5), and a part of the gradient with `sgd`; of AdamW's other constants the paper says nothing, and PyTorch's are taken.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(config: OptimizerConfig, weight_decay: f64, params: &Params) -> Result<Self, OptimError> {
        let (names, vars): (Vec<String>, Vec<Var>) = params.live().map(|(name, var)| (name.to_owned(), var)).unzip();
        let rule = match config {
            OptimizerConfig::AdamW => Rule::AdamW(AdamW::new(vars, ParamsAdamW { weight_decay, ..ParamsAdamW::default() })?),
            OptimizerConfig::Sgd { momentum, nesterov } => {
                Rule::Sgd(Sgd::new(vars, SgdConfig { momentum, nesterov, weight_decay, ..SgdConfig::default() })?)
            }
        };
        Ok(Self { rule, names })
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        match &self.rule {
            Rule::AdamW(adam) => adam.steps,
            Rule::Sgd(sgd) => sgd.steps,
        }
    }

    /// Moves every parameter by one step at the learning rate `lr`.
    ///
    /// # Errors
    /// [`OptimError::NoGradient`] when a parameter is not among `gradients`, and [`OptimError::StateMismatch`] when others are;
    /// nothing has moved then.
    pub fn step(&mut self, gradients: &GradStore, lr: f64) -> Result<(), OptimError> {
        let vars = self.vars().iter().zip(&self.names);
        let missing: Vec<String> = vars.filter(|(var, _)| gradients.get(var).is_none()).map(|(_, name)| format!("`{name}`")).collect();
        if !missing.is_empty() {
            return Err(OptimError::NoGradient(missing.join(", ")));
        }
        let (found, expected) = (gradients.get_ids().count(), self.names.len());
        if found > expected {
            let late = format!("{found} gradients, {expected} expected; some became live after the optimizer was made");
            return Err(OptimError::StateMismatch(late));
        }
        match &mut self.rule {
            Rule::AdamW(adam) => moved(adam, gradients, lr),
            Rule::Sgd(sgd) => moved(sgd, gradients, lr),
        }
    }

    fn vars(&self) -> &[Var] {
        match &self.rule {
            Rule::AdamW(adam) => &adam.vars,
            Rule::Sgd(sgd) => &sgd.vars,
        }
    }

    /// What is kept from step to step: `mean.NAME` and `square.NAME`, or `velocity.NAME`.
    fn kept(&self) -> impl Iterator<Item = (String, &Var)> {
        let kinds = match &self.rule {
            Rule::AdamW(adam) => vec![("mean", &adam.means), ("square", &adam.squares)],
            Rule::Sgd(sgd) => vec![("velocity", &sgd.velocities)],
        };
        kinds.into_iter().flat_map(|(kind, vars)| self.names.iter().zip(vars).map(move |(name, var)| (format!("{kind}.{name}"), var)))
    }

    /// The moments as named tensors, `mean.NAME` and `square.NAME`, or `velocity.NAME`. Together with [`Optimizer::steps`] they
    /// are the state. They share their values with the optimizer, so they are to be saved before its next step.
    #[must_use]
    pub fn moments(&self) -> BTreeMap<String, Tensor> {
        self.kept().map(|(name, var)| (name, var.as_detached_tensor())).collect()
    }

    /// Takes up saved moments.
    ///
    /// # Errors
    /// [`OptimError::StateMismatch`] when the names or shapes are not those of the live parameters; nothing has changed then.
    pub fn restore(&mut self, steps: u64, moments: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let expected = self.kept().count();
        if moments.len() != expected {
            return Err(OptimError::StateMismatch(format!("{} tensors saved, {expected} expected", moments.len())));
        }
        let saved = |(name, var): (String, &Var)| match moments.get(&name) {
            Some(saved) if saved.dims() == var.dims() => Ok((var.clone(), saved.to_device(var.device())?)),
            Some(saved) => Err(OptimError::StateMismatch(format!("`{name}` has shape {:?} instead of {:?}", saved.dims(), var.dims()))),
            None => Err(OptimError::StateMismatch(format!("`{name}` is missing"))),
        };
        for (var, value) in self.kept().map(saved).collect::<Result<Vec<_>, _>>()? {
            var.set(&value)?;
        }
        match &mut self.rule {
            Rule::AdamW(adam) => adam.steps = steps,
            Rule::Sgd(sgd) => sgd.steps = steps,
        }
        Ok(())
    }
}

fn moved(rule: &mut impl candle_nn::Optimizer, gradients: &GradStore, lr: f64) -> Result<(), OptimError> {
    rule.set_learning_rate(lr);
    Ok(rule.step(gradients)?)
}
