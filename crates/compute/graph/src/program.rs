//! Operations one after another.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::op::Op;
use crate::shape::count;

/// The most steps. Published networks have up to a few hundred.
const MOST_STEPS: usize = 1 << 16;

/// The most values of a map: 32 GiB of 32-bit floats.
const MOST_VALUES: usize = 1 << 33;

/// A network from one patch to its outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The shape of the patch, with batch and channel.
    pub image: Vec<usize>,
    /// The shapes of the weights, by name.
    pub weights: BTreeMap<String, Vec<usize>>,
    /// The operations, in order.
    pub steps: Vec<Step>,
    /// The values that are the outputs.
    pub outputs: Vec<usize>,
}

/// An operation on values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// Its operands.
    pub of: Vec<Operand>,
}

/// What an operation is computed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Operand {
    /// The patch, 0, or the result of step `k − 1`.
    Value(usize),
    /// The weight of that name.
    Weight(String),
}

/// Why a program cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A step that does not fit what comes before it.
    #[error("step {step} ({op}): {reason}")]
    Step {
        /// Its place, from 1.
        step: usize,
        /// The operation.
        op: String,
        /// What does not fit.
        reason: String,
    },
    /// More than any network has.
    #[error("{found} {what}; expected at most {most}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// Their number.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// An output that no step gives.
    #[error("the output {0} is no value of it")]
    Output(usize),
}

impl Program {
    /// The field of a model file's metadata that holds the program, as JSON.
    pub const FIELD: &str = "graph";

    /// The shapes of the outputs.
    ///
    /// # Errors
    /// When an operand is missing, shapes do not fit, or a map is larger than any memory.
    pub fn check(&self) -> std::result::Result<Vec<Vec<usize>>, ProgramError> {
        let too_many = |what, found, most| ProgramError::TooMany { what, found, most };
        if self.steps.len() > MOST_STEPS {
            return Err(too_many("steps", self.steps.len(), MOST_STEPS));
        }
        let mut shapes = vec![self.image.clone()];
        for (k, step) in self.steps.iter().enumerate() {
            let wrong = |reason| ProgramError::Step { step: k + 1, op: format!("{:?}", step.op), reason };
            let shape = step.shape(&shapes, &self.weights).map_err(wrong)?;
            shapes.push(shape);
        }
        for shape in shapes.iter().chain(self.weights.values()) {
            let values = count(shape).unwrap_or(usize::MAX);
            if values > MOST_VALUES {
                return Err(too_many("values of a map", values, MOST_VALUES));
            }
        }
        self.outputs.iter().map(|output| shapes.get(*output).cloned().ok_or(ProgramError::Output(*output))).collect()
    }

    /// The outputs for a patch of the shape `image`, with the weights that `weight` gives by their names. A value is dropped when no
    /// further step needs it.
    ///
    /// # Errors
    /// When a weight is missing, shapes do not fit ([`Program::check`]) or memory runs out.
    pub fn run(&self, weight: impl Fn(&str) -> Result<Tensor>, image: &Tensor) -> Result<Vec<Tensor>> {
        if image.dims() != self.image {
            candle_core::bail!("the graph is of patches {:?}, found {:?}", self.image, image.dims());
        }
        let last = self.last_uses();
        let mut values = vec![Some(image.clone())];
        for (k, step) in self.steps.iter().enumerate() {
            let operand = |operand: &Operand| match operand {
                Operand::Weight(name) => weight(name),
                Operand::Value(value) => present(&values, *value),
            };
            let of = step.of.iter().map(operand).collect::<Result<Vec<_>>>()?;
            let found = step.op.run(&of)?;
            for operand in &step.of {
                if let Operand::Value(value) = operand
                    && last[*value] == k
                {
                    values[*value] = None;
                }
            }
            values.push(Some(found));
        }
        self.outputs.iter().map(|output| present(&values, *output)).collect()
    }

    /// For each value the last step that needs it; beyond all steps for outputs.
    fn last_uses(&self) -> Vec<usize> {
        let mut last = vec![0; self.steps.len() + 1];
        let uses = self.steps.iter().enumerate().flat_map(|(k, step)| step.of.iter().map(move |operand| (k, operand)));
        for (k, operand) in uses {
            if let Operand::Value(value) = operand
                && let Some(last) = last.get_mut(*value)
            {
                *last = k;
            }
        }
        for output in &self.outputs {
            if let Some(last) = last.get_mut(*output) {
                *last = usize::MAX;
            }
        }
        last
    }
}

fn present(values: &[Option<Tensor>], value: usize) -> Result<Tensor> {
    match values.get(value) {
        Some(Some(tensor)) => Ok(tensor.clone()),
        _ => candle_core::bail!("value {value} is needed before it is there"),
    }
}

impl Step {
    /// The shape of the result, after values of these shapes.
    ///
    /// # Errors
    /// When an operand is missing or does not fit.
    pub fn shape(&self, values: &[Vec<usize>], weights: &BTreeMap<String, Vec<usize>>) -> std::result::Result<Vec<usize>, String> {
        let operand = |operand: &Operand| match operand {
            Operand::Value(value) => values.get(*value).ok_or_else(|| format!("value {value} is not there yet")),
            Operand::Weight(name) => weights.get(name).ok_or_else(|| format!("there is no weight `{name}`")),
        };
        let of = self.of.iter().map(|one| operand(one).map(Vec::as_slice)).collect::<std::result::Result<Vec<_>, _>>()?;
        self.op.shape(&of)
    }
}
