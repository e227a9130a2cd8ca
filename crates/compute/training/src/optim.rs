//! AdamW with a state that can be saved, and gradients summed over micro-batches.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use nets::Params;

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decoupled weight decay, on all live parameters as in PyTorch (paper: 1e-5).
    pub weight_decay: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
}

impl AdamWConfig {
    /// The given decay, and PyTorch's defaults for the rest, of which the paper says nothing.
    #[must_use]
    pub fn with_weight_decay(weight_decay: f64) -> Self {
        Self { weight_decay, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

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
}

/// Gradients by parameter name.
pub type Gradients = BTreeMap<String, Tensor>;

/// Sums gradients over the micro-batches of a batch.
///
/// The losses of this project are means over samples, so the loss of a batch is the mean of the losses of its
/// micro-batches, each weighted by its share of the samples. Gradients follow, exactly up to rounding.
#[derive(Default)]
pub struct Accumulator {
    sum: Gradients,
    unreached_are_zero: bool,
}

impl Accumulator {
    /// For a loss that a batch need not reach in every parameter, such as that of one head for each dataset: what it does
    /// not reach has the gradient zero.
    #[must_use]
    pub fn unreached_are_zero() -> Self {
        Self { unreached_are_zero: true, ..Self::default() }
    }

    /// Adds the gradients of `share · loss` with respect to all live parameters. `share` is the micro-batch's part of
    /// the batch; all shares of a batch sum to 1.
    ///
    /// # Errors
    /// [`OptimError::NoGradient`] with every live parameter that the loss does not reach.
    pub fn add(&mut self, params: &Params, loss: &Tensor, share: f64) -> Result<(), OptimError> {
        // The exact factor 1 is left out, so that a batch in one piece is bit-identical to no accumulation.
        let store = if share == 1.0 { loss.backward()? } else { (loss * share)?.backward()? };
        let mut unreached = Vec::new();
        for (name, var) in params.live() {
            let Some(gradient) = store.get(var.as_tensor()) else {
                match self.unreached_are_zero {
                    true => drop(self.sum.entry(name.to_owned()).or_insert(var.zeros_like()?)),
                    false => unreached.push(format!("`{name}`")),
                }
                continue;
            };
            let sum = match self.sum.get(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient.clone(),
            };
            self.sum.insert(name.to_owned(), sum.detach());
        }
        if unreached.is_empty() { Ok(()) } else { Err(OptimError::NoGradient(unreached.join(", "))) }
    }

    /// Brings the gradients together to a Euclidean length of at most `longest`, as PyTorch's `clip_grad_norm_` does.
    ///
    /// # Errors
    /// Those of the tensor library.
    pub fn clip(&mut self, longest: f64) -> Result<(), OptimError> {
        let mut squares = 0.0;
        for gradient in self.sum.values() {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
        let factor = longest / (squares.sqrt() + 1e-6);
        if factor < 1.0 {
            for gradient in self.sum.values_mut() {
                *gradient = (&*gradient * factor)?;
            }
        }
        Ok(())
    }

    /// The gradients of the whole batch.
    #[must_use]
    pub fn into_gradients(self) -> Gradients {
        self.sum
    }
}

struct Moments {
    mean: Var,
    square: Var,
}

/// AdamW (Loshchilov and Hutter, 2019) over the live parameters, with the arithmetic of `torch.optim.AdamW`.
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has not stepped yet.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(params: &Params, config: AdamWConfig) -> Result<Self, OptimError> {
        let moments = params.live().map(|(name, var)| {
            let zero = || Var::zeros(var.shape(), DType::F32, var.device());
            Ok((name.to_owned(), Moments { mean: zero()?, square: zero()? }))
        });
        Ok(Self { config, steps: 0, moments: moments.collect::<Result<_, OptimError>>()? })
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
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
        let AdamWConfig { weight_decay, beta1, beta2, eps } = self.config;
        let hyper = ops::AdamW { lr, beta1, beta2, eps, weight_decay };
        let parameters = params.live().map(|(name, value)| match self.moments.get(name) {
            Some(Moments { mean, square }) => Ok(ops::Parameter { value, gradient: &gradients[name], m: mean, v: square }),
            None => Err(OptimError::StateMismatch(format!("`{name}` became live after the optimizer was made"))),
        });
        ops::adamw(&parameters.collect::<Result<Vec<_>, _>>()?, &hyper, self.steps as usize + 1)?;
        self.steps += 1;
        Ok(())
    }

    /// The moments as named tensors, `mean.NAME` and `square.NAME`. Together with [`AdamW::steps`] they are the state.
    /// They share their values with the optimizer, so they are to be saved before its next step.
    #[must_use]
    pub fn moments(&self) -> BTreeMap<String, Tensor> {
        let named = |(name, moments): (&String, &Moments)| {
            [(format!("mean.{name}"), moments.mean.as_detached_tensor()), (format!("square.{name}"), moments.square.as_detached_tensor())]
        };
        self.moments.iter().flat_map(named).collect()
    }

    /// Takes up saved moments.
    ///
    /// # Errors
    /// [`OptimError::StateMismatch`] when the names or shapes are not those of the live parameters; nothing has changed then.
    pub fn restore(&mut self, steps: u64, moments: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        if moments.len() != 2 * self.moments.len() {
            let found = format!("{} tensors saved, {} expected", moments.len(), 2 * self.moments.len());
            return Err(OptimError::StateMismatch(found));
        }
        let saved = |key: String, like: &Var| match moments.get(&key) {
            Some(saved) if saved.dims() == like.dims() => Ok(saved.to_device(like.device())?),
            Some(saved) => Err(OptimError::StateMismatch(format!("`{key}` has shape {:?} instead of {:?}", saved.dims(), like.dims()))),
            None => Err(OptimError::StateMismatch(format!("`{key}` is missing"))),
        };
        let mut values = Vec::new();
        for (name, Moments { mean, square }) in &self.moments {
            values.push((mean, saved(format!("mean.{name}"), mean)?));
            values.push((square, saved(format!("square.{name}"), square)?));
        }
        for (var, value) in values {
            var.set(&value)?;
        }
        self.steps = steps;
        Ok(())
    }
}
